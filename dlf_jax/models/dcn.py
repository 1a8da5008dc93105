"""DCN: the deep & cross network (Wang et al., ADKDD 2017)."""

from collections.abc import Mapping
from typing import ClassVar

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.interactions import VectorCross
from dlf_jax.models.layers import MLP, Dense, Mode
from dlf_jax.models.validators import check_positive, check_rate, check_widths


class DCN(nn.Module):
    """A cross network parallel to an MLP (Wang et al. 2017).

        x_{l+1} = x_0 (x_l^T w_l) + b_l + x_l,  x_0 = flat: [B, F * d]     (eq. 3)
        logit   = w^T [x_L, MLP(x_0)] + b                                  (eq. 5)

    Called on `{'embedding': float32 [B, F, d]}` it returns logits, float32 [B]. Parameters:
    `cross/{kernel_l, bias_l}`, `tower/{hidden_i, norm_i}` and `head/{kernel, bias}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      cross_layers: `L`, number of cross layers.
      hidden: width of each hidden layer; () leaves the MLP out.
      batch_norm: whether each hidden layer has a BatchNorm.
      dropout: rate after each hidden layer.
    """

    embedding_size: int = 10
    cross_layers: int = 3
    hidden: tuple[int, ...] = (400, 400, 400)
    batch_norm: bool = True
    dropout: float = 0.0

    variants: ClassVar[dict[str, dict]] = {'full': {}}

    def __post_init__(self):
        check_positive(embedding_size=self.embedding_size, cross_layers=self.cross_layers)
        check_widths(hidden=self.hidden)
        check_rate(dropout=self.dropout)
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
        streams = [VectorCross(self.cross_layers, name='cross')(flat)]
        if self.hidden:
            tower = MLP(self.hidden, None, self.batch_norm, self.dropout, name='tower')
            streams.append(tower(flat, Mode(train, mask, axis_name)))
        return Dense(1, name='head')(jnp.concatenate(streams, 1))[:, 0]
