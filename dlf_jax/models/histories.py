"""Histories as a model reads them: what each row is about, and what happened before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dlf_jax.models.inputs import Inputs

TABLE = 'embedding'


@dataclasses.dataclass(frozen=True)
class Events:
    """One history of a batch, and its target.

    Attributes:
      target: embeddings of the target's fields side by side, [B, k].
      sequence: those of the history's fields, the oldest event first and the latest in the last place,
        [B, T, k]; 0 where there is no value.
      mask: bool [B, T], True where there is an event.
    """

    target: jax.Array
    sequence: jax.Array
    mask: jax.Array


def pooled(fields: jax.Array, inputs: Inputs, pool: Callable[[int, Events], jax.Array]) -> jax.Array:
    """All fields side by side, each history as the one vector that a model makes of it.

    Args:
      fields: embeddings of all fields, [B, F, d], of which those of histories are left out.
      inputs: with the histories.
      pool: from a history's number and its events to a vector of any width, [B, n].

    Returns:
      [B, n]: the other fields in their order, then the histories' vectors.
    """
    left = {name for history in inputs.histories for name in history.fields}
    others = np.array([i for i, name in enumerate(inputs.fields) if name not in left])
    kept = jnp.take(fields, others, axis=1, unique_indices=True, indices_are_sorted=True)
    vectors = []
    for number, history in enumerate(inputs.histories):
        target = [fields[:, inputs.fields.index(name)] for name in history.targets]
        bags = [inputs.bags[name] for name in history.fields]
        # What is embedded where there is no value is arbitrary.
        sequence = [jnp.where(bag.mask[..., None], bag.embeddings[TABLE], 0) for bag in bags]
        events = Events(jnp.concatenate(target, -1), jnp.concatenate(sequence, -1), bags[0].mask)
        vectors.append(pool(number, events))
    return jnp.concatenate([kept.reshape(kept.shape[0], -1), *vectors], axis=1)
