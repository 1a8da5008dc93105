"""Embedding tables: pure functions from ids and numbers to the embeddings that a model reads.

A model declares its tables as `{name: width}` and is called on `{name: float32 [B, F, width]}`: the
categorical fields first, then the numeric ones, then the multi-valued ones, pooled.

Parameters come in two trees, which differ in how they are sharded and optimized:

- `tables`, the rows that ids name: `{'categorical': {name: float32 [vocabulary, width]}}`. All fields share
  one fused table, in which each owns a range of rows. Fields with an `embedding_size` k of their own
  share a second one, `categorical_k: {name: float32 [vocabulary_k, min(k, width)]}`.
- `dense`, small parameters: those of the numeric fields (`numeric_embedding`), and where k is less than the
  width `projection_k: {name: float32 [k, width]}` (Ginart et al. 2019, "Mixed dimension
  embeddings").

A batch reads them in two steps, and training differentiates between the two: `gather_rows` takes the rows
that `ids_of` names out of the fused tables, wherever those lie, and `assemble` makes the model's input of
them. Rows of a field that is pooled by sum or mean may be summed in the first (`runs_of`), unless the model
reads its values one by one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp

from dlf_jax.data.schema import Field, Schema
from dlf_jax.models import bag_sums, numeric_embedding
from dlf_jax.models.bag_sums import Run, Runs
from dlf_jax.models.initializers import GlorotNormal
from dlf_jax.models.inputs import Bag, Inputs

# Arrays by part (`categorical`, `categorical_16`, `numeric`, ...) and by the name of the model's table.
Tables = dict[str, dict[str, jax.Array]]
# From a table [vocabulary, k], ids int32 [B, columns] and their runs to rows [B, reads, k].
Gather = Callable[[jax.Array, jax.Array, Runs], jax.Array]

ROWS, PROJECTION = 'categorical', 'projection'
# Poolings that need the sum of a field's rows, not the rows.
_SUMMED = ('sum', 'mean')


def rows_part(embedding_size: int) -> str:
    """Name of the part of the tables with the rows of the fields of one embedding size; 0: the model's."""
    return _part(ROWS, embedding_size)


def _part(kind: str, embedding_size: int) -> str:
    return f'{kind}_{embedding_size}' if embedding_size else kind


def part_of(field: Field) -> str:
    """Part of `tables` that has the rows of a field that owns ids."""
    return _part(ROWS, field.embedding_size)


def init(
    key: jax.Array, widths: Mapping[str, int], schema: Schema, std: float, multiple: int = 1
) -> tuple[Tables, Tables]:
    """Draws the parameters, every entry from N(0, std^2).

    Projections are Xavier normal, and frequencies of numbers have the standard deviation
    `numeric_embedding.FREQUENCY_STD`.

    Args:
      key: random key; each array folds its own name into it, so that adding or removing one leaves the
        others as they were.
      widths: width of each of the model's tables, by name.
      schema: with the fields' sizes; decides which parts there are.
      std: standard deviation.
      multiple: fused tables are padded with rows of 0, which no id names, to a multiple of this.

    Returns:
      `tables` and `dense`.
    """

    def draw(part: str, table: str, shape: tuple[int, ...]) -> jax.Array:
        # crc32 because Python's hash of a string differs from one process to the next.
        part_key = jax.random.fold_in(key, zlib.crc32(f'{table}/{part}'.encode()))
        if part.startswith(PROJECTION):
            return GlorotNormal()(part_key, shape)
        scale = numeric_embedding.FREQUENCY_STD if part == numeric_embedding.FREQUENCIES else std
        return scale * jax.random.normal(part_key, shape, jnp.float32)

    tables: Tables = {}
    dense: Tables = {}
    for size in schema.embedding_sizes:
        rows = schema.vocabulary_of(size)
        padding = ((0, -rows % multiple), (0, 0))
        tables[rows_part(size)] = {
            table: jnp.pad(draw(rows_part(size), table, (rows, min(size or width, width))), padding)
            for table, width in widths.items()
        }
        projected = {table: width for table, width in widths.items() if 0 < size < width}
        if projected:
            part = _part(PROJECTION, size)
            dense[part] = {table: draw(part, table, (size, width)) for table, width in projected.items()}
    return tables, {**dense, **numeric_embedding.init(draw, widths, schema)}


def ids_of(batch: Mapping[str, jax.Array], schema: Schema) -> dict[str, jax.Array]:
    """Ids of a batch into each fused table, int32 [B, columns]: the categorical fields, then the
    multi-valued ones, `PADDING` where they have no value."""
    return {rows_part(size): _ids_of_size(batch, schema, size) for size in schema.embedding_sizes}


