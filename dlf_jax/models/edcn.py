"""EDCN: a cross and a deep stream that share information after every layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.layers import MLP, BatchNorm, Dense, kernel_init, softmax
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_choice, check_positive, check_rate

BRIDGES = ('hadamard', 'add', 'concat', 'attention')


class Regulation(nn.Module):
    """Regulation module: weights the fields separately for each stream, `softmax(g / tau)_f x_f`.

    `[B, F d]` to one `[B, F d]` per stream. Parameters: with `gated` `cross_gate: [F]`, `deep_gate: [F]`,
    initially ones, and with `norm` `cross_norm: [F d]`, `deep_norm: [F d]`.

    Attributes:
      fields: `F`, number of fields.
      tau: temperature of the softmax.
      norm: whether a BatchNorm follows.
      gated: whether there are weights; otherwise both streams get `x` itself, or its norm.
    """

    fields: int
    tau: float
    norm: bool
    gated: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> list[jax.Array]:
        outputs = []
        for stream in ('cross', 'deep'):
            output = x
            if self.gated:
                gate = self.param(f'{stream}_gate', nn.initializers.ones, (self.fields,))
                output = x * jnp.repeat(softmax(gate / self.tau), x.shape[1] // self.fields)
            outputs.append(BatchNorm(name=f'{stream}_norm')(output, mode) if self.norm else output)
        return outputs


class Cross(nn.Module):
    """Layer of DCN's cross network: `x_{l+1} = x_0 (w^T x_l) + b + x_l`, all `[B, D]`.

    Parameters: `kernel: [D, 1]`, `bias: [D]`.

    Attributes:
      residual: whether `x_l` is added.
    """

    residual: bool

    @nn.compact
    def __call__(self, first: jax.Array, state: jax.Array) -> jax.Array:
        width = state.shape[-1]
        kernel = self.param('kernel', kernel_init, (width, 1))
        bias = self.param('bias', nn.initializers.zeros, (width,))
        crossed = first * (state @ kernel) + bias
        return crossed + state if self.residual else crossed


class Bridge(nn.Module):
    """Bridge module: combines the streams `x`, `h: [B, D]` to `[B, D]`.

    - 'hadamard': `x * h`; 'add': `x + h`; 'concat': `relu(W [x ; h] + b)`;
    - 'attention': `a_x x + a_h h`, `(a_x, a_h) = softmax(s(x), s(h))` of scores
      `s(z) = p^T relu(W z + b)`. With `channel_attention`, `p` is a matrix, and `a_x` and `a_h`, both
      `[B, D]`, are softmaxes over the channels of their own stream.

    Parameters: 'concat' `dense/{kernel: [2 D, D], bias: [D]}`; 'attention'
    `dense/{kernel: [D, D], bias: [D]}` and `score/kernel: [D, 1]`, or `[D, D]`.

    Attributes:
      bridge: see `EDCN`.
      channel_attention: see `EDCN`.
    """

    bridge: str
    channel_attention: bool

    @nn.compact
    def __call__(self, cross: jax.Array, deep: jax.Array) -> jax.Array:
        if self.bridge == 'hadamard':
            return cross * deep
        if self.bridge == 'add':
            return cross + deep
        dense = Dense(cross.shape[1], name='dense')
        if self.bridge == 'concat':
            return nn.relu(dense(jnp.concatenate([cross, deep], axis=1)))
        streams = jnp.stack([cross, deep], axis=1)
        width = cross.shape[1] if self.channel_attention else 1
        scores = Dense(width, use_bias=False, name='score')(nn.relu(dense(streams)))
        weights = softmax(scores, axis=2 if self.channel_attention else 1)
        return jnp.sum(weights * streams, axis=1)


class EDCN(CTRModel):
    """Enhanced deep & cross network (Chen et al., DLP-KDD and CIKM 2021).

    All states are `[B, D]`, `D = F d`. Starting with `b_0 = flat`, each of `L` layers has

    - regulation: `(x_l, h_l) = (softmax(g / tau) * b_l, softmax(g' / tau) * b_l)`, per field;
    - streams: `x' = x_0 (w^T x_l) + c + x_l`, `h' = MLP(h_l)` with one hidden layer;
    - bridge: `b_{l+1}`, a combination of `x'` and `h'`.

    `logit = w^T [x' ; h' ; b_L] + b`, with the streams of the last layer. Reads the table 'embedding'.

    FuxiCTR's version: `residual=False`, `batch_norm=False`, `gate_norm=True`, and
    `channel_attention=True` with the 'attention' bridge.

    Parameters: `layer_{l}_{regulation, cross, deep, bridge}/...`, `out/{kernel: [3 D, 1], bias: [1]}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      layers: `L`, number of layers.
      bridge: 'hadamard', 'add', 'concat' or 'attention'.
      channel_attention: whether the 'attention' bridge weights channels instead of the two streams.
      regulation: whether the fields are weighted; FuxiCTR can leave the weights out, and the norms in.
      tau: temperature of the regulation; the higher, the more equal the weights of the fields.
      residual: whether cross layers add their input.
      gate_norm: whether a BatchNorm follows each regulation gate, or stands in its place.
      batch_norm: whether deep layers have a BatchNorm.
      dropout: dropout rate after each deep layer.
    """

    embedding_size: int = 10
    layers: int = 3
    bridge: str = 'hadamard'
    channel_attention: bool = False
    regulation: bool = True
    tau: float = 1.0
    residual: bool = True
    gate_norm: bool = False
    batch_norm: bool = True
    dropout: float = 0.0

    variants: ClassVar[dict[str, dict[str, Any]]] = {
        'full': {},
        **{f'bridge={bridge}': {'bridge': bridge} for bridge in BRIDGES},
    }

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size, layers=self.layers)
        check_choice('bridge', self.bridge, BRIDGES)
        check_rate(dropout=self.dropout)
        if not self.tau > 0:
            raise ValueError(f'model.tau={self.tau}: expected a number above 0')
        if self.channel_attention and self.bridge != 'attention':
            raise ValueError("model.channel_attention=True: needs model.bridge='attention'")

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        batch, fields, _ = embeddings['embedding'].shape
        bridged = embeddings['embedding'].reshape(batch, -1)
        for i in range(self.layers):
            name = f'layer_{i}'
            regulation = Regulation(
                fields, self.tau, self.gate_norm, self.regulation, name=f'{name}_regulation'
            )
            cross, deep = regulation(bridged, mode)
            if i == 0:
                first = cross
            cross = Cross(self.residual, name=f'{name}_cross')(first, cross)
            hidden = (bridged.shape[1],)
            deep = MLP(hidden, None, self.batch_norm, self.dropout, name=f'{name}_deep')(deep, mode)
            bridge = Bridge(self.bridge, self.channel_attention, name=f'{name}_bridge')
            bridged = bridge(cross, deep)
        final = jnp.concatenate([cross, deep, bridged], axis=1)
        return Dense(1, name='out')(final)[:, 0]
