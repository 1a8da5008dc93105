"""AFM: attentional factorization machines (Xiao et al., IJCAI 2017)."""

from collections.abc import Mapping
from typing import ClassVar

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.interactions import linear_terms, pair_products
from dlf_jax.models.layers import Dense, Dropout, Mode, softmax
from dlf_jax.models.validators import check_positive, check_rate


class AFM(nn.Module):
    """An FM whose pairs are weighted by an attention network (Xiao et al. 2017).

        p_ij  = e_i * e_j                            for all i < j, [B, P, d]   (eq. 2)
        a_ij  = softmax_ij(h^T relu(W p_ij + b))     [B, P]                     (eq. 5)
        logit = w_0 + sum_i w_i + p^T sum_ij a_ij p_ij                          (eq. 6)

    Called on `{'embedding': float32 [B, F, d], 'linear': float32 [B, F, 1]}`, with F of at least 2,
    it returns logits, float32 [B].

    Parameters:

        attention/{kernel: [d, A], bias: [A]}   W, b
        score/kernel: [A, 1]                    h
        pool/kernel: [d, 1]                     p
        bias: [1]                               w_0

    Attributes:
      embedding_size: `d`, width of an embedding.
      attention_size: `A`, hidden width of the attention network.
      attention_dropout: rate on the attention weights `a_ij`, which drops pairs.
      dropout: rate on the pooled vector, `sum_ij a_ij p_ij`.
    """

    embedding_size: int = 10
    attention_size: int = 128
    attention_dropout: float = 0.0
    dropout: float = 0.0

    variants: ClassVar[dict[str, dict]] = {'full': {}}

    def __post_init__(self):
        check_positive(embedding_size=self.embedding_size, attention_size=self.attention_size)
        check_rate(attention_dropout=self.attention_dropout, dropout=self.dropout)
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
        mode = Mode(train, mask, axis_name)
        chex.assert_shape(rows['embedding'], (None, None, self.embedding_size))
        pairs = pair_products(rows['embedding'])
        hidden = nn.relu(Dense(self.attention_size, name='attention')(pairs))
        scores = Dense(1, use_bias=False, name='score')(hidden)
        weights = softmax(scores, axis=1)
        weights = Dropout(self.attention_dropout, name='attention_dropout_0')(weights, mode)
        pooled = Dropout(self.dropout, name='dropout_0')(jnp.sum(weights * pairs, 1), mode)
        second_order = Dense(1, use_bias=False, name='pool')(pooled)[:, 0]
        bias = self.param('bias', nn.initializers.zeros, (1,))
        return bias + linear_terms(rows) + second_order
