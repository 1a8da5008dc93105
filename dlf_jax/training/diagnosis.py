"""What the course of a finished run says about it: whether it learnt anything, and what to try if not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from ml_collections import ConfigDict

from dlf_jax import config_by_size
from dlf_jax.data.loading.label_counts import LabelCounts
from dlf_jax.training import metrics, probability_metrics
from dlf_jax.training.run_progress import RunProgress
from dlf_jax.training.step_plan import StepPlan

# An AUC within so many standard errors of 0.5 may be chance.
_ERRORS = 2.0
# A logloss of at least this times the base rate's has hardly improved on it.
_HARDLY = 0.99
# Fewer steps in all, or in an epoch, are too few to learn in.
_FEW_STEPS, _FEW_AN_EPOCH = 300, 50
# A best step among the first evaluations is early if it is before this one, too: of large data an epoch may
# be all that it takes.
_EARLY_STEP, _EARLY_EVALUATIONS = 1000, 2


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What a run's validation metrics and steps say.

    Attributes:
      learnt: whether the run is better than its training part's mean label, and than chance.
      warnings: sentences, each with what to try.
    """

    learnt: bool
    warnings: tuple[str, ...]


def diagnose(
    config: ConfigDict, run: RunProgress, plan: StepPlan, labels: Mapping[str, LabelCounts]
) -> Diagnosis:
    """Looks at a finished run.

    Args:
      config: the whole config.
      run: progress of the run.
      plan: steps that the run was to take.
      labels: in numbers, by part.
    """
    learnt, warnings = _against_no_model(config, run, labels)
    return Diagnosis(learnt, (*warnings, *_ended_early(config, run, plan, labels['train'].rows)))


def base_rate_loglosses(labels: Mapping[str, LabelCounts]) -> dict[str, float]:
    """Logloss on each later part of predicting the training part's mean label for every row, by part."""
    rate = labels['train'].rate
    return {
        part: probability_metrics.constant_logloss(counts.rate, rate)
        for part, counts in labels.items()
        if part != 'train' and counts.rate is not None and rate is not None
    }


def auc_error(clicks: int, others: int) -> float:
    """Standard error of the AUC of scores that know nothing of the labels (Hanley & McNeil 1982)."""
    return math.sqrt((clicks + others + 1) / (12 * clicks * others))


def _against_no_model(
    config: ConfigDict, run: RunProgress, labels: Mapping[str, LabelCounts]
) -> tuple[bool, list[str]]:
    """Whether the best step beats the base rate and chance, and a warning where it does not."""
    base, best, counts = base_rate_loglosses(labels).get('valid'), run.best or {}, labels['valid']
    logloss, auc, others = best.get('logloss'), best.get('auc'), counts.rows - counts.clicks
    if base is None or logloss is None:
        return True, []
    if auc is None or not counts.clicks or not others:
        ranks, of_auc = False, ''
    else:
        noise = _ERRORS * auc_error(counts.clicks, others)
        ranks, of_auc = auc > 0.5 + noise, f'auc {auc:.4f} (by chance: 0.5 +- {noise:.4f})'
    of_logloss = f'logloss {logloss:.4f} (base rate {base:.4f})'
    # Of few steps another warning tells, and a model that has hardly begun needs no less room.
    room = '' if run.steps < _FEW_STEPS else f'try {_smaller(config)}'
    if ranks and logloss >= base:
        tries = '; '.join(filter(None, [_choosing(config), room]))
        return True, [
            f'the model ranks, but its probabilities are worse than the mean label: best step {_step(run)}, '
            f'valid {of_auc}, {of_logloss}; {tries}'
        ]
    hardly = _HARDLY if of_auc else 1.0
    if not ranks and logloss >= hardly * base:
        found = ', '.join(filter(None, [of_auc, of_logloss]))
        causes = (
            'see whether the label and the columns are the right ones, whether valid rows are like training '
            'rows, and whether the simplest model learns (:lr after the name of the config file)'
        )
        return False, [
            f'the run learnt nothing that holds on the valid part: best step {_step(run)}, valid {found}; '
            f'{"; ".join(filter(None, [causes, room]))}'
        ]
    return True, []


def _ended_early(config: ConfigDict, run: RunProgress, plan: StepPlan, rows: int) -> list[str]:
    """A warning where the best step is one of the first, or early stopping came after few steps."""
    best, patience = run.plateau.best_step, config.plateau.patience
    few = run.plateau.exhausted(config) and run.steps < _FEW_STEPS
    early = (
        best < _EARLY_STEP
        and best <= _EARLY_EVALUATIONS * plan.evaluate_every
        and run.plateau.without_gain >= _EARLY_EVALUATIONS
    )
    if few and (plan.per_epoch < _FEW_AN_EPOCH or not early):
        tries = [f'--config.plateau.patience={max(2 * patience, 5)}']
        batch = config_by_size.batch_size(rows)
        if batch < config.training.batch_size:
            tries.insert(0, f'--config.training.batch_size={batch} ({rows // batch:,} steps an epoch)')
        return [
            f'training ended after {run.steps} steps, {plan.per_epoch} an epoch, because {patience} '
            f'evaluations in a row brought no gain: few steps to learn in; try {" and ".join(tries)}'
        ]
    if early:
        return [
            f'the best step, {best}, is early, and {run.plateau.without_gain} more evaluations brought no '
            'gain: soon the model fits the training rows alone; try '
            f'--config.optimizer.learning_rate={config.optimizer.learning_rate / 3:.1g}, '
            f'--config.training.evaluate_every={max(plan.evaluate_every // 4, 1)}, and {_smaller(config)}'
        ]
    return []


def _step(run: RunProgress) -> str:
    return f'{run.plateau.best_step} of {run.steps}'


def _choosing(config: ConfigDict) -> str:
    """A monitor that sees the probabilities, in words."""
    other = 'logloss' if config.training.monitor == metrics.AUC_MINUS_LOGLOSS else metrics.AUC_MINUS_LOGLOSS
    return f'--config.training.monitor={other} chooses the step by them'


def _smaller(config: ConfigDict) -> str:
    """Keys of the config that leave a model less room to fit the training rows alone, as flags."""
    model = config.model
    tries = [f'--config.embedding.penalty={10 * config.embedding.penalty or 1e-4:g}']
    if model.get('dropout', 1.0) < 0.3:
        tries.append('--config.model.dropout=0.3')
    if model.get('embedding_size', 0) >= 8:
        tries.append(f'--config.model.embedding_size={model.embedding_size // 4}')
    return ', '.join(tries)
