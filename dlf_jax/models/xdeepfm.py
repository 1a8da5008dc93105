"""xDeepFM: compressed interaction network, with a linear and a deep part (Lian et al., KDD 2018)."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.interactions import linear_terms
from dlf_jax.models.layers import MLP, Dense, kernel_init
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_positive, check_rate, check_widths


class CIN(nn.Module):
    """Compressed interaction network: `[B, F, d]` to the pooled feature maps of all layers, `[B, sum H_k]`.

    `X^k_n = sum_ij W^k_ijn (X^{k-1}_i * X^0_j)`, `X^k: [B, H_k, d]` (eq. 6), starting with `X^0 = E`;
    each `X^k` is summed over `d`. There is no nonlinearity, as in the paper.

    Parameters: `kernel_{k}: [H_{k-1} F, H_k]`, and `bias_{k}: [H_k]` with `bias`.

    Attributes:
      maps: `H_k`, number of feature maps of each layer.
      bias: whether feature maps have a bias.
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
                # The sum over d, which commutes with the linear map, comes first: nothing else reads the last
                # layer's feature maps, and the inner products are smaller than the products by a factor d.
                products = (state @ jnp.swapaxes(first, 1, 2)).reshape(batch, pairs)
                pooled.append(products @ kernel + width * bias)
        return jnp.concatenate(pooled, axis=1)


class XDeepFM(CTRModel):
    """xDeepFM, `logit = sum_f w_f + w^T [MLP(flat) ; CIN(E)] + b` (Lian et al. 2018).

    `flat: [B, F d]` are the concatenated embeddings, `w_f` the linear terms, `b` the global bias. FuxiCTR's
    CIN has `cin_bias`. Reads the tables 'embedding' and 'linear'.

    Parameters: `tower/{hidden_i, norm_i}`, `cin/{kernel_k, bias_k}`,
    `out/{kernel: [W + sum H_k, 1], bias: [1]}`, `W` being the width of the tower's last layer.

    Attributes:
      embedding_size: `d`, width of an embedding.
      cin: `H_k`, number of feature maps of each layer of the CIN; at least one layer.
      cin_bias: whether feature maps have a bias; in the paper (eq. 6) they have none.
      hidden: width of each hidden layer of the MLP.
      batch_norm: whether hidden layers have a BatchNorm.
      dropout: dropout rate after each hidden layer.
    """

    embedding_size: int = 10
    cin: tuple[int, ...] = (64,)
    cin_bias: bool = False
    hidden: tuple[int, ...] = (400, 400, 400)
    batch_norm: bool = True
    dropout: float = 0.0

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size)
        check_widths(cin=self.cin, hidden=self.hidden)
        check_rate(dropout=self.dropout)
        if not self.cin:
            raise ValueError(f'model.cin={self.cin}: expected at least one layer, such as (64,)')

    @property
    def tables(self) -> dict[str, int]:
        return {'embedding': self.embedding_size, 'linear': 1}

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        first = embeddings['embedding']
        tower = MLP(self.hidden, None, self.batch_norm, self.dropout, name='tower')
        deep = tower(first.reshape(first.shape[0], -1), mode)
        crossed = CIN(self.cin, self.cin_bias, name='cin')(first)
        logits = Dense(1, name='out')(jnp.concatenate([deep, crossed], axis=1))
        return logits[:, 0] + linear_terms(embeddings)
