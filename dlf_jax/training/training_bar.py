"""Progress of training in one line: what is known of runs that early stopping may end at any evaluation.

The time until `training.epochs` are over, which most runs never see, is told only where nothing else can end
them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ml_collections import ConfigDict
from tqdm.std import Bar, tqdm

from dlf_jax.data.progress import Progress
from dlf_jax.training import run_progress
from dlf_jax.training.run_progress import RunProgress, Runs
from dlf_jax.training.step_plan import StepPlan
from dlf_jax.training.step_timer import StepTimer

# Smallest and largest number of characters of the drawn bar.
_NARROW, _WIDE = 5, 30


@dataclasses.dataclass(frozen=True)
class Moment:
    """What is known at a moment of training.

    Attributes:
      step: number of steps taken.
      runs: progress of all runs after their latest evaluation, by seed.
      seconds_per_step: None before it is known.
      evaluation_seconds: time that an evaluation takes; None before the first.
      loss: None before it is known.
    """

    step: int
    runs: Runs
    seconds_per_step: float | None = None
    evaluation_seconds: float | None = None
    loss: float | None = None


class Outlook:
    """What lies ahead of the runs that go on at a moment.

    Attributes:
      going_on: the runs that take another step, or whose evaluation is to come, by seed.
      evaluating: whether an evaluation is due now.
      steps_to_evaluation: number of steps before the next evaluation.
      evaluations: number of evaluations until the earliest end, that of the last run.
      steps: number of steps until then.
      certain: whether training ends there in any case.
      together: whether all runs that go on can end there; else some end before, and the steps of the others
        take less time than now.
    """

    def __init__(self, config: ConfigDict, plan: StepPlan, moment: Moment):
        """Looks ahead.

        Args:
          config: the whole config.
          plan: steps and evaluations.
          moment: what is known.
        """
        self.going_on = run_progress.going_on(moment.runs, config)
        evaluated = max((run.evaluated for run in self.going_on.values()), default=moment.step)
        left = plan.evaluations_after(evaluated)
        needed = [min(_until_stop(run, config, plan) or left, left) for run in self.going_on.values()]
        self.evaluations = max(needed, default=0)
        self.certain = self.evaluations == left
        self.together = len(set(needed)) <= 1
        self.evaluating = left > 0 and moment.step >= plan.evaluation_after(evaluated)
        self.steps_to_evaluation = plan.evaluation_after(evaluated) - moment.step
        self.steps = plan.evaluation_after(evaluated, self.evaluations) - moment.step


def _until_stop(run: RunProgress, config: ConfigDict, plan: StepPlan) -> int | None:
    """Number of evaluations after which a run stops at the earliest; None: it goes on to its last epoch."""
    patience = config.plateau.patience
    if not patience:
        return None
    # Of so many evaluations without gain, one counts.
    each = max(-(-config.plateau.steps // plan.evaluate_every), 1)
    if run.plateau.best is None:
        # The first evaluation is a gain, whatever it finds.
        return patience * each + 1
    not_counted = (run.evaluated - run.plateau.counted_step) // plan.evaluate_every if each > 1 else 0
    return (patience - run.plateau.without_gain) * each - not_counted


def describe(config: ConfigDict, plan: StepPlan, moment: Moment) -> list[str]:
    """What is known at a moment, in pieces that follow each other; later ones may be left out.

    For example `epoch 4 62%`, `; 3 evaluations`, `, best auc 0.8012`, `, next in 00:12`,
    `; may end in 01:10`, ` after 2 more without gain`, `; loss 0.4512`, `; 21.3k samples/s`.

    Args:
      config: the whole config.
      plan: steps and evaluations.
      moment: what is known.
    """
    outlook, runs = Outlook(config, plan, moment), moment.runs
    epoch, share = _epoch(plan, moment.step)
    last = f' of {-(-plan.total // plan.per_epoch)}' if outlook.certain else ''
    pieces = [f'epoch {epoch}{last} {int(100 * share)}%']
    if len(runs) > 1:
        still = f'{len(outlook.going_on)} of ' if len(outlook.going_on) < len(runs) else ''
        pieces.append(f'; {still}{len(runs)} seeds')
    done = max(run.evaluations for run in runs.values())
    pieces.append(f'; {_count(done, "evaluation")}' if done else '; no evaluation yet')
    if done:
        pieces.append(f', best {_best(config, runs)}')
    if outlook.evaluating:
        pieces.append(', evaluating')
    elif outlook.evaluations:
        pieces.append(f', next in {_steps(outlook.steps_to_evaluation, moment)}')
    pieces += _end(config, outlook, moment)
    if moment.loss is not None:
        pieces.append(f'; loss {moment.loss:.4f}')
    if moment.seconds_per_step:
        samples = config.training.batch_size * len(outlook.going_on) / moment.seconds_per_step
        pieces.append(f'; {tqdm.format_sizeof(samples)} samples/s')
    return pieces


def _epoch(plan: StepPlan, step: int) -> tuple[int, float]:
    """Number of the epoch of a step, from 1, and the share of it that is done."""
    before = max(step - 1, 0) // plan.per_epoch
    return before + 1, (step - before * plan.per_epoch) / plan.per_epoch


def _best(config: ConfigDict, runs: Runs) -> str:
    """The monitored metric at the runs' best steps: `auc 0.8012`, or from the lowest to the highest."""
    name = config.training.monitor.rpartition(':')[2]
    # A difference of metrics is none of the evaluation's own.
    values: list[Any] = [run.best.get(name, run.plateau.best) for run in runs.values() if run.best]
    told = dict.fromkeys(f'{value:.4f}' for value in (min(values), max(values)))
    return f'{name} {" to ".join(told)}'


