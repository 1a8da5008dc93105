"""MaskNet: blocks whose inputs are multiplied by a mask from all embeddings (Wang et al., DLP-KDD 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.layers import MLP, Dense, Dropout, LayerNorm
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_choice, check_positive, check_rate, check_widths

# A LayerNorm of each field's own: [B, F, d] to the same, parameters [F, d].
FieldNorm = nn.vmap(
    LayerNorm, in_axes=1, out_axes=1, variable_axes={'params': 0}, split_rngs={'params': True}
)


class MaskBlock(nn.Module):
    """Mask block: embeddings `v: [B, D]` and an input `u: [B, m]` to `[B, n]`.

    The instance-guided mask `w = W2 relu(W1 v + b1) + b2` has the width of the input, and between the two
    layers `int(r m)` neurons; the block is `dropout(relu(LN(W3 (w * u))))`, `W3` without bias.

    Parameters: `mask_hidden/{kernel, bias}`, `mask_out/{kernel, bias}`, `out/kernel: [m, n]`,
    `norm/{scale, bias}`.

    Attributes:
      width: `n`.
      reduction: `r`, see `MaskNet`.
      layer_norm: see `MaskNet`.
      dropout: see `MaskNet`.
    """

    width: int
    reduction: float
    layer_norm: bool
    dropout: float

    @nn.compact
    def __call__(self, v: jax.Array, u: jax.Array, mode: Mode) -> jax.Array:
        width = u.shape[-1]
        hidden = Dense(max(1, int(self.reduction * width)), name='mask_hidden')(v)
        mask = Dense(width, name='mask_out')(nn.relu(hidden))
        x = Dense(self.width, use_bias=False, name='out')(mask * u)
        if self.layer_norm:
            x = LayerNorm(name='norm')(x)
        return Dropout(self.dropout, name='dropout')(nn.relu(x), mode)


class MaskNet(CTRModel):
    """MaskNet: mask blocks one after another or side by side (Wang et al., DLP-KDD 2021).

    With `v = flat: [B, F d]` and `v_0` the same after a LayerNorm of each field's own (`embedding_norm`), and
    `M_l` the blocks of `MaskBlock`:

    - serial: `u_0 = v_0`, `u_{l+1} = M_l(v, u_l)`, `logit = w^T u_L + b`;
    - parallel: `logit = MLP([M_1(v, v_0) ; ... ; M_n(v, v_0)])`.

    The mask reads embeddings that are not normalised. Reads the table 'embedding'.

    Parameters: `embedding_norm/{scale, bias}: [F, d]`, `block_{i}/...`, and `out/{kernel, bias}` (serial) or
    `tower/{hidden_i, out}` (parallel).

    Attributes:
      embedding_size: `d`, width of an embedding.
      structure: 'serial' or 'parallel'.
      hidden: width of each block of the serial model; of each hidden layer of the parallel model's MLP,
        which has no BatchNorm.
      blocks: number of parallel blocks.
      block: width of each parallel block.
      reduction: `r`, neurons of a mask for each number of its block's input, rounded down.
      embedding_norm: whether the first input has a LayerNorm of each field.
      layer_norm: whether the blocks have a LayerNorm.
      dropout: dropout rate after each block and after each hidden layer.
    """

    embedding_size: int = 10
    structure: str = 'serial'
    hidden: tuple[int, ...] = (64, 64, 64)
    blocks: int = 1
    block: int = 64
    reduction: float = 1.0
    embedding_norm: bool = True
    layer_norm: bool = True
    dropout: float = 0.0

    variants: ClassVar[dict[str, dict[str, Any]]] = {
        'full': {},
        'serial': {'structure': 'serial'},
        'parallel': {'structure': 'parallel'},
    }

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size, blocks=self.blocks, block=self.block)
        check_choice('structure', self.structure, ('serial', 'parallel'))
        check_widths(hidden=self.hidden)
        if not self.hidden and self.structure == 'serial':
            raise ValueError(f'model.hidden={self.hidden}: a serial model needs at least one block')
        if not isinstance(self.reduction, int | float) or self.reduction <= 0:
            raise ValueError(f'model.reduction={self.reduction!r}: expected a number above 0')
        check_rate(dropout=self.dropout)

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        first = embeddings['embedding']
        flat = first.reshape(first.shape[0], -1)
        x = flat
        if self.embedding_norm:
            x = FieldNorm(name='embedding_norm')(first).reshape(flat.shape)

        def block(i: int, width: int) -> MaskBlock:
            return MaskBlock(width, self.reduction, self.layer_norm, self.dropout, name=f'block_{i}')

        if self.structure == 'serial':
            for i, width in enumerate(self.hidden):
                x = block(i, width)(flat, x, mode)
            return Dense(1, name='out')(x)[:, 0]
        outputs = [block(i, self.block)(flat, x, mode) for i in range(self.blocks)]
        tower = MLP(self.hidden, 1, batch_norm=False, dropout=self.dropout, name='tower')
        return tower(jnp.concatenate(outputs, axis=1), mode)[:, 0]
