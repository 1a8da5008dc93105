"""The embedding tables: pure functions from ids and numbers to the rows that a model reads.

A *table* is `{'categorical': float32 [vocabulary, width], 'numeric': float32 [numeric, width]}`:
the rows of all fields of ids, each owning a range, and one vector per numeric field. Fields with an
`embedding_size` k of their own have a fused table of their own, `categorical_k: [vocabulary_k, k]`, and
where k is less than the width a `projection_k: [k, width]` (Ginart et al. 2019, "Mixed dimension
embeddings").

Models declare their tables as `{name: width}` and are called on `{name: float32 [B, F, width]}`:
the categorical fields first, then the numeric ones, then the multi-valued ones, pooled.

A batch reads a table in two steps, and training differentiates between them: the rows that `ids_of`
names are taken of the fused tables, by whoever knows where those lie, and `assemble` makes the
model's input of them.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.data.schema import Field, Schema

Tables = dict[str, dict[str, jax.Array]]

ROWS, NUMERIC, PROJECTION = 'categorical', 'numeric', 'projection'


def _part(kind: str, embedding_size: int) -> str:
    return f'{kind}_{embedding_size}' if embedding_size else kind


def init(key: jax.Array, widths: Mapping[str, int], schema: Schema, std: float, multiple: int = 1) -> Tables:
    """Draws the tables, every entry from N(0, std^2); projections are Xavier normal.

    Args:
      key: a random key; each part of each table folds its own name into it, so that adding or removing
        one leaves the others as they were.
      widths: width of each table, by name.
      schema: with the fields' sizes; decides which parts there are.
      std: standard deviation.
      multiple: fused tables are filled up with rows of 0, which no id names, to a multiple of this.
    """

    def draw(table: str, width: int) -> Iterator[tuple[str, jax.Array]]:
        shapes = {
            _part(ROWS, size): (schema.vocabulary_of(size), min(size or width, width))
            for size in schema.embedding_sizes
        }
        if schema.numeric:
            shapes[NUMERIC] = (len(schema.numeric), width)
        shapes |= {
            _part(PROJECTION, size): (size, width) for size in schema.embedding_sizes if 0 < size < width
        }
        for part, shape in shapes.items():
            # crc32 because Python's hash of a string differs from one process to the next.
            part_key = jax.random.fold_in(key, zlib.crc32(f'{table}/{part}'.encode()))
            if is_projection(part):
                yield part, nn.initializers.xavier_normal()(part_key, shape, jnp.float32)
            else:
                values = std * jax.random.normal(part_key, shape, jnp.float32)
                missing = -shape[0] % multiple if is_rows(part) else 0
                yield part, jnp.pad(values, ((0, missing), (0, 0))) if missing else values

    return {table: dict(draw(table, width)) for table, width in widths.items()}


def is_rows(part: str) -> bool:
    """Whether a part of a table is a fused table of rows, which a batch touches few of."""
    return part.startswith(ROWS)


def is_projection(part: str) -> bool:
    """Whether a part of a table is a projection, which no embedding penalty is on."""
    return part.startswith(PROJECTION)


def split(tables: Tables) -> tuple[Tables, Tables]:
    """The fused tables of rows, and the other parts; `join` puts them together again."""
    rows = {t: {p: v for p, v in parts.items() if is_rows(p)} for t, parts in tables.items()}
    others = {t: {p: v for p, v in parts.items() if not is_rows(p)} for t, parts in tables.items()}
    return rows, others


def join(rows: Tables, others: Tables) -> Tables:
    """The inverse of `split`."""
    return {table: {**rows[table], **others[table]} for table in rows}


def ids_of(batch: Mapping[str, jax.Array], schema: Schema) -> dict[str, jax.Array]:
    """The ids of a batch into each part of rows, int32 [B, columns]: the categorical fields, then the
    multi-valued ones with `PADDING` after their last value."""
    return {_part(ROWS, size): _ids_of_size(batch, schema, size) for size in schema.embedding_sizes}


def _ids_of_size(batch: Mapping[str, jax.Array], schema: Schema, embedding_size: int) -> jax.Array:
    columns = []
    kept = [i for i, f in enumerate(schema.categorical) if f.embedding_size == embedding_size]
    if kept:
        ids = batch['categorical']
        columns.append(ids if len(kept) == ids.shape[1] else ids[:, jnp.array(kept)])
    columns += [ids for field, ids in _bags(batch, schema) if field.embedding_size == embedding_size]
    return columns[0] if len(columns) == 1 else jnp.concatenate(columns, 1)


def _bags(batch: Mapping[str, jax.Array], schema: Schema) -> Iterator[tuple[Field, jax.Array]]:
    at = 0
    for field in schema.bags:
        yield field, batch['bags'][:, at : at + field.length]
        at += field.length


def take(values: jax.Array, ids: jax.Array) -> jax.Array:
    """Rows of one part, [vocabulary, k] and [B, columns] to [B, columns, k].

    An id past the table's end gives a row of NaN rather than another id's; one of `PADDING` gives row
    0, which `assemble` leaves out.
    """
    return jnp.take(values, jnp.maximum(ids, 0), axis=0, mode='fill')


def gather(
    rows: Tables, ids: Mapping[str, jax.Array], take: Callable[[jax.Array, jax.Array], jax.Array] = take
) -> Tables:
    """Replaces each part of rows `[vocabulary, k]` by the batch's rows, `[B, columns, k]`.

    Args:
      rows: the first of what `split` returns.
      ids: of the batch, as `ids_of` returns them.
      take: as `take`, for tables that do not lie whole on a device.
    """
    return {
        table: {part: take(values, ids[part]) for part, values in parts.items()}
        for table, parts in rows.items()
    }


def assemble(gathered: Tables, batch: Mapping[str, jax.Array], schema: Schema) -> dict[str, jax.Array]:
    """Makes `{table: float32 [B, F, width]}` of gathered rows: categorical fields, then numeric ones,
    then multi-valued ones.

    A numeric field `f` with value `x` is embedded as `v_f * x` (DLF section 4.1); a multi-valued field
    as the sum, mean or maximum over its values.
    """
    return {table: _assemble(parts, batch, schema) for table, parts in gathered.items()}


def _assemble(parts: dict[str, jax.Array], batch: Mapping[str, jax.Array], schema: Schema) -> jax.Array:
    rows = {}
    for size in schema.embedding_sizes:
        rows[size] = parts[_part(ROWS, size)]
        if (projection := parts.get(_part(PROJECTION, size))) is not None:
            rows[size] = rows[size] @ projection
    # Fields of one size lie side by side; runs of them stay whole.
    taken = dict.fromkeys(rows, 0)
    fields = []
    for size, count in _runs(schema):
        fields.append(rows[size][:, taken[size] : taken[size] + count])
        taken[size] += count
    if schema.numeric:
        fields.append(parts[NUMERIC] * batch['numeric'][..., None])
    for field, ids in _bags(batch, schema):
        start = taken[field.embedding_size]
        fields.append(_pool(rows[field.embedding_size][:, start : start + field.length], ids, field.pooling))
        taken[field.embedding_size] += field.length
    return jnp.concatenate(fields, 1)


def _runs(schema: Schema) -> Iterator[tuple[int, int]]:
    """Yields (embedding size, number of categorical fields that follow each other with it)."""
    sizes = [field.embedding_size for field in schema.categorical]
    start = 0
    for i in range(1, len(sizes) + 1):
        if i == len(sizes) or sizes[i] != sizes[start]:
            yield sizes[start], i - start
            start = i


def _pool(rows: jax.Array, ids: jax.Array, pooling: str) -> jax.Array:
    """One vector of `rows` [B, L, width] where `ids` [B, L] are not `PADDING`, [B, 1, width]; 0 where
    there is none."""
    there = (ids >= 0)[..., None]
    if pooling == 'max':
        highest = jnp.max(jnp.where(there, rows, -jnp.inf), 1, keepdims=True)
        return jnp.where(jnp.any(there, 1, keepdims=True), highest, 0.0)
    total = jnp.sum(jnp.where(there, rows, 0.0), 1, keepdims=True)
    if pooling == 'sum':
        return total
    return total / jnp.maximum(jnp.sum(there, 1, keepdims=True), 1)


def lookup(
    tables: Tables,
    batch: Mapping[str, jax.Array],
    schema: Schema,
    take: Callable[[jax.Array, jax.Array], jax.Array] = take,
) -> dict[str, jax.Array]:
    """From a batch to a model's rows, [B, F, width] each.

    Args:
      tables: whole.
      batch: its ids and numbers.
      schema: with the fields' sizes.
      take: see `gather`.
    """
    rows, others = split(tables)
    return assemble(join(gather(rows, ids_of(batch, schema), take), others), batch, schema)
