"""DCN-V2: the improved deep & cross network (Wang et al., WWW 2021)."""

from collections.abc import Mapping
from typing import ClassVar

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.interactions import MatrixCross, MixtureCross
from dlf_jax.models.layers import MLP, Dense, Mode
from dlf_jax.models.validators import check_choice, check_positive, check_rate, check_widths


class DCNv2(nn.Module):
    """A cross network with matrices, and an MLP beside it or on top of it (Wang et al. 2021).

    With `x_0 = flat: [B, F * d]` and `x_L` the last of the cross layers

        x_{l+1} = x_0 * (W_l x_l + b_l) + x_l                                    (eq. 1)
        x_{l+1} = sum_k G_k(x_l) E_k(x_l) + x_l, experts E_k of a low rank       (eqs. 3, 4)

    the logit is `w^T h + b` where `h` is

        parallel        [x_L, MLP(x_0)]
        stacked         MLP(x_L)
        crossnet_only   x_L

    Called on `{'embedding': float32 [B, F, d]}` it returns logits, float32 [B].

    Parameters:

        cross   layer_l/{kernel, bias}, or with `mixture` {u, c, v, bias, gate}_l
        tower   {hidden_i, norm_i}
        head    kernel, bias

    Attributes:
      embedding_size: `d`, width of an embedding.
      cross_layers: `L`, number of cross layers.
      structure: 'parallel', 'stacked' or 'crossnet_only'.
      mixture: whether a cross layer is a mixture of experts of a low rank, not a full matrix.
      rank: rank of an expert; read with `mixture`.
      experts: experts in each cross layer; read with `mixture`.
      shared_gate: whether all cross layers gate their experts with the same weights, as in the
        field's usual library; read with `mixture`.
      hidden: width of each hidden layer; () leaves the MLP out. Not read by 'crossnet_only'.
      batch_norm: whether each hidden layer has a BatchNorm.
      dropout: rate after each hidden layer.
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

    variants: ClassVar[dict[str, dict]] = {
        'full': {},
        'stacked': {'structure': 'stacked'},
        'crossnet_only': {'structure': 'crossnet_only'},
        'mixture': {'mixture': True},
        'stacked_mixture': {'structure': 'stacked', 'mixture': True},
    }

    def __post_init__(self):
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
        super().__post_init__()

    @property
    def tables(self) -> dict[str, int]:
        """Width of each table that the model reads."""
        return {'embedding': self.embedding_size}

    @nn.compact
    def __call__(
        self,
        rows: Mapping[str, jax.Array],
        *,
        train: bool = False,
        mask: jax.Array | None = None,
        axis_name: str | None = None,
    ) -> jax.Array:
        chex.assert_shape(rows['embedding'], (None, None, self.embedding_size))
        flat = rows['embedding'].reshape(rows['embedding'].shape[0], -1)
        final = self._cross()(flat)
        if self.hidden and self.structure != 'crossnet_only':
            tower = MLP(self.hidden, None, self.batch_norm, self.dropout, name='tower')
            stacked = self.structure == 'stacked'
            deep = tower(final if stacked else flat, Mode(train, mask, axis_name))
            final = deep if stacked else jnp.concatenate([final, deep], 1)
        return Dense(1, name='head')(final)[:, 0]

    def _cross(self) -> nn.Module:
        if not self.mixture:
            return MatrixCross(self.cross_layers, name='cross')
        fields = (self.cross_layers, self.rank, self.experts, self.shared_gate)
        return MixtureCross(*fields, name='cross')
