"""DLF's inner tensors, summed up over rows: gates, pathways, what is carried, and attention.

The model sows them (`flax.linen.Module.sow`), and this is the only reader. Statistics are taken on the host
in float64, a few rows at a time, because the tensors of a deep model are large.
"""

from __future__ import annotations

import collections
from typing import Any

import jax
import numpy as np

from dlf_jax.analysis.explanation.device_batches import batch_size_for, batches_on_devices
from dlf_jax.data.rows import Rows
from dlf_jax.models import embedding
from dlf_jax.models.dlf import DLF
from dlf_jax.serving.predict import Predictor
from dlf_jax.training.compilation import common_options
from dlf_jax.training.train_state import TrainState
from dlf_jax.training.train_step import Batch

# Rows whose tensors are on the host at a time.
_ROWS = 256
# Bins of a gate's size for its quantiles: 1 % each.
_BINS, _LOWEST, _RATIO = 3000, 1e-8, 1.01
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def fused_pathway(model: DLF) -> str | None:
    """Name of what a layer's fusion adds to the blocks' tokens; None where it adds nothing."""
    if model.fusion in ('naf', 'attention') or model.input_attention:
        return 'attention'
    return 'fusion' if model.fusion in ('mlp', 'gate') else None


class Tensors:
    """Fetches what DLF sows for rows."""

    def __init__(self, predictor: Predictor, rows: int):
        """Defines the compiled function; compiles nothing.

        Args:
          predictor: its model is a DLF.
          rows: largest number of rows that are asked for.
        """
        self._setup, self._state = predictor.setup, predictor.state
        self._size = batch_size_for(rows, _ROWS, self._setup)
        forward, sharding = self._setup.forward, self._setup.partitioner.table_sharding(training=False)

        def capture(state: TrainState, batch: Batch) -> Any:
            ids = embedding.ids_of(batch, forward.schema)
            rows = forward.gathered(state.params['tables'], ids, sharding.gather)
            _, changed = forward.logits(
                state.params['dense'], state.batch_stats, rows, batch, mutable=['intermediates']
            )
            return changed['intermediates']

        options = common_options(self._setup.partitioner.platform)
        self._capture = jax.jit(self._setup.with_precision(capture), compiler_options=options)

    def of(self, rows: Rows) -> Any:
        """Yields what is sown, float32 [b, ...] by module and name, for some rows at a time."""
        for batch, count, _ in batches_on_devices(rows, self._size, self._setup):
            sown = jax.device_get(self._capture(self._state, batch))
            # Each name is sown once in a call.
            once = jax.tree.map(lambda x: x[0], sown, is_leaf=lambda x: isinstance(x, tuple))
            yield jax.tree.map(lambda x, count=count: np.asarray(x[:count], np.float32), once)