def _ids_of_size(batch: Mapping[str, jax.Array], schema: Schema, embedding_size: int) -> jax.Array:
    columns = []
    kept = [i for i, f in enumerate(schema.categorical) if f.embedding_size == embedding_size]
    if kept:
        ids = batch['categorical']
        columns.append(ids if len(kept) == ids.shape[1] else ids[:, jnp.array(kept)])
    columns += [ids for field, ids in _bags(batch, schema) if field.embedding_size == embedding_size]
    return columns[0] if len(columns) == 1 else jnp.concatenate(columns, 1)


def _bags(batch: Mapping[str, jax.Array], schema: Schema) -> Iterator[tuple[Field, jax.Array]]:
    return ((field, batch['bags'][:, columns]) for field, columns in schema.bag_slices())


def runs_of(schema: Schema, summed: bool) -> dict[str, Runs]:
    """How the columns of `ids_of` are read, by part.

    Args:
      schema: of the data.
      summed: whether fields that are pooled by sum or mean are summed where they are read.
    """
    return {rows_part(size): _runs_of_size(schema, size, summed) for size in schema.embedding_sizes}


def _runs_of_size(schema: Schema, embedding_size: int, summed: bool) -> Runs:
    kept = [field for field in schema.categorical if field.embedding_size == embedding_size]
    runs = [Run(len(kept), False)] if kept else []
    for field in schema.bags:
        if field.embedding_size == embedding_size:
            runs.append(Run(field.length, summed and field.pooling in _SUMMED))
    return tuple(runs)


def gather(values: jax.Array, ids: jax.Array, runs: Runs) -> jax.Array:
    """Rows of a table by id: [vocabulary, k] and int32 [B, columns] to [B, reads, k].

    An id past the table's end gives a row of NaN rather than another id's; one of `PADDING`, where it is not
    left out of a sum, gives row 0, which `assemble` leaves out.
    """
    return bag_sums.read(_rows, values, ids, runs)


def _rows(values: jax.Array, ids: jax.Array) -> jax.Array:
    return jnp.take(values, jnp.maximum(ids, 0), axis=0, mode='fill')


@jax.named_scope('embedding')
def gather_rows(
    tables: Tables,
    ids: Mapping[str, jax.Array],
    gather: Gather = gather,
    runs: Mapping[str, Runs] | None = None,
) -> Tables:
    """Rows of every fused table for a batch: [vocabulary, k] becomes [B, reads, k].

    Args:
      tables: the fused tables.
      ids: of the batch, from `ids_of`.
      gather: another function in place of `gather`, for tables that are sharded.
      runs: from `runs_of`; None: every column is read by itself.
    """
    return {
        part: {
            table: gather(values, ids[part], runs[part] if runs else (Run(ids[part].shape[1], False),))
            for table, values in by_table.items()
        }
        for part, by_table in tables.items()
    }


@jax.named_scope('embedding')
def assemble(
    rows: Tables, dense: Tables, batch: Mapping[str, jax.Array], schema: Schema, summed: bool = False
) -> dict[str, jax.Array]:
    """Embeddings, `{table: float32 [B, F, width]}`: categorical fields, then numeric ones, then
    multi-valued ones.

    Numeric fields are embedded as `numeric_embedding` says, a multi-valued field as the sum, mean or maximum
    over its values.

    Args:
      rows: from `gather_rows`.
      dense: parameters of the numeric fields and projections.
      batch: numbers, and ids of the multi-valued fields.
      schema: with the fields' sizes.
      summed: whether the rows are those of `runs_of(schema, summed=True)`.
    """
    tables = dict.fromkeys(name for part in (*rows.values(), *dense.values()) for name in part)
    return {table: _assemble(table, rows, dense, batch, schema, summed) for table in tables}


def _assemble(
    table: str, rows: Tables, dense: Tables, batch: Mapping[str, jax.Array], schema: Schema, summed: bool
) -> jax.Array:
    by_size = _projected(table, rows, dense, schema)
    # Fields of one size lie side by side; runs of them stay whole.
    taken = dict.fromkeys(by_size, 0)
    fields = []
    for size, count in _runs(schema):
        fields.append(by_size[size][:, taken[size] : taken[size] + count])
        taken[size] += count
    if schema.numeric:
        fields.append(numeric_embedding.assemble(table, dense, batch['numeric'], schema))
    for field, ids in _bags(batch, schema):
        start, is_sum = taken[field.embedding_size], summed and field.pooling in _SUMMED
        count = 1 if is_sum else field.length
        values = by_size[field.embedding_size][:, start : start + count]
        fields.append(_pool(values, ids, field.pooling, is_sum))
        taken[field.embedding_size] += count
    return jnp.concatenate(fields, 1)


def _projected(table: str, rows: Tables, dense: Tables, schema: Schema) -> dict[int, jax.Array]:
    """Rows of a table by embedding size, each projected up to the table's width."""
    by_size = {}
    for size in schema.embedding_sizes:
        by_size[size] = rows[rows_part(size)][table]
        if (projection := dense.get(_part(PROJECTION, size), {}).get(table)) is not None:
            by_size[size] = by_size[size] @ projection
    return by_size


