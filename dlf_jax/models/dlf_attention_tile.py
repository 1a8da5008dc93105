"""A warpgroup's part in a tile of rows: what the kernels of `dlf_attention_kernel` have in common.

Written in Pallas for Mosaic GPU, whose products of tiles (`wgmma`) compute capability 9.0 alone has.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

# Rows of a tile: those of one product.
ROWS = 64
HALF = jnp.bfloat16
_MASKED = -1e30
# Reference to memory of the GPU, or to a part of it; JAX has no public type for both.
Ref = Any
# What `Tile.streamed` gives.
Use = Callable[[jax.Array, Callable[[Ref], jax.Array]], jax.Array]


@dataclasses.dataclass(frozen=True)
class Layer:
    """What is fixed about the kernels of an attention layer.

    Attributes:
      blocks: `S`, number of blocks.
      tokens: `n`, number of tokens of a block; divides 64.
      width: `d`.
      heads: `H`; 1 or even.
      self_attention: whether blocks attend to themselves (eq. 13).
      interpret: parameters of Pallas' interpreter for Mosaic GPU; None on a GPU.
    """

    blocks: int
    tokens: int
    width: int
    heads: int
    self_attention: bool
    interpret: Any = None

    @property
    def groups(self) -> int:
        """Number of warpgroups that share a tile."""
        return min(self.heads, 2)

    @property
    def head_width(self) -> int:
        """Number of channels of a head."""
        return self.width // self.heads


class Tile:
    """A warpgroup's part in a tile of 64 rows, which are `64 / n` examples of `n` tokens.

    Where there are two heads or more, two warpgroups share a tile. Each computes its own columns of every
    matrix `[64, d]`, which are those of its own heads; they `meet` before one reads what the other wrote.
    """

    def __init__(self, layer: Layer, refs: Sequence[Ref]):
        """Names the shared memory that `scratch` describes."""
        self.layer = layer
        self.qkv, self.slots, self.left, self._bias, self._loaded, self._filled, self._met = refs
        self.group = lax.axis_index('group')
        self.rows = pl.ds(lax.axis_index('tile') * ROWS, ROWS)
        width = layer.width // layer.groups
        self.own = pl.ds(self.group * width, width)

    def heads(self) -> list[Any]:
        """Columns of each of this warpgroup's heads."""
        count, width = self.layer.heads // self.layer.groups, self.layer.head_width
        return [pl.ds((self.group * count + i) * width, width) for i in range(count)]

    def meet(self) -> None:
        """Waits for the other warpgroup; products and copies then see what both have written."""
        plgpu.commit_smem()
        if self.layer.groups > 1:
            plgpu.barrier_arrive(self._met)
            plgpu.barrier_wait(self._met)

    def first(self, do: Callable[[], None]) -> None:
        """Lets one of the warpgroups do something."""
        pl.when(self.group == 0)(do)

    def load(self, sources: Sequence[tuple[Ref, Ref]]) -> None:
        """Copies from global to shared memory, and waits."""

        @self.first
        def _() -> None:
            for source, target in sources:
                plgpu.copy_gmem_to_smem(source, target, self._loaded)

        plgpu.barrier_wait(self._loaded)

    def load_blocks(self, blocks: Sequence[Ref], bias: Ref, more: Sequence[tuple[Ref, Ref]] = ()) -> None:
        """Loads the tile's rows of the blocks, the biases and what else there is."""
        own = [(block.at[self.rows], self.qkv.at[0, i]) for i, block in enumerate(blocks)]
        self.load([*own, (bias, self._bias), *more])

    def store(self, tiles: Ref, targets: Sequence[Ref]) -> None:
        """Begins to copy tiles that both warpgroups have written to the tile's rows in global memory."""

        @self.first
        def _() -> None:
            for i, target in enumerate(targets):
                plgpu.copy_smem_to_gmem(tiles.at[i], target)

    def products(self, *operands: tuple[Ref, Ref, str]) -> list[jax.Array]:
        """Products `a b` of bfloat16 matrices in shared memory, float32.

        Args:
          operands: `a`, `b`, and which of them are transposed: '', 'a' or 'b'.
        """
        if self.layer.interpret is not None:
            # The interpreter overlooks that an operand is transposed.
            return [_read(a, 'a' in turned) @ _read(b, 'b' in turned) for a, b, turned in operands]
        pairs = [
            (a.transpose((1, 0)) if 'a' in turned else a, b.transpose((1, 0)) if 'b' in turned else b)
            for a, b, turned in operands
        ]
        return _multiply(pairs)

    def weighted(self, weights: jax.Array, value: Ref) -> jax.Array:
        """Product of weights, bfloat16 [64, 64] in registers, and values in shared memory, float32."""
        if self.layer.interpret is not None:
            return weights.astype(jnp.float32) @ _read(value, False)
        return _multiply([(weights, value)])[0]

    def streamed(self, total: int, source: Callable[[jax.Array], Ref]) -> Use:
        """Weights `[d, d]` that come into the slots one after another, ahead of their use.

        Args:
          total: number of weights.
          source: the weights in global memory, by their number.

        Returns:
          A function to be called with all numbers in order, and with what is to be computed from the weights
          in shared memory. It returns the result when both warpgroups have theirs.
        """
        slots = self.slots.shape[0]

        def slot_of(number: jax.Array) -> tuple[Ref, Ref]:
            slot = lax.rem(number, slots)
            return self.slots.at[slot], self._filled.at[slot]

        def fetch(number: jax.Array) -> None:
            @pl.when((self.group == 0) & (number < total))
            def _() -> None:
                plgpu.copy_gmem_to_smem(source(number), *slot_of(number))

        def use(number: jax.Array, compute: Callable[[Ref], jax.Array]) -> jax.Array:
            weights, filled = slot_of(number)
            plgpu.barrier_wait(filled)
            result = compute(weights)
            self.meet()
            fetch(number + slots)
            return result

        for number in range(min(slots, total)):
            fetch(jnp.int32(number))
        return use

    def qkv_weights(self, kernel: Ref) -> Use:
        """Weights of values, keys and queries in turn, block by block."""
        width = self.layer.width

        def source(number: jax.Array) -> Ref:
            return kernel.at[lax.div(number, 3), :, pl.ds((2 - lax.rem(number, 3)) * width, width)]

        return self.streamed(3 * self.layer.blocks, source)

    def cross_weights(self, kernel: Ref) -> Use:
        """Weights of cross-attention, by block and then by other block."""
        others = self.layer.blocks - 1

        def source(number: jax.Array) -> Ref:
            return kernel.at[lax.div(number, others), lax.rem(number, others)]

        return self.streamed(self.layer.blocks * others, source)

    def project(self, kernel: Ref) -> None:
        """Queries, keys and values of all blocks, eq. 10; the queries take the blocks' place."""
        use = self.qkv_weights(kernel)

        def of_block(i: jax.Array, _: None) -> None:
            for step, part in enumerate((2, 1, 0)):

                def compute(weights: Ref) -> jax.Array:
                    return self.products((self.qkv.at[0, i], weights.at[:, self.own], ''))[0]

                projected = use(3 * i + step, compute)
                projected += along_rows(self._bias[i, part, self.own], projected.shape)
                self.qkv[part, i, :, self.own] = projected.astype(HALF)

        loop(self.layer.blocks, of_block)
        self.meet()

    def probabilities(
        self, query: Ref, key: Ref, *others: tuple[Ref, Ref, str]
    ) -> tuple[jax.Array, list[jax.Array]]:
        """Softmax of a head's scores, float32 [64, 64], and products that are computed beside.

        Scores between two examples of the tile are masked.
        """
        scores, *beside = self.products((query, key, 'b'), *others)
        shape = scores.shape
        row, column = (lax.broadcasted_iota(jnp.int32, shape, axis) // self.layer.tokens for axis in (0, 1))
        scores = jnp.where(row == column, scores * self.layer.head_width**-0.5, _MASKED)
        exponentials = jnp.exp(scores - along_columns(jnp.max(scores, axis=1), shape))
        return exponentials * along_columns(1 / jnp.sum(exponentials, axis=1), shape), beside

    def attend(self, m: jax.Array, x: jax.Array) -> None:
        """Writes this warpgroup's columns of `A_MX V_X` to `left`."""
        for columns in self.heads():
            weights, _ = self.probabilities(self.qkv.at[0, m, :, columns], self.qkv.at[1, x, :, columns])
            attended = self.weighted(weights.astype(HALF), self.qkv.at[2, x, :, columns])
            self.left[:, columns] = attended.astype(HALF)

    def cross(self, use: Use, m: jax.Array, see: Callable[[jax.Array], None] | None = None) -> jax.Array:
        """This warpgroup's columns of a block's cross-attention before the ReLU, eqs. 11 and 12, float32.

        Args:
          use: from `cross_weights`.
          m: number of the block.
          see: called by one warpgroup with the number of each other block, while `left` holds its `A_MX V_X`.
        """
        others = self.layer.blocks - 1

        def add(j: jax.Array, total: jax.Array) -> jax.Array:
            self.attend(m, j + (j >= m).astype(jnp.int32))
            self.meet()
            if see is not None:
                self.first(lambda: see(j))

            def compute(weights: Ref) -> jax.Array:
                (product,) = self.products((self.left, weights.at[:, self.own], ''))
                plgpu.wait_smem_to_gmem(0, wait_read_only=True)
                return product

            return total + use(m * others + j, compute)

        total = loop(others, add, self.zeros())
        return total + along_rows(self._bias[m, 3, self.own], total.shape)

    def zeros(self) -> jax.Array:
        """This warpgroup's columns of a matrix `[64, d]` of zeros, float32."""
        return jnp.zeros((ROWS, self.layer.width // self.layer.groups), jnp.float32)


def _multiply(pairs: Sequence[tuple[Any, Ref]]) -> list[jax.Array]:
    def multiply(*sums: Ref) -> list[jax.Array]:
        for total, (a, b) in zip(sums, pairs, strict=True):
            plgpu.wgmma(total, a, b)
        return [total[...] for total in sums]

    shapes = [plgpu.WGMMAAccumulatorRef((a.shape[0], b.shape[1]), jnp.float32) for a, b in pairs]
    found: list[jax.Array] = pl.run_scoped(multiply, *shapes)
    return found


def _read(ref: Ref, turned: bool) -> jax.Array:
    value: jax.Array = ref[...].astype(jnp.float32)
    return value.T if turned else value


def along_columns(values: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A value per row, in every column."""
    return lax.broadcast_in_dim(values, shape, [0])


def along_rows(values: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A value per column, in every row."""
    return lax.broadcast_in_dim(values, shape, [1])


def loop(count: int, body: Callable[..., Any], carry: Any = None) -> Any:
    """A loop that stays one in the program, which would else be too long for the GPU's instruction cache."""
    return lax.fori_loop(0, count, body, carry)


def scratch(layer: Layer, loads: int, slots: int) -> list[Any]:
    """Shared memory of a `Tile`.

    Args:
      layer: what is fixed.
      loads: number of copies that are waited for at the beginning.
      slots: number of weights that come ahead of their use.
    """
    blocks, width = layer.blocks, layer.width
    return [
        # Queries (at first the blocks themselves), keys and values.
        plgpu.SMEM((3, blocks, ROWS, width), HALF),
        plgpu.SMEM((slots, width, width), HALF),
        # The left side of a product.
        plgpu.SMEM((ROWS, width), HALF),
        # Biases of queries, keys, values and cross-attention.
        plgpu.SMEM((blocks, 4, width), jnp.float32),
        plgpu.Barrier(num_arrivals=loads),
        plgpu.Barrier(num_barriers=slots),
        plgpu.Barrier(num_arrivals=layer.groups),
    ]
