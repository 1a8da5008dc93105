"""Training from prepared data to a result, resumable at every moment."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dlf_jax.data.builders.base import Builder
from dlf_jax.data.loading.batches import TrainingBatches, iterate
from dlf_jax.data.loading.label_counts import LabelCounts
from dlf_jax.data.loading.order import Order
from dlf_jax.errors import UserError
from dlf_jax.file_writing import to_json, write_atomically
from dlf_jax.training import (
    diagnosis,
    metrics,
    model_size,
    multihost,
    part_checks,
    results,
    run_progress,
    runtime_errors,
    stored_scores,
    warm_start,
)
from dlf_jax.training.checkpoint import Checkpoints, Unreadable
from dlf_jax.training.compilation import Compiled
from dlf_jax.training.diagnosis import Diagnosis
from dlf_jax.training.loss_guard import LossGuard
from dlf_jax.training.metric_writer import MetricWriter
from dlf_jax.training.model_setup import TrainingSetup
from dlf_jax.training.part_scorer import PartScorer
from dlf_jax.training.preemption import Preempted, Preemption
from dlf_jax.training.run_progress import RunProgress, Runs
from dlf_jax.training.seeds import StackedBatches, seeds_of, stack_runs, unstack_runs
from dlf_jax.training.step_plan import StepPlan
from dlf_jax.training.step_timer import StepTimer
from dlf_jax.training.train_state import TrainState
from dlf_jax.training.training_bar import TrainingBar
from dlf_jax.workdir import Workdir

_log = logging.getLogger(__name__)

# Bytes from which on it is told what the tables take.
_LARGE_TABLES = 1e9

# Number of batches that are put onto the devices before a step asks for them.
_PREFETCH = 2


# What turns a model's logits, float [rows], into those of its calibrated probabilities, by its workdir and
# weights; None where it has no calibrator.
Calibrated = Callable[[Workdir, TrainState], Callable[[np.ndarray], np.ndarray] | None]


def train(
    config: ConfigDict,
    builder: Builder,
    workdir: Workdir,
    preemption: Preemption | None = None,
    calibrated: Calibrated = lambda workdir, state: None,
) -> dict[str, Any]:
    """Trains to the end, from the latest checkpoint where there is one.

    What happens at step `s` depends on the config and on `s` alone (batches, dropout, evaluations,
    learning rate), so a run that was killed and started again ends with the same bits.

    Args:
      config: validated.
      builder: its data is prepared.
      workdir: locked by this run; it is written to when nothing is left that could refuse the run.
      preemption: says when to save and stop; None: never.
      calibrated: of a model that a warm start begins with, for its metrics before training.

    Returns:
      The content of `result.json`.

    Raises:
      UserError: the loss is no longer finite, or something that the user can mend.
    """
    return Trainer(config, builder, workdir, preemption or Preemption(), calibrated).run()


class Trainer:
    """A run from its data to its result; where several seeds train together, all of their runs.

    Attributes:
      state: of the runs that took the latest step, as a stack.
      runs: progress of all runs, by seed.
    """

    state: TrainState
    runs: Runs
    checkpoints: Checkpoints

    def __init__(
        self,
        config: ConfigDict,
        builder: Builder,
        workdir: Workdir,
        preemption: Preemption,
        calibrated: Calibrated,
    ):
        """Opens the data, checks it and sets the model up; compiles, trains and writes nothing yet."""
        self.config, self.builder, self.workdir, self.preemption = config, builder, workdir, preemption
        self.calibrated = calibrated
        options = config.training

        schema = builder.schema()
        metrics.check_groups(config, schema.group)
        part_checks.check(config, builder)
        self.labels = _label_counts(builder)
        self.base_rates = diagnosis.base_rate_loglosses(self.labels)

        # Data: the order of rows, and the batches, of each seed.
        blocks = builder.blocks('train')
        self.orders = {
            seed: Order(blocks.rows, blocks.block_rows, options.batch_size, seed) for seed in seeds_of(config)
        }
        host, hosts = jax.process_index(), jax.process_count()
        self.batches = {
            seed: TrainingBatches(blocks, order, options.epochs, host, hosts)
            for seed, order in self.orders.items()
        }
        steps = self.orders[config.seed].steps
        self.plan = StepPlan(steps, len(self.batches[config.seed]), options.evaluate_every or steps)

        # Model, optimizer and their shardings.
        self.setup = TrainingSetup(config, schema, self.plan.total, options.batch_size)
        self.partitioner = self.setup.partitioner
        # Of the weights that a warm start begins with now; None from scratch, and once a checkpoint is there.
        self.origin: warm_start.Origin | None = None
        self.scorer = PartScorer(config, builder, self.setup, self._compiling, self._stop_if_due)

    def run(self) -> dict[str, Any]:
        """Trains, evaluates and tests; see `train`."""
        self.checkpoints = Checkpoints(
            self.workdir.checkpoints, list(self.batches), self.setup.abstract_state, self.setup.optimizer,
            keeper=self.workdir.keeper,
        )  # fmt: skip
        with runtime_errors.closing(self.checkpoints.close):
            counts = self.setup.parameter_counts()
            _log.info(
                '%s: %s parameters in tables, %s dense; %d steps an epoch%s',
                self.config.model.name,
                f'{counts["table"]:,}',
                f'{counts["dense"]:,}',
                self.plan.per_epoch,
                f'; {len(self.batches)} seeds together' if len(self.batches) > 1 else '',
            )
            tables, _ = self.setup.state_bytes()
            if tables > _LARGE_TABLES:
                _log.info('the tables take %.3g GB, gradients and moments included', tables / 1e9)
            with self.preemption.watched():
                with self.preemption.interruptible(self._finish_saving):
                    model_size.warn_of_proportions(
                        self.config, self.setup.schema, self.setup.state_bytes()[1], self.setup.memory,
                        self.builder.blocks('train').rows,
                    )  # fmt: skip
                    self._restore_or_create()
                began_from = self.origin.to_json() if self.origin else None
                multihost.run_on_first(lambda: self.workdir.begin(self.config, self.builder, began_from))
                if self.origin:
                    self._score_before_training()
                if self._evaluation_pending() or self._active():
                    self._train()
                self.checkpoints.wait()
                # All that was trained is saved by now.
                with self.preemption.interruptible(self._finish_saving):
                    tests = self._test()
            found = self._diagnose()
            rows = self.builder.blocks('train').rows
            result = results.of_runs(self.config, self.runs, counts, rows, tests, self.base_rates, found)
            return {**result, **results.of_warm_start(self.workdir)}

    def _finish_saving(self) -> None:
        """Keeps all that is saved, or is being saved, before the process ends."""
        self.checkpoints.wait()
        self.workdir.keeper.close()

    @property
    def step(self) -> int:
        """Number of steps taken."""
        return run_progress.steps_taken(self.runs)

    def _restore_or_create(self) -> None:
        """Takes the latest state that can be read, or the one before the first step."""
        while self.checkpoints.latest is not None:
            try:
                self.state, self.runs = self.checkpoints.restore()
            except Unreadable as error:
                self.checkpoints.set_aside(error.step, str(error))
                continue
            _log.info('going on from step %d of %s', self.step, self.workdir.path)
            self._set_learning_rate_scale()
            return
        self._begin_to_compile()
        self.state = self._initial_state()
        self.runs = {seed: RunProgress() for seed in self.batches}

    def _initial_state(self) -> TrainState:
        """The state before the first step, from scratch or of the model to begin with."""
        path = self.config.training.warm_start
        if not path:
            return self.setup.initial_state(list(self.batches))
        found = multihost.run_on_first(lambda: warm_start.Origin.of(path).to_json())
        self.origin = origin = warm_start.Origin(**found)
        if origin.encoder != self.builder.made_of['grown_from']:
            raise warm_start.Changing(path)
        which = '' if origin.step is None else f', step {origin.step}'
        _log.info('going on from the weights of %s%s', path, which)
        return warm_start.initial_state(self.config, self.setup, self.builder.encoder(), origin)

    def _score_before_training(self) -> None:
        """Scores the training part with the model to begin with, and saves that, so that nothing of where it
        came from is needed any more."""
        origin = self.origin
        assert origin
        with self.preemption.interruptible(self._finish_saving):
            weights = warm_start.weights_of_before(self.config, self.setup, self.builder.encoder(), origin)
            scores = self.scorer.score(weights, 1, 'train')
            (found,) = self.scorer.summaries(scores, 1, 'train')
            calibrated = self.calibrated(Workdir(origin.path), weights)
            if calibrated:
                moved = {**scores, 'logit': calibrated(scores['logit'])}
                (after,) = self.scorer.summaries(moved, 1, 'train')
                found = {**after, 'before_calibration': found}
            multihost.run_on_first(origin.check)
            _log.info('before training: train %s', metrics.describe(found, metrics.shown(self.config)))
            text = to_json(found, undefined_as_null=True) + '\n'
            multihost.run_on_first(lambda: write_atomically(self.workdir.progressive, text))
            self.checkpoints.save(self.state, self.runs)

    def _begin_to_compile(self) -> None:
        """Compiles the steps of all runs beside what is compiled and done before each is needed.

        Elsewhere than on CPUs the training step alone: the compiler of GPUs measures kernels, which others
        would disturb, and what makes the state has few.
        """
        if jax.process_count() > 1:
            return
        count = len(self.batches)
        train_step = self.setup.train_step(count)
        state, batches = self.setup.abstract_state(count), self.scorer.batches('valid')
        shapes = functools.partial(self.partitioner.shapes, batches[0])
        if isinstance(train_step, Compiled):
            train_step.begin(state, shapes(self.config.training.batch_size, count))
        if self.partitioner.platform == 'cpu':
            self.setup.predict_step(count).begin(state.weights(), shapes(batches.batch_size))

    def _set_learning_rate_scale(self) -> None:
        """Puts the factors of the learning rate that the evaluations led to into the state."""
        stack = run_progress.in_stack(self.runs)
        scales = stack_runs([np.float32(run.plateau.scale) for run in stack.values()], np.stack)
        self.state = self.state.replace(learning_rate_scale=self.partitioner.put_everywhere(scales))

    def _evaluation_pending(self) -> bool:
        """Whether the evaluation that follows the latest step is still to be done."""
        stack = run_progress.in_stack(self.runs)
        return self.plan.is_evaluated(self.step) and any(run.evaluated < self.step for run in stack.values())

    def _active(self) -> Runs:
        """Runs that take another step."""
        return {} if self.step >= self.plan.total else run_progress.going_on(self.runs, self.config)

    def _train(self) -> None:
        """Takes steps until every run has stopped."""
        pending = self._evaluation_pending()
        log = MetricWriter(
            self.workdir.metrics, self.workdir.tensorboard, self.step, list(self.runs), not pending
        )
        bar = TrainingBar(self.config, self.plan, self.runs, self.step)
        guard = LossGuard(self.workdir.checkpoints, self.config)
        with contextlib.closing(log), bar:
            if pending:
                self._evaluate(log, bar)
            while self._active():
                self._drop_stopped()
                self._train_stack(log, guard, bar)

    def _drop_stopped(self) -> None:
        """Takes the runs that have stopped out of the state."""
        before, stack = list(run_progress.in_stack(self.runs)), self._active()
        if len(before) == len(stack):
            return
        _log.info('going on with %s', ', '.join(f'seed {seed}' for seed in stack))

        def select(state: TrainState) -> TrainState:
            by_seed = dict(zip(before, unstack_runs(state, len(before)), strict=True))
            return stack_runs([by_seed[seed] for seed in stack])

        self.state = self.setup.make(select, len(stack), self.state)

    def _train_stack(self, log: MetricWriter, guard: LossGuard, bar: TrainingBar) -> None:
        """Takes steps with the same runs: until the end, or an evaluation that stops one of them."""
        options, stack = self.config.training, self._active()
        step, count = self.step, len(stack)
        train_step, timer, order = (
            self.setup.train_step(count),
            StepTimer(stack),
            self.orders[self.config.seed],
        )
        bar.timer = timer
        # Steps whose metrics are to be written, which waits until the device has done them.
        logged: collections.deque[int] = collections.deque()
        parts = [self.batches[seed] for seed in stack]
        source: StackedBatches | TrainingBatches = StackedBatches(parts) if count > 1 else parts[0]
        with iterate(source, step) as batches, jax.transfer_guard('disallow'):
            for batch in _prefetched(batches, lambda batch: self.partitioner.put(batch, count > 1)):
                with self._compiling(train_step):
                    self.state, found = train_step(self.state, batch)
                step += 1
                guard.add(step, list(stack), found)
                timer.count(order.batch_rows(step - 1))
                bar.advance(1)
                if step % options.log_every == 0:
                    logged.append(step)
                self._write_metrics(log, bar, guard, logged, guard.done)
                stopping = self.preemption.due()
                if stopping or self.plan.is_evaluated(step) or step % options.checkpoint_every == 0:
                    self._write_metrics(log, bar, guard, logged, step)
                    guard.read()
                    timer.pause()
                    self.runs |= timer.progress(self.runs, step)
                    self.checkpoints.save(self.state, self.runs)
                    if stopping:
                        self._stop()
                    if self.plan.is_evaluated(step):
                        self._evaluate(log, bar)
                        timer.restart(self.runs)
                        if len(self._active()) < count:
                            return
                    timer.resume()

    def _write_metrics(
        self,
        log: MetricWriter,
        bar: TrainingBar,
        guard: LossGuard,
        logged: collections.deque[int],
        until: int,
    ) -> None:
        """Writes the metrics of those of the `logged` steps that are not after step `until`."""
        while logged and logged[0] <= until:
            step = logged.popleft()
            found = guard.read(step)
            for seed, values in found.items():
                log.write('train', step, seed, epoch=step / self.plan.per_epoch, **values)
            bar.loss = float(np.mean([values['loss'] for values in found.values()]))

    @contextlib.contextmanager
    def _compiling(self, program: Callable) -> Iterator[None]:
        """The first call of a compiled function, which a SIGTERM may cut short: all steps taken are in a
        checkpoint, finished or on its way."""
        if isinstance(program, Compiled) and program.executable is None:
            with self.preemption.interruptible(self._finish_saving):
                yield
        else:
            yield

    def _stop_if_due(self) -> None:
        if self.preemption.due():
            self._stop()

    def _stop(self) -> None:
        self.checkpoints.wait()
        where = f'after step {self.step}, which is saved'
        if self.checkpoints.latest is None:
            where = 'before the first step'
        raise Preempted(f'stopped by {self.preemption.reason} {where}; the same command goes on')

    def _evaluate(self, log: MetricWriter, bar: TrainingBar) -> None:
        """Scores the validation part and updates each run's plateau, best step and learning rate.

        The state has been saved.
        """
        start, step, stack = time.monotonic(), self.step, run_progress.in_stack(self.runs)
        scores, told = self.scorer.score(self.state, len(stack), 'valid'), []
        summaries = self.scorer.summaries(scores, len(stack), 'valid')
        for (seed, run), found in zip(stack.items(), summaries, strict=True):
            value = metrics.monitored(self.config.training.monitor, found)
            if math.isnan(value):
                raise UserError(
                    f'config.training.monitor={self.config.training.monitor!r}: undefined on the validation '
                    'part; give it more rows, or monitor another metric'
                )
            plateau = run.plateau.observe(value, step, self.config)
            gained = plateau.best_step == step
            log.write('valid', step, seed, epoch=step / self.plan.per_epoch, **found)
            which = f'seed {seed}, ' if len(self.batches) > 1 else ''
            end = '' if gained else f'; no gain, learning rate x {plateau.scale:g}'
            epoch = step / self.plan.per_epoch
            text = metrics.describe(found, metrics.shown(self.config), base_rate=self.base_rates.get('valid'))
            told.append(f'{which}step {step}, epoch {epoch:.2f}: valid {text}{end}')
            self.runs[seed] = dataclasses.replace(
                run,
                evaluated=step,
                evaluations=run.evaluations + 1,
                plateau=plateau,
                best=found if gained else run.best,
                seconds=run.seconds + time.monotonic() - start,
            )
        bar.evaluated(self.runs, time.monotonic() - start)
        # Not before the bar knows: it is drawn again below each line.
        for line in told:
            _log.info('%s', line)
        self.checkpoints.note(self.runs)
        self._set_learning_rate_scale()

    def _test(self) -> dict[int, dict[str, Any] | None]:
        """Stores the scores of the validation and test part at each run's best step.

        Returns:
          Metrics of the test part by seed; None where there is no such part.
        """
        best = list(self.checkpoints.best(self.runs).values())
        state, count = self.setup.make(lambda *states: stack_runs(states), len(best), *best), len(best)
        found: dict[int, dict[str, Any] | None] = dict.fromkeys(self.runs)
        seed = run_progress.best_seed(self.runs)
        steps = {own: run.plateau.best_step or run.steps for own, run in self.runs.items()}
        for part in ('valid', 'test'):
            if part not in self.builder.parts():
                continue
            _log.info('scoring the %s part at the best step', part)
            scores = self.scorer.score(state, count, part)
            logits = dict(zip(self.runs, unstack_runs(scores['logit'], count), strict=True))
            store = functools.partial(stored_scores.write, self.workdir, part, scores, logits, seed, steps)
            multihost.run_on_first(store)
            if part == 'test':
                found = dict(zip(self.runs, self.scorer.summaries(scores, count, part), strict=True))
        return found

    def _diagnose(self) -> dict[int, Diagnosis]:
        """What the course of each run says about it; logs the warnings."""
        found = {
            seed: diagnosis.diagnose(self.config, run, self.plan, self.labels)
            for seed, run in self.runs.items()
        }
        for seed, one in found.items():
            which = f'seed {seed}: ' if len(found) > 1 else ''
            for warning in one.warnings:
                _log.warning('WARNING: %s%s', which, warning)
        return found


def _label_counts(builder: Builder) -> dict[str, LabelCounts]:
    """Labels in numbers by part, which one process counts where that is still to be done."""

    def count() -> dict[str, dict[str, Any]]:
        return {part: counts.to_json() for part, counts in builder.label_counts().items()}

    return {part: LabelCounts.from_json(c) for part, c in multihost.run_on_first(count).items()}


def _prefetched(batches: Iterable[Any], put: Callable[[Any], Any]) -> Iterator[Any]:
    """Batches on the devices, put there `_PREFETCH` steps before they are asked for."""
    waiting: collections.deque = collections.deque()
    for batch in batches:
        waiting.append(put(batch))
        if len(waiting) > _PREFETCH:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()