def _end(config: ConfigDict, outlook: Outlook, moment: Moment) -> list[str]:
    """When training ends, as far as that can be told."""
    if not outlook.evaluations:
        return []
    time = _steps(outlook.steps, moment, outlook.evaluations)
    if outlook.certain and not outlook.steps:
        return ['; ends then']
    if outlook.certain:
        return [f'; ends {"in" if outlook.together else "within"} {time}']
    timed = moment.seconds_per_step is not None and moment.evaluation_seconds is not None
    time = f' in {time}' if timed and outlook.together else ''
    if any(run.plateau.best is None for run in outlook.going_on.values()):
        return [f'; may end{time}', f' after {_count(outlook.evaluations, "evaluation")}']
    return [f'; may end{time}', f' after {outlook.evaluations} more without gain']


def _steps(steps: int, moment: Moment, evaluations: int = 0) -> str:
    """The time that steps and evaluations take, or their numbers where it is not known."""
    if moment.seconds_per_step is None:
        return _count(steps, 'step')
    seconds = steps * moment.seconds_per_step
    if evaluations and moment.evaluation_seconds is None:
        return f'{tqdm.format_interval(seconds)} + {_count(evaluations, "evaluation")}'
    return tqdm.format_interval(seconds + evaluations * (moment.evaluation_seconds or 0.0))


def _count(count: int, what: str) -> str:
    return f'{count:,} {what}' if count == 1 else f'{count:,} {what}s'


def fit(pieces: list[str], width: int | None, done: float) -> str:
    """The pieces that a line has room for, and a bar where there is room for all of them.

    Args:
      pieces: see `describe`.
      width: number of characters; None: any, and no bar.
      done: share that the bar shows.
    """
    if not width:
        return ''.join(pieces)
    count = len(pieces)
    while count > 1 and sum(map(len, pieces[:count])) > width:
        count -= 1
    room = min(width - sum(map(len, pieces)) - 3, _WIDE)
    drawn = f' |{Bar(done, room)}|' if room >= _NARROW else ''
    return (pieces[0] + drawn + ''.join(pieces[1:count]))[:width]


class TrainingBar(Progress):
    """Progress of training on standard error. Asks the device for nothing.

    Attributes:
      timer: of the steps that are taken now.
      loss: latest loss that is known.
    """

    timer: StepTimer | None = None
    loss: float | None = None

    def __init__(self, config: ConfigDict, plan: StepPlan, runs: Runs, step: int):
        """Starts the bar.

        Args:
          config: the whole config.
          plan: steps and evaluations.
          runs: progress so far, by seed.
          step: number of steps taken.
        """
        self._config, self._plan, self._runs = config, plan, dict(runs)
        self._evaluation_seconds: float | None = None
        super().__init__('training', 'steps', plan.total, step)

    def evaluated(self, runs: Runs, seconds: float) -> None:
        """Takes over what an evaluation found.

        Args:
          runs: progress of all runs, by seed.
          seconds: time that it took.
        """
        self._runs, self._evaluation_seconds = dict(runs), seconds
        if self._terminal or self._widget:
            self.refresh()

    def _moment(self) -> Moment:
        pace = None if self.timer is None else self.timer.seconds_per_step
        return Moment(self.n, self._runs, pace, self._evaluation_seconds, self.loss)

    def _widget_text(self) -> str:
        first, *others = describe(self._config, self._plan, self._moment())
        return f'{first}<bar/>{"".join(others)}'

    def __str__(self) -> str:
        """The line; called by `display`."""
        config, plan, moment = self._config, self._plan, self._moment()
        certain = Outlook(config, plan, moment).certain
        done = self.n / plan.total if certain else _epoch(plan, self.n)[1]
        width = self.format_dict['ncols'] if self._terminal else None
        return fit(describe(config, plan, moment), width, done)
