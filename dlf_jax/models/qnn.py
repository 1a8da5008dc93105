"""QNN-alpha: quadratic layers and a self-ensemble loss (Li et al., KDD 2025)."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.layers import BatchNorm, Dense, Dropout, at_least_float32
from dlf_jax.models.losses import distillation
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_positive, check_rate


class QuadraticLayer(nn.Module):
    """Quadratic layer with a multi-head Khatri-Rao product: `[B, D]` to `[B, D]`.

    With `h = dropout(relu(BN(W x + b)))`, seen as `[B, H, R, D / H]`, and `u: [B, H, D / H]`, of which head
    `k` has the channels `k d / H` to `(k + 1) d / H` of every field, fields in order:

        y_k = sum_r u_k * h_kr
        x'  = dropout(y + x)

    The activation is in the middle: none follows the product. As in the authors' code `y` lies head by head
    where `x` lies field by field, and the two are added as they lie: with `H > 1` the sum permutes channels.

    Parameters: `hidden/{kernel: [D, R D], bias}`, `norm/{scale, bias}`.

    Attributes are those of `QNN`; `fields` is `F`.
    """

    fields: int
    heads: int
    product_rows: int
    batch_norm: bool
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        batch, width = x.shape
        hidden = Dense(self.product_rows * width, name='hidden')(x)
        if self.batch_norm:
            hidden = BatchNorm(name='norm')(hidden, mode)
        hidden = Dropout(self.dropout, name='hidden_dropout')(nn.relu(hidden), mode)
        hidden = hidden.reshape(batch, self.heads, self.product_rows, -1)
        heads = jnp.swapaxes(x.reshape(batch, self.fields, self.heads, -1), 1, 2)
        # The head is a factor of every row, so they are summed first.
        product = heads.reshape(batch, self.heads, -1) * jnp.sum(hidden, 2)
        return Dropout(self.dropout, name='dropout')(product.reshape(batch, width) + x, mode)


class QuadraticNetwork(nn.Module):
    """Quadratic layers and an output layer: `[B, F d]` to logits `[B]`.

    Parameters: `layer_{i}/{hidden, norm}`, `out/{kernel, bias}`. Attributes are those of `QNN`; `fields`
    is `F`.
    """

    fields: int
    layers: int
    heads: int
    product_rows: int
    batch_norm: bool
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        for i in range(self.layers):
            layer = QuadraticLayer(
                self.fields, self.heads, self.product_rows, self.batch_norm, self.dropout, name=f'layer_{i}'
            )
            x = layer(x, mode)
        return Dense(1, name='out')(x)[:, 0]


class QNN(CTRModel):
    """QNN-alpha: layers of quadratic neurons, trained as an ensemble of itself (Li et al., KDD 2025).

    From `x_1 = flat: [B, F d]`, each layer of `QuadraticLayer` doubles the polynomial degree;
    `logit = w^T x_{L+1} + b`.

    In training the network is passed twice with independent dropout, to logits `z_1` and `z_2`, and predicts
    the mean `p` of both probabilities. Each pass is distilled from the mean: the loss gains
    `sum_k BCE(z_k, stop_gradient(p))`, averaged over the rows that are not padding, sown as
    `losses/self_ensemble`. Evaluation passes once.

    The layers are those of the authors' code (salmon1802/QNN, QNN_T26.py, and FuxiCTR's QNN_alpha.py); the
    paper's own equations were not compared.

    Reads the table 'embedding'. Parameters: `network/{layer_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      layers: `L`, number of quadratic layers.
      heads: `H`, heads of the Khatri-Rao product; must divide `embedding_size`.
      product_rows: `R`, rows of the Khatri-Rao product: a layer's hidden neurons for each of its outputs.
      batch_norm: whether the hidden neurons have a BatchNorm; each pass has its own batch statistics.
      dropout: dropout rate of the hidden neurons and of each layer's output.
    """

    embedding_size: int = 16
    layers: int = 3
    heads: int = 1
    product_rows: int = 2
    batch_norm: bool = False
    dropout: float = 0.0

    def check(self) -> None:
        check_positive(
            embedding_size=self.embedding_size,
            layers=self.layers,
            heads=self.heads,
            product_rows=self.product_rows,
        )
        check_rate(dropout=self.dropout)
        if self.embedding_size % self.heads:
            raise ValueError(
                f'model.heads={self.heads}: must divide model.embedding_size={self.embedding_size}'
            )

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        batch, fields, _ = embeddings['embedding'].shape
        flat = embeddings['embedding'].reshape(batch, -1)
        network = QuadraticNetwork(
            fields, self.layers, self.heads, self.product_rows, self.batch_norm, self.dropout, name='network'
        )
        first = network(flat, mode)
        if not mode.train:
            return first
        outputs = [first, network(flat, mode)]
        logits = of_mean_probability(*outputs)
        self.sow('losses', 'self_ensemble', distillation(outputs, logits, mode))
        return logits.astype(flat.dtype)


def of_mean_probability(first: jax.Array, second: jax.Array) -> jax.Array:
    """Logits of the mean of two logits' probabilities: [B] and [B] to [B], in at least float32."""
    first, second = at_least_float32(first), at_least_float32(second)
    # log(p_1 + p_2) - log(2 - p_1 - p_2), each term from logarithms: no probability is rounded to 0 or 1.
    clicked = jnp.logaddexp(nn.log_sigmoid(first), nn.log_sigmoid(second))
    return clicked - jnp.logaddexp(nn.log_sigmoid(-first), nn.log_sigmoid(-second))
