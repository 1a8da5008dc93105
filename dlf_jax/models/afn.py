"""AFN: products of embeddings with learned exponents, computed in the logarithmic domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.layers import MLP, BatchNorm, Dense, kernel_init
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_positive, check_rate, check_widths


class AFN(CTRModel):
    """Adaptive factorization network (Cheng et al., AAAI 2020), and AFN+ with `plus`.

    - `l = BN(ln max(|E|, eps))`, with BatchNorm statistics per field: `[B, F, d]`;
    - logarithmic neuron: `y_j = exp(sum_i w_ij l_i)`, which is `prod_i e_i^w_ij`: `[B, N, d]`;
    - `logit = MLP(BN(y))`, with statistics per neuron, on the flattened `[B, d N]`;
    - AFN+: `w_1 AFN(E) + w_2 MLP(flat') + b`, where `flat': [B, F d]` comes from a second table,
      'deep'. `w` and `b` are learned; they start as the average.

    `eps` is 1e-7 in the paper; FuxiCTR found 1e-5 to be better. Reads the table 'embedding', and 'deep' with
    `plus`.

    Parameters: `log_norm: [F]`, `kernel: [F, N]`, `exp_norm: [N]`, `tower/{hidden_i, norm_i, out}`
    and with `plus` `deep/{hidden_i, norm_i, out}`, `combine/{kernel: [2, 1], bias: [1]}`.

    Attributes:
      embedding_size: `d`, width of an embedding, in both tables.
      neurons: `N`, number of logarithmic neurons.
      epsilon: `eps`, smallest magnitude whose logarithm is taken.
      hidden: width of each hidden layer on top of the logarithmic neurons.
      plus: whether an MLP on a second embedding table is added (AFN+).
      deep_hidden: width of each hidden layer of that MLP.
      batch_norm: whether hidden layers have a BatchNorm; those around the neurons always exist.
      dropout: dropout rate in `hidden`.
      deep_dropout: dropout rate in `deep_hidden`.
    """

    embedding_size: int = 10
    neurons: int = 1000
    epsilon: float = 1e-5
    hidden: tuple[int, ...] = (400, 400, 400)
    plus: bool = False
    deep_hidden: tuple[int, ...] = (400, 400, 400)
    batch_norm: bool = True
    dropout: float = 0.0
    deep_dropout: float = 0.0

    variants: ClassVar[dict[str, dict[str, Any]]] = {'full': {}, '+': {'plus': True}}

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size, neurons=self.neurons)
        check_widths(hidden=self.hidden, deep_hidden=self.deep_hidden)
        check_rate(dropout=self.dropout, deep_dropout=self.deep_dropout)
        if not self.epsilon > 0:
            raise ValueError(f'model.epsilon={self.epsilon}: expected a number above 0')

    @property
    def tables(self) -> dict[str, int]:
        names = ('embedding', 'deep') if self.plus else ('embedding',)
        return dict.fromkeys(names, self.embedding_size)

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        # Fields, then neurons, are on the last axis: the axis of the products and of both BatchNorms.
        first = jnp.swapaxes(embeddings['embedding'], 1, 2)
        batch, _, fields = first.shape
        logarithms = jnp.log(jnp.maximum(jnp.abs(first), self.epsilon))
        logarithms = BatchNorm(name='log_norm')(logarithms, mode)
        kernel = self.param('kernel', kernel_init, (fields, self.neurons))
        crossed = BatchNorm(name='exp_norm')(jnp.exp(logarithms @ kernel), mode)
        tower = MLP(self.hidden, 1, self.batch_norm, self.dropout, name='tower')
        logits = tower(crossed.reshape(batch, -1), mode)
        if self.plus:
            deep = MLP(self.deep_hidden, 1, self.batch_norm, self.deep_dropout, name='deep')
            deep_logits = deep(embeddings['deep'].reshape(batch, -1), mode)
            average = Dense(1, kernel_init=nn.initializers.constant(0.5), name='combine')
            logits = average(jnp.concatenate([logits, deep_logits], axis=1))
        return logits[:, 0]
