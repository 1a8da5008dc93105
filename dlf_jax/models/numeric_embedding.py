"""Embeddings of numeric fields: pure functions from treated numbers to the vectors that a model reads.

How a field with the value `x` is embedded follows from its treatment:

- `none`, `standard`, `minmax`, `quantile`: `v * x` (DLF section 4.1), `v: [width]`.
- `piecewise`: `x` is a position on a scale of ranges; `b + sum_t w_t * clip(x - t, 0, 1)`, a line of as many
  pieces as ranges (Gorishniy et al. 2022, "On Embeddings for Numerical Features in Tabular Deep Learning",
  arXiv 2203.05556, eq. 1).
- `periodic`: `b + sum_k u_k sin(2 pi c_k x) + w_k cos(2 pi c_k x)`, with frequencies `c_k` that are trained,
  too (ibid., section 3.3).

A missing number, NaN, has a vector of its own where its field says so (`fill = 'own'`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from dlf_jax.data.schema import Field, Schema

# Parts of the parameters. All but the frequencies are embeddings, and take part in the penalty.
NUMERIC, PIECEWISE, PERIODIC = 'numeric', 'piecewise', 'periodic'
MISSING, FREQUENCIES = 'numeric_missing', 'frequencies'
EMBEDDINGS = (NUMERIC, PIECEWISE, PERIODIC, MISSING)
# Standard deviation of the frequencies at first, of numbers with a standard deviation of about 1.
FREQUENCY_STD = 0.3


def part_of(field: Field) -> str:
    """Part of the parameters that embeds a numeric field."""
    return field.treatment if field.treatment in (PIECEWISE, PERIODIC) else NUMERIC


def init(
    draw: Callable[[str, str, tuple[int, ...]], jax.Array], widths: Mapping[str, int], schema: Schema
) -> dict[str, dict[str, jax.Array]]:
    """Initial parameters, by part and by the name of the model's table.

    Args:
      draw: draws an array of a part and a table with a shape.
      widths: width of each of the model's tables, by name.
      schema: decides which parts there are.
    """

    def arrays(part: str, *shape: int) -> dict[str, jax.Array]:
        return {table: draw(part, table, (*shape, width)) for table, width in widths.items()}

    dense = {}
    for part in (NUMERIC, PIECEWISE, PERIODIC):
        fields = _fields(schema, part)
        if not fields:
            continue
        if part == NUMERIC:
            dense[part] = arrays(part, len(fields))
        else:
            dense[part] = arrays(part, len(fields), _waves(fields, part) + 1)
        if part == PERIODIC:
            waves = (len(fields), max(field.frequencies for field in fields))
            dense[FREQUENCIES] = {table: draw(FREQUENCIES, table, waves) for table in widths}
    if own := len(_own_missing(schema)):
        dense[MISSING] = arrays(MISSING, own)
    return dense


def assemble(
    table: str, dense: Mapping[str, Mapping[str, jax.Array]], numbers: jax.Array, schema: Schema
) -> jax.Array:
    """Embeddings of the numeric fields, float32 [B, Fn, width].

    Args:
      table: name of the model's table.
      dense: parameters, of `init`.
      numbers: treated numbers, float32 [B, Fn]; NaN where missing.
      schema: of the data.
    """
    missing = jnp.isnan(numbers)
    # Before anything is computed of it: a NaN that is left out later still makes the gradient NaN.
    numbers = jnp.where(missing, 0.0, numbers)
    columns: dict[int, jax.Array] = {}
    for part in (NUMERIC, PIECEWISE, PERIODIC):
        at = [i for i, field in enumerate(schema.numeric) if part_of(field) == part]
        if not at:
            continue
        values = numbers if len(at) == len(schema.numeric) else numbers[:, jnp.array(at)]
        weights = dense[part][table]
        if part == NUMERIC:
            found = weights * values[..., None]
        else:
            waves = _ramps(values, weights.shape[1] - 1)
            if part == PERIODIC:
                waves = _sines(values, dense[FREQUENCIES][table])
            found = jnp.einsum('bft,ftd->bfd', waves, weights[:, 1:]) + weights[:, 0]
        if len(at) == len(schema.numeric):
            columns = {0: found}
        else:
            columns |= {i: found[:, j : j + 1] for j, i in enumerate(at)}
    embedded = jnp.concatenate([columns[i] for i in sorted(columns)], 1)
    own = _own_missing(schema)
    if not own:
        return embedded
    vectors = dense[MISSING][table]
    if len(own) < len(schema.numeric):
        vectors = jnp.zeros(embedded.shape[1:], vectors.dtype).at[jnp.array(own)].set(vectors)
    return jnp.where(missing[..., None], vectors, embedded)


def _fields(schema: Schema, part: str) -> list[Field]:
    return [field for field in schema.numeric if part_of(field) == part]


def _waves(fields: list[Field], part: str) -> int:
    """Number of functions of a number that a field's embedding adds up."""
    return max(field.buckets if part == PIECEWISE else 2 * field.frequencies for field in fields)


def _own_missing(schema: Schema) -> list[int]:
    """Positions among the numeric fields of those with a vector for missing numbers."""
    return [i for i, field in enumerate(schema.numeric) if field.fill == 'own']


def _ramps(positions: jax.Array, count: int) -> jax.Array:
    """`clip(x - t, 0, 1)` for t from 0 to `count - 1`: [B, n] to [B, n, count]."""
    return jnp.clip(positions[..., None] - jnp.arange(count, dtype=positions.dtype), 0.0, 1.0)


def _sines(values: jax.Array, frequencies: jax.Array) -> jax.Array:
    """Sines, then cosines of `2 pi c x`: [B, n] and [n, k] to [B, n, 2 k]."""
    angles = 2 * jnp.pi * frequencies * values[..., None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)
