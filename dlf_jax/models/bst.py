"""BST: self-attention over a history and its target (Chen et al., DLP-KDD 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dlf_jax.errors import UsageError
from dlf_jax.models import histories
from dlf_jax.models.base import CTRModel
from dlf_jax.models.histories import Events
from dlf_jax.models.inputs import Inputs
from dlf_jax.models.layers import MLP, Dense, Dropout, LayerNorm, softmax
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_choice, check_positive, check_rate, check_widths

# Score of a place that may not be looked at, before the softmax.
_CLOSED = -1e9
POOLINGS = ('mean', 'sum', 'target', 'concat')


def sinusoids(places: int, width: int) -> np.ndarray:
    """Waves that tell places apart, float32 [places, width] (Vaswani et al. 2017)."""
    angles = np.arange(places)[:, None] / 10000 ** (np.arange(0, width, 2) / width)
    return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(places, -1)[:, :width].astype(np.float32)


class Block(nn.Module):
    """Block of a transformer, `[B, S, m]` to the same, see `BST`.

    Parameters: `query`, `key`, `value`, `out`, `inner` and `outer`, each `{kernel: [m, m], bias: [m]}`, and
    `norm` and `inner_norm`, each `{scale, bias}: [m]`.

    Attributes:
      heads: see `BST`; so are the others.
      attention_dropout: see `BST`.
      dropout: see `BST`.
      layer_norm: see `BST`.
      residual: see `BST`.
    """

    heads: int
    attention_dropout: float
    dropout: float
    layer_norm: bool
    residual: bool

    @nn.compact
    def __call__(self, x: jax.Array, seen: jax.Array, mode: Mode) -> jax.Array:
        width = x.shape[-1]

        def added(name: str, changed: jax.Array, before: jax.Array) -> jax.Array:
            changed = Dropout(self.dropout, name=f'{name}_dropout')(changed, mode)
            total = changed + before if self.residual else changed
            return LayerNorm(name=name)(total) if self.layer_norm else total

        y = added('norm', self._attended(x, seen, mode), x)
        inner = nn.leaky_relu(Dense(width, name='inner')(y), 0.01)
        return added('inner_norm', Dense(width, name='outer')(inner), y)

    def _attended(self, x: jax.Array, seen: jax.Array, mode: Mode) -> jax.Array:
        width = x.shape[-1]

        def project(name: str) -> jax.Array:
            return Dense(width, name=name)(x).reshape(*x.shape[:-1], self.heads, -1)

        query, key, value = map(project, ('query', 'key', 'value'))
        scores = jnp.einsum('bqhc,bkhc->bhqk', query, key) / math.sqrt(width / self.heads)
        weights = softmax(jnp.where(seen[:, None], scores, _CLOSED))
        weights = Dropout(self.attention_dropout, name='attention_dropout')(weights, mode)
        attended = jnp.einsum('bhqk,bkhc->bqhc', weights, value)
        return Dense(width, name='out')(attended.reshape(x.shape))


class BST(CTRModel):
    """BST, the behavior sequence transformer: events and target attend to each other (Chen et al. 2019).

    A history has the events `s_1 ... s_T: [k]`, the latest last, which share the embeddings of the target
    `t: [k]`; fields that tell of the same events (`beside` in the schema) are side by side in both. With
    `p_u` an embedding of place `u`, `m = k + d`:

        X      = [[s_1 ; p_1], ..., [s_T ; p_T], [t ; p_{T + 1}]]            [B, T + 1, m]
        Y      = LN(dropout(MultiHead(X)) + X)
        X'     = LN(dropout(W2 leaky_relu(W1 Y + b1) + b2) + Y)              each block
        logit  = MLP([f_1 ; ... ; f_C ; pool(X')])                           f: all fields but the histories

    Places without an event are closed to all but themselves, and `pool` leaves them out. Places are counted
    from the target, not by time as in the paper, and their embeddings begin as sinusoids.

    Reads the table 'embedding'. Parameters, for each history: `history_{i}_place: [T + 1, d]` and
    `history_{i}_block_{l}/...` (see `Block`); and `tower/{hidden_i, norm_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding; `k` is that of the fields side by side.
      heads: number of heads of the attention; must divide `m`.
      blocks: number of blocks.
      attention_dropout: dropout rate on the attention's weights.
      layer_norm: whether there are the LayerNorms.
      residual: whether each half of a block is added to its input.
      position: whether there are the `p`; without them `m = k`.
      causal: whether an event sees none that is later.
      pooling: 'mean' or 'sum' over events and target, 'target' (its place alone), or 'concat' (all places).
      hidden: width of each hidden layer of the MLP.
      batch_norm: whether its hidden layers have a BatchNorm.
      dropout: dropout rate in the blocks and after each hidden layer of the MLP.
    """

    embedding_size: int = 16
    heads: int = 2
    blocks: int = 1
    attention_dropout: float = 0.0
    layer_norm: bool = True
    residual: bool = True
    position: bool = True
    causal: bool = False
    pooling: str = 'mean'
    hidden: tuple[int, ...] = (256, 128, 64)
    batch_norm: bool = False
    dropout: float = 0.0

    wants_inputs = True
    needs_histories = True
    variants: ClassVar[dict[str, dict[str, Any]]] = {'full': {}, 'target': {'pooling': 'target'}}

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size, heads=self.heads)
        if not isinstance(self.blocks, int) or self.blocks < 0:
            raise ValueError(f'model.blocks={self.blocks!r}: expected an int of at least 0')
        check_widths(hidden=self.hidden)
        check_choice('pooling', self.pooling, POOLINGS)
        check_rate(attention_dropout=self.attention_dropout, dropout=self.dropout)

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode, inputs: Inputs) -> jax.Array:
        def pool(number: int, events: Events) -> jax.Array:
            return self._pooled(f'history_{number}', events, mode)

        features = histories.pooled(embeddings[histories.TABLE], inputs, pool)
        tower = MLP(self.hidden, 1, self.batch_norm, self.dropout, name='tower')
        return tower(features, mode)[:, 0]

    @nn.nowrap
    def _pooled(self, name: str, events: Events, mode: Mode) -> jax.Array:
        """One history and its target as a vector, [B, m]; of `concat` [B, (T + 1) m]."""
        x = jnp.concatenate([events.sequence, events.target[:, None]], axis=1)
        there = jnp.pad(events.mask, ((0, 0), (0, 1)), constant_values=True)
        batch, places, _ = x.shape
        if self.position:
            shape = (places, self.embedding_size)
            place = self.param(f'{name}_place', lambda _, shape: jnp.asarray(sinusoids(*shape)), shape)
            place = jnp.broadcast_to(place.astype(x.dtype), (batch, *shape))
            x = jnp.concatenate([x, place], axis=-1)
        width = x.shape[-1]
        if self.blocks and width % self.heads:
            raise UsageError(
                f'config.model.heads={self.heads}: expected a divisor of {width}, the width of an event'
                + (' with its place' if self.position else '')
            )
        seen = there[:, None] | jnp.eye(places, dtype=bool)
        if self.causal:
            seen &= jnp.tri(places, dtype=bool)
        for i in range(self.blocks):
            block = Block(
                self.heads, self.attention_dropout, self.dropout, self.layer_norm, self.residual,
                name=f'{name}_block_{i}',
            )  # fmt: skip
            x = block(x, seen, mode)
        if self.pooling == 'target':
            return x[:, -1]
        if self.pooling == 'concat':
            return x.reshape(batch, -1)
        total = jnp.sum(jnp.where(there[..., None], x, 0), axis=1)
        # The target is always there.
        return total / jnp.sum(there, 1, keepdims=True).astype(x.dtype) if self.pooling == 'mean' else total
