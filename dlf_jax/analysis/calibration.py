"""Fitting of calibrators to scored rows: temperature, Platt's line, isotonic; and the correction for rows
without a click of which training saw only a share."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dlf_jax.errors import UserError
from dlf_jax.serving import calibrator as calibrators
from dlf_jax.serving.calibrator import Calibrator
from dlf_jax.training import metrics, results, stored_scores
from dlf_jax.training.evaluation import summary
from dlf_jax.training.probability_metrics import CLIP, sigmoid
from dlf_jax.workdir import Workdir

_log = logging.getLogger(__name__)

Scores = dict[str, np.ndarray]
# Slopes that a line may have: outside of it, it is no calibration of a model that has learnt something.
_SLOPES = (1e-3, 1e3)
# Number of knots of an isotonic curve at most: each stands for at least about so small a share of the rows.
_KNOTS = 1000


# What the stored scores are fitted to, for people.
VALID = 'the validation part'
# Modes that fit a calibrator.
TRAIN, CALIBRATE = 'train', 'calibrate'


class Degenerate(UserError):
    """The rows do not determine a calibrator."""


def fit(scores: Mapping[str, np.ndarray], method: str, negatives_kept: float = 1.0) -> Calibrator:
    """Fits a calibrator to labelled scores, by maximum likelihood.

    `temperature`: `sigmoid((logit + c) / T)` (Guo et al. 2017, "On Calibration of Modern Neural Networks").
    `platt`: `sigmoid(a * logit + b)` (Platt 1999, without his smoothing of the labels), `a` above 0.
    `isotonic`: the non-decreasing function of the logit (Zadrozny & Elkan 2002), whose steps are joined by
    straight lines between their middles (Oron & Flournoy 2017, "Centered Isotonic Regression"), so that rows
    keep their order but before the first middle and after the last, and a rounded logit changes little. Rows
    of one kind alone, below all clicks or above all others, promise no certainty.
    `none`: the correction alone, and nothing is read of the scores.

    The correction: a model trained on all clicks and on a share `w` of the other rows, drawn at random, gives
    odds that are `1 / w` too high; `q = p / (p + (1 - p) / w)` puts them right (He et al. 2014, section 6.3),
    which adds `c = log w` to the logit.

    Args:
      scores: `logit` of the model, `label` and `weight`, [rows]; soft labels are probabilities.
      method: an entry of `config.CALIBRATION_METHODS`.
      negatives_kept: the share `w`, above 0, at most 1.

    Raises:
      Degenerate: the rows do not determine the function; says why.
      UserError: scikit-learn is missing, which isotonic regression needs.
    """
    if method == 'none':
        return calibrators.correction(negatives_kept)
    shift = math.log(negatives_kept)
    logits, labels, weights = (np.asarray(scores[name], np.float64) for name in ('logit', 'label', 'weight'))
    kept = weights > 0
    logits, labels, weights = logits[kept], labels[kept], weights[kept]
    _check(logits, labels, weights, method)
    weights = weights / weights.sum()
    if method == 'isotonic':
        return _isotonic(logits, labels, weights, negatives_kept)
    corrected = logits + shift
    if method == 'temperature':
        slope, intercept = _temperature(corrected, labels, weights), 0.0
    else:
        slope, intercept = _platt(corrected, labels, weights)
    return Calibrator(method, negatives_kept, slope, slope * shift + intercept)


def _check(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray, method: str) -> None:
    clicks, others = labels > 0, labels < 1
    if not clicks.any() or not others.any():
        raise Degenerate(
            f'config.calibration.method={method!r} needs rows with a click and rows without; the '
            f'{len(labels):,} rows have none {"without" if clicks.any() else "with one"}'
        )
    if logits.min() == logits.max():
        raise Degenerate(f'config.calibration.method={method!r}: the model gives all rows the same score')
    if logits[clicks].min() >= logits[others].max():
        raise Degenerate(
            f'config.calibration.method={method!r}: all rows with a click score above all others, so the '
            'best fit would be certain of each; calibrate on more rows'
        )


def _temperature(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """1 / T, where the likelihood's derivative is 0."""

    def derivative(log_slope: float) -> float:
        return float((weights * (sigmoid(math.exp(log_slope) * logits) - labels) * logits).sum())

    low, high = map(math.log, _SLOPES)
    if derivative(low) >= 0 or derivative(high) <= 0:
        raise Degenerate(
            "config.calibration.method='temperature': no temperature from "
            f'{1 / _SLOPES[1]:g} to {1 / _SLOPES[0]:g} fits: the scores say nothing of these rows, or the '
            "reverse, or their level is off, which 'platt' can mend"
        )
    # Here: commands that fit nothing start in less time without it.
    from scipy import optimize

    return math.exp(optimize.brentq(derivative, low, high, xtol=1e-12))