class Moments:
    """Mean and variance of arrays over rows, element by element."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Any = 0.0
        self._squares: Any = 0.0
        self._shift: Any = None

    def add(self, values: np.ndarray) -> None:
        """Adds rows, [b, ...]."""
        wide = np.asarray(values, np.float64)
        if self._shift is None:
            # Differences to a typical row: squares of large means would cancel.
            self._shift = wide.mean(0)
        wide = wide - self._shift
        self._count += len(wide)
        self._sum = self._sum + wide.sum(0)
        self._squares = self._squares + np.square(wide).sum(0)

    @property
    def mean(self) -> np.ndarray:
        """Of each element, float32."""
        return np.asarray(self._shift + self._sum / self._count, np.float32)

    @property
    def total_variance(self) -> float:
        """Variance of all elements together."""
        return float((self._squares / self._count - np.square(self._sum / self._count)).sum())


class Gates:
    """Distribution of one layer's gates (eq. 9), over rows and channels."""

    def __init__(self, epsilon: float):
        self._epsilon = epsilon
        self._bins = np.zeros(_BINS, np.int64)
        self._floor: Any = 0
        self._sum: Any = 0.0
        self._count = 0

    def add(self, gates: np.ndarray) -> None:
        """Adds the gates of rows, [b, N, d]."""
        self._floor = self._floor + (gates <= np.float32(self._epsilon)).sum((0, 2))
        self._sum = self._sum + gates.sum((0, 2), dtype=np.float64)
        self._count += gates.shape[0] * gates.shape[2]
        places = np.log(np.maximum(gates, _LOWEST) / _LOWEST) / np.log(_RATIO)
        self._bins += np.bincount(np.minimum(places, _BINS - 1).astype(np.int64).ravel(), minlength=_BINS)

    def summary(self, tokens: list[str]) -> dict[str, Any]:
        """Share of gates at their floor, mean and quantiles (to 1 %), and both first by token."""
        floor, mean = self._floor / self._count, self._sum / self._count
        rising = np.cumsum(self._bins) / self._bins.sum()
        places = np.searchsorted(rising, QUANTILES)
        sizes = np.maximum(_LOWEST * _RATIO ** (places + 0.5), self._epsilon)
        return {
            'floor': self._epsilon,
            'share_at_floor': float(floor.mean()),
            'mean': float(mean.mean()),
            'quantiles': {f'{q:.0%}': float(size) for q, size in zip(QUANTILES, sizes, strict=True)},
            'by_token': [
                {'token': token, 'share_at_floor': float(share), 'mean': float(size)}
                for token, share, size in zip(tokens, floor, mean, strict=True)
            ],
        }


class AttentionMaps:
    """Attention of one attention layer between and within blocks, [n, n] by pair of blocks and head."""

    def __init__(self, blocks: list[str], self_attention: bool):
        self._blocks, self._within = blocks, self_attention
        self._maps: dict[tuple[str, str, int], Any] = collections.defaultdict(float)
        self._entropy: dict[tuple[str, str, int], float] = collections.defaultdict(float)
        self._count = 0

    def add(self, sown: dict[str, Any]) -> None:
        """Adds what an `AttentionLayer` sows for rows."""
        for key, maps in self.split(sown).items():
            self._maps[key] = self._maps[key] + maps.sum(0, dtype=np.float64)
            shares = np.asarray(maps, np.float64)
            self._entropy[key] += float(-(shares * np.log(np.maximum(shares, 1e-30))).sum(-1).mean(-1).sum())
        self._count += len(maps)

    def split(self, sown: dict[str, Any]) -> dict[tuple[str, str, int], np.ndarray]:
        """Maps [b, n, n] by block, block that it attends to, and head."""
        found: dict[tuple[str, str, int], np.ndarray] = {}
        for x, name in enumerate(self._blocks):
            attending = [b for b in self._blocks if b != name or self._within]
            for head, weights in enumerate(sown[f'weights_{x}']):
                parts = np.split(weights, len(attending), axis=1)
                found |= {(b, name, head): part for b, part in zip(attending, parts, strict=True)}
        return found

    @property
    def means(self) -> dict[tuple[str, str, int], np.ndarray]:
        """Mean maps, float64 [n, n], by block, block that it attends to, and head."""
        return {key: total / self._count for key, total in self._maps.items()}

    def summary(self) -> list[dict[str, Any]]:
        """For each pair of blocks and head how spread the attention is.

        `entropy` is the mean entropy of a query's weights as a share of the largest, 1 where all tokens count
        the same; `peak` is the largest weight of the mean map, `share_of_peak` that of an even one.
        """
        return [
            {
                'block': block,
                'attends_to': other,
                'kind': 'self' if block == other else 'cross',
                'head': head + 1,
                'entropy': self._entropy[block, other, head] / self._count / max(np.log(len(mean)), 1e-12),
                'peak': float(mean.max()),
                'even': 1 / mean.shape[1],
            }
            for (block, other, head), mean in self.means.items()
        ]
