"""DeepFM: an FM and an MLP on the same embeddings (Guo et al., IJCAI 2017)."""

from collections.abc import Mapping
from typing import ClassVar

import chex
import flax.linen as nn
import jax

from dlf_jax.models.interactions import factorization, linear_terms
from dlf_jax.models.layers import MLP, Mode
from dlf_jax.models.validators import check_positive, check_rate, check_widths


class DeepFM(nn.Module):
    """`logit = w_0 + sum_i w_i + sum_{i<j} <e_i, e_j> + MLP(flat)` (Guo et al. 2017, eqs. 1-3).

    Called on `{'embedding': float32 [B, F, d], 'linear': float32 [B, F, 1]}` it returns logits,
    float32 [B]; `flat: [B, F * d]`. Parameters: `bias: [1]`, which is `w_0` (eq. 2 leaves it out,
    the field's usual library has it), and `tower/{hidden_i, norm_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      hidden: width of each hidden layer.
      batch_norm: whether each hidden layer has a BatchNorm.
      dropout: rate after each hidden layer.
    """

    embedding_size: int = 10
    hidden: tuple[int, ...] = (400, 400, 400)
    batch_norm: bool = True
    dropout: float = 0.0

    variants: ClassVar[dict[str, dict]] = {'full': {}}

    def __post_init__(self):
        check_positive(embedding_size=self.embedding_size)
        check_widths(hidden=self.hidden)
        check_rate(dropout=self.dropout)
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
        embedding = rows['embedding']
        chex.assert_shape(embedding, (None, None, self.embedding_size))
        bias = self.param('bias', nn.initializers.zeros, (1,))
        machine = bias + linear_terms(rows) + factorization(embedding)
        tower = MLP(self.hidden, 1, self.batch_norm, self.dropout, name='tower')
        flat = embedding.reshape(embedding.shape[0], -1)
        return machine + tower(flat, Mode(train, mask, axis_name))[:, 0]
