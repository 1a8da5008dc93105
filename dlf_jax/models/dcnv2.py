"""DCN-V2: improved deep & cross network (Wang et al., WWW 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.interactions import MatrixCross, MixtureCross
from dlf_jax.models.layers import MLP, Dense
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_choice, check_positive, check_rate, check_widths


class DCNv2(CTRModel):
    """Cross network with weight matrices, and an MLP parallel to it or on top of it (Wang et al. 2021).

    With `x_0 = flat: [B, F * d]` and `x_L` the output of the last cross layer,

        x_{l+1} = x_0 * (W_l x_l + b_l) + x_l                                    (eq. 1)
        x_{l+1} = sum_k G_k(x_l) E_k(x_l) + x_l, with low-rank experts E_k       (eqs. 3, 4)

    the logit is `w^T h + b`, where `h` is

        parallel        [x_L, MLP(x_0)]
        stacked         MLP(x_L)
        crossnet_only   x_L

    Reads the table 'embedding'.

    Parameters:

        cross   layer_l/{kernel, bias}, or with `mixture` {u, c, v, bias, gate}_l
        tower   {hidden_i, norm_i}
        head    kernel, bias

    Attributes:
      embedding_size: `d`, width of an embedding.
      cross_layers: `L`, number of cross layers.
      structure: 'parallel', 'stacked' or 'crossnet_only'.
      mixture: whether a cross layer is a mixture of low-rank experts instead of a full matrix.
      rank: rank of an expert; used with `mixture`.
      experts: number of experts in each cross layer; used with `mixture`.
      shared_gate: whether all cross layers share the weights of their gates, as in FuxiCTR; needs
        `mixture`.
      hidden: width of each hidden layer of the MLP; () for no MLP. Not used by 'crossnet_only'.
      batch_norm: whether hidden layers have a BatchNorm.
      dropout: dropout rate after each hidden layer.
    """

    embedding_size: int = 10
    cross_layers: int = 3
    structure: str = 'parallel'
    mixture: bool = False
    rank: int = 32
    experts: int = 4
    shared_gate: bool = False
    hidden: tuple[int, ...] = (400, 400, 400)
    batch_norm: bool = True
    dropout: float = 0.0

    variants: ClassVar[dict[str, dict[str, Any]]] = {
        'full': {},
        'stacked': {'structure': 'stacked'},
        'crossnet_only': {'structure': 'crossnet_only'},
        'mixture': {'mixture': True},
        'stacked_mixture': {'structure': 'stacked', 'mixture': True},
    }

    def check(self) -> None:
        check_positive(
            embedding_size=self.embedding_size,
            cross_layers=self.cross_layers,
            rank=self.rank,
            experts=self.experts,
        )
        check_choice('structure', self.structure, ('parallel', 'stacked', 'crossnet_only'))
        check_widths(hidden=self.hidden)
        check_rate(dropout=self.dropout)
        if self.shared_gate and not self.mixture:
            raise ValueError('model.shared_gate=True: needs model.mixture=True')

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        flat = embeddings['embedding'].reshape(embeddings['embedding'].shape[0], -1)
        final = self._cross()(flat)
        if self.hidden and self.structure != 'crossnet_only':
            tower = MLP(self.hidden, None, self.batch_norm, self.dropout, name='tower')
            stacked = self.structure == 'stacked'
            deep = tower(final if stacked else flat, mode)
            final = deep if stacked else jnp.concatenate([final, deep], 1)
        return Dense(1, name='head')(final)[:, 0]

    def _cross(self) -> nn.Module:
        if not self.mixture:
            return MatrixCross(self.cross_layers, name='cross')
        fields = (self.cross_layers, self.rank, self.experts, self.shared_gate)
        return MixtureCross(*fields, name='cross')
