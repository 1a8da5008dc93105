"""DCN: deep & cross network (Wang et al., ADKDD 2017)."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.interactions import VectorCross
from dlf_jax.models.layers import MLP, Dense
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_positive, check_rate, check_widths


class DCN(CTRModel):
    """Deep & cross network: a cross network parallel to an MLP (Wang et al. 2017).

        x_{l+1} = x_0 (x_l^T w_l) + b_l + x_l,  x_0 = flat: [B, F * d]     (eq. 3)
        logit   = w^T [x_L, MLP(x_0)] + b                                  (eq. 5)

    Reads the table 'embedding'. Parameters: `cross/{kernel_l, bias_l}`, `tower/{hidden_i, norm_i}` and
    `head/{kernel, bias}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      cross_layers: `L`, number of cross layers.
      hidden: width of each hidden layer of the MLP; () for no MLP.
      batch_norm: whether hidden layers have a BatchNorm.
      dropout: dropout rate after each hidden layer.
    """

    embedding_size: int = 10
    cross_layers: int = 3
    hidden: tuple[int, ...] = (400, 400, 400)
    batch_norm: bool = True
    dropout: float = 0.0

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size, cross_layers=self.cross_layers)
        check_widths(hidden=self.hidden)
        check_rate(dropout=self.dropout)

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        flat = embeddings['embedding'].reshape(embeddings['embedding'].shape[0], -1)
        streams = [VectorCross(self.cross_layers, name='cross')(flat)]
        if self.hidden:
            tower = MLP(self.hidden, None, self.batch_norm, self.dropout, name='tower')
            streams.append(tower(flat, mode))
        return Dense(1, name='head')(jnp.concatenate(streams, 1))[:, 0]
