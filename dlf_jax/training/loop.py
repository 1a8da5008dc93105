"""Training from prepared data to a result, resumable at every moment."""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dlf_jax.config import build_model
from dlf_jax.data.builders.base import Builder, read_truth
from dlf_jax.data.pipeline import EvaluationBatches, Order, TrainingBatches, iterate
from dlf_jax.data.progress import Progress as Bar
from dlf_jax.errors import UserError
from dlf_jax.training import metrics, optimizers, replicas, results, schedules
from dlf_jax.training import state as states
from dlf_jax.training import step as steps
from dlf_jax.training.checkpoint import Checkpoints
from dlf_jax.training.evaluation import score, summary
from dlf_jax.training.logs import MetricLog
from dlf_jax.training.partition import Partitioner
from dlf_jax.training.replicas import Progress, Runs
from dlf_jax.training.watch import Clock, LossWatch
from dlf_jax.workdir import Workdir

_log = logging.getLogger(__name__)


def train(config: ConfigDict, builder: Builder, workdir: Workdir) -> dict[str, Any]:
    """Trains to the end, from the latest checkpoint where there is one.

    What happens at step `s` depends on the config and on `s` alone (batches, dropout, evaluations,
    learning rate), so a run that was killed and started again ends with the same bits.

    Args:
      config: validated.
      builder: its data is prepared.
      workdir: taken by `Workdir.begin`.

    Returns:
      What `result.json` holds.

    Raises:
      UserError: the loss is no longer finite, or something that the user can mend.
    """
    return _Training(config, builder, workdir).run()


