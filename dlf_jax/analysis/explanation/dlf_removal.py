"""DLF with pathways removed at inference: what the trained model loses without them.

A pathway of a layer is removed by giving every row its mean over the rows, so that what it tells of the row
is gone, while its level, on which the norms and the layers behind it rely, stays. Zeros would be values that
these have never seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dlf_jax.analysis.explanation.device_batches import batches_on_devices, everywhere
from dlf_jax.data.rows import Rows
from dlf_jax.models import embedding
from dlf_jax.models.dlf import DLF
from dlf_jax.models.dlf_blocks import Residual
from dlf_jax.serving.predict import Predictor
from dlf_jax.training.compilation import common_options
from dlf_jax.training.train_state import TrainState
from dlf_jax.training.train_step import Batch

RESIDUAL = 'residual'
# Mean tokens, float32 [tokens, d], by layer and name of the module.
Means = dict[str, dict[str, np.ndarray]]


class Removal:
    """Scores rows with pathways removed."""

    def __init__(
        self,
        predictor: Predictor,
        pathways: list[str],
        means: Means,
        size: int,
        advance: Callable[[int], None],
    ):
        """Defines the compiled functions; compiles nothing.

        Args:
          predictor: its model is a DLF.
          pathways: names of a layer's pathways: blocks, what the fusion adds, `RESIDUAL`.
          means: of the blocks' tokens, of the `fusion`'s own and of what the residual connections carry.
          size: rows of a batch, from `batch_size_for`.
          advance: called with the number of rows that have been scored since.
        """
        self._setup, self._state, self._size = predictor.setup, predictor.state, size
        self._advance, self._pathways = advance, pathways
        self._means = {layer: everywhere(by_name, self._setup) for layer, by_name in means.items()}
        forward, sharding = self._setup.forward, self._setup.partitioner.table_sharding(training=False)
        model = forward.model
        assert isinstance(model, DLF)

        def run(
            state: TrainState, batch: Batch, means: Any, removed: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            ids = embedding.ids_of(batch, forward.schema)
            rows = forward.gathered(state.params['tables'], ids, sharding.gather)
            with nn.intercept_methods(_interceptor(model, pathways, means, removed)):
                logits, changed = forward.logits(
                    state.params['dense'], state.batch_stats, rows, batch, mutable=['intermediates']
                )
            (final,) = changed['intermediates']['final']
            return logits, final.astype(jnp.float32)

        def whole(state: TrainState, batch: Batch, means: Any, removed: jax.Array) -> jax.Array:
            return run(state, batch, means, removed)[1]

        def score(
            state: TrainState, batch: Batch, means: Any, removed: jax.Array, whole: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            logits, final = run(state, batch, means, removed)
            moved, size = (jnp.sqrt(jnp.sum(x * x, (1, 2))) for x in (final - whole, whole))
            return logits, moved / jnp.maximum(size, 1e-30)

        options = common_options(self._setup.partitioner.platform)
        self._whole, self._score = (
            jax.jit(self._setup.with_precision(function), compiler_options=options)
            for function in (whole, score)
        )

    def without(self, rows: Rows, removals: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Logits without some pathways, and how far that moves what the head reads.

        Args:
          rows: arrays [n, ...].
          removals: bool [layers, pathways] each, True where a pathway is removed.

        Returns:
          Logits, float32 [removals, n]; and the norm of the change of the head's input as a share of the
          input's norm, float32 [removals, n].
        """
        partitioner = self._setup.partitioner
        choices = [partitioner.put_everywhere(np.asarray(removed)) for removed in removals]
        nothing = partitioner.put_everywhere(np.zeros_like(removals[0]))
        pieces = []
        for batch, count, _ in batches_on_devices(rows, self._size, self._setup):
            whole = self._whole(self._state, batch, self._means, nothing)
            self._advance(count)
            pieces.append(list(self._taken(batch, choices, whole, count)))
        logits, moved = (
            np.concatenate([np.stack([found[i] for found in piece]) for piece in pieces], 1) for i in range(2)
        )
        return logits, moved

    def _taken(
        self, batch: Batch, choices: list[jax.Array], whole: jax.Array, count: int
    ) -> Iterator[tuple[np.ndarray, ...]]:
        for removed in choices:
            found = self._score(self._state, batch, self._means, removed, whole)
            yield tuple(np.asarray(self._setup.partitioner.local_rows(x)[:count]) for x in found)
            self._advance(count)


def _interceptor(model: DLF, pathways: list[str], means: Any, removed: jax.Array) -> Callable[..., Any]:
    """Puts means in place of pathways, inside the model's layers.

    Args:
      model: the model.
      pathways: see `Removal`.
      means: see `Removal`.
      removed: bool [layers, pathways].
    """
    places = {name: place for place, name in enumerate(pathways)}

    def chosen(mean: jax.Array, value: jax.Array, layer: int, pathway: str) -> jax.Array:
        return jnp.where(removed[layer, places[pathway]], mean.astype(value.dtype), value)

    def intercept(
        call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        path = context.module.path
        # A residual connection's norm stays behind it; its own term is a method of its own.
        method = 'carry' if isinstance(context.module, Residual) else '__call__'
        if context.method_name != method or len(path) != 2 or not path[0].startswith('layer_'):
            return call(*args, **kwargs)
        layer, name = int(path[0].removeprefix('layer_')), path[1]
        mean = means[path[0]].get(name)
        if mean is None:
            return call(*args, **kwargs)
        output = call(*args, **kwargs)
        if name.endswith(RESIDUAL):
            return chosen(mean, output, layer, RESIDUAL)
        if name != 'fusion':
            return chosen(mean, output, layer, name)
        own = output.shape[1] - mean.shape[0]
        (pathway,) = places.keys() & {'attention', 'fusion'}
        return jnp.concatenate([output[:, :own], chosen(mean, output[:, own:], layer, pathway)], 1)

    return intercept
