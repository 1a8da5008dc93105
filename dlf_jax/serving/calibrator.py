"""A calibrator: what turns a model's logits into probabilities, and its file in the workdir.

Applied by prediction, the server and exports alike: in float64 on the host, in float32 inside of an exported
program. It is fitted by `analysis.calibration`.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dlf_jax.config import CALIBRATION_METHODS
from dlf_jax.errors import UserError
from dlf_jax.file_writing import to_json, write_atomically
from dlf_jax.training.probability_metrics import CLIP, sigmoid
from dlf_jax.training.train_state import TrainState
from dlf_jax.workdir import Workdir

_log = logging.getLogger(__name__)

# What `kind` in the file says, and the version of its form.
_KIND, _VERSION = 'dlf_jax calibration', 1


@dataclasses.dataclass(frozen=True)
class Calibrator:
    """Function from logits to calibrated probabilities, never falling.

    A straight line of the logit, `sigmoid(slope * logit + intercept)`, which changes no row's rank; or, where
    there are knots, a curve: straight from one knot to the next, level before the first and after the last.

    Attributes:
      method: an entry of `config.CALIBRATION_METHODS`.
      negatives_kept: share of the rows without a click that training saw, whose correction is part of the
        function.
      slope: above 0.
      intercept: added to the logit times the slope.
      knots: logits, rising, at least two; or none.
      values: probabilities at the knots, never falling, from 1e-7 to 1 - 1e-7.
    """

    method: str
    negatives_kept: float = 1.0
    slope: float = 1.0
    intercept: float = 0.0
    knots: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of logits, float64 [rows]."""
        if self.knots:
            return np.interp(np.asarray(logits, np.float64), self.knots, self.values)
        return sigmoid(self.logits(logits))

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Logits of the calibrated probabilities, float64 [rows]: what metrics are computed of."""
        if self.knots:
            probability = self.probabilities(logits)
            return np.log(probability) - np.log1p(-probability)
        return self.slope * np.asarray(logits, np.float64) + self.intercept

    def traced(self, logits: jax.Array) -> jax.Array:
        """`probabilities` of logits, float32 [rows], inside of a program."""
        if not self.knots:
            return jax.nn.sigmoid(self.slope * logits + self.intercept)
        knots, values = np.asarray(self.knots), np.asarray(self.values)
        slopes = np.diff(values) / np.diff(knots)
        starts, bases, rises = (jnp.asarray(x, jnp.float32) for x in (knots[:-1], values[:-1], slopes))
        inside = jnp.clip(logits, np.float32(knots[0]), np.float32(knots[-1]))
        # A last one that no logit reaches, for curves of a single piece.
        inner = np.append(knots[1:-1], np.inf).astype(np.float32)
        piece = jnp.sum(inside[:, None] >= inner[None, :], axis=1, dtype=jnp.int32)
        return bases[piece] + rises[piece] * (inside - starts[piece])

    def to_json(self) -> dict[str, Any]:
        """The calibrator as JSON values."""
        return {**dataclasses.asdict(self), 'knots': list(self.knots), 'values': list(self.values)}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Calibrator:
        """The inverse of `to_json`. Raises ValueError, TypeError or KeyError where it is none."""
        method = found['method']
        numbers = {name: float(found[name]) for name in ('negatives_kept', 'slope', 'intercept')}
        knots, values = (tuple(map(float, found[name])) for name in ('knots', 'values'))
        whole = (
            method in CALIBRATION_METHODS
            and all(map(math.isfinite, (*numbers.values(), *knots, *values)))
            and numbers['slope'] > 0
            and len(knots) == len(values) != 1
            and all(a < b for a, b in itertools.pairwise(knots))
            and all(a <= b for a, b in itertools.pairwise(values))
            and all(CLIP <= value <= 1 - CLIP for value in values)
        )
        if not whole:
            raise ValueError('its numbers make no calibrator')
        return cls(method, **numbers, knots=knots, values=values)


def save(workdir: Workdir, calibrator: Calibrator, seed: int, step: int, about: dict[str, Any]) -> None:
    """Writes the calibrator of a workdir.

    Args:
      workdir: of a run, or of a saved model.
      calibrator: fitted to the scores of these weights.
      seed: of the weights.
      step: of the weights.
      about: how it was fitted; for people.
    """
    whole = {
        'kind': _KIND,
        'version': _VERSION,
        'seed': seed,
        'step': step,
        **calibrator.to_json(),
        'fitted': about,
    }
    write_atomically(workdir.calibration, to_json(whole, undefined_as_null=True, indent=1) + '\n')


def read(workdir: Workdir) -> dict[str, Any] | None:
    """Content of the file of a workdir; None where there is none.

    Raises:
      UserError: it cannot be read, or is no calibrator.
    """
    path = workdir.calibration
    try:
        found = json.loads(path.read_text('utf-8'))
        if (found['kind'], found['version']) != (_KIND, _VERSION):
            raise ValueError(f'{found["kind"]!r} in version {found["version"]!r} is not known here')
        Calibrator.from_json(found)
        return {**found, 'seed': int(found['seed']), 'step': int(found['step'])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path}: cannot be read as a calibrator: {error}; --mode=calibrate makes it anew, and without '
            'the file probabilities are not calibrated'
        ) from error


def correction(negatives_kept: float) -> Calibrator:
    """What puts the odds right of a model that saw only a share of the rows without a click, and no more.

    Args:
      negatives_kept: the share, above 0, at most 1.
    """
    return Calibrator('none', negatives_kept, 1.0, math.log(negatives_kept))


def load(workdir: Workdir, state: TrainState, config: ConfigDict) -> Calibrator | None:
    """The calibrator of a model's weights; None where there is none.

    One that was fitted to other weights is not applied, with a warning. The correction for rows without a
    click that training did not see depends on no weights: where there is nothing fitted to these, it is
    applied by itself.

    Args:
      workdir: of a run, or of a saved model.
      state: the weights, of one run.
      config: of the run; `config.calibration` says what its calibrator should be.

    Raises:
      UserError: as `read` does.
    """
    found, options = read(workdir), config.calibration
    seed, step = (int(jax.device_get(value)) for value in (state.seed, state.step))
    if found is not None and (found['seed'], found['step']) == (seed, step):
        return Calibrator.from_json(found)
    kept = options.negatives_kept
    if found is not None and kept == 1:
        kept = found['negatives_kept']
    left = 'not calibrated'
    if kept < 1:
        left = f'only corrected for the rows without a click that were left out (negatives_kept={kept:g})'
    if found is not None:
        _log.warning(
            '%s is of step %d of seed %d, and the weights are of step %d of seed %d: probabilities are %s; '
            '--mode=calibrate makes it anew',
            workdir.calibration, found['step'], found['seed'], step, seed, left,
        )  # fmt: skip
    elif kept < 1 and options.method != 'none':
        _log.warning(
            '%s is not there: probabilities are %s, and not calibrated by %s; --mode=calibrate makes it',
            workdir.calibration, left, options.method,
        )  # fmt: skip
    return correction(kept) if kept < 1 else None