class _Training:
    """The parts of training that stay the same from step to step."""

    def __init__(self, config: ConfigDict, builder: Builder, workdir: Workdir):
        self.config, self.builder, self.workdir = config, builder, workdir
        schema = builder.encoder().schema
        blocks = builder.blocks('train')
        options = config.training
        orders = {
            seed: Order(blocks.rows, blocks.block_rows, options.batch_size, seed)
            for seed in replicas.seeds(config)
        }
        self.batches = {
            seed: TrainingBatches(blocks, order, options.epochs) for seed, order in orders.items()
        }
        self.steps_per_epoch = orders[config.seed].steps
        self.total_steps = len(self.batches[config.seed])
        self.evaluate_every = options.evaluate_every or self.steps_per_epoch
        self.model = build_model(config)
        self.partitioner = Partitioner(options.batch_size)
        optimizer = optimizers.make(config, self.total_steps)
        schedule = schedules.learning_rate(config, self.total_steps)
        self.create = functools.partial(
            states.create,
            model=self.model,
            schema=schema,
            optimizer=optimizer,
            std=config.embedding.std,
        )
        penalty = config.embedding.penalty
        train_step = steps.make_train_step(self.model, schema, optimizer, schedule, penalty)
        predict_step = steps.make_predict_step(self.model, schema)
        # Compiled for a number of runs in the stack.
        self.train_step = functools.cache(
            lambda count: self.partitioner.train(replicas.together(train_step, count), count > 1)
        )
        self.predict_step = functools.cache(
            lambda count: self.partitioner.predict(replicas.together(predict_step, count, (0, None)))
        )

    def run(self) -> dict[str, Any]:
        checkpoints = Checkpoints(self.workdir.checkpoints, list(self.batches))
        try:
            one = jax.eval_shape(self.create, np.int32(self.config.seed))
            counts = states.parameter_counts(one.params)
            _log.info(
                '%s: %s parameters in tables, %s dense; %d steps an epoch%s',
                self.config.model.name,
                f'{counts["table"]:,}',
                f'{counts["dense"]:,}',
                self.steps_per_epoch,
                f'; {len(self.batches)} seeds together' if len(self.batches) > 1 else '',
            )
            runs = self._train(checkpoints)
            checkpoints.wait()
            return results.of_runs(self.config, runs, counts, self._test(runs, checkpoints))
        finally:
            checkpoints.close()

    def _begin(self, checkpoints: Checkpoints) -> tuple[states.TrainState, Runs]:
        if checkpoints.latest is None:
            seeds = list(self.batches)
            create = replicas.together(self.create, len(seeds))
            state = self.partitioner.make(create, replicas.stacked_seeds(seeds))
            return state, {seed: Progress() for seed in seeds}
        state, runs = checkpoints.restore(self.create, self.partitioner.replicated)
        _log.info('going on from step %d of %s', replicas.steps_taken(runs), self.workdir.path)
        return state, runs

    def _going(self, runs: Runs) -> Runs:
        """The runs that take another step."""
        if replicas.steps_taken(runs) >= self.total_steps:
            return {}
        stack = replicas.in_stack(runs)
        return {seed: run for seed, run in stack.items() if not run.plateau.exhausted(self.config)}

    def _train(self, checkpoints: Checkpoints) -> Runs:
        state, runs = self._begin(checkpoints)
        stack = self._going(runs)
        if not stack:
            return runs
        step, batch_size = replicas.steps_taken(runs), self.config.training.batch_size
        log = MetricLog(self.workdir.metrics, self.workdir.tensorboard, step, list(runs))
        watch = LossWatch(self.workdir, self.config)
        bar = Bar('training', 'samples', self.total_steps * batch_size, step * batch_size)
        try:
            with bar:
                while stack:
                    state = self._without_stopped(state, runs, stack)
                    state, runs = self._stretch(state, runs, stack, checkpoints, log, watch, bar)
                    stack = self._going(runs)
        finally:
            log.close()
        return runs

    def _without_stopped(self, state: states.TrainState, runs: Runs, stack: Runs) -> states.TrainState:
        """The state of the runs that go on, out of that of the runs that took the last step."""
        before = list(replicas.in_stack(runs))
        if len(before) == len(stack):
            return state
        _log.info('going on with %s', ', '.join(f'seed {seed}' for seed in stack))

        def select(state: states.TrainState) -> states.TrainState:
            parts = dict(zip(before, replicas.unstack(state, len(before)), strict=True))
            return replicas.stack([parts[seed] for seed in stack])

        return self.partitioner.make(select, state)

    def _stretch(
        self,
        state: states.TrainState,
        runs: Runs,
        stack: Runs,
        checkpoints: Checkpoints,
        log: MetricLog,
        watch: LossWatch,
        bar: Bar,
    ) -> tuple[states.TrainState, Runs]:
        """Steps of the same stack: until the end, or an evaluation that stops one of its runs."""
        step, every, count = replicas.steps_taken(runs), self.config.training, len(stack)
        train_step, clock = self.train_step(count), Clock(stack)
        parts = [self.batches[seed] for seed in stack]
        source = replicas.StackedBatches(parts) if count > 1 else parts[0]
        with iterate(source, step) as batches:
            for batch in batches:
                state, found = train_step(state, self.partitioner.put(batch, count > 1))
                step += 1
                watch.look(step, list(stack), found)
                clock.trained(batch['weight'])
                bar.advance(every.batch_size)
                if step % every.log_every == 0:
                    values = watch.settle()
                    for seed in stack:
                        log.write('train', step, seed, epoch=step / self.steps_per_epoch, **values[seed])
                    loss = np.mean([values[seed]['loss'] for seed in stack])
                    bar.set_postfix_str(f'loss {loss:.4f}', refresh=False)
                if step % self.evaluate_every == 0 or step == self.total_steps:
                    watch.settle()
                    clock.pause()
                    state, stack = self._evaluate(state, stack, step, log)
                    stack = clock.told(stack, step)
                    runs = {**runs, **stack}
                    checkpoints.save(state, runs)
                    if len(self._going(runs)) < count:
                        break
                    clock.resume()
                elif step % every.checkpoint_every == 0:
                    watch.settle()
                    stack = clock.told(stack, step)
                    runs = {**runs, **stack}
                    checkpoints.save(state, runs)
        return state, runs

    def _evaluate(
        self, state: states.TrainState, stack: Runs, step: int, log: MetricLog
    ) -> tuple[states.TrainState, Runs]:
        """Scores the validation part and draws the consequences for each run's learning rate."""
        epoch = step / self.steps_per_epoch
        after = {}
        scores = self._score(state, len(stack), 'valid')
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
            best = found if gained else run.best
            after[seed] = dataclasses.replace(run, plateau=plateau, best=best)
        scales = replicas.stack([np.float32(run.plateau.scale) for run in after.values()], np.stack)
        scales = jax.device_put(scales, self.partitioner.replicated)
        return state.replace(learning_rate_scale=scales), after

    def _score(self, state: states.TrainState, count: int, part: str) -> list[dict[str, Any]]:
        """The metrics of a part for each run of a stack of `count`."""
        blocks = self.builder.blocks(part)
        size = self.config.predict.batch_size or self.config.training.batch_size
        with iterate(EvaluationBatches(blocks, size)) as batches:
            scores = score(self.predict_step(count), self.partitioner, state, batches, blocks.rows)
        found = [summary({**scores, 'logit': own}) for own in replicas.unstack(scores['logit'], count)]
        truth = read_truth(self.builder.data_dir, part)
        if truth is not None:
            best_possible = metrics.auc(scores['label'], truth)
            found = [{**one, 'best_possible_auc': best_possible} for one in found]
        return found

    def _test(self, runs: Runs, checkpoints: Checkpoints) -> dict[int, dict[str, Any] | None]:
        """The metrics of the test part at each run's best step; None where there is no such part."""
        if 'test' not in self.builder.parts():
            return dict.fromkeys(runs)
        best = checkpoints.best(runs, self.create, self.partitioner.replicated)
        state = self.partitioner.make(lambda *parts: replicas.stack(parts), *best.values())
        return dict(zip(runs, self._score(state, len(runs), 'test'), strict=True))
