"""MLP: the plain deep model, a multi-layer perceptron on the concatenated embeddings."""

from __future__ import annotations

from collections.abc import Mapping

import jax

from dlf_jax.models.base import CTRModel
from dlf_jax.models.layers import MLP as Tower
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_positive, check_rate, check_widths


class MLP(CTRModel):
    """Multi-layer perceptron, `logit = w^T MLP(flat) + b`, on concatenated embeddings `flat: [B, F * d]`.

    Reads the table 'embedding'. Parameters: `tower/{hidden_i, norm_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      hidden: width of each hidden layer.
      batch_norm: whether hidden layers have a BatchNorm.
      dropout: dropout rate after each hidden layer.
    """

    embedding_size: int = 64
    hidden: tuple[int, ...] = (400, 400, 400)
    batch_norm: bool = True
    dropout: float = 0.0

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size)
        check_widths(hidden=self.hidden)
        check_rate(dropout=self.dropout)

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        flat = embeddings['embedding'].reshape(embeddings['embedding'].shape[0], -1)
        tower = Tower(self.hidden, 1, self.batch_norm, self.dropout, name='tower')
        return tower(flat, mode)[:, 0]
