"""xDeepFM: the compressed interaction network, with a linear and a deep part."""

from collections.abc import Mapping
from typing import ClassVar

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.layers import MLP, Dense, Mode, kernel_init
from dlf_jax.models.validators import check_positive, check_rate, check_widths


class CIN(nn.Module):
    """Compressed interaction network: `[B, F, d]` to the pooled maps of all layers, `[B, sum H_k]`.

    `X^k_n = sum_ij W^k_ijn (X^{k-1}_i * X^0_j)`, `X^k: [B, H_k, d]` (eq. 6), from `X^0 = E`, each
    pooled over `d`. No nonlinearity, the paper's choice.

    Parameters: `kernel_{k}: [H_{k-1} F, H_k]`, with `bias` also `bias_{k}: [H_k]`.

    Attributes:
      maps: `H_k` of each layer.
      bias: whether a bias is added to the maps.
    """

    maps: tuple[int, ...]
    bias: bool

    @nn.compact
    def __call__(self, first: jax.Array) -> jax.Array:
        batch, fields, width = first.shape
        state, pooled = first, []
        for k, count in enumerate(self.maps):
            pairs = state.shape[1] * fields
            kernel = self.param(f'kernel_{k}', kernel_init, (pairs, count))
            bias = self.param(f'bias_{k}', nn.initializers.zeros, (count,)) if self.bias else 0
            if k + 1 < len(self.maps):
                products = jnp.einsum('bhd,bfd->bdhf', state, first).reshape(batch, width, pairs)
                state = jnp.swapaxes(products @ kernel + bias, 1, 2)
                pooled.append(jnp.sum(state, axis=2))
            else:
                # Pooling before the linear map, which it commutes with: nothing else reads the
                # last layer's maps, and the inner products are 1 / d of the products.
                products = (state @ jnp.swapaxes(first, 1, 2)).reshape(batch, pairs)
                pooled.append(products @ kernel + width * bias)
        return jnp.concatenate(pooled, axis=1)


class XDeepFM(nn.Module):
    """xDeepFM (Lian et al., KDD 2018): `logit = sum_f w_f + w^T [MLP(flat) ; CIN(E)] + b`.

    Called on `{'embedding': float32 [B, F, d], 'linear': float32 [B, F, 1]}` it returns logits,
    float32 [B]. `flat: [B, F d]`; `w_f` are the rows of the table `'linear'`; `b` is the global
    bias. FuxiCTR's CIN is the one with `cin_bias`.

    Parameters: `tower/{hidden_i, norm_i}`, `cin/{kernel_k, bias_k}`,
    `out/{kernel: [W + sum H_k, 1], bias: [1]}` with `W` the width of the tower's last layer.

    Attributes:
      embedding_size: `d`, width of an embedding.
      cin: `H_k`, feature maps of each layer of the CIN; at least one layer.
      cin_bias: whether the feature maps have a bias; the paper's (eq. 6) have none.
      hidden: width of each hidden layer of the MLP.
      batch_norm: whether each hidden layer has a BatchNorm.
      dropout: rate after each hidden layer.
    """

    embedding_size: int = 10
    cin: tuple[int, ...] = (64,)
    cin_bias: bool = False
    hidden: tuple[int, ...] = (400, 400, 400)
    batch_norm: bool = True
    dropout: float = 0.0

    variants: ClassVar[dict[str, dict]] = {'full': {}}

    def __post_init__(self):
        check_positive(embedding_size=self.embedding_size)
        check_widths(cin=self.cin, hidden=self.hidden)
        check_rate(dropout=self.dropout)
        if not self.cin:
            raise ValueError(f'model.cin={self.cin}: expected at least one layer, such as (64,)')
        super().__post_init__()

    @property
    def tables(self) -> dict[str, int]:
        """Width of each table that the model reads."""
        return {'embedding': self.embedding_size, 'linear': 1}

    @nn.compact
    def __call__(
        self,
        rows: Mapping[str, jax.Array],
        *,
        train: bool = False,
        mask: jax.Array | None = None,
        axis_name: str | None = None,
    ) -> jax.Array:
        first = rows['embedding']
        chex.assert_shape(first, (None, None, self.embedding_size))
        chex.assert_shape(rows['linear'], (*first.shape[:2], 1))
        tower = MLP(self.hidden, None, self.batch_norm, self.dropout, name='tower')
        deep = tower(first.reshape(first.shape[0], -1), Mode(train, mask, axis_name))
        crossed = CIN(self.cin, self.cin_bias, name='cin')(first)
        logits = Dense(1, name='out')(jnp.concatenate([deep, crossed], axis=1))
        return logits[:, 0] + jnp.sum(rows['linear'], axis=(1, 2))
