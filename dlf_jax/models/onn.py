"""ONN: operation-aware embeddings, one of each field for every other (Yang et al., Neural Networks 2020)."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from dlf_jax.models.base import CTRModel
from dlf_jax.models.layers import MLP
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_positive, check_rate, check_widths


class ONN(CTRModel):
    """ONN (NFFM): a field has an embedding for each field that it meets (Yang et al., 2020).

    An embedding has `F d` numbers, of which slice `j` of field `i` is `v_i^(j): [d]`, for products with field
    `j`; slice `i` is its own.

        logit = MLP([v_1^(1) ; ... ; v_F^(F) ; <v_i^(j), v_j^(i)> for i < j])

    The paper leaves the operations and the pairs open; as in FuxiCTR they are inner products, of all pairs.

    The table grows with the number of fields: vocabulary times `F d` numbers, with Adam three times that, and
    a batch reads `[B, F, F, d]`. What it takes is told before training; where that is too much, the rows can
    be cut over devices (`sharding.tables`) or updated lazily (`optimizer.embedding_rows`).

    Reads the table 'embedding', of width `F d`. Parameters: `tower/{hidden_i, norm_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding for one field.
      hidden: width of each hidden layer.
      batch_norm: whether hidden layers have a BatchNorm.
      dropout: dropout rate after each hidden layer.
    """

    embedding_size: int = 2
    hidden: tuple[int, ...] = (64, 64, 64)
    batch_norm: bool = False
    dropout: float = 0.0

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size)
        check_widths(hidden=self.hidden)
        check_rate(dropout=self.dropout)

    def tables_of(self, fields: int) -> dict[str, int]:
        return {'embedding': fields * self.embedding_size}

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        batch, fields, _ = embeddings['embedding'].shape
        # By field and by the field that it meets.
        slices = embeddings['embedding'].reshape(batch, fields * fields, -1)
        own = _taken(slices, np.arange(fields) * (fields + 1))
        square = slices.reshape(batch, fields, fields, -1)
        met = jnp.sum(square * jnp.swapaxes(square, 1, 2), -1).reshape(batch, -1)
        products = _taken(met, np.flatnonzero(np.triu(np.ones((fields, fields)), k=1)))
        features = jnp.concatenate([own.reshape(batch, -1), products], axis=1)
        return MLP(self.hidden, 1, self.batch_norm, self.dropout, name='tower')(features, mode)[:, 0]


def _taken(x: jax.Array, indices: np.ndarray) -> jax.Array:
    """Entries of the second axis, each index once and in order, so that the gradient is a plain copy."""
    return jnp.take(x, indices, axis=1, unique_indices=True, indices_are_sorted=True)
