"""Weights of checkpoints that were written before version 0.2, in which tables held all parts of an embedding
and the model's parameters stood beside them."""

from __future__ import annotations

from typing import Any

from dlf_jax.models import embedding


def is_legacy(saved: Any) -> bool:
    """Whether a saved state, or its description, has the layout of before version 0.2."""
    return 'model' in saved['params']


def to_legacy(state: dict[str, Any]) -> dict[str, Any]:
    """The legacy layout of weights: `params/tables/TABLE/PART` and `params/model`."""
    params = state['params']
    parts = {**params['tables'], **params['dense']['embedding']}
    return {**state, 'params': {'tables': _swapped(parts), 'model': params['dense']['model']}}


def from_legacy(state: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `to_legacy`."""
    parts = _swapped(state['params']['tables'])
    tables = {part: arrays for part, arrays in parts.items() if part.startswith(embedding.ROWS)}
    others = {part: arrays for part, arrays in parts.items() if part not in tables}
    return {
        **state,
        'params': {'tables': tables, 'dense': {'embedding': others, 'model': state['params']['model']}},
    }


def _swapped(tree: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A tree of two levels with their keys in the other order."""
    found: dict[str, dict[str, Any]] = {}
    for outer, inner in tree.items():
        for name, leaf in inner.items():
            found.setdefault(name, {})[outer] = leaf
    return found