def _platt(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the likelihood's maximum."""

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        moved = line[0] * logits + line[1]
        error = weights * (sigmoid(moved) - labels)
        value = (weights * (np.logaddexp(0, moved) - labels * moved)).sum()
        return float(value), np.array([(error * logits).sum(), error.sum()])

    def curvature(line: np.ndarray) -> np.ndarray:
        probability = sigmoid(line[0] * logits + line[1])
        own = weights * probability * (1 - probability)
        mixed = (own * logits).sum()
        return np.array([[(own * logits**2).sum(), mixed], [mixed, own.sum()]])

    from scipy import optimize

    found = optimize.minimize(
        loss, np.array([1.0, 0.0]), jac=True, hess=curvature, method='trust-exact', options={'gtol': 1e-10}
    )
    slope, intercept = map(float, found.x)
    low, high = _SLOPES
    if not low <= slope <= high:
        bound, why = f'at least {low:g}', 'the scores say nothing of these rows, or the reverse'
        if slope > high:
            bound, why = f'at most {high:g}', 'the scores are too close together'
        raise Degenerate(
            f"config.calibration.method='platt': the best slope is {slope:.3g}, and one of {bound} is "
            f'needed: {why}'
        )
    return slope, intercept


def _isotonic(
    logits: np.ndarray, labels: np.ndarray, weights: np.ndarray, negatives_kept: float
) -> Calibrator:
    try:
        # Here: the package works without scikit-learn.
        from sklearn.isotonic import isotonic_regression
    except ImportError as error:
        raise UserError(
            "config.calibration.method='isotonic' needs scikit-learn: pip install 'dlf_jax[sklearn]' "
            f'({error})'
        ) from error
    order = np.argsort(logits, kind='stable')
    logits, labels, weights = logits[order], labels[order], weights[order]

    def joined(firsts: np.ndarray, weight: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
        total = np.add.reduceat(weight, firsts)
        return [total, *(np.add.reduceat(weight * value, firsts) / total for value in values)]

    def changes(values: np.ndarray) -> np.ndarray:
        return np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))

    # Rows of the same score, then steps of the same value, then steps of few rows beside each other.
    scores = changes(logits)
    weight, rate, score = joined(scores, weights, labels, logits)
    step = isotonic_regression(rate, sample_weight=weight, y_min=0.0, y_max=1.0)
    steps = changes(step)
    weight, value, middle = joined(steps, weight, step, score)
    value = _without_certainty(value, weight**2 / np.add.reduceat(weights**2, scores[steps]))
    place = ((np.cumsum(weight) - weight / 2) * _KNOTS).astype(np.int64)
    _, value, middle = joined(changes(place), weight, value, middle)
    # As exported programs hold them.
    middle = middle.astype(np.float32).astype(np.float64)
    rising = changes(middle)
    middle, value = middle[rising], np.clip(value[rising], CLIP, 1 - CLIP)
    if len(middle) < 2:
        raise Degenerate(
            "config.calibration.method='isotonic': the best fit gives all rows the same probability: the "
            'scores say nothing of these rows, or the reverse'
        )
    knots, values = (tuple(map(float, array)) for array in (middle, np.maximum.accumulate(value)))
    return Calibrator('isotonic', negatives_kept, knots=knots, values=values)


