"""DLRM-DCNv2: MLPerf's recommendation benchmark, DLRM with a low-rank cross network (MLCommons 2023)."""

from __future__ import annotations

from collections.abc import Mapping

import jax

from dlf_jax.models.base import CTRModel
from dlf_jax.models.dlrm import NumbersFirst
from dlf_jax.models.inputs import Inputs
from dlf_jax.models.interactions import LowRankCross
from dlf_jax.models.layers import MLP
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_positive, check_rate, check_widths


class DLRMDCNv2(CTRModel):
    """DLRM-DCNv2: a bottom MLP of the numbers, a low-rank cross network, a top MLP (MLPerf training, v3.0).

    The numbers `x: [B, Fn]` are not embedded: `e_0 = relu(MLP_bottom(x)): [B, d]` joins the embeddings of the
    other `C` fields, and with `x_0 = flat([e_0 ; E]): [B, (C + 1) d]`

        x_{l+1} = x_0 * (W_l (V_l x_l) + b_l) + x_l,  logit = MLP_top(x_L)

    without BatchNorm and dropout in the benchmark. Its multi-valued fields are summed: `pooling = "sum"` in
    the schema. The defaults are the benchmark's; its initial values of tables and Dense layers (TorchRec's
    uniform ones; HugeCTR's were not verified) are this package's instead.

    Reads the table 'embedding'. Parameters: `numbers/bottom/{hidden_i, out}`,
    `cross/{v_l, w_l, bias_l}`, `top/{hidden_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      bottom_hidden: width of each hidden layer of the bottom MLP, whose last layer has width `d`.
      cross_layers: `L`, number of cross layers.
      rank: `r`, rank of a cross layer's matrix.
      hidden: width of each hidden layer of the top MLP.
      batch_norm: whether hidden layers of both MLPs have a BatchNorm.
      dropout: dropout rate after each hidden layer of the top MLP.
    """

    embedding_size: int = 128
    bottom_hidden: tuple[int, ...] = (512, 256)
    cross_layers: int = 3
    rank: int = 512
    hidden: tuple[int, ...] = (1024, 1024, 512, 256)
    batch_norm: bool = False
    dropout: float = 0.0

    wants_inputs = True
    wants_bags = False

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size, cross_layers=self.cross_layers, rank=self.rank)
        check_widths(bottom_hidden=self.bottom_hidden, hidden=self.hidden)
        check_rate(dropout=self.dropout)

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode, inputs: Inputs) -> jax.Array:
        numbers = NumbersFirst(self.bottom_hidden, self.batch_norm, 0.0, name='numbers')
        fields = numbers(embeddings['embedding'], inputs, mode)
        x = LowRankCross(self.cross_layers, self.rank, name='cross')(fields.reshape(fields.shape[0], -1))
        return MLP(self.hidden, 1, self.batch_norm, self.dropout, name='top')(x, mode)[:, 0]
