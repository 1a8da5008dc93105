"""Derivatives of a float64 function along random directions, by central differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Tree = dict[str, Any]

STEP = 1e-5
# A kink (of ReLU, of a maximum) between the two points of a difference moves it by a share of the jump, and
# so shows itself by two steps that disagree; those of a smooth function agree to about STEP^2.
TRIES = 20


def leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields (path, array) for all arrays of a tree of dictionaries."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def replaced(tree: Tree, path: tuple[str, ...], value: Any) -> Tree:
    """The tree with another array at `path`; the given one is left as it is."""
    head, rest = path[0], path[1:]
    return {**tree, head: replaced(tree[head], rest, value) if rest else value}


def central(
    function: Callable[[Tree], Any],
    tree: Tree,
    path: tuple[str, ...],
    array: np.ndarray,
    direction: np.ndarray,
    step: float,
) -> Any:
    """(f(x + h v) - f(x - h v)) / 2h for the array x at `path`, v the direction, h the step."""
    above = function(replaced(tree, path, array + step * direction))
    below = function(replaced(tree, path, array - step * direction))
    return (above - below) / (2 * step)


def check(
    function: Callable[[Tree], Any],
    tree: Tree,
    path: tuple[str, ...],
    array: np.ndarray,
    gradient: Any,
    draw: np.random.Generator,
    tolerance: float,
    floor: float | None = None,
    step: float = STEP,
) -> None:
    """Raises AssertionError if `gradient`, of the array at `path`, is not the function's.

    Both give a derivative along a random unit direction. They may differ by `tolerance` of its size plus
    `floor`; without a floor by `tolerance` of its size, or of 1 below 1.
    Where they differ, the function alone decides whether a kink is to blame and another direction is drawn,
    so a wrong gradient never finds a better one.
    """
    for _ in range(TRIES):
        direction = draw.normal(size=array.shape)
        direction /= np.linalg.norm(direction)
        actual = (np.asarray(gradient) * direction).sum()
        expected = central(function, tree, path, array, direction, step)
        size = abs(expected)
        bound = tolerance * max(1.0, size) if floor is None else tolerance * size + floor
        if abs(actual - expected) <= bound:
            return
        finer = central(function, tree, path, array, direction, step / 2)
        if abs(finer - expected) <= bound / 10:
            break
    raise AssertionError(f'{"/".join(path)}: derivative {actual} by the gradient, {expected} by difference')
