"""DeepFM: a factorization machine and an MLP on the same embeddings (Guo et al., IJCAI 2017)."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax

from dlf_jax.models.base import CTRModel
from dlf_jax.models.interactions import factorization, linear_terms
from dlf_jax.models.layers import MLP
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_positive, check_rate, check_widths


class DeepFM(CTRModel):
    """DeepFM, `logit = w_0 + sum_i w_i + sum_{i<j} <e_i, e_j> + MLP(flat)` (Guo et al. 2017, eqs. 1-3).

    `flat: [B, F * d]` are the concatenated embeddings. The global bias `w_0` is missing from eq. 2; it is
    here as in FuxiCTR. Reads the tables 'embedding' and 'linear'. Parameters: `bias: [1]`, which is `w_0`,
    and `tower/{hidden_i, norm_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      hidden: width of each hidden layer.
      batch_norm: whether hidden layers have a BatchNorm.
      dropout: dropout rate after each hidden layer.
    """

    embedding_size: int = 10
    hidden: tuple[int, ...] = (400, 400, 400)
    batch_norm: bool = True
    dropout: float = 0.0

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size)
        check_widths(hidden=self.hidden)
        check_rate(dropout=self.dropout)

    @property
    def tables(self) -> dict[str, int]:
        return {'embedding': self.embedding_size, 'linear': 1}

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        embedding = embeddings['embedding']
        bias = self.param('bias', nn.initializers.zeros, (1,))
        machine = bias + linear_terms(embeddings) + factorization(embedding)
        tower = MLP(self.hidden, 1, self.batch_norm, self.dropout, name='tower')
        return machine + tower(embedding.reshape(embedding.shape[0], -1), mode)[:, 0]
