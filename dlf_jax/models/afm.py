"""AFM: attentional factorization machines (Xiao et al., IJCAI 2017)."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.interactions import linear_terms, pair_products
from dlf_jax.models.layers import Dense, Dropout, softmax
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_pairs, check_positive, check_rate


class AFM(CTRModel):
    """Factorization machine whose pairs are weighted by an attention network (Xiao et al. 2017).

        p_ij  = e_i * e_j                            for all i < j, [B, P, d]   (eq. 2)
        a_ij  = softmax_ij(h^T relu(W p_ij + b))     [B, P]                     (eq. 5)
        logit = w_0 + sum_i w_i + p^T sum_ij a_ij p_ij                          (eq. 6)

    Reads the tables 'embedding' and 'linear', of at least two fields.

    Parameters:

        attention/{kernel: [d, A], bias: [A]}   W, b
        score/kernel: [A, 1]                    h
        pool/kernel: [d, 1]                     p
        bias: [1]                               w_0

    Attributes:
      embedding_size: `d`, width of an embedding.
      attention_size: `A`, hidden width of the attention network.
      attention_dropout: dropout rate on the attention weights `a_ij`; it drops whole pairs.
      dropout: dropout rate on the pooled vector, `sum_ij a_ij p_ij`.
    """

    embedding_size: int = 10
    attention_size: int = 128
    attention_dropout: float = 0.0
    dropout: float = 0.0

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size, attention_size=self.attention_size)
        check_rate(attention_dropout=self.attention_dropout, dropout=self.dropout)

    @property
    def tables(self) -> dict[str, int]:
        return {'embedding': self.embedding_size, 'linear': 1}

    def tables_of(self, fields: int) -> dict[str, int]:
        check_pairs('afm', fields)
        return self.tables

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        pairs = pair_products(embeddings['embedding'])
        hidden = nn.relu(Dense(self.attention_size, name='attention')(pairs))
        scores = Dense(1, use_bias=False, name='score')(hidden)
        weights = softmax(scores, axis=1)
        weights = Dropout(self.attention_dropout, name='attention_dropout_0')(weights, mode)
        pooled = Dropout(self.dropout, name='dropout_0')(jnp.sum(weights * pairs, 1), mode)
        second_order = Dense(1, use_bias=False, name='pool')(pooled)[:, 0]
        bias = self.param('bias', nn.initializers.zeros, (1,))
        return bias + linear_terms(embeddings) + second_order
