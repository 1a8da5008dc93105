"""FinalNet: factorised interaction layers in two blocks with self-distillation (Zhu et al., SIGIR 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.layers import BatchNorm, Dense, Dropout
from dlf_jax.models.losses import distillation
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_choice, check_own_rate, check_positive, check_rate, check_widths


class FieldGate(nn.Module):
    """Field gate, `[E ; E * G]` with `G_i = sum_j w_ji e_j + b_i`: `[B, F, d]` to `[B, 2 F, d]`.

    Parameters: `kernel: [F, F]`, initially zeros, and `bias: [F]`, initially ones: the gate starts open.
    """

    @nn.compact
    def __call__(self, first: jax.Array) -> jax.Array:
        fields = first.shape[1]
        kernel = self.param('kernel', nn.initializers.zeros, (fields, fields))
        bias = self.param('bias', nn.initializers.ones, (fields,))
        gate = jnp.einsum('bjd,ji->bid', first, kernel) + bias[:, None]
        return jnp.concatenate([first, first * gate], axis=1)


class FactorizedBlock(nn.Module):
    """Block of factorised interaction layers and an output layer: `[B, C]` to logits `[B]`.

    A layer computes `h = W x + b`, splits it into halves `[h_2 ; h_1]` and returns `[h_2 ; h_1 * h_2]` or
    `h_2 + h_1 * h_2`, followed by BatchNorm, ReLU (both optional) and dropout. The polynomial degree
    doubles with each layer.

    Parameters: `hidden_{i}/{kernel, bias}`, `norm_{i}/{scale, bias}`, `out/{kernel, bias}`.

    Attributes:
      hidden: width of each layer.
      residual: see `FinalNet`.
      relu: see `FinalNet`.
      batch_norm: see `FinalNet`.
      dropout: see `FinalNet`.
    """

    hidden: tuple[int, ...]
    residual: str
    relu: bool
    batch_norm: bool
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        for i, width in enumerate(self.hidden):
            summed = self.residual == 'sum'
            h2, h1 = jnp.split(Dense(width * (1 + summed), name=f'hidden_{i}')(x), 2, axis=1)
            x = h2 + h1 * h2 if summed else jnp.concatenate([h2, h1 * h2], axis=1)
            if self.batch_norm:
                x = BatchNorm(name=f'norm_{i}')(x, mode)
            x = Dropout(self.dropout, name=f'dropout_{i}')(nn.relu(x) if self.relu else x, mode)
        return Dense(1, name='out')(x)[:, 0]


class FinalNet(CTRModel):
    """FINAL: one or two blocks of factorised interaction layers (Zhu et al., SIGIR 2023).

    With `flat: [B, F d]` and the gated fields `gated: [B, 2 F d]`:

    - `y_1 = block_1(gated)`, `y_2 = block_2(flat)`, `logit = (y_1 + y_2) / 2`;
    - in training each block is distilled from their mean: `sum_k BCE(y_k, stop_gradient(sigmoid(logit)))`
      is added to the loss, averaged over the rows that are not padding. It is sown as
      `losses/distillation` and needs no labels.

    With one block, `logit = y_1` and there is no distillation. Reads the table 'embedding'.

    Parameters: `gate/{kernel, bias}`, `block_{1, 2}/{hidden_i, norm_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      blocks: number of blocks, 1 or 2.
      hidden_1: width of each layer of the first block.
      hidden_2: width of each layer of the second block.
      gate: whether the first block reads gated fields in addition to the plain ones.
      residual: output of a layer: 'concat', `[h_2 ; h_1 * h_2]`, which needs even widths, or 'sum',
        `h_2 + h_1 * h_2`, with a `W` twice as wide; both as in FuxiCTR.
      relu: whether a ReLU follows each layer; an option of FuxiCTR.
      batch_norm: whether layers have a BatchNorm.
      dropout: dropout rate after each layer.
      dropout_2: dropout rate after each layer of the second block; -1 for `dropout`.
    """

    embedding_size: int = 10
    blocks: int = 2
    hidden_1: tuple[int, ...] = (400, 400, 400)
    hidden_2: tuple[int, ...] = (400, 400, 400)
    gate: bool = True
    residual: str = 'concat'
    relu: bool = False
    batch_norm: bool = True
    dropout: float = 0.0
    dropout_2: float = -1.0

    variants: ClassVar[dict[str, dict[str, Any]]] = {'full': {}, '1b': {'blocks': 1}, '2b': {'blocks': 2}}

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size)
        check_choice('blocks', self.blocks, (1, 2))
        check_choice('residual', self.residual, ('concat', 'sum'))
        hidden = {'hidden_1': self.hidden_1, 'hidden_2': self.hidden_2}
        check_widths(**hidden)
        check_rate(dropout=self.dropout)
        check_own_rate('dropout', dropout_2=self.dropout_2)
        for key, widths in hidden.items():
            if self.residual == 'concat' and any(width % 2 for width in widths):
                raise ValueError(f"model.{key}={widths}: model.residual='concat' needs even widths")

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        first = embeddings['embedding']
        gated = FieldGate(name='gate')(first) if self.gate else first
        inputs = [(self.hidden_1, self.dropout, gated)]
        if self.blocks == 2:
            dropout_2 = self.dropout if self.dropout_2 == -1 else self.dropout_2
            inputs.append((self.hidden_2, dropout_2, first))
        outputs = []
        for i, (hidden, dropout, features) in enumerate(inputs, 1):
            fields = (self.residual, self.relu, self.batch_norm, dropout)
            block = FactorizedBlock(hidden, *fields, name=f'block_{i}')
            outputs.append(block(features.reshape(features.shape[0], -1), mode))
        logits: jax.Array = sum(outputs) / self.blocks  # type: ignore[assignment]  # not the int of an empty sum
        if mode.train and self.blocks == 2:
            self.sow('losses', 'distillation', distillation(outputs, logits, mode))
        return logits
