"""AutoInt: multi-head self-attention over the fields (Song et al., CIKM 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.interactions import linear_terms
from dlf_jax.models.layers import MLP, Dense, Dropout, LayerNorm, kernel_init, softmax
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_positive, check_rate, check_widths


class AutoInt(CTRModel):
    """Multi-head self-attention over the fields (Song et al. 2019), and AutoInt+ with an MLP.

    An interacting layer maps `e: [B, F, c]` to `[B, F, A]`; each of its `H` heads has `A / H` columns:

        a^h_mk = softmax_k(<W^h_Q e_m, W^h_K e_k>)           [B, H, F, F]    (eq. 5)
        o_m    = concat_h sum_k a^h_mk W^h_V e_k             [B, F, A]       (eqs. 6, 7)
        e'_m   = relu(o_m + W_R e_m)                         [B, F, A]       (eq. 8)
        logit  = w^T [e'_1, ..., e'_F] + b                   [B]             (eq. 9)

    AutoInt+ adds `MLP(flat)` to the logit, `flat: [B, F * d]`. Reads the table 'embedding', and 'linear'
    with `wide`.

    Parameters:

        layer_{l}/{query, key, value, residual}/kernel: [c, A]    eqs. 5, 6, 8
        layer_{l}/norm/{scale, bias}: [A]                         with `layer_norm`
        head/{kernel: [F * A, 1], bias}                           eq. 9
        tower/{hidden_i, norm_i, out}                             with `plus`

    Attributes:
      embedding_size: `d`, width of an embedding.
      attention_size: `A`, total width of the heads of a layer.
      heads: `H`, number of heads; must divide `attention_size`.
      layers: number of interacting layers.
      scale: whether the products of eq. 5 are divided by `sqrt(A / H)`; an option of FuxiCTR, not in the
        paper.
      layer_norm: whether a LayerNorm precedes the ReLU of eq. 8; an option of FuxiCTR.
      project_residual: whether every layer has a `W_R`, as in eq. 8. Otherwise only layers whose input is
        not `A` wide have one, as in FuxiCTR.
      wide: whether the linear terms `sum_i w_i` are added to the logit; an option of FuxiCTR.
      plus: whether the MLP is added (AutoInt+).
      hidden: width of each hidden layer of the MLP.
      batch_norm: whether hidden layers have a BatchNorm.
      dropout: dropout rate on the attention weights and after each hidden layer.
    """

    embedding_size: int = 10
    attention_size: int = 128
    heads: int = 4
    layers: int = 3
    scale: bool = False
    layer_norm: bool = False
    project_residual: bool = True
    wide: bool = False
    plus: bool = False
    hidden: tuple[int, ...] = (400, 400, 400)
    batch_norm: bool = True
    dropout: float = 0.0

    variants: ClassVar[dict[str, dict[str, Any]]] = {'full': {}, '+': {'plus': True}}

    def check(self) -> None:
        check_positive(
            embedding_size=self.embedding_size,
            attention_size=self.attention_size,
            heads=self.heads,
            layers=self.layers,
        )
        check_widths(hidden=self.hidden)
        check_rate(dropout=self.dropout)
        if self.attention_size % self.heads:
            raise ValueError(
                f'model.heads={self.heads}: must divide model.attention_size={self.attention_size}'
            )

    @property
    def tables(self) -> dict[str, int]:
        linear = {'linear': 1} if self.wide else {}
        return {'embedding': self.embedding_size, **linear}

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        embedding = embeddings['embedding']
        batch = embedding.shape[0]
        x = embedding
        for i in range(self.layers):
            x = _InteractingLayer(
                attention_size=self.attention_size,
                heads=self.heads,
                scale=self.scale,
                layer_norm=self.layer_norm,
                project_residual=self.project_residual or x.shape[-1] != self.attention_size,
                dropout=self.dropout,
                name=f'layer_{i}',
            )(x, mode)
        logits = Dense(1, name='head')(x.reshape(batch, -1))[:, 0]
        if self.plus:
            tower = MLP(self.hidden, 1, self.batch_norm, self.dropout, name='tower')
            logits += tower(embedding.reshape(batch, -1), mode)[:, 0]
        return logits + linear_terms(embeddings) if self.wide else logits


class _InteractingLayer(nn.Module):
    """Interacting layer, eqs. 5-8: `[B, F, c] -> [B, F, A]`. Attributes are those of `AutoInt`."""

    attention_size: int
    heads: int
    scale: bool
    layer_norm: bool
    project_residual: bool
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        batch, fields, width = x.shape
        names = ('query', 'key', 'value', *(('residual',) if self.project_residual else ()))
        kernels = [_Kernel((width, self.attention_size), name=name)() for name in names]
        # One product and one transposition (heads before fields) for query, key, value and residual: many
        # small transpositions would take as long as the rest of the layer.
        projected = x.reshape(-1, width) @ jnp.concatenate(kernels, 1)
        projected = projected.reshape(batch, fields, len(names) * self.heads, -1)
        query, key, value, *residual = jnp.split(jnp.swapaxes(projected, 1, 2), len(names), axis=1)
        if self.scale:
            query *= (self.attention_size // self.heads) ** -0.5
        weights = softmax(query @ jnp.swapaxes(key, 2, 3))
        weights = Dropout(self.dropout, name='dropout_0')(weights, mode)
        attended = weights @ value
        if residual:
            attended += residual[0]
        attended = jnp.swapaxes(attended, 1, 2).reshape(batch, fields, -1)
        if not residual:
            attended += x
        return nn.relu(LayerNorm(name='norm')(attended) if self.layer_norm else attended)


class _Kernel(nn.Module):
    """Parameter `kernel`, float32 of the given shape, under the name that a Dense would give it."""

    shape: tuple[int, int]

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param('kernel', kernel_init, self.shape)
