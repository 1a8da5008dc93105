"""Fusions of the outputs of a DLF layer's blocks.

The network-aware attention fusion (section 4.3, eqs. 10-15) and the alternatives of Figure 3. Every fusion
maps the outputs of the `S` blocks, a list of float32 `[B, n, d]`, and the layer's input `E^(l): [B, N, d]`,
which only `InputAttention` reads, to `Z: [B, M, d]`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.dlf_blocks import Block
from dlf_jax.models.layers import MLP, Dense, LayerNorm, softmax, stacked_kernel_init
from dlf_jax.models.mode import Collectives, Mode


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, heads: int, weights: list[jax.Array] | None = None
) -> jax.Array:
    """Multi-head attention `softmax(Q K^T / sqrt(d / H)) V`, with concatenated heads.

    Differs from the paper: scaled by the width of a head instead of `d`; the same with one head.

    Args:
      query: `Q`, float32 [B, i, d]; each head has `d / H` adjacent channels.
      key: `K`, float32 [B, j, d].
      value: `V`, float32 [B, j, d].
      heads: `H`, number of heads; divides `d`.

    Returns:
      float32 [B, i, d].
    """
    outputs = []
    # Head by head, because slices need no transposition, which a head axis would.
    for q, k, v in zip(*(jnp.split(x, heads, axis=-1) for x in (query, key, value)), strict=True):
        scores = (q * q.shape[-1] ** -0.5) @ jnp.swapaxes(k, 1, 2)
        found = softmax(scores)
        if weights is not None:
            weights.append(found)
        outputs.append(found @ v)
    return jnp.concatenate(outputs, axis=-1)


class AttentionLayer(nn.Module):
    """Attention between all blocks, eqs. 10-13: from `S` blocks `[B, n, d]` to as many.

    - `Q_M, K_M, V_M = split(Z_M W_M + b_M)`, with separate weights per block (10);
    - cross-attention: `relu(W^C_M [A_MX V_X ; A_MY V_Y] + b^C_M)` over the other blocks, in order (11, 12);
    - self-attention: `A_MM V_M` (13);
    - the output is their sum. With two blocks there is one other block, and `W^C_M: d -> d`.

    Parameters: `qkv_kernel: [S, d, 3 d]`, `qkv_bias: [S, 3 d]`, `cross_kernel: [S, (S - 1) d, d]`,
    `cross_bias: [S, d]`. For explanations it sows `weights_{X}`, the softmax of each head over the tokens of
    block X, [B, q n, n], with the queries of the `q` blocks that attend to it, in order.

    Attributes:
      heads: `H`, number of attention heads; divides `d`.
      self_attention: whether there is self-attention (eq. 13).
      kernel_on: devices on which all of it is one GPU kernel, see `dlf_attention_kernel`; None: array
        operations.
    """

    heads: int
    self_attention: bool
    kernel_on: Collectives | None = None

    @nn.compact
    def __call__(self, blocks: Sequence[jax.Array]) -> list[jax.Array]:
        count, width = len(blocks), blocks[0].shape[-1]
        zeros = nn.initializers.zeros
        qkv_kernel = self.param('qkv_kernel', stacked_kernel_init, (count, width, 3 * width))
        qkv_bias = self.param('qkv_bias', zeros, (count, 3 * width))
        shape = (count, (count - 1) * width, width)
        cross_kernel = self.param('cross_kernel', stacked_kernel_init, shape)
        cross_bias = self.param('cross_bias', zeros, (count, width))
        if self.kernel_on is not None:
            # Imported where it is used: not every platform's JAX can.
            from dlf_jax.models import dlf_attention_kernel as kernel

            weights = kernel.Weights(qkv_kernel, qkv_bias, cross_kernel, cross_bias)
            attention = functools.partial(
                kernel.attention, heads=self.heads, self_attention=self.self_attention
            )
            outputs: list[jax.Array] = self.kernel_on.by_rows(attention)(list(blocks), weights)
            return outputs

        qkv = [jnp.split(block @ qkv_kernel[i] + qkv_bias[i], 3, axis=-1) for i, block in enumerate(blocks)]
        # One attention per key block X, with the queries of all blocks that attend to it: faster than a
        # product per pair of blocks, and than one product of all queries and keys.
        attended: list[dict[int, jax.Array]] = [{} for _ in blocks]  # attended[M][X] = A_MX V_X
        for x, (_, key, value) in enumerate(qkv):
            attending = [m for m in range(count) if m != x or self.self_attention]
            queries = jnp.concatenate([qkv[m][0] for m in attending], axis=1)
            softmaxes: list[jax.Array] = []
            outcome = attend(queries, key, value, self.heads, softmaxes)
            self.sow('intermediates', f'weights_{x}', softmaxes)
            found = jnp.split(outcome, len(attending), axis=1)
            for m, output in zip(attending, found, strict=True):
                attended[m][x] = output

        fused = []
        for m in range(count):
            others = jnp.concatenate([attended[m][x] for x in range(count) if x != m], axis=-1)
            cross = nn.relu(others @ cross_kernel[m] + cross_bias[m])
            fused.append(cross + attended[m][m] if self.self_attention else cross)
        return fused


class AttentionFusion(nn.Module):
    """Network-aware attention fusion, eqs. 10-15: `Z = [Z_L ; Z_C ; Z_D ; Att]`, `M = (S + 1) n`.

    `Att = relu(W_F [Att_L ; Att_C ; Att_D] + b_F)`, concatenated on the channel axis (14), of the output of
    a stack of attention layers. Parameters: `attention_{i}/...`, `out/{kernel: [S d, d], bias: [d]}`.

    Attributes:
      layers: `A`, number of attention layers.
      heads: `H`, number of attention heads; divides `d`.
      self_attention: whether blocks attend to themselves (eq. 13).
      train_kernel: whether an attention layer is one GPU kernel in training.
    """

    layers: int
    heads: int
    self_attention: bool
    train_kernel: bool = False

    @nn.compact
    def __call__(self, blocks: Sequence[jax.Array], state: jax.Array, mode: Mode) -> jax.Array:
        del state
        kernel_on = mode.collectives if self.train_kernel and mode.train else None
        attended = blocks
        for i in range(self.layers):
            layer = AttentionLayer(self.heads, self.self_attention, kernel_on, name=f'attention_{i}')
            attended = layer(attended)
        fused = Dense(blocks[0].shape[-1], name='out')(jnp.concatenate(attended, axis=-1))
        return jnp.concatenate([*blocks, nn.relu(fused)], axis=1)


class MLPFusion(nn.Module):
    """MLP fusion of Figure 3: eq. 15 with `Att = relu(MLP([Z_L ; Z_C ; Z_D]))` on the channel axis.

    `M = (S + 1) n`. Parameters: `mlp/...` from `[S d]` to `[d]`.

    Attributes:
      hidden: width of each hidden layer.
      batch_norm: whether hidden layers have a BatchNorm.
      dropout: dropout rate after each hidden layer.
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
    """Gate fusion of Figure 3: eq. 15 with `Att = sum_M g_M Z_M`, a scalar gate per block and example.

    `g = softmax(W [mean Z_L ; mean Z_C ; mean Z_D] + b)`, with means over the tokens. `M = (S + 1) n`.
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
    """Concatenation of Figure 3, on the token axis: `Z = [Z_L ; Z_C ; Z_D]`, `M = S n`."""

    @nn.compact
    def __call__(self, blocks: Sequence[jax.Array], state: jax.Array, mode: Mode) -> jax.Array:
        del state, mode
        return jnp.concatenate(blocks, axis=1)


class InputAttention(Block):
    """Attention of the authors' repository: self-attention over the layer's input tokens.

    `Z = [Z_C ; Z_L ; Z_D ; relu(MLP(LayerNorm(flatten(self-attention(E^(l))))))]` (the ReLU only
    with `relu`), `M = (S + 1) n`. Scale and biases are as in eq. 10. Parameters:
    `qkv/{kernel: [d, 3 d], bias: [3 d]}`, `norm: [N d]`, `mlp/...` to `[n d]`.

    Attributes:
      heads: `H`, number of attention heads; divides `d`.
    """

    heads: int

    @nn.compact
    def __call__(self, blocks: Sequence[jax.Array], state: jax.Array, mode: Mode) -> jax.Array:
        width = state.shape[-1]
        qkv = Dense(3 * width, name='qkv')(state)
        query, key, value = jnp.split(qkv, 3, axis=-1)
        attended = attend(query, key, value, self.heads)
        flat = LayerNorm(name='norm')(attended.reshape(state.shape[0], -1))
        return jnp.concatenate([*blocks, self.to_tokens(flat, width, mode)], axis=1)
