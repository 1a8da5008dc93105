"""How a DLF layer fuses its blocks.

The network-aware attention fusion (section 4.3, eqs. 10-15) and what Figure 3 compares it with.
Every fusion takes the outputs of the `S` blocks, a list of float32 `[B, n, d]`, and the layer's
input `E^(l): [B, N, d]`, which only `InputAttention` reads, to `Z: [B, M, d]`.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.dlf_blocks import Block
from dlf_jax.models.layers import MLP, Dense, LayerNorm, Mode, softmax, stacked_kernel_init


def attend(query: jax.Array, key: jax.Array, value: jax.Array, heads: int) -> jax.Array:
    """Multi-head attention `softmax(Q K^T / sqrt(d / H)) V`, the heads concatenated.

    `Q: [B, i, d]`, `K, V: [B, j, d]`, of which every head takes `d / H` adjacent channels, to
    `[B, i, d]`.

    Departs from the print: scaled by the width of a head, not `d`; they agree at one head.
    """
    outputs = []
    # Head by head, slices need no transposition. Measured on a CPU against einsums with a head
    # axis, H 2, ms forward (and backward): 6 (21) against 9 (22) at B 4096, i 24, j 8, d 16; 17
    # (42) against 20 (54) at B 2000, i 48, j 16, d 64.
    for q, k, v in zip(*(jnp.split(x, heads, axis=-1) for x in (query, key, value)), strict=True):
        scores = (q * q.shape[-1] ** -0.5) @ jnp.swapaxes(k, 1, 2)
        outputs.append(softmax(scores) @ v)
    return jnp.concatenate(outputs, axis=-1)


class AttentionLayer(nn.Module):
    """Attention of every block to every block, eqs. 10-13: `S` blocks `[B, n, d]` to as many.

    - `Q_M, K_M, V_M = split(Z_M W_M + b_M)` with own weights per block (10);
    - cross: `relu(W^C_M [A_MX V_X ; A_MY V_Y] + b^C_M)`, the other blocks in order (11, 12);
    - self: `A_MM V_M` (13);
    - their sum. With two blocks there is one other, and `W^C_M: d -> d`.

    Parameters: `qkv_kernel: [S, d, 3 d]`, `qkv_bias: [S, 3 d]`, `cross_kernel: [S, (S - 1) d, d]`,
    `cross_bias: [S, d]`.

    Attributes:
      heads: `H`, divides `d`.
      self_attention: whether eq. 13 is part of it.
    """

    heads: int
    self_attention: bool

    @nn.compact
    def __call__(self, blocks: Sequence[jax.Array]) -> list[jax.Array]:
        count, width = len(blocks), blocks[0].shape[-1]
        zeros = nn.initializers.zeros
        qkv_kernel = self.param('qkv_kernel', stacked_kernel_init, (count, width, 3 * width))
        qkv_bias = self.param('qkv_bias', zeros, (count, 3 * width))
        shape = (count, (count - 1) * width, width)
        cross_kernel = self.param('cross_kernel', stacked_kernel_init, shape)
        cross_bias = self.param('cross_bias', zeros, (count, width))

        qkv = [jnp.split(block @ qkv_kernel[i] + qkv_bias[i], 3, axis=-1) for i, block in enumerate(blocks)]
        # One product per key block X, with the queries of all blocks that look at it. Measured on a
        # CPU, ms of processor time forward and backward at B 4096, n 8, d 16 (B 2000, n 16, d 64):
        # 104 (250) so; 160 (280) for the nine pairs one by one; 100 (297) with all blocks stacked
        # and one product of queries and keys.
        seen = [{} for _ in blocks]  # seen[M][X] = A_MX V_X
        for x, (_, key, value) in enumerate(qkv):
            looking = [m for m in range(count) if m != x or self.self_attention]
            queries = jnp.concatenate([qkv[m][0] for m in looking], axis=1)
            outputs = attend(queries, key, value, self.heads)
            outputs = jnp.split(outputs, len(looking), axis=1)
            for m, output in zip(looking, outputs, strict=True):
                seen[m][x] = output

        fused = []
        for m in range(count):
            others = jnp.concatenate([seen[m][x] for x in range(count) if x != m], axis=-1)
            cross = nn.relu(others @ cross_kernel[m] + cross_bias[m])
            fused.append(cross + seen[m][m] if self.self_attention else cross)
        return fused


class AttentionFusion(nn.Module):
    """Network-aware attention fusion, eqs. 10-15: `Z = [Z_L ; Z_C ; Z_D ; Att]`, `M = (S + 1) n`.

    `Att = relu(W_F [Att_L ; Att_C ; Att_D] + b_F)` on the channel axis (14), of the last of a stack
    of attention layers, whose input is the one before's output. Parameters: `attention_{i}/...`,
    `out/{kernel: [S d, d], bias: [d]}`.

    Attributes:
      layers: `A`, attention layers.
      heads: `H`, divides `d`.
      self_attention: whether blocks attend to themselves (eq. 13).
    """

    layers: int
    heads: int
    self_attention: bool

    @nn.compact
    def __call__(self, blocks: Sequence[jax.Array], state: jax.Array, mode: Mode) -> jax.Array:
        del state, mode
        attended = blocks
        for i in range(self.layers):
            layer = AttentionLayer(self.heads, self.self_attention, name=f'attention_{i}')
            attended = layer(attended)
        fused = Dense(blocks[0].shape[-1], name='out')(jnp.concatenate(attended, axis=-1))
        return jnp.concatenate([*blocks, nn.relu(fused)], axis=1)


class MLPFusion(nn.Module):
    """Figure 3's MLP: eq. 15 with `Att = relu(MLP([Z_L ; Z_C ; Z_D]))` on the channel axis.

    `M = (S + 1) n`. Parameters: `mlp/...` from `[S d]` to `[d]`.

    Attributes:
      hidden, batch_norm, dropout: see `MLP`.
    """

    hidden: tuple[int, ...]
    batch_norm: bool
    dropout: float

    @nn.compact
    def __call__(self, blocks: Sequence[jax.Array], state: jax.Array, mode: Mode) -> jax.Array:
        del state
        mlp = MLP(self.hidden, blocks[0].shape[-1], self.batch_norm, self.dropout, name='mlp')
        fused = mlp(jnp.concatenate(blocks, axis=-1), mode)
        return jnp.concatenate([*blocks, nn.relu(fused)], axis=1)


class GateFusion(nn.Module):
    """Figure 3's gate: eq. 15 with `Att = sum_M g_M Z_M`, a scalar gate per block and row.

    `g = softmax(W [mean Z_L ; mean Z_C ; mean Z_D] + b)`, means over the tokens. `M = (S + 1) n`.
    Parameters: `gate/{kernel: [S d, S], bias: [S]}`.
    """

    @nn.compact
    def __call__(self, blocks: Sequence[jax.Array], state: jax.Array, mode: Mode) -> jax.Array:
        del state, mode
        pooled = jnp.concatenate([jnp.mean(block, axis=1) for block in blocks], axis=-1)
        gates = softmax(Dense(len(blocks), name='gate')(pooled))
        fused = sum(gates[:, i, None, None] * block for i, block in enumerate(blocks))
        return jnp.concatenate([*blocks, fused], axis=1)


class ConcatFusion(nn.Module):
    """Figure 3's concatenation on the token axis: `Z = [Z_L ; Z_C ; Z_D]`, `M = S n`."""

    @nn.compact
    def __call__(self, blocks: Sequence[jax.Array], state: jax.Array, mode: Mode) -> jax.Array:
        del state, mode
        return jnp.concatenate(blocks, axis=1)


class InputAttention(Block):
    """The authors' repository's attention: over the layer's *input* tokens, beside the blocks.

    `Z = [Z_C ; Z_L ; Z_D ; relu(MLP(LayerNorm(flatten(self-attention(E^(l))))))]` (the ReLU only
    with `relu`), `M = (S + 1) n`. Scaled, and with biases, as eq. 10's are here. Parameters:
    `qkv/{kernel: [d, 3 d], bias: [3 d]}`, `norm: [N d]`, `mlp/...` to `[n d]`.

    Attributes:
      heads: `H`, divides `d`.
    """

    heads: int

    @nn.compact
    def __call__(self, blocks: Sequence[jax.Array], state: jax.Array, mode: Mode) -> jax.Array:
        width = state.shape[-1]
        qkv = Dense(3 * width, name='qkv')(state)
        attended = attend(*jnp.split(qkv, 3, axis=-1), self.heads)
        flat = LayerNorm(name='norm')(attended.reshape(state.shape[0], -1))
        return jnp.concatenate([*blocks, self.to_tokens(flat, width, mode)], axis=1)
