"""PNN: product-based neural networks (Qu et al., ICDM 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.interactions import inner_products, outer_product
from dlf_jax.models.layers import MLP
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_choice, check_positive, check_rate, check_widths


class PNN(CTRModel):
    """Product-based neural network, `logit = MLP([flat, p])` (Qu et al. 2016).

    `flat: [B, F * d]` is the linear signal of the product layer and `p` the quadratic one:

        inner (IPNN)   p = (<e_i, e_j>)_{i<j}                        [B, F(F-1)/2]
        outer (OPNN)   p = sum_{i,j} e_i e_j^T, superposed pairs     [B, d * d]

    The paper's `l_z + l_p + b` is the first Dense layer on the concatenation. The inner products do not
    include the `<e_i, e_i>` of the paper's square matrix, as in the authors' code and in FuxiCTR.

    Reads the table 'embedding'. Parameters: `tower/{hidden_i, norm_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      product: 'inner' (IPNN) or 'outer' (OPNN).
      hidden: width of each hidden layer.
      batch_norm: whether hidden layers have a BatchNorm.
      dropout: dropout rate after each hidden layer.
    """

    embedding_size: int = 10
    product: str = 'inner'
    hidden: tuple[int, ...] = (400, 400, 400)
    batch_norm: bool = True
    dropout: float = 0.0

    variants: ClassVar[dict[str, dict[str, Any]]] = {'full': {}, 'opnn': {'product': 'outer'}}

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size)
        check_choice('product', self.product, ('inner', 'outer'))
        check_widths(hidden=self.hidden)
        check_rate(dropout=self.dropout)

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        embedding = embeddings['embedding']
        flat = embedding.reshape(embedding.shape[0], -1)
        products = inner_products if self.product == 'inner' else outer_product
        tower = MLP(self.hidden, 1, self.batch_norm, self.dropout, name='tower')
        signals = jnp.concatenate([flat, products(embedding)], 1)
        return tower(signals, mode)[:, 0]
