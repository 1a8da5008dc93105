"""Training from prepared data to a result, resumable at every moment."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import time
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dlf_jax.config import build_model
from dlf_jax.data.builders.base import Builder, read_truth
from dlf_jax.data.pipeline import EvaluationBatches, Order, TrainingBatches, iterate
from dlf_jax.data.progress import Progress as Bar
from dlf_jax.errors import UserError
from dlf_jax.training import metrics, optimizers, schedules
from dlf_jax.training import state as states
from dlf_jax.training import step as steps
from dlf_jax.training.checkpoint import Checkpoints, Progress
from dlf_jax.training.evaluation import score, summary
from dlf_jax.training.logs import MetricLog
from dlf_jax.training.partition import Partitioner
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
    return _Run(config, builder, workdir).run()


class _Run:
    """The parts of a run that stay the same from step to step."""

    def __init__(self, config: ConfigDict, builder: Builder, workdir: Workdir):
        self.config, self.builder, self.workdir = config, builder, workdir
        schema = builder.encoder().schema
        blocks = builder.blocks('train')
        options = config.training
        order = Order(blocks.rows, blocks.block_rows, options.batch_size, config.seed)
        self.batches = TrainingBatches(blocks, order, options.epochs)
        self.steps_per_epoch = order.steps
        self.total_steps = len(self.batches)
        self.evaluate_every = options.evaluate_every or order.steps
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
        self.train_step = self.partitioner.train(
            steps.make_train_step(self.model, schema, optimizer, schedule, config.embedding.penalty)
        )
        self.predict_step = self.partitioner.predict(steps.make_predict_step(self.model, schema))
        self.seed = np.int32(config.seed)

    def run(self) -> dict[str, Any]:
        checkpoints = Checkpoints(self.workdir.checkpoints)
        try:
            state, progress = self._begin(checkpoints)
            counts = states.parameter_counts(state.params)
            _log.info(
                '%s: %s parameters in tables, %s dense; %d steps an epoch',
                self.config.model.name,
                f'{counts["table"]:,}',
                f'{counts["dense"]:,}',
                self.steps_per_epoch,
            )
            state, progress = self._train(state, progress, checkpoints)
            steps_taken = int(state.step)
            checkpoints.wait()
            best_step = progress.plateau.best_step
            if best_step != steps_taken:
                state, _ = checkpoints.restore(
                    jax.eval_shape(self.create, self.seed), self.partitioner.replicated, best_step
                )
            return self._result(state, progress, steps_taken, counts)
        finally:
            checkpoints.close()

    def _begin(self, checkpoints: Checkpoints) -> tuple[states.TrainState, Progress]:
        if checkpoints.latest is None:
            return self.partitioner.init(self.create, self.seed), Progress()
        template = jax.eval_shape(self.create, self.seed)
        state, progress = checkpoints.restore(template, self.partitioner.replicated)
        _log.info('going on from step %d of %s', int(state.step), self.workdir.path)
        return state, progress

    def _train(
        self, state: states.TrainState, progress: Progress, checkpoints: Checkpoints
    ) -> tuple[states.TrainState, Progress]:
        step = int(state.step)
        if step >= self.total_steps or progress.plateau.exhausted(self.config):
            return state, progress
        batch_size, every = self.config.training.batch_size, self.config.training
        log = MetricLog(self.workdir.metrics, self.workdir.tensorboard, step)
        clock = _Clock(progress)
        watch = _LossWatch(self.workdir, self.config, step)
        bar = Bar('training', 'samples', self.total_steps * batch_size, step * batch_size)
        try:
            with iterate(self.batches, step) as batches, bar:
                for batch in batches:
                    state, found = self.train_step(state, self.partitioner.put(batch))
                    step += 1
                    watch.look(step, found)
                    clock.trained(int(np.count_nonzero(batch['weight'])))
                    bar.advance(batch_size)
                    last = step == self.total_steps
                    if step % every.log_every == 0:
                        watch.settle()
                        values = {name: float(value) for name, value in watch.found.items()}
                        log.write('train', step, epoch=step / self.steps_per_epoch, **values)
                        bar.set_postfix_str(f'loss {values["loss"]:.4f}', refresh=False)
                    if step % self.evaluate_every == 0 or last:
                        watch.settle()
                        clock.pause()
                        state, progress, gained = self._evaluate(state, progress, log)
                        value = progress.plateau.best if gained else None
                        progress = clock.told(progress)
                        checkpoints.save(state, progress, value)
                        if progress.plateau.exhausted(self.config):
                            break
                        clock.resume()
                    elif step % every.checkpoint_every == 0:
                        watch.settle()
                        checkpoints.save(state, clock.told(progress))
        finally:
            log.close()
        return state, progress

    def _evaluate(
        self, state: states.TrainState, progress: Progress, log: MetricLog
    ) -> tuple[states.TrainState, Progress, bool]:
        """Scores the validation part and draws the consequences for the learning rate."""
        step = int(state.step)
        found = self._score(state, 'valid')
        if found['auc'] is None:
            raise UserError(
                'the validation part has labels of one kind only, so no AUC; give it more rows or '
                'split at random (--config.dataset.split=random)'
            )
        value = metrics.monitored(self.config.training.monitor, found['auc'], found['logloss'])
        plateau = progress.plateau.observe(value, step, self.config)
        gained = plateau.best_step == step
        log.write('valid', step, epoch=step / self.steps_per_epoch, **found)
        _log.info(
            'step %d, epoch %.2f: valid auc %.6f, logloss %.6f%s',
            step,
            step / self.steps_per_epoch,
            found['auc'],
            found['logloss'],
            '' if gained else f'; no gain, learning rate x {plateau.scale:g}',
        )
        scale = jax.device_put(np.float32(plateau.scale), self.partitioner.replicated)
        progress = dataclasses.replace(progress, plateau=plateau, best=found if gained else progress.best)
        return state.replace(learning_rate_scale=scale), progress, gained

    def _score(self, state: states.TrainState, part: str) -> dict[str, Any]:
        blocks = self.builder.blocks(part)
        size = self.config.predict.batch_size or self.config.training.batch_size
        with iterate(EvaluationBatches(blocks, size)) as batches:
            scores = score(self.predict_step, self.partitioner, state, batches, blocks.rows)
        found = summary(scores)
        truth = read_truth(self.builder.data_dir, part)
        if truth is not None:
            found['best_possible_auc'] = metrics.auc(scores['label'], truth)
        return found

    def _result(
        self, state: states.TrainState, progress: Progress, steps_taken: int, counts: dict[str, int]
    ) -> dict[str, Any]:
        test = self._score(state, 'test') if 'test' in self.builder.parts() else None
        rate = progress.training_samples / max(progress.training_seconds, 1e-9)
        return {
            'model': self.config.model.name,
            'variant': self.config.variant,
            'dataset': self.config.dataset.name,
            'seed': self.config.seed,
            'steps': steps_taken,
            'best_step': progress.plateau.best_step,
            'parameters': counts,
            'seconds': round(progress.seconds, 1),
            'samples_per_second': round(rate, 1),
            'valid': progress.best,
            'test': test,
        }


class _Clock:
    """Time spent, over all the starts of a run."""

    def __init__(self, progress: Progress):
        self._before = progress
        self._start = time.monotonic()
        self._since: float | None = None  # start of the stretch of steps that is going on
        self._seconds = 0.0
        self._samples = 0
        self._warm = False

    def trained(self, samples: int) -> None:
        """Counts a step; the first of a start compiles and does not count."""
        if self._warm:
            self._samples += samples
        else:
            self._warm = True
            self.resume()

    def pause(self) -> None:
        if self._since is not None:
            self._seconds += time.monotonic() - self._since
            self._since = None

    def resume(self) -> None:
        self._since = time.monotonic()

    def told(self, progress: Progress) -> Progress:
        """The progress with what was spent until now."""
        now, before = time.monotonic(), self._before
        going_on = 0.0 if self._since is None else now - self._since
        return dataclasses.replace(
            progress,
            seconds=before.seconds + now - self._start,
            training_seconds=before.training_seconds + self._seconds + going_on,
            training_samples=before.training_samples + self._samples,
        )


class _LossWatch:
    """Looks at every step's loss, one step late so that the device never waits."""

    def __init__(self, workdir: Workdir, config: ConfigDict, step: int):
        self._workdir, self._config = workdir, config
        self._step = step
        self._last_finite: tuple[int, float] | None = None
        self.found: steps.Metrics = {}

    def look(self, step: int, found: steps.Metrics) -> None:
        """Hands over a step's metrics, and checks those of the step before."""
        self.settle()
        self._step, self.found = step, found

    def settle(self) -> None:
        """Checks what was handed over last. Raises UserError where it is not finite."""
        if not self.found:
            return
        loss, norm = float(self.found['loss']), float(self.found['gradient_norm'])
        if math.isfinite(loss) and math.isfinite(norm):
            self._last_finite = self._step, loss
            return
        what = f'the loss is {loss}' if not math.isfinite(loss) else f'the gradient norm is {norm}'
        last = (
            f'the last finite loss was {self._last_finite[1]:.6g} at step {self._last_finite[0]}'
            if self._last_finite
            else 'no step since the start had a finite one'
        )
        raise UserError(
            f'step {self._step}: {what}; {last}. Try a lower --config.optimizer.learning_rate '
            f'(now {self._config.optimizer.learning_rate:g}) or --config.optimizer.clip_norm (now '
            f'{self._config.optimizer.clip_norm:g}), or look for extreme numbers in the data. '
            f'The checkpoint before is kept in {self._workdir.checkpoints}'
        )
