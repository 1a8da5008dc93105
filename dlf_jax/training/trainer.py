"""Training from prepared data to a result, resumable at every moment."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dlf_jax.data.builders.base import Builder, read_truth
from dlf_jax.data.loading.batches import EvaluationBatches, Order, TrainingBatches, iterate
from dlf_jax.data.progress import Progress as Bar
from dlf_jax.errors import UserError
from dlf_jax.training import metrics, results, run_progress, runtime_errors
from dlf_jax.training import train_state as states
from dlf_jax.training.checkpoint import Checkpoints, Unreadable
from dlf_jax.training.evaluation import score, summary
from dlf_jax.training.metric_writer import MetricWriter
from dlf_jax.training.model_setup import Learner
from dlf_jax.training.preemption import Preempted, Preemption
from dlf_jax.training.run_progress import RunProgress, Runs
from dlf_jax.training.seeds import (
    StackedBatches,
    seeds_of,
    stack_runs,
    stacked_seeds,
    unstack_runs,
    vmap_runs,
)
from dlf_jax.training.sharding import Compiled
from dlf_jax.training.watch import Clock, LossWatch
from dlf_jax.workdir import Workdir

_log = logging.getLogger(__name__)


def train(
    config: ConfigDict, builder: Builder, workdir: Workdir, preemption: Preemption | None = None
) -> dict[str, Any]:
    """Trains to the end, from the latest checkpoint where there is one.

    What happens at step `s` depends on the config and on `s` alone (batches, dropout, evaluations,
    learning rate), so a run that was killed and started again ends with the same bits.

    Args:
      config: validated.
      builder: its data is prepared.
      workdir: taken by `Workdir.begin`.
      preemption: asks for a stop before the end; None: nothing does.

    Returns:
      What `result.json` holds.

    Raises:
      UserError: the loss is no longer finite, or something that the user can mend.
    """
    return _Training(config, builder, workdir, preemption or Preemption()).run()


class _Training:
    """The parts of training that stay the same from step to step."""

    def __init__(self, config: ConfigDict, builder: Builder, workdir: Workdir, preemption: Preemption):
        self.config, self.builder, self.workdir = config, builder, workdir
        schema = builder.encoder().schema
        blocks = builder.blocks('train')
        options = config.training
        self.orders = {
            seed: Order(blocks.rows, blocks.block_rows, options.batch_size, seed) for seed in seeds_of(config)
        }
        mine = jax.process_index(), jax.process_count()
        self.batches = {
            seed: TrainingBatches(blocks, order, options.epochs, *mine) for seed, order in self.orders.items()
        }
        self.steps_per_epoch = self.orders[config.seed].steps
        self.total_steps = len(self.batches[config.seed])
        self.evaluate_every = options.evaluate_every or self.steps_per_epoch
        self.learner = Learner(config, schema, self.total_steps, options.batch_size)
        self.partitioner = self.learner.partitioner
        self.preemption = preemption

    def run(self) -> dict[str, Any]:
        checkpoints = Checkpoints(self.workdir.checkpoints, list(self.batches))
        with runtime_errors.closing(checkpoints.close):
            counts = self.learner.parameter_counts()
            _log.info(
                '%s: %s parameters in tables, %s dense; %d steps an epoch%s',
                self.config.model.name,
                f'{counts["table"]:,}',
                f'{counts["dense"]:,}',
                self.steps_per_epoch,
                f'; {len(self.batches)} seeds together' if len(self.batches) > 1 else '',
            )
            with self.preemption.watched():
                runs = self._train(checkpoints)
                checkpoints.wait()
                # All that was trained is saved by now.
                with self.preemption.interruptible(checkpoints.wait):
                    tests = self._test(runs, checkpoints)
                return results.of_runs(self.config, runs, counts, tests)

    def _begin(self, checkpoints: Checkpoints) -> tuple[states.TrainState, Runs]:
        """The latest state that can be read, or the one before the first step."""
        while checkpoints.latest is not None:
            try:
                state, runs = checkpoints.restore(self.learner.create, self.partitioner)
            except Unreadable as error:
                checkpoints.set_aside(error.step, str(error))
                continue
            _log.info('going on from step %d of %s', run_progress.steps_taken(runs), self.workdir.path)
            return self._rated(state, run_progress.in_stack(runs)), runs
        seeds = list(self.batches)
        create = vmap_runs(self.learner.create, len(seeds))
        state = self.partitioner.make(create, stacked_seeds(seeds))
        return state, {seed: RunProgress() for seed in seeds}

    def _rated(self, state: states.TrainState, stack: Runs) -> states.TrainState:
        """The state with the learning rates that the runs' evaluations led to."""
        scales = stack_runs([np.float32(run.plateau.scale) for run in stack.values()], np.stack)
        return state.replace(learning_rate_scale=self.partitioner.put_everywhere(scales))

    def _is_evaluated(self, step: int) -> bool:
        """Whether there is an evaluation after a step."""
        return step > 0 and (step % self.evaluate_every == 0 or step == self.total_steps)

    def _pending(self, runs: Runs) -> bool:
        """Whether the evaluation at the latest step is still to be done."""
        step = run_progress.steps_taken(runs)
        return self._is_evaluated(step) and any(
            run.evaluated < step for run in run_progress.in_stack(runs).values()
        )

    def _going(self, runs: Runs) -> Runs:
        """The runs that take another step."""
        if run_progress.steps_taken(runs) >= self.total_steps:
            return {}
        stack = run_progress.in_stack(runs)
        return {seed: run for seed, run in stack.items() if not run.plateau.exhausted(self.config)}

    def _train(self, checkpoints: Checkpoints) -> Runs:
        with self.preemption.interruptible(checkpoints.wait):
            state, runs = self._begin(checkpoints)
        if not self._pending(runs) and not self._going(runs):
            return runs
        step, batch_size = run_progress.steps_taken(runs), self.config.training.batch_size
        log = MetricWriter(
            self.workdir.metrics, self.workdir.tensorboard, step, list(runs), not self._pending(runs)
        )
        watch = LossWatch(self.workdir, self.config)
        bar = Bar('training', 'samples', self.total_steps * batch_size, step * batch_size)
        try:
            with bar:
                if self._pending(runs):
                    state, runs = self._evaluate(state, runs, run_progress.in_stack(runs), checkpoints, log)
                while stack := self._going(runs):
                    state = self._without_stopped(state, runs, stack)
                    state, runs = self._stretch(state, runs, stack, checkpoints, log, watch, bar)
        finally:
            log.close()
        return runs

    def _without_stopped(self, state: states.TrainState, runs: Runs, stack: Runs) -> states.TrainState:
        """The state of the runs that go on, out of that of the runs that took the last step."""
        before = list(run_progress.in_stack(runs))
        if len(before) == len(stack):
            return state
        _log.info('going on with %s', ', '.join(f'seed {seed}' for seed in stack))

        def select(state: states.TrainState) -> states.TrainState:
            parts = dict(zip(before, unstack_runs(state, len(before)), strict=True))
            return stack_runs([parts[seed] for seed in stack])

        return self.partitioner.make(select, state)

    def _stretch(
        self,
        state: states.TrainState,
        runs: Runs,
        stack: Runs,
        checkpoints: Checkpoints,
        log: MetricWriter,
        watch: LossWatch,
        bar: Bar,
    ) -> tuple[states.TrainState, Runs]:
        """Steps of the same stack: until the end, or an evaluation that stops one of its runs."""
        step, every, count = run_progress.steps_taken(runs), self.config.training, len(stack)
        train_step, clock = self.learner.train_step(count), Clock(stack)
        order = self.orders[self.config.seed]
        parts = [self.batches[seed] for seed in stack]
        source = StackedBatches(parts) if count > 1 else parts[0]
        with iterate(source, step) as batches, jax.transfer_guard('disallow'):
            for batch in batches:
                placed = self.partitioner.put(batch, count > 1)
                with self._compiling(train_step, checkpoints):
                    state, found = train_step(state, placed)
                step += 1
                watch.look(step, list(stack), found)
                clock.trained(order.batch_rows(step - 1))
                bar.advance(every.batch_size)
                if step % every.log_every == 0:
                    values = watch.settle()
                    for seed in stack:
                        log.write('train', step, seed, epoch=step / self.steps_per_epoch, **values[seed])
                    loss = np.mean([values[seed]['loss'] for seed in stack])
                    bar.set_postfix_str(f'loss {loss:.4f}', refresh=False)
                stopping = self.preemption.due()
                if stopping or self._is_evaluated(step) or step % every.checkpoint_every == 0:
                    watch.settle()
                    clock.pause()
                    stack = clock.told(stack, step)
                    runs = {**runs, **stack}
                    checkpoints.save(state, runs)
                    if stopping:
                        self._stop(step, checkpoints)
                    if self._is_evaluated(step):
                        state, runs = self._evaluate(state, runs, stack, checkpoints, log)
                        stack = {seed: runs[seed] for seed in stack}
                        clock.evaluated(stack)
                        if len(self._going(runs)) < count:
                            break
                    clock.resume()
        return state, runs

    @contextlib.contextmanager
    def _compiling(self, compiled: Callable, checkpoints: Checkpoints) -> Iterator[None]:
        """The first call of a compiled function, which a SIGTERM may cut short: all steps taken are in a
        checkpoint, finished or on its way."""
        if isinstance(compiled, Compiled) and compiled.executable is None:
            with self.preemption.interruptible(checkpoints.wait):
                yield
        else:
            yield

    def _stop_if_due(self, step: int, checkpoints: Checkpoints) -> None:
        if self.preemption.due():
            self._stop(step, checkpoints)

    def _stop(self, step: int, checkpoints: Checkpoints) -> None:
        checkpoints.wait()
        raise Preempted(
            f'stopped by {self.preemption.reason} after step {step}, which is saved; the same command goes on'
        )

    def _evaluate(
        self, state: states.TrainState, runs: Runs, stack: Runs, checkpoints: Checkpoints, log: MetricWriter
    ) -> tuple[states.TrainState, Runs]:
        """Scores the validation part and draws the consequences for each run's learning rate.

        The state has been saved.
        """
        start = time.monotonic()
        step = run_progress.steps_taken(runs)
        epoch = step / self.steps_per_epoch
        after = {}
        with self._compiling(self.learner.predict_step(len(stack)), checkpoints):
            self._compile_predict(state, len(stack))
        between = functools.partial(self._stop_if_due, step, checkpoints)
        scores = self._score(state, len(stack), 'valid', between)
        for (seed, run), found in zip(stack.items(), scores, strict=True):
            if found['auc'] is None:
                raise UserError(
                    'the validation part has labels of one kind only, so no AUC; give it more rows or '
                    'split at random (--config.dataset.split=random)'
                )
            value = metrics.monitored(self.config.training.monitor, found['auc'], found['logloss'])
            plateau = run.plateau.observe(value, step, self.config)
            gained = plateau.best_step == step
            log.write('valid', step, seed, epoch=epoch, **found)
            _log.info(
                '%sstep %d, epoch %.2f: valid auc %.6f, logloss %.6f%s',
                f'seed {seed}, ' if len(self.batches) > 1 else '',
                step,
                epoch,
                found['auc'],
                found['logloss'],
                '' if gained else f'; no gain, learning rate x {plateau.scale:g}',
            )
            after[seed] = dataclasses.replace(
                run,
                evaluated=step,
                plateau=plateau,
                best=found if gained else run.best,
                seconds=run.seconds + time.monotonic() - start,
            )
        runs = {**runs, **after}
        checkpoints.note(runs)
        return self._rated(state, after), runs

    def _evaluation_batches(self, part: str) -> EvaluationBatches:
        size = self.config.predict.batch_size or self.config.training.batch_size
        return EvaluationBatches(self.builder.blocks(part), size, jax.process_index(), jax.process_count())

    def _compile_predict(self, state: states.TrainState, count: int) -> None:
        """Compiles the forward pass for a stack of so many runs, where that is still to be done."""
        predict = self.learner.predict_step(count)
        if predict.executable is None:
            predict.compile(state.weights(), self.partitioner.put(self._evaluation_batches('valid')[0]))

    def _score(
        self,
        state: states.TrainState,
        count: int,
        part: str,
        between: Callable[[], None],
    ) -> list[dict[str, Any]]:
        """The metrics of a part for each run of a stack of `count`; `between` is called after every batch."""
        source, rows = self._evaluation_batches(part), self.builder.blocks(part).rows
        with iterate(source) as batches:
            predict = self.learner.predict_step(count)
            scores = score(predict, self.partitioner, state, batches, rows, between)
        found = [summary({**scores, 'logit': own}) for own in unstack_runs(scores['logit'], count)]
        truth = read_truth(self.builder.data_dir, part)
        if truth is not None:
            best_possible = metrics.auc(scores['label'], truth)
            found = [{**one, 'best_possible_auc': best_possible} for one in found]
        return found

    def _test(self, runs: Runs, checkpoints: Checkpoints) -> dict[int, dict[str, Any] | None]:
        """The metrics of the test part at each run's best step; None where there is no such part."""
        if 'test' not in self.builder.parts():
            return dict.fromkeys(runs)
        best = checkpoints.best(runs, self.learner.create_weights, self.partitioner)
        state = self.partitioner.make(lambda *parts: stack_runs(parts), *best.values())
        between = functools.partial(self._stop_if_due, run_progress.steps_taken(runs), checkpoints)
        _log.info('scoring the test part')
        return dict(zip(runs, self._score(state, len(runs), 'test', between), strict=True))
