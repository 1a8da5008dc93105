"""PNN: product-based neural networks (Qu et al., ICDM 2016)."""

from collections.abc import Mapping
from typing import ClassVar

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.interactions import inner_products, outer_product
from dlf_jax.models.layers import MLP, Mode
from dlf_jax.models.validators import check_choice, check_positive, check_rate, check_widths


class PNN(nn.Module):
    """`logit = MLP([flat, p])` with products `p` of the embeddings (Qu et al. 2016).

    With `flat: [B, F * d]` the product layer's linear signal, and `p` its quadratic one:

        inner (IPNN)   p = (<e_i, e_j>)_{i<j}                        [B, F(F-1)/2]
        outer (OPNN)   p = sum_{i,j} e_i e_j^T, superposed pairs     [B, d * d]

    The paper's `l_z + l_p + b` is the first Dense on the concatenation. The inner products leave
    out the `<e_i, e_i>` of the paper's square matrix, as the authors' code and the field's usual
    library do.

    Called on `{'embedding': float32 [B, F, d]}` it returns logits, float32 [B]. Parameters:
    `tower/{hidden_i, norm_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      product: 'inner' or 'outer'.
      hidden: width of each hidden layer.
      batch_norm: whether each hidden layer has a BatchNorm.
      dropout: rate after each hidden layer.
    """

    embedding_size: int = 10
    product: str = 'inner'
    hidden: tuple[int, ...] = (400, 400, 400)
    batch_norm: bool = True
    dropout: float = 0.0

    variants: ClassVar[dict[str, dict]] = {'full': {}, 'opnn': {'product': 'outer'}}

    def __post_init__(self):
        check_positive(embedding_size=self.embedding_size)
        check_choice('product', self.product, ('inner', 'outer'))
        check_widths(hidden=self.hidden)
        check_rate(dropout=self.dropout)
        super().__post_init__()

    @property
    def tables(self) -> dict[str, int]:
        """Width of each table that the model reads."""
        return {'embedding': self.embedding_size}

    @nn.compact
    def __call__(
        self,
        rows: Mapping[str, jax.Array],
        *,
        train: bool = False,
        mask: jax.Array | None = None,
        axis_name: str | None = None,
    ) -> jax.Array:
        embedding = rows['embedding']
        chex.assert_shape(embedding, (None, None, self.embedding_size))
        flat = embedding.reshape(embedding.shape[0], -1)
        products = inner_products if self.product == 'inner' else outer_product
        tower = MLP(self.hidden, 1, self.batch_norm, self.dropout, name='tower')
        signals = jnp.concatenate([flat, products(embedding)], 1)
        return tower(signals, Mode(train, mask, axis_name))[:, 0]
