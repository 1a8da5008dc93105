"""FM: factorization machines (Rendle, ICDM 2010)."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax

from dlf_jax.models.base import CTRModel
from dlf_jax.models.interactions import factorization, linear_terms
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_positive


class FM(CTRModel):
    """Factorization machine, `logit = w_0 + sum_i w_i + sum_{i<j} <e_i, e_j>` (Rendle 2010, eq. 1).

    The weight and the embedding of a numeric field are multiplied by its value in the lookup. The
    second-order term is computed in O(F d) (lemma 3.1). Reads the tables 'embedding' and 'linear'.
    Parameters: `bias: [1]`, which is `w_0`.

    Attributes:
      embedding_size: `d`, width of an embedding.
    """

    embedding_size: int = 10

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size)

    @property
    def tables(self) -> dict[str, int]:
        return {'embedding': self.embedding_size, 'linear': 1}

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        del mode  # the same in training and evaluation
        bias = self.param('bias', nn.initializers.zeros, (1,))
        return bias + linear_terms(embeddings) + factorization(embeddings['embedding'])
