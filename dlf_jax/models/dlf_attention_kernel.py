"""Attention between a DLF layer's blocks (eqs. 10-13) as one GPU kernel, and its gradient as another.

As array operations this attention is some hundred small kernels, each of which reads what the one before it
wrote. Here every program of the grid takes a tile of rows from the blocks to the outputs without leaving the
chip. The gradient computes again what it needs from the layer's inputs: nothing is kept from one to the
other. All is in bfloat16, with sums and softmax in float32.

It has run on an H100 (`benchmarks.attention_kernel` compares the two there); the tests run it in Pallas'
interpreter, which does not show what two warpgroups do to each other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from dlf_jax.models.dlf_attention_tile import HALF, ROWS, Layer, Ref, Tile, along_columns, loop, scratch


class Weights(NamedTuple):
    """Parameters of an attention layer between `S` blocks.

    Attributes:
      qkv_kernel: bfloat16 [S, d, 3 d].
      qkv_bias: bfloat16 [S, 3 d].
      cross_kernel: bfloat16 [S, (S - 1) d, d].
      cross_bias: bfloat16 [S, d].
    """

    qkv_kernel: jax.Array
    qkv_bias: jax.Array
    cross_kernel: jax.Array
    cross_bias: jax.Array


def attention(
    blocks: Sequence[jax.Array], weights: Weights, heads: int, self_attention: bool, interpret: Any = None
) -> list[jax.Array]:
    """Attention between blocks as `dlf_fusion.AttentionLayer` computes it.

    Args:
      blocks: bfloat16 [B, n, d] each.
      weights: parameters.
      heads: `H`.
      self_attention: whether blocks attend to themselves.
      interpret: parameters of Pallas' interpreter for Mosaic GPU; None on a GPU.

    Returns:
      As many blocks, bfloat16 [B, n, d].

    Raises:
      ValueError: an array is not bfloat16.
    """
    dtypes = {array.dtype for array in (*blocks, *weights)}
    if dtypes != {jnp.dtype(HALF)}:
        found = ', '.join(sorted(map(str, dtypes)))
        raise ValueError(f"model.attention_kernel='mosaic_gpu': expected arrays of bfloat16, found {found}")
    (batch, tokens, width), rows = blocks[0].shape, blocks[0].shape[0] * blocks[0].shape[1]
    layer = Layer(len(blocks), tokens, width, heads, self_attention, interpret)
    flat = [jnp.pad(block.reshape(rows, width), ((0, -rows % ROWS), (0, 0))) for block in blocks]
    return [output[:rows].reshape(batch, tokens, width) for output in _attention(layer, flat, weights)]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(layer: Layer, blocks: list[jax.Array], weights: Weights) -> list[jax.Array]:
    """The same on blocks `[rows, d]`, `rows` being a multiple of 64."""
    return _outputs(layer, blocks, weights)


def _attention_forward(
    layer: Layer, blocks: list[jax.Array], weights: Weights
) -> tuple[list[jax.Array], tuple[list[jax.Array], Weights]]:
    return _outputs(layer, blocks, weights), (blocks, weights)


def _attention_backward(
    layer: Layer, residuals: tuple[list[jax.Array], Weights], d_outputs: list[jax.Array]
) -> tuple[list[jax.Array], Weights]:
    return _gradients(layer, *residuals, d_outputs)


_attention.defvjp(_attention_forward, _attention_backward)


# Under `jit`, so that a model with many such layers traces and compiles each kernel once.
@functools.partial(jax.jit, static_argnums=0)
def _outputs(layer: Layer, blocks: list[jax.Array], weights: Weights) -> list[jax.Array]:
    outputs = [jax.ShapeDtypeStruct(blocks[0].shape, HALF)] * layer.blocks
    memory = scratch(layer, layer.blocks + 1, slots=2)
    return list(_call(layer, _forward, outputs, memory)(*blocks, *_operands(layer, weights)))


@functools.partial(jax.jit, static_argnums=0)
def _gradients(
    layer: Layer, blocks: list[jax.Array], weights: Weights, d_outputs: list[jax.Array]
) -> tuple[list[jax.Array], Weights]:
    """Gradients of blocks and weights.

    The kernel writes what the weights' gradients are products of, and the biases' sums of. Sums of the
    products over a program's tiles would take more memory than a multiprocessor has; and Mosaic GPU sums over
    the rows of a tile through memory that it gives to the two warpgroups at once.
    """
    count, width, rows = layer.blocks, layer.width, blocks[0].shape[0]
    half = functools.partial(jax.ShapeDtypeStruct, dtype=HALF)
    outputs = [
        *[half((rows, width))] * count,
        *[half((rows, 3 * width))] * count,
        half((count, rows, (count - 1) * width)),
        half((count, rows, width)),
    ]
    call = _call(layer, _backward, outputs, _backward_scratch(layer))
    results = call(*blocks, *d_outputs, *_operands(layer, weights))
    d_blocks, d_qkv = list(results[:count]), results[count : 2 * count]
    attended, d_cross = results[2 * count :]
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    gradients = Weights(
        jnp.stack([product('rd,rk->dk', block, d) for block, d in zip(blocks, d_qkv, strict=True)]),
        jnp.stack([jnp.sum(d, axis=0, dtype=jnp.float32) for d in d_qkv]),
        product('mrk,mrd->mkd', attended, d_cross),
        jnp.sum(d_cross, axis=1, dtype=jnp.float32),
    )
    return d_blocks, jax.tree.map(lambda gradient: gradient.astype(HALF), gradients)


def _operands(layer: Layer, weights: Weights) -> tuple[jax.Array, ...]:
    """Weights in the shapes that the kernels take."""
    blocks, width = layer.blocks, layer.width
    cross_kernel = weights.cross_kernel.reshape(blocks, blocks - 1, width, width)
    biases = [weights.qkv_bias.reshape(blocks, 3, width), weights.cross_bias[:, None]]
    return weights.qkv_kernel, cross_kernel, jnp.concatenate(biases, axis=1).astype(jnp.float32)


def _call(layer: Layer, body: Callable[..., None], outputs: list[Any], memory: list[Any]) -> Any:
    return plgpu.kernel(
        functools.partial(body, layer),
        out_type=outputs,
        grid=(outputs[0].shape[0] // ROWS,),
        grid_names=('tile',),
        num_threads=layer.groups,
        thread_name='group',
        scratch_types=memory,
        compiler_params=plgpu.CompilerParams(
            approx_math=True, lowering_semantics=plgpu.LoweringSemantics.Warpgroup
        ),
        kernel_name=f'dlf_attention{body.__name__}',
        interpret=layer.interpret,
    )


def _forward(layer: Layer, *refs: Ref) -> None:
    """Kernel of the outputs."""
    count = layer.blocks
    blocks, outputs = refs[:count], refs[count + 3 : 2 * count + 3]
    qkv_kernel, cross_kernel, bias = refs[count : count + 3]
    tile = Tile(layer, refs[2 * count + 3 :])
    tile.load_blocks(blocks, bias)
    tile.project(qkv_kernel)
    use = tile.cross_weights(cross_kernel)

    def fuse(m: jax.Array, _: None) -> None:
        fused = jnp.maximum(tile.cross(use, m), 0)
        if layer.self_attention:
            tile.attend(m, m)
            fused += tile.left[:, tile.own].astype(jnp.float32)
        # The queries of this block have been used.
        tile.qkv[0, m, :, tile.own] = fused.astype(HALF)

    loop(count, fuse)
    tile.meet()
    tile.store(tile.qkv.at[0], [output.at[tile.rows] for output in outputs])
    plgpu.wait_smem_to_gmem(0)


def _backward_scratch(layer: Layer) -> list[Any]:
    blocks, width = layer.blocks, layer.width
    return [
        # Gradients of the outputs, and at last of the blocks.
        plgpu.SMEM((blocks, ROWS, width), HALF),
        # Gradients of the cross-attention before the ReLU.
        plgpu.SMEM((blocks, ROWS, width), HALF),
        # Gradients of the queries.
        plgpu.SMEM((blocks, ROWS, width), jnp.float32),
        # Rows of a weight of cross-attention that belong to a head, for each warpgroup.
        plgpu.SMEM((layer.groups, layer.head_width, width), HALF),
        plgpu.Barrier(num_barriers=layer.groups),
        *scratch(layer, 2 * blocks + 1, slots=2 * layer.groups),
        # Weights and gradients of scores, for each warpgroup; in the slots, where they have the same shape.
        *([] if width == ROWS else [plgpu.SMEM((2 * layer.groups, ROWS, ROWS), HALF)]),
    ]


class _BackwardTile(Tile):
    """A warpgroup's part in a tile of the gradient."""

    def __init__(self, layer: Layer, cross_kernel: Ref, refs: Sequence[Ref]):
        """Names the shared memory that `_backward_scratch` describes."""
        self.d_output, self.d_cross, self.d_query, rows, filled = refs[:5]
        super().__init__(layer, refs[5:12])
        self._scores = self.slots if layer.width == ROWS else refs[12]
        self._cross_kernel = cross_kernel
        self._weight_rows, self._rows_filled = rows.at[self.group], filled.at[self.group]

    def through_relu(self, attended: Ref) -> None:
        """Gradients of the cross-attention of all blocks before the ReLU; writes each `A_MX V_X`, too."""
        use = self.cross_weights(self._cross_kernel)
        width = self.layer.width

        def of_block(m: jax.Array, _: None) -> None:
            def see(j: jax.Array) -> None:
                plgpu.copy_smem_to_gmem(self.left, attended.at[m, self.rows, pl.ds(j * width, width)])

            cross = self.cross(use, m, see)
            d_output = self.d_output[m, :, self.own].astype(jnp.float32)
            gradient = jnp.where(cross > 0, d_output, self.zeros())
            self.d_cross[m, :, self.own] = gradient.astype(HALF)
            self.d_query[m, :, self.own] = self.zeros()

        loop(self.layer.blocks, of_block)
        self.meet()

    def of_head(self, columns: Any) -> None:
        """Gradients of a head's queries, keys and values, the last two in their place."""
        blocks = self.layer.blocks

        def fetch(number: jax.Array) -> None:
            x, m = lax.div(number, blocks), lax.rem(number, blocks)
            # A block's attention to itself has no weights: any do.
            j = jnp.minimum(x - (x > m).astype(jnp.int32), blocks - 2)
            source = self._cross_kernel.at[m, j, columns]
            plgpu.copy_gmem_to_smem(source, self._weight_rows, self._rows_filled)

        def of_key_block(x: jax.Array, _: None) -> None:
            def of_query_block(m: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
                number = x * blocks + m + 1
                self._d_attended(m, x, columns)

                @pl.when(number < blocks * blocks)
                def _() -> None:
                    fetch(number)

                return tuple(map(jnp.add, sums, self._d_key_and_value(m, x, columns)))

            zeros = jnp.zeros((ROWS, self.layer.head_width), jnp.float32)
            gradients = loop(blocks, of_query_block, (zeros, zeros))
            for part, gradient in zip((1, 2), gradients, strict=True):
                self.qkv[part, x, :, columns] = gradient.astype(HALF)

        fetch(jnp.int32(0))
        loop(blocks, of_key_block)

    def _d_attended(self, m: jax.Array, x: jax.Array, columns: Any) -> None:
        """Writes a head's gradient of `A_MX V_X` to `left`."""
        plgpu.barrier_wait(self._rows_filled)
        (gradient,) = self.products((self.d_cross.at[m], self._weight_rows, 'b'))
        own = jnp.zeros_like(gradient)
        if self.layer.self_attention:
            own = self.d_output[m, :, columns].astype(jnp.float32)
        gradient = jnp.where(lax.broadcast_in_dim(x == m, own.shape, ()), own, gradient)
        self.left[:, columns] = gradient.astype(HALF)
        plgpu.commit_smem()

    def _d_key_and_value(self, m: jax.Array, x: jax.Array, columns: Any) -> tuple[jax.Array, jax.Array]:
        """What a query block gives to a head's gradients; that of the queries is added to `d_query`."""
        query, key, value = (self.qkv.at[part, block, :, columns] for part, block in ((0, m), (1, x), (2, x)))
        d_attended = self.left.at[:, columns]
        weights, (d_weights,) = self.probabilities(query, key, (d_attended, value, 'b'))
        along = along_columns(jnp.sum(weights * d_weights, axis=1), weights.shape)
        d_scores = weights * (d_weights - along) * self.layer.head_width**-0.5
        weights_ref, d_scores_ref = (self._scores.at[2 * self.group + i] for i in range(2))
        weights_ref[...] = weights.astype(HALF)
        d_scores_ref[...] = d_scores.astype(HALF)
        plgpu.commit_smem()
        d_value, d_key, d_query = self.products(
            (weights_ref, d_attended, 'a'), (d_scores_ref, query, 'a'), (d_scores_ref, key, '')
        )
        self.d_query[m, :, columns] += d_query
        return d_key, d_value

    def of_queries(self) -> None:
        """Puts the gradients of the queries in their place."""

        def of_block(m: jax.Array, _: None) -> None:
            self.qkv[0, m, :, self.own] = self.d_query[m, :, self.own].astype(HALF)

        loop(self.layer.blocks, of_block)
        self.meet()

    def of_blocks(self, qkv_kernel: Ref) -> None:
        """Gradients of the blocks, in place of those of the outputs."""
        use = self.qkv_weights(qkv_kernel)

        def of_block(i: jax.Array, _: None) -> None:
            total = self.zeros()
            for step, part in enumerate((2, 1, 0)):

                def compute(weights: Ref, part: int = part) -> jax.Array:
                    return self.products((self.qkv.at[part, i], weights.at[self.own], 'b'))[0]

                total += use(3 * i + step, compute)
            self.d_output[i, :, self.own] = total.astype(HALF)

        loop(self.layer.blocks, of_block)
        self.meet()


def _backward(layer: Layer, *refs: Ref) -> None:
    """Kernel of the blocks' gradients, and of what those of weights and biases are products and sums of."""
    remaining, count, width = list(refs), layer.blocks, layer.width

    def take(number: int) -> list[Ref]:
        return [remaining.pop(0) for _ in range(number)]

    blocks, d_outputs, (qkv_kernel, cross_kernel, bias) = take(count), take(count), take(3)
    d_blocks, d_qkv, (attended, d_cross) = take(count), take(count), take(2)
    tile = _BackwardTile(layer, cross_kernel, remaining)
    more = [(d_outputs[i].at[tile.rows], tile.d_output.at[i]) for i in range(count)]
    tile.load_blocks(blocks, bias, more)
    tile.project(qkv_kernel)
    tile.through_relu(attended)
    tile.store(tile.d_cross, [d_cross.at[m, tile.rows] for m in range(count)])
    for columns in tile.heads():
        tile.of_head(columns)
    tile.of_queries()
    for part in range(3):
        own = pl.ds(part * width, width)
        tile.store(tile.qkv.at[part], [target.at[tile.rows, own] for target in d_qkv])
    tile.of_blocks(qkv_kernel)
    tile.store(tile.d_output, [target.at[tile.rows] for target in d_blocks])
    plgpu.wait_smem_to_gmem(0)
