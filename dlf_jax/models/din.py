"""DIN: a history is pooled with weights that the target decides (Zhou et al., KDD 2018)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models import histories
from dlf_jax.models.base import CTRModel
from dlf_jax.models.histories import Events
from dlf_jax.models.inputs import Inputs
from dlf_jax.models.layers import ACTIVATIONS, MLP, softmax
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_choice, check_positive, check_rate, check_widths

# Score of a place without an event before the softmax.
_CLOSED = -1e9


class TargetAttention(nn.Module):
    """Weighted sum of a history: `t: [B, k]` and `s: [B, T, k]` to `[B, k]`, see `DIN`.

    Parameters: `unit/{hidden_i, activation_i, out}`.

    Attributes:
      hidden: width of each hidden layer of the unit.
      activation: its activation.
      dropout: its dropout rate.
      normalise: whether the weights are a softmax.
    """

    hidden: tuple[int, ...]
    activation: str
    dropout: float
    normalise: bool

    @nn.compact
    def __call__(self, events: Events, mode: Mode) -> jax.Array:
        s, mask = events.sequence, events.mask
        t = jnp.broadcast_to(events.target[:, None], s.shape)
        pairs = jnp.concatenate([t, s, t - s, t * s], axis=-1).reshape(-1, 4 * s.shape[-1])
        # Statistics are of the events: neither of places without one, nor of rows that only pad the batch.
        counted = mask if mode.mask is None else mask & mode.mask[:, None]
        unit = MLP(self.hidden, 1, False, self.dropout, self.activation, name='unit')
        weights = unit(pairs, dataclasses.replace(mode, mask=counted.reshape(-1))).reshape(mask.shape)
        if self.normalise:
            # Without any event they are even, and the events 0.
            weights = softmax(jnp.where(mask, weights, _CLOSED))
        else:
            weights = jnp.where(mask, weights, 0)
        return jnp.sum(weights[..., None] * s, axis=1)


class DIN(CTRModel):
    """DIN, the deep interest network: attention over histories, as seen from the target (Zhou et al. 2018).

    A history has the events `s_1 ... s_T: [k]`, which share the embeddings of the target `t: [k]`; fields
    that tell of the same events (`beside` in the schema) are side by side in both.

        g_u    = A([t ; s_u ; t - s_u ; t * s_u])          an MLP, the same for all events
        pooled = sum_u g_u s_u                             [B, k]
        logit  = MLP([f_1 ; ... ; f_C ; pooled])           f: all fields but the histories

    The weights `g` are not normalised, so that their sum tells how strong the interest is, unless `softmax`
    is on. Of an empty history `pooled` is 0. The order of the events does not matter. As in FuxiCTR the unit
    has no outer product, and there is no mini-batch aware penalty.

    Reads the table 'embedding'. Parameters: `history_{i}/unit/{hidden_i, activation_i, out}` for each
    history, `tower/{hidden_i, norm_i, activation_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding; `k` is that of the fields side by side.
      attention_hidden: width of each hidden layer of `A`.
      attention_activation: its activation, 'dice', 'prelu' or 'relu'.
      attention_dropout: its dropout rate.
      softmax: whether the weights of a history are a softmax.
      hidden: width of each hidden layer of the MLP.
      activation: its activation, 'relu', 'dice' or 'prelu'.
      batch_norm: whether its hidden layers have a BatchNorm.
      dropout: dropout rate after each of its hidden layers.
    """

    embedding_size: int = 16
    attention_hidden: tuple[int, ...] = (64,)
    attention_activation: str = 'dice'
    attention_dropout: float = 0.0
    softmax: bool = False
    hidden: tuple[int, ...] = (512, 128, 64)
    activation: str = 'relu'
    batch_norm: bool = False
    dropout: float = 0.0

    wants_inputs = True
    needs_histories = True
    variants: ClassVar[dict[str, dict[str, Any]]] = {'full': {}, 'softmax': {'softmax': True}}

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size)
        check_widths(attention_hidden=self.attention_hidden, hidden=self.hidden)
        choices = ('relu', *ACTIVATIONS)
        check_choice('attention_activation', self.attention_activation, choices)
        check_choice('activation', self.activation, choices)
        check_rate(attention_dropout=self.attention_dropout, dropout=self.dropout)

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode, inputs: Inputs) -> jax.Array:
        def pool(number: int, events: Events) -> jax.Array:
            attention = TargetAttention(
                self.attention_hidden, self.attention_activation, self.attention_dropout, self.softmax,
                name=f'history_{number}',
            )  # fmt: skip
            return attention(events, mode)

        features = histories.pooled(embeddings[histories.TABLE], inputs, pool)
        tower = MLP(self.hidden, 1, self.batch_norm, self.dropout, self.activation, name='tower')
        return tower(features, mode)[:, 0]
