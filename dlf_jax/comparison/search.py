"""A search for settings of a model: trials that Optuna proposes, each a training run of its own.

A trial depends on the seed of the search, its number and the trials that ended before it, and on nothing
else. So the list of ended trials is all that is kept: a search that was killed proposes the same trial again,
whose run goes on from its last checkpoint. Needs Optuna, the extra `tune`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dlf_jax.comparison import runner
from dlf_jax.comparison.run_list import Run
from dlf_jax.comparison.space import Space
from dlf_jax.errors import UserError
from dlf_jax.file_writing import to_json, write_atomically
from dlf_jax.training import metrics

_log = logging.getLogger(__name__)

COMPLETE, PRUNED, FAILED = 'complete', 'pruned', 'failed'
# Number of trials before the sampler looks at them, and of finished ones before any is stopped early: few, as
# there is time for 15 to 30 trials in ten minutes.
_STARTUP = 5
# Number of finished trials from which on the importance of keys is told.
_ENOUGH = 10
# Errors of runs that are due to the trial's values. Any other error ends the search.
_DUE_TO_VALUES = ('the loss is', 'the gradient norm is', 'RESOURCE_EXHAUSTED')
# Number of evaluations that every run may make, and the percentage of runs that go on at each one after.
_WARMUP, _PERCENTILE = 4, 50.0


@dataclasses.dataclass(frozen=True)
class Trial:
    """A trial that has ended.

    Attributes:
      number: counted from 0.
      values: values as text, by config key.
      state: COMPLETE, PRUNED (stopped early) or FAILED.
      score: what the search raises, see `Search`; of a pruned trial, at its last evaluation.
      auc: AUC of the validation part at the best step.
      logloss: Logloss there.
      others: further metrics there, by key.
      scores: score after each evaluation.
      seconds: time of training.
      error: the error of a failed trial.
      workdir: workdir of its run.
    """

    number: int
    values: dict[str, str]
    state: str
    score: float | None = None
    auc: float | None = None
    logloss: float | None = None
    others: dict[str, float | None] = dataclasses.field(default_factory=dict)
    scores: tuple[float, ...] = ()
    seconds: float | None = None
    error: str = ''
    workdir: str = ''

    @property
    def metrics(self) -> dict[str, float | None]:
        """All metrics by key."""
        return {'auc': self.auc, 'logloss': self.logloss, **self.others}

    @property
    def sort_key(self) -> float:
        """The score, to sort trials by; -inf where there is none."""
        return -math.inf if self.score is None else self.score


@dataclasses.dataclass(frozen=True)
class Search:
    """The space of a search, and what it needs to carry trials out.

    Attributes:
      space: entry by config key.
      first: values of the first trial; what the space does not hold is drawn.
      make_run: makes a run of values; raises UserError for values that cannot be.
      journal: file of ended trials, a JSON object a line, after a line of everything that trials depend on.
      context: all else that the trials depend on, by name; a journal holds trials of one context alone.
      seed: seed of the proposals.
      monitor: value of `config.training.monitor`; the search raises it, or lowers it where lower is better.
      logloss_weight: `w` in the score, the monitored value - w * Logloss.
    """

    space: Space
    first: dict[str, str]
    make_run: Callable[[dict[str, str]], Run]
    journal: Path
    context: dict[str, Any]
    seed: int
    monitor: str
    logloss_weight: float

    def score(self, evaluation: dict[str, Any]) -> float:
        """What the search raises, of the metrics of an evaluation."""
        return metrics.monitored(self.monitor, evaluation) - self.logloss_weight * evaluation['logloss']

    def carry_out(self, trials: int, slots: list[dict[str, str]], minutes: float = math.inf) -> list[Trial]:
        """Goes on until `trials` trials have ended, or the time is up; returns all of them.

        Args:
          trials: number of trials in the end, those of earlier calls among them.
          slots: environment variables of each of the concurrent runs.
          minutes: time after which no further trial begins, but for the first.

        Raises:
          UserError: Optuna is not installed, the journal is of another search, or a run failed for a reason
            that is not in its values. The same command goes on with that trial.
        """
        if importlib.util.find_spec('optuna') is None:
            raise UserError("a search needs Optuna: pip install 'dlf_jax[tune]'")
        ended = self.ended()
        for problem in self._problems() if len(ended) < trials else ():
            _log.warning('%s; trials with it may fail', problem)
        deadline = time.monotonic() + 60 * minutes
        while len(ended) < trials and (not ended or time.monotonic() < deadline):
            # The study is made anew each time, so that it is the same in a search that was killed.
            numbers = range(len(ended), min(len(ended) + len(slots), trials))
            batch = self._propose(_study(self, ended), numbers)
            done = self._train(batch, slots)
            ended += done
            # A batch at once: with a part of it the rest would be proposed anew, knowing more.
            lines = [self._header(), *map(dataclasses.asdict, ended)]
            write_atomically(
                self.journal, ''.join(to_json(line, undefined_as_null=True) + '\n' for line in lines)
            )
            for trial in done:
                _log.info('trial %d of %d: %s; %s', trial.number, trials, _describe(trial), _best(ended))
        return ended

    def _problems(self) -> Iterator[str]:
        """Errors of single values of the space, with the other keys as the config has them."""
        for key, entry in self.space.items():
            for text in entry.ends():
                try:
                    self.make_run({key: text})
                except UserError as error:
                    yield f'{key}={text} cannot be with the other keys as they are: {error}'

    def _header(self) -> dict[str, Any]:
        fixed = {'seed': self.seed, 'logloss_weight': self.logloss_weight}
        space = {f'space {key}': str(entry) for key, entry in self.space.items()}
        # Once through JSON, to compare with what was read.
        return json.loads(to_json({**fixed, **self.context, **space}))

    def ended(self) -> list[Trial]:
        """The trials of the journal.

        Raises:
          UserError: the journal is of another search, or damaged.
        """
        if not self.journal.exists():
            return []
        lines = self.journal.read_text().splitlines()
        found = []
        for i, line in enumerate(lines):
            try:
                saved = json.loads(line)
                if i == 0:
                    self._check(saved)
                else:
                    found.append(Trial(**{**saved, 'scores': tuple(saved['scores'])}))
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(f'{self.journal}, line {i + 1}: not a trial: {error}') from error
        return found

    def _check(self, header: dict[str, Any]) -> None:
        wanted = self._header()
        for key in {**wanted, **header}:
            there, now = header.get(key), wanted.get(key)
            if there != now:
                raise UserError(
                    f'{self.journal} is of another search ({key}: {there!r} there, {now!r} now); '
                    'take another --name'
                )

    def _propose(self, study: Any, numbers: range) -> list[_ActiveTrial]:
        proposed = []
        for number in numbers:
            study.sampler = _sampler(self.seed, number)
            if number == 0:
                first = {key: text for key, text in self.first.items() if self.space[key].holds(text)}
                study.enqueue_trial({key: self.space[key].parse(text) for key, text in first.items()})
            trial = study.ask({key: entry.distribution() for key, entry in self.space.items()})
            values = {key: entry.text(trial.params[key]) for key, entry in self.space.items()}
            proposed.append(_ActiveTrial(self, number, values, trial))
        return proposed

    def _train(self, batch: list[_ActiveTrial], slots: list[dict[str, str]]) -> list[Trial]:
        """Carries out the runs of a batch, those of the same values once, and ends their trials."""
        runs: dict[Path, Run] = {}
        by_run: dict[Run, _ActiveTrial] = {}
        for trial in batch:
            try:
                run = self.make_run(trial.values)
            except UserError as error:
                trial.error = str(error)
            else:
                trial.run = runs.setdefault(run.workdir.path, run)
                by_run.setdefault(trial.run, trial)
        outcome = runner.Outcome(runner.finished_results(list(by_run)))
        runner.carry_out(list(by_run), outcome, slots, should_stop=lambda run: by_run[run].is_hopeless(run))
        for run, problem in outcome.errors.items():
            if not any(words in problem for words in _DUE_TO_VALUES):
                raise UserError(f'{run.name}: {problem}; the same command goes on with this trial')
        return [trial.end(outcome, by_run[trial.run] if trial.run else trial) for trial in batch]


class _ActiveTrial:
    """A trial that has been proposed and has not ended."""

    def __init__(self, search: Search, number: int, values: dict[str, str], trial: Any):
        self.search, self.number, self.values, self.trial = search, number, values, trial
        self.run: Run | None = None
        self.error = ''
        self._size = 0
        self._seen: list[dict[str, Any]] = []

    def is_hopeless(self, run: Run) -> bool:
        """Whether the trial's run is to be stopped, by its evaluations so far."""
        path = run.workdir.metrics
        size = path.stat().st_size if path.exists() else 0
        if size == self._size:
            return False
        self._size = size
        # One by one, so that it does not matter how many have come since the last look.
        for evaluation in _evaluations(run)[len(self._seen) :]:
            self.trial.report(self.search.score(evaluation), len(self._seen))
            self._seen.append(evaluation)
            if self.trial.should_prune():
                return True
        return False

    def end(self, outcome: runner.Outcome, watcher: _ActiveTrial) -> Trial:
        """The ended trial.

        Args:
          outcome: results of the batch's runs.
          watcher: the trial of the batch that judged their common run.
        """
        trial = Trial(self.number, self.values, FAILED)
        if self.run is None:
            return dataclasses.replace(trial, error=self.error)
        trial = dataclasses.replace(trial, workdir=str(self.run.workdir.path))
        if self.run in outcome.errors:
            return dataclasses.replace(trial, error=outcome.errors[self.run])
        result = outcome.results.get(self.run)
        evaluations = _evaluations(self.run) if result else watcher._seen
        scores = tuple(map(self.search.score, evaluations))
        monitor = self.search.monitor
        best = result['valid'] if result else max(evaluations, key=lambda e: metrics.monitored(monitor, e))
        found = {key: best[key] for key in metrics.shown(self.run.config) if key in best}
        return dataclasses.replace(
            trial,
            state=COMPLETE if result else PRUNED,
            score=self.search.score(best) if result else scores[-1],
            auc=found.pop('auc'),
            logloss=found.pop('logloss'),
            others=found,
            scores=scores,
            seconds=result['seconds'] if result else None,
        )


