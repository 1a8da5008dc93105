"""Derivatives of a float64 function along random directions, by central differences."""

import numpy as np

STEP = 1e-5
# A kink (of ReLU, of a maximum) between the two points of a difference moves it by a share of the jump, and
# so shows itself by two steps that disagree; those of a smooth function agree to about STEP^2.
TRIES = 20


def leaves(tree, path=()):
    """Yields (path, array) for all arrays of a tree of dictionaries."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def replaced(tree, path, value):
    """The tree with another array at `path`; the given one is left as it is."""
    head, *rest = path
    return {**tree, head: replaced(tree[head], rest, value) if rest else value}


def central(function, tree, path, array, direction, step):
    """(f(x + h v) - f(x - h v)) / 2h for the array x at `path`, v the direction, h the step."""
    above = function(replaced(tree, path, array + step * direction))
    below = function(replaced(tree, path, array - step * direction))
    return (above - below) / (2 * step)


def check(function, tree, path, array, gradient, draw, tolerance, floor=None, step=STEP):
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
