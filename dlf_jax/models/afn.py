"""AFN: products of embeddings with learned exponents, found in the logarithmic domain."""

from collections.abc import Mapping
from typing import ClassVar

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.layers import MLP, BatchNorm, Dense, Mode, kernel_init
from dlf_jax.models.validators import check_positive, check_rate, check_widths


class AFN(nn.Module):
    """Adaptive factorization network (Cheng et al., AAAI 2020), and AFN+ with `plus`.

    Called on `{'embedding': float32 [B, F, d]}` it returns logits, float32 [B].

    - `l = BN(ln max(|E|, eps))`, the statistics those of a field: `[B, F, d]`;
    - logarithmic neuron: `y_j = exp(sum_i w_ij l_i)`, which is `prod_i e_i^w_ij`: `[B, N, d]`;
    - `logit = MLP(BN(y))`, the statistics those of a neuron, flattened to `[B, d N]`;
    - AFN+: `w_1 AFN(E) + w_2 MLP(flat') + b`, with `flat': [B, F d]` from a table of its own,
      `'deep'`. `w` and `b` are learned, from the plain average.

    `eps` is 1e-7 in the paper, 1e-5 in FuxiCTR, which finds it better.

    Parameters: `log_norm: [F]`, `kernel: [F, N]`, `exp_norm: [N]`, `tower/{hidden_i, norm_i, out}`
    and with `plus` `deep/{hidden_i, norm_i, out}`, `combine/{kernel: [2, 1], bias: [1]}`.

    Attributes:
      embedding_size: `d`, width of an embedding, in both tables.
      neurons: `N`, logarithmic neurons.
      epsilon: `eps`, the least magnitude that goes into the logarithm.
      hidden: hidden layers on the logarithmic neurons.
      plus: whether an MLP on embeddings of its own joins in (AFN+).
      deep_hidden: hidden layers of that MLP.
      batch_norm: whether hidden layers have a BatchNorm; those around the neurons are always there.
      dropout: rate in `hidden`.
      deep_dropout: rate in `deep_hidden`.
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

    variants: ClassVar[dict[str, dict]] = {'full': {}, '+': {'plus': True}}

    def __post_init__(self):
        check_positive(embedding_size=self.embedding_size, neurons=self.neurons)
        check_widths(hidden=self.hidden, deep_hidden=self.deep_hidden)
        check_rate(dropout=self.dropout, deep_dropout=self.deep_dropout)
        if not self.epsilon > 0:
            raise ValueError(f'model.epsilon={self.epsilon}: expected a number above 0')
        super().__post_init__()

    @property
    def tables(self) -> dict[str, int]:
        """Width of each table that the model reads."""
        names = ('embedding', 'deep') if self.plus else ('embedding',)
        return dict.fromkeys(names, self.embedding_size)

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
        for table in self.tables:
            chex.assert_shape(rows[table], (None, None, self.embedding_size))
        # Fields, then neurons, on the last axis: that of the products and of both BatchNorms.
        first = jnp.swapaxes(rows['embedding'], 1, 2)
        batch, _, fields = first.shape
        logarithms = jnp.log(jnp.maximum(jnp.abs(first), self.epsilon))
        logarithms = BatchNorm(name='log_norm')(logarithms, mode)
        kernel = self.param('kernel', kernel_init, (fields, self.neurons))
        crossed = BatchNorm(name='exp_norm')(jnp.exp(logarithms @ kernel), mode)
        tower = MLP(self.hidden, 1, self.batch_norm, self.dropout, name='tower')
        logits = tower(crossed.reshape(batch, -1), mode)
        if self.plus:
            deep = MLP(self.deep_hidden, 1, self.batch_norm, self.deep_dropout, name='deep')
            deep_logits = deep(rows['deep'].reshape(batch, -1), mode)
            average = Dense(1, kernel_init=nn.initializers.constant(0.5), name='combine')
            logits = average(jnp.concatenate([logits, deep_logits], axis=1))
        return logits[:, 0]