def _evaluations(run: Run) -> list[dict[str, Any]]:
    """Evaluations of a run on the validation part, so far."""
    path = run.workdir.metrics
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    found = [json.loads(line) for line in lines if line.endswith('\n')]
    return [line for line in found if line['kind'] == 'valid']


def best_of(trials: list[Trial]) -> Trial | None:
    """The finished trial with the highest score, the earlier of equals."""
    finished = [trial for trial in trials if trial.state == COMPLETE]
    return max(finished, key=lambda trial: trial.sort_key, default=None)


def importance(search: Search, trials: list[Trial]) -> dict[str, float]:
    """Importance of each key: its share in what separates the better half of the finished trials (PED-ANOVA).

    Returns:
      Shares by key, the largest first; empty where there are too few trials to tell.
    """
    import optuna

    study = _study(search, [trial for trial in trials if trial.state == COMPLETE])
    if len(study.trials) < _ENOUGH:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5, evaluate_on_local=False)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: share for key, share in found.items() if math.isfinite(share)}


def _study(search: Search, ended: list[Trial]) -> Any:
    """An Optuna study of ended trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.PercentilePruner(
        _PERCENTILE, n_startup_trials=_STARTUP, n_warmup_steps=_WARMUP - 1
    )
    study = optuna.create_study(direction='maximize', pruner=pruner)
    study.add_trials([_frozen(search, trial) for trial in ended])
    return study


def _frozen(search: Search, trial: Trial) -> Any:
    """An ended trial in Optuna's form."""
    import optuna

    return optuna.trial.create_trial(
        # The sampler does not look at what Optuna calls failed, and would propose it again and again. What
        # was stopped before its first evaluation counts as the worst.
        state=optuna.trial.TrialState['COMPLETE' if trial.state == COMPLETE else 'PRUNED'],
        value=trial.score if trial.state == COMPLETE else None,
        params={key: entry.parse(trial.values[key]) for key, entry in search.space.items()},
        distributions={key: entry.distribution() for key, entry in search.space.items()},
        intermediate_values=dict(enumerate(trial.scores)),
    )


def _describe(trial: Trial) -> str:
    if trial.state == FAILED:
        return f'failed: {trial.error}'
    ending = 'finished' if trial.state == COMPLETE else f'stopped after {len(trial.scores)} evaluations'
    return f'{ending}, valid {metrics.describe(trial.metrics, trial.metrics, 5)}'


def _best(ended: list[Trial]) -> str:
    best = best_of(ended)
    if best is None:
        return 'none finished yet'
    return f'best: trial {best.number}, {metrics.describe(best.metrics, best.metrics, 5)}'


def _sampler(seed: int, number: int) -> Any:
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter('ignore', optuna.exceptions.ExperimentalWarning)
        # A sampler for each trial, so that a proposal does not depend on when the search was started again.
        return optuna.samplers.TPESampler(
            n_startup_trials=_STARTUP,
            multivariate=True,
            constant_liar=True,
            seed=(seed * 100_003 + number) % 2**32,
        )
