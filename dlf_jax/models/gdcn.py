"""GDCN: a cross network with an information gate in every layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.layers import MLP, Dense, kernel_init
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_choice, check_positive, check_rate, check_widths


class GatedCross(nn.Module):
    """Gated cross layer: `x_{l+1} = x_0 * (W_c x_l + b) * sigmoid(W_g x_l) + x_l`, all `[B, D]`.

    Parameters: `kernel: [D, D]`, `bias: [D]`, `gate_kernel: [D, D]`.
    """

    @nn.compact
    def __call__(self, first: jax.Array, state: jax.Array) -> jax.Array:
        width = state.shape[-1]
        kernel = self.param('kernel', kernel_init, (width, width))
        bias = self.param('bias', nn.initializers.zeros, (width,))
        gate_kernel = self.param('gate_kernel', kernel_init, (width, width))
        return first * (state @ kernel + bias) * nn.sigmoid(state @ gate_kernel) + state


class GDCN(CTRModel):
    """Gated deep & cross network (Wang et al., CIKM 2023), stacked (GDCN-S) or parallel (GDCN-P).

    With `x_0 = flat: [B, F d]` and `x_L` the output of `L` gated cross layers,

    - stacked: `logit = w^T MLP(x_L) + b`;
    - parallel: `logit = w^T [x_L ; MLP(x_0)] + b`.

    Reads the table 'embedding'. The paper's field-level embedding dimensions are not part of the model.

    Parameters: `cross_{l}/{kernel, bias, gate_kernel}`, `tower/{hidden_i, norm_i}`,
    `out/{kernel, bias}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      cross_layers: `L`, number of gated cross layers.
      structure: 'stacked' or 'parallel'.
      hidden: width of each hidden layer of the MLP.
      batch_norm: whether hidden layers have a BatchNorm.
      dropout: dropout rate after each hidden layer.
    """

    embedding_size: int = 10
    cross_layers: int = 3
    structure: str = 'stacked'
    hidden: tuple[int, ...] = (400, 400, 400)
    batch_norm: bool = True
    dropout: float = 0.0

    variants: ClassVar[dict[str, dict[str, Any]]] = {
        'full': {},
        's': {'structure': 'stacked'},
        'p': {'structure': 'parallel'},
    }

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size, cross_layers=self.cross_layers)
        check_choice('structure', self.structure, ('stacked', 'parallel'))
        check_widths(hidden=self.hidden)
        check_rate(dropout=self.dropout)

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        flat = embeddings['embedding'].reshape(embeddings['embedding'].shape[0], -1)
        crossed = flat
        for i in range(self.cross_layers):
            crossed = GatedCross(name=f'cross_{i}')(flat, crossed)
        tower = MLP(self.hidden, None, self.batch_norm, self.dropout, name='tower')
        if self.structure == 'stacked':
            final = tower(crossed, mode)
        else:
            final = jnp.concatenate([crossed, tower(flat, mode)], axis=1)
        return Dense(1, name='out')(final)[:, 0]