def _runs(schema: Schema) -> Iterator[tuple[int, int]]:
    """Yields (embedding size, number of categorical fields that follow each other with it)."""
    sizes = [field.embedding_size for field in schema.categorical]
    start = 0
    for i in range(1, len(sizes) + 1):
        if i == len(sizes) or sizes[i] != sizes[start]:
            yield sizes[start], i - start
            start = i


def _pool(rows: jax.Array, ids: jax.Array, pooling: str, is_sum: bool) -> jax.Array:
    """One vector of `rows` [B, L, width] where `ids` [B, L] are not `PADDING`, [B, 1, width]; 0 where
    there is none. With `is_sum` the rows [B, 1, width] are their sum."""
    there = (ids >= 0)[..., None]
    if pooling == 'max':
        highest = jnp.max(jnp.where(there, rows, -jnp.inf), 1, keepdims=True)
        return jnp.where(jnp.any(there, 1, keepdims=True), highest, 0.0)
    total = rows if is_sum else jnp.sum(jnp.where(there, rows, 0.0), 1, keepdims=True)
    if pooling == 'sum':
        return total
    return total / jnp.maximum(jnp.sum(there, 1, keepdims=True), 1)


def make_inputs(
    rows: Tables, dense: Tables, batch: Mapping[str, jax.Array], schema: Schema, summed: bool = False
) -> Inputs:
    """Inputs of a batch beyond its embeddings: fields' names, numbers, unpooled bags, histories.

    Args:
      rows: from `gather_rows`.
      dense: vectors of the numeric fields and projections.
      batch: numbers, and ids of the multi-valued fields.
      schema: with the fields' sizes.
      summed: whether the rows are those of `runs_of(schema, summed=True)`; there are no unpooled fields then.
    """
    bags = {} if summed else _unpooled(rows, dense, batch, schema)
    numeric = jnp.nan_to_num(batch['numeric']) if schema.numeric else jnp.zeros((len(batch['label']), 0))
    return _named(numeric, bags, schema)


def _unpooled(rows: Tables, dense: Tables, batch: Mapping[str, jax.Array], schema: Schema) -> dict[str, Bag]:
    """The multi-valued fields by name."""
    tables = dict.fromkeys(name for part in rows.values() for name in part)
    by_table = {table: _projected(table, rows, dense, schema) for table in tables}
    # Columns of the fields before the first multi-valued one.
    taken = {
        size: sum(field.embedding_size == size for field in schema.categorical)
        for size in schema.embedding_sizes
    }
    bags = {}
    for field, ids in _bags(batch, schema):
        size, start = field.embedding_size, taken[field.embedding_size]
        own = {t: by_size[size][:, start : start + field.length] for t, by_size in by_table.items()}
        bags[field.name] = Bag(own, ids >= 0)
        taken[size] += field.length
    return bags


def example(widths: Mapping[str, int], schema: Schema, rows: int = 2) -> tuple[dict[str, jax.Array], Inputs]:
    """Embeddings and inputs of zeros, to initialise a model with.

    Args:
      widths: width of each of the model's tables, by name.
      schema: of the data.
      rows: number of rows, B.
    """

    def zeros(*shape: int) -> dict[str, jax.Array]:
        return {table: jnp.zeros((rows, *shape, width)) for table, width in widths.items()}

    bags = {f.name: Bag(zeros(f.length), jnp.zeros((rows, f.length), bool)) for f in schema.bags}
    numeric = jnp.zeros((rows, len(schema.numeric)))
    return zeros(len(schema.fields)), _named(numeric, bags, schema)


def _named(numeric: jax.Array, bags: dict[str, Bag], schema: Schema) -> Inputs:
    numeric_fields = tuple(field.name for field in schema.numeric)
    ordered = (*schema.categorical, *schema.numeric, *schema.bags)
    # In the order that JAX gives the keys of a dict, which a model may iterate over.
    bags = dict(sorted(bags.items()))
    return Inputs(tuple(field.name for field in ordered), numeric, numeric_fields, bags, schema.histories)


def lookup(
    tables: Tables,
    dense: Tables,
    batch: Mapping[str, jax.Array],
    schema: Schema,
    gather: Gather = gather,
    summed: bool = True,
) -> dict[str, jax.Array]:
    """Embeddings of a batch, `{table: float32 [B, F, width]}`.

    Args:
      tables: the fused tables.
      dense: vectors of the numeric fields and projections.
      batch: ids and numbers.
      schema: with the fields' sizes.
      gather: see `gather_rows`.
      summed: see `runs_of`.
    """
    rows = gather_rows(tables, ids_of(batch, schema), gather, runs_of(schema, summed))
    return assemble(rows, dense, batch, schema, summed)
