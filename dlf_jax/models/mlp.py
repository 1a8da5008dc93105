"""The plain deep model: an MLP on the concatenated embeddings."""

from collections.abc import Mapping
from typing import ClassVar

import chex
import flax.linen as nn
import jax

from dlf_jax.models.layers import MLP as Tower
from dlf_jax.models.layers import Mode
from dlf_jax.models.validators import check_positive, check_rate, check_widths


class MLP(nn.Module):
    """`logit = w^T MLP(flat) + b` on the concatenated embeddings, `flat: [B, F * d]`.

    Called on `{'embedding': float32 [B, F, d]}` it returns logits, float32 [B]. Parameters:
    `tower/{hidden_i, norm_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      hidden: width of each hidden layer.
      batch_norm: whether each hidden layer has a BatchNorm.
      dropout: rate after each hidden layer.
    """

    embedding_size: int = 64
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
        chex.assert_shape(rows['embedding'], (None, None, self.embedding_size))
        flat = rows['embedding'].reshape(rows['embedding'].shape[0], -1)
        tower = Tower(self.hidden, 1, self.batch_norm, self.dropout, name='tower')
        return tower(flat, Mode(train, mask, axis_name))[:, 0]
