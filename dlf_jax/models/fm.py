"""FM: factorization machines (Rendle, ICDM 2010)."""

from collections.abc import Mapping
from typing import ClassVar

import chex
import flax.linen as nn
import jax

from dlf_jax.models.interactions import factorization, linear_terms
from dlf_jax.models.validators import check_positive


class FM(nn.Module):
    """`logit = w_0 + sum_i w_i + sum_{i<j} <e_i, e_j>` (Rendle 2010, eq. 1).

    A numeric field's weight and embedding are multiplied by its value in the lookup. The second
    order is computed in O(F d) (lemma 3.1).

    Called on `{'embedding': float32 [B, F, d], 'linear': float32 [B, F, 1]}` it returns logits,
    float32 [B]. Parameters: `bias: [1]`, which is `w_0`.

    Attributes:
      embedding_size: `d`, width of an embedding.
    """

    embedding_size: int = 10

    variants: ClassVar[dict[str, dict]] = {'full': {}}

    def __post_init__(self):
        check_positive(embedding_size=self.embedding_size)
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
        del train, mask, axis_name  # the same in all cases
        chex.assert_shape(rows['embedding'], (None, None, self.embedding_size))
        bias = self.param('bias', nn.initializers.zeros, (1,))
        return bias + linear_terms(rows) + factorization(rows['embedding'])
