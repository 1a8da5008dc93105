"""DLRM: the deep learning recommendation model, with raw numbers in a bottom MLP (Naumov et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.inputs import Inputs
from dlf_jax.models.interactions import inner_products
from dlf_jax.models.layers import MLP
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_choice, check_positive, check_rate, check_widths


class NumbersFirst(nn.Module):
    """The numbers as one more field, before the others: embeddings `[B, F, d]` to `[B, N, d]`.

    `e_0 = relu(MLP(x)): [B, d]` of the raw numbers `x: [B, Fn]`, whose own embeddings are left out. Without
    numbers the fields are returned as they are.

    Parameters: `bottom/{hidden_i, norm_i, out}`, where there are numbers.

    Attributes:
      hidden: width of each hidden layer of the bottom MLP; its last layer has width `d`.
      batch_norm: whether hidden layers have a BatchNorm.
      dropout: dropout rate after each hidden layer.
    """

    hidden: tuple[int, ...]
    batch_norm: bool
    dropout: float

    @nn.compact
    def __call__(self, fields: jax.Array, inputs: Inputs, mode: Mode) -> jax.Array:
        if not inputs.numeric_fields:
            return fields
        bottom = MLP(self.hidden, fields.shape[-1], self.batch_norm, self.dropout, name='bottom')
        first = nn.relu(bottom(inputs.numeric, mode))
        # The numeric fields lie side by side.
        start = inputs.fields.index(inputs.numeric_fields[0])
        end = start + len(inputs.numeric_fields)
        return jnp.concatenate([first[:, None], fields[:, :start], fields[:, end:]], axis=1)


class DLRM(CTRModel):
    """DLRM: inner products of embeddings and of a bottom MLP of the numbers (Naumov et al. 2019).

    The numbers `x: [B, Fn]`, as the dataset treats them, are not embedded: `e_0 = relu(MLP_bottom(x))`,
    `[B, d]`, joins the embeddings of the other `C` fields. With these `N = C + 1` vectors,

    - dot: `logit = MLP_top([<e_i, e_j> for i < j ; e_0])`;
    - cat: `logit = MLP_top([e_0 ; ... ; e_C])`.

    Without numbers there is no `e_0`. Multi-valued fields are pooled as their schema says (there: summed).

    Reads the table 'embedding'. Parameters: `numbers/bottom/{hidden_i, norm_i, out}`,
    `top/{hidden_i, norm_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      bottom_hidden: width of each hidden layer of the bottom MLP, whose last layer has width `d`.
      hidden: width of each hidden layer of the top MLP.
      interaction: 'dot' or 'cat'.
      batch_norm: whether hidden layers have a BatchNorm.
      bottom_dropout: dropout rate after each hidden layer of the bottom MLP.
      dropout: dropout rate after each hidden layer of the top MLP.
    """

    embedding_size: int = 10
    bottom_hidden: tuple[int, ...] = (64, 64, 64)
    hidden: tuple[int, ...] = (64, 64, 64)
    interaction: str = 'dot'
    batch_norm: bool = False
    bottom_dropout: float = 0.0
    dropout: float = 0.0

    wants_inputs = True
    wants_bags = False
    variants: ClassVar[dict[str, dict[str, Any]]] = {
        'full': {},
        'dot': {'interaction': 'dot'},
        'cat': {'interaction': 'cat'},
    }

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size)
        check_widths(bottom_hidden=self.bottom_hidden, hidden=self.hidden)
        check_choice('interaction', self.interaction, ('dot', 'cat'))
        check_rate(bottom_dropout=self.bottom_dropout, dropout=self.dropout)

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode, inputs: Inputs) -> jax.Array:
        numbers = NumbersFirst(self.bottom_hidden, self.batch_norm, self.bottom_dropout, name='numbers')
        fields = numbers(embeddings['embedding'], inputs, mode)
        if self.interaction == 'cat':
            features = fields.reshape(fields.shape[0], -1)
        else:
            features = inner_products(fields)
            if inputs.numeric_fields:
                features = jnp.concatenate([features, fields[:, 0]], axis=1)
        return MLP(self.hidden, 1, self.batch_norm, self.dropout, name='top')(features, mode)[:, 0]
