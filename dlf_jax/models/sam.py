"""SAM: self-attention model for CTR prediction (Cheng & Xue, SIGIR 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.layers import Dense, Dropout
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_choice, check_positive, check_rate


class SAM(CTRModel):
    """Self-attention without softmax and values, of second or third order (Cheng & Xue 2021).

    The similarity of two fields weights a free vector `W_ij` (blocks 'a', for all pairs) or the
    elementwise product of their embeddings (blocks 'e'):

        2a   u_ij = <e_i, e_j> W_ij                            [B, F, F, d]
        2e   u_ij = <e_i, e_j> e_i * e_j                       [B, F, F, d]
        3a   e'_i = sum_j <e_i, K e_j> W_ij (+ Q e_i)          [B, F, d]
        3e   e'_i = sum_j <e_i, K e_j> e_i * e_j (+ Q e_i)     [B, F, d]

    There is one layer of '2a' or '2e', or any number of layers of '3a' or '3e'. The logit is a Dense layer
    on the concatenated outputs, or on their weighted sum `sum_i p_i e'_i: [B, d]`. Reads the table
    'embedding'.

    Parameters:

        layer_{l}/pair: [F, F, d]            W, of '2a' and '3a'; initially ones
        layer_{l}/key/kernel: [d, d]         K, of '3a' and '3e'
        layer_{l}/residual/kernel: [d, d]    Q, with `residual`
        pool: [F, 1]                         p, of 'weighted'; initially ones
        head/{kernel, bias}

    Attributes:
      embedding_size: `d`, width of an embedding.
      block: '2a', '2e', '3a' or '3e'.
      layers: number of layers; used by '3a' and '3e'.
      residual: whether `Q e_i` is added; used by '3a' and '3e'.
      pooling: 'concat', or for '3a' and '3e' also 'weighted'.
      dropout: dropout rate on the output of each layer.
    """

    embedding_size: int = 10
    block: str = '3a'
    layers: int = 4
    residual: bool = True
    pooling: str = 'concat'
    dropout: float = 0.0

    variants: ClassVar[dict[str, dict[str, Any]]] = {
        'full': {},
        '2a': {'block': '2a'},
        '2e': {'block': '2e'},
        '3e': {'block': '3e'},
        'weighted': {'pooling': 'weighted'},
        'wo_residual': {'residual': False},
    }

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size, layers=self.layers)
        check_choice('block', self.block, ('2a', '2e', '3a', '3e'))
        check_choice('pooling', self.pooling, ('concat', 'weighted'))
        check_rate(dropout=self.dropout)
        if self.pooling == 'weighted' and self.block in ('2a', '2e'):
            raise ValueError(f"model.pooling='weighted': needs model.block='3a' or '3e', not {self.block!r}")

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        x = embeddings['embedding']
        for i in range(self.layers if self.block in ('3a', '3e') else 1):
            x = _Layer(self.block, self.residual, name=f'layer_{i}')(x)
            x = Dropout(self.dropout, name=f'dropout_{i}')(x, mode)
        if self.pooling == 'weighted':
            pool = self.param('pool', nn.initializers.ones, (x.shape[1], 1))
            x = jnp.sum(pool * x, 1)
        return Dense(1, name='head')(x.reshape(x.shape[0], -1))[:, 0]


class _Layer(nn.Module):
    """SAM layer: `[B, F, d]` to `[B, F, F, d]` ('2a', '2e') or to `[B, F, d]` ('3a', '3e').

    Attributes are those of `SAM`.
    """

    block: str
    residual: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        _, fields, width = x.shape
        third_order = self.block in ('3a', '3e')
        keys = Dense(width, use_bias=False, name='key')(x) if third_order else x
        similarity = jnp.einsum('bic,bjc->bij', x, keys)
        if self.block in ('2a', '3a'):
            pair = self.param('pair', nn.initializers.ones, (fields, fields, width))
        if self.block == '2a':
            return similarity[..., None] * pair
        if self.block == '2e':
            return similarity[..., None] * x[:, :, None] * x[:, None]
        if self.block == '3a':
            output = jnp.einsum('bij,ijd->bid', similarity, pair)
        else:
            # e_i is taken out of the sum over j: no array [B, F, F, d] is made.
            output = x * jnp.einsum('bij,bjd->bid', similarity, x)
        if self.residual:
            output += Dense(width, use_bias=False, name='residual')(x)
        return output