def _without_certainty(value: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Steps of which the first is not 0, nor the last 1: n rows without a click say at most 0.5 / (n + 1).

    That is the mean of a rate under Jeffreys' prior, Beta(1/2, 1/2), after as many rows of one kind; but no
    more than the next step says.

    Args:
      value: of each step, rising, [steps].
      rows: effective number of each step's rows, (sum w)^2 / sum w^2, [steps].
    """
    found, bound = value.copy(), 0.5 / (rows + 1)
    if len(value) > 1 and value[0] < CLIP:
        found[0] = min(bound[0], value[1])
    if len(value) > 1 and value[-1] > 1 - CLIP:
        found[-1] = max(1 - bound[-1], value[-2])
    return found


def restored(scores: Mapping[str, np.ndarray], negatives_kept: float) -> Scores:
    """Rows of which only a share of the negatives was kept, weighing as all of them did.

    A row without a click weighs `1 / negatives_kept`; a soft label is a row of each kind with its share.

    Args:
      scores: `label`, `weight` and more, [rows].
      negatives_kept: above 0, at most 1.
    """
    labels, weights = (np.asarray(scores[name], np.float64) for name in ('label', 'weight'))
    factor = labels + (1 - labels) / negatives_kept
    return {**scores, 'label': labels / factor, 'weight': weights * factor}


def asked(options: ConfigDict) -> bool:
    """Whether `config.calibration` asks for a calibrator."""
    return options.method != 'none' or options.negatives_kept < 1


def calibrate(
    workdir: Workdir,
    config: ConfigDict,
    scores: Mapping[str, np.ndarray],
    source: str,
    seed: int,
    step: int,
    mode: str,
) -> tuple[Calibrator, dict[str, Any]]:
    """Fits the calibrator that a config asks for, and writes it into the workdir.

    Args:
      workdir: of a finished run, or of a saved model.
      config: the whole config; `config.calibration` says which.
      scores: `logit`, `label`, `weight` and perhaps `group` of the rows to fit it to, [rows].
      source: what the rows are, for people.
      seed: of the weights that gave the scores.
      step: of them.
      mode: that asks for it, `TRAIN` or `CALIBRATE`.

    Returns:
      The calibrator; and, for people, `method`, `negatives_kept`, `slope` and `intercept` or the number of
      `knots`, `fitted_to`, `mode`, `rows`, and the metrics of these rows `before` and `after`.

    Raises:
      Degenerate: the rows do not determine a calibrator; what was there before stays.
    """
    options = config.calibration
    rows = restored(scores, options.negatives_kept) if options.downsampled else scores
    found = fit(rows, options.method, options.negatives_kept)
    wanted, shown = metrics.selected(config), {**metrics.shown(config), 'ece': None}
    about: dict[str, Any] = {
        'fitted_to': source,
        'mode': mode,
        'downsampled': bool(options.downsampled),
        'rows': len(rows['label']),
        'before': summary(rows, wanted),
        'after': summary({**rows, 'logit': found.logits(rows['logit'])}, wanted),
    }
    calibrators.save(workdir, found, seed, step, about)
    _log.info('calibration by %s, fitted to %s of %s rows', found.method, source, f'{about["rows"]:,}')
    for moment in ('before', 'after'):
        _log.info('  %s: %s', moment, metrics.describe(about[moment], shown))
    return found, _told(found, about)


def _told(found: Calibrator, about: Mapping[str, Any]) -> dict[str, Any]:
    shape = {'slope': found.slope, 'intercept': found.intercept}
    if found.knots:
        shape = {'knots': len(found.knots)}
    return {'method': found.method, 'negatives_kept': found.negatives_kept, **shape, **about}


def of_run(workdir: Workdir, config: ConfigDict, result: Mapping[str, Any]) -> dict[str, Any]:
    """Fits the calibrator that a config asks for of a finished run to its stored validation scores.

    One that is there already is kept if it is as asked, or if `--mode=calibrate` fitted it; one of other
    weights is removed. Where the scores determine none, it is the correction for rows that were left out
    alone, if there were such, and else there is none, with a warning.

    Args:
      workdir: of the run.
      config: the whole config.
      result: of the run, not of a baseline.

    Returns:
      As `noted`.
    """
    options, there = config.calibration, calibrators.read(workdir)
    if there is not None and (there['seed'], there['step']) != results.weights_of(result):
        _log.warning('%s is of other weights, and removed', workdir.calibration)
        workdir.calibration.unlink()
        there = None
    if asked(options) and (there is None or not _as_asked(there, options)):
        if there is not None and there['fitted'].get('mode') == CALIBRATE:
            _log.info(
                '%s stays as --mode=calibrate has fitted it, by %s, not %s as config.calibration.method says',
                workdir.calibration, there['method'], options.method,
            )  # fmt: skip
        else:
            _fit_to_stored(workdir, config)
    return noted(workdir, config, result)


def _fit_to_stored(workdir: Workdir, config: ConfigDict) -> None:
    options = config.calibration
    try:
        scores, weights = stored_scores.read(workdir, 'valid'), stored_scores.weights_of(workdir)
    except UserError as error:
        _log.warning('WARNING: no calibrator: %s', error)
        return
    try:
        calibrate(workdir, config, scores, VALID, *weights, TRAIN)
    except Degenerate as error:
        if options.negatives_kept == 1:
            _log.warning('WARNING: no calibrator: %s', error)
            workdir.calibration.unlink(missing_ok=True)
            return
        _log.warning(
            'WARNING: no calibrator but the correction for the rows without a click that were left out '
            '(negatives_kept=%g): %s', options.negatives_kept, error,
        )  # fmt: skip
        plain = config.copy_and_resolve_references()
        plain.calibration.method = 'none'
        calibrate(workdir, plain, scores, VALID, *weights, TRAIN)


def _as_asked(there: Mapping[str, Any], options: ConfigDict) -> bool:
    about = there['fitted']
    return (there['method'], there['negatives_kept'], about.get('fitted_to'), about.get('downsampled')) == (
        options.method, options.negatives_kept, VALID, options.downsampled,
    )  # fmt: skip


def noted(workdir: Workdir, config: ConfigDict, result: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a run with the calibrator of the weights that it is of, written where it has changed.

    Args:
      workdir: of the finished run.
      config: the whole config.
      result: of the run.

    Returns:
      The result; `calibration` is as the second of `calibrate`, with `test`: metrics of the stored test
      scores, calibrated, where there are such. Without `calibration` where there is no such calibrator.
    """
    found = {name: value for name, value in result.items() if name != 'calibration'}
    there = calibrators.read(workdir)
    if there is not None and (there['seed'], there['step']) == results.weights_of(result):
        calibrator, about = Calibrator.from_json(there), there['fitted']
        told = _told(calibrator, about)
        if 'test' in stored_scores.parts(workdir):
            rows = stored_scores.read(workdir, 'test')
            if about.get('downsampled'):
                rows = restored(rows, calibrator.negatives_kept)
            calibrated = {**rows, 'logit': calibrator.logits(rows['logit'])}
            told['test'] = summary(calibrated, metrics.selected(config))
        found['calibration'] = told
    if found != result:
        workdir.finish(found)
    return found
