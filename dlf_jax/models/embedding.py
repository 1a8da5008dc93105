"""The embedding tables: pure functions from ids and numbers to the rows that a model reads.

A *table* is `{'categorical': float32 [vocabulary, width], 'numeric': float32 [numeric, width]}`:
the rows of all categorical fields, each field owning a range, and one vector per numeric field.
Models declare their tables as `{name: width}` and are called on `{name: float32 [B, F, width]}`,
the categorical fields first, then the numeric ones.

`lookup` composes two steps so that an optimizer can differentiate between them: `gather` reads the
few rows that a batch touches, `assemble` makes the model's input of them.
"""

import zlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp

Tables = dict[str, dict[str, jax.Array]]


def init(key: jax.Array, widths: Mapping[str, int], vocabulary: int, numeric: int, std: float) -> Tables:
    """Draws the tables, every entry from N(0, std^2).

    Args:
      key: a random key; each table folds its own name into it, so that adding or removing a table
        leaves the others as they were.
      widths: width of each table, by name.
      vocabulary: rows in all categorical fields together; 0 leaves 'categorical' out.
      numeric: number of numeric fields; 0 leaves 'numeric' out.
      std: standard deviation.
    """
    counts = {'categorical': vocabulary, 'numeric': numeric}

    def draw(table, part):
        # crc32 because Python's hash of a string differs from one process to the next.
        part_key = jax.random.fold_in(key, zlib.crc32(f'{table}/{part}'.encode()))
        shape = (counts[part], widths[table])
        return std * jax.random.normal(part_key, shape, jnp.float32)

    return {table: {part: draw(table, part) for part, count in counts.items() if count} for table in widths}


def gather(tables: Tables, batch: Mapping[str, jax.Array]) -> Tables:
    """Replaces each `categorical: [vocabulary, width]` by the batch's rows, `[B, Fc, width]`.

    `numeric` stays as it is: a batch touches all of it. `batch['categorical']` is int32 [B, Fc],
    ids into the fused table; an id past its end gives a row of NaN rather than another id's.
    """
    return {
        table: {
            part: jnp.take(values, batch['categorical'], axis=0, mode='fill')
            if part == 'categorical'
            else values
            for part, values in parts.items()
        }
        for table, parts in tables.items()
    }


def assemble(gathered: Tables, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Makes `{table: float32 [B, F, width]}` of gathered rows: categorical fields, then numeric.

    A numeric field `f` with value `x` is embedded as `v_f * x` (DLF section 4.1);
    `batch['numeric']` is float32 [B, Fn] and is read only where a table has numeric fields.
    """

    def fields(parts):
        if 'categorical' in parts:
            yield parts['categorical']
        if 'numeric' in parts:
            yield parts['numeric'] * batch['numeric'][..., None]

    return {table: jnp.concatenate(list(fields(parts)), 1) for table, parts in gathered.items()}


def lookup(tables: Tables, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """From a batch to a model's rows, [B, F, width] each: `assemble(gather(...), batch)`."""
    return assemble(gather(tables, batch), batch)
