"""Initial values of a model's arrays, Glorot normal or uniform, all drawn at once.

A program that draws each array by itself has a generator per array to compile, which for a model of some
hundred arrays takes most of a minute. Within `drawn_together` the initializers of this module only leave a
note, and one generator draws the numbers of all arrays.
"""

from __future__ import annotations

import contextvars
import dataclasses
import math
import zlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Numbers of one key. An array takes whole keys, so that what it draws is its own.
_NUMBERS = 4096
# An array of more numbers has a generator of its own: its keys would be many, and a copy of it large.
_LARGE = 1 << 24
# Standard deviation of a standard normal distribution that is cut off at 2 deviations.
_CUT_DEVIATION = 0.87962566103423978


@dataclasses.dataclass(frozen=True)
class Initializer:
    """Draws an array, by itself or, within `drawn_together`, from numbers that are drawn for all arrays."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        """Values of an array; within `drawn_together` zeros that stand for them."""
        pending = _pending.get()
        if pending is None or math.prod(shape) > _LARGE:
            return self.alone(key, shape, dtype)
        placeholder = jnp.zeros(shape, dtype)
        pending.append((placeholder, self))
        return placeholder

    def alone(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """Values of an array that is drawn by itself."""
        raise NotImplementedError

    def of_standard(self, standard: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Values of an array from as many standard normal numbers, cut off at 2."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Uniform(Initializer):
    """Draws an array from U(0, 1)."""

    def alone(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        return jax.random.uniform(key, shape, dtype)

    def of_standard(self, standard: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        # What share of the cut-off distribution lies below a number is uniform.
        return (lax.erf(standard / math.sqrt(2)) / math.erf(math.sqrt(2)) + 1) / 2


@dataclasses.dataclass(frozen=True)
class GlorotNormal(Initializer):
    """Draws a matrix from a normal distribution, cut off at two deviations, of variance 2 / (fan in + fan
    out) (Glorot and Bengio, 2010); as `flax.linen.initializers.glorot_normal` does, in a module of Flax.

    Attributes:
      stacked: whether the arrays are matrices stacked on the leading axis; the fans are those of one matrix.
    """

    stacked: bool = False

    def alone(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        draw = nn.initializers.glorot_normal(batch_axis=0 if self.stacked else ())
        values: jax.Array = draw(key, shape, dtype)
        return values

    def of_standard(self, standard: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return self.deviation(shape) * standard

    def deviation(self, shape: tuple[int, ...]) -> float:
        """Standard deviation of the normal distribution that, cut off, has the variance of the rule."""
        fans = math.prod(shape[int(self.stacked) : -2]) * (shape[-2] + shape[-1])
        return (2 / fans) ** 0.5 / _CUT_DEVIATION


# Placeholders of arrays that are to be drawn, with what draws them; None: each is drawn by itself.
_pending: contextvars.ContextVar[list[tuple[jax.Array, Initializer]] | None] = contextvars.ContextVar(
    'pending', default=None
)


def drawn_together(init: Callable[[jax.Array], Any], key: jax.Array) -> Any:
    """Calls a function that makes parameters, and draws those of this module's initializers at once.

    Args:
      init: from a key to a tree of parameters, such as a module's `init`; pure, and to be traced.
      key: random key. Each array's draws follow from it and from the array's place in the tree, so that
        adding or removing one leaves the others as they were.

    Returns:
      The tree that `init` makes, its arrays of the same shapes and dtypes.
    """
    pending: list[tuple[jax.Array, Initializer]] = []
    token = _pending.set(pending)
    try:
        tree = init(key)
    finally:
        _pending.reset(token)
    by_placeholder = {id(placeholder): initializer for placeholder, initializer in pending}
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    drawn = [number for number, (_, leaf) in enumerate(leaves) if id(leaf) in by_placeholder]
    if len(drawn) < len(pending):
        # The module does more with them than to hold them, as transformations of modules do.
        return init(key)
    values = [leaf for _, leaf in leaves]
    names = [jax.tree_util.keystr(leaves[number][0]) for number in drawn]
    shapes = [values[number].shape for number in drawn]
    for number, standard in zip(drawn, _standard(key, names, shapes), strict=True):
        leaf = values[number]
        values[number] = by_placeholder[id(leaf)].of_standard(standard, leaf.shape).astype(leaf.dtype)
    return jax.tree.unflatten(structure, values)


def _standard(key: jax.Array, names: list[str], shapes: list[tuple[int, ...]]) -> list[jax.Array]:
    """Arrays of shapes, float32, of standard normal numbers that are cut off at 2."""
    if not names:
        return []
    sizes = [math.prod(shape) for shape in shapes]
    counts = [-(-size // _NUMBERS) for size in sizes]
    # crc32 because Python's hash of a string differs from one process to the next.
    arrays = np.repeat(np.array([zlib.crc32(name.encode()) for name in names], np.uint32), counts)
    places = np.concatenate([np.arange(count, dtype=np.uint32) for count in counts])

    def draw(array: jax.Array, place: jax.Array) -> jax.Array:
        own = jax.random.fold_in(jax.random.fold_in(key, array), place)
        return jax.random.truncated_normal(own, -2.0, 2.0, (_NUMBERS,))

    # Without the barrier the compiler would give each array a part of the generator again.
    numbers = lax.optimization_barrier(jax.vmap(draw)(jnp.asarray(arrays), jnp.asarray(places)))
    ends = np.cumsum(counts)
    return [
        numbers[end - count : end].reshape(-1)[:size].reshape(shape)
        for end, count, size, shape in zip(ends, counts, sizes, shapes, strict=True)
    ]
