"""Growth of an encoder by later rows, so that a trained model can go on with them.

Within a field the values of before keep their order and their ids, as long as none before them is forgotten,
and new ones follow. Ids are offset into fused tables, so where a field has grown, the rows of those after it
move: `row_sources` says from where, and a row's weights and moments move together.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from dlf_jax.data.preprocess import curves, fitting
from dlf_jax.data.preprocess.dictionary import UNKNOWN, Dictionary
from dlf_jax.data.preprocess.encoder import FILES, Encoder, load_families, load_schema
from dlf_jax.data.preprocess.statistics import Moments, Statistics
from dlf_jax.data.preprocess.task import Ancestor, Task
from dlf_jax.data.schema import OUT_OF_VOCABULARY, RESERVED, Field, Schema
from dlf_jax.errors import UserError

_log = logging.getLogger(__name__)

# Table of the values that have come and gone, beside the encoder.
CHANGES = 'changes.parquet'
# Attributes of a field that what is trained depends on; `auto` and `fill` are looked at apart.
_FIXED = (
    'kind', 'shares', 'ordered', 'beside', 'hash_buckets', 'embedding_size', 'pooling', 'frequencies',
    'verbatim',
)  # fmt: skip


def digest(folder: Path) -> str:
    """Hash of a saved encoder's files, 16 hexadecimal digits.

    Raises:
      UserError: one of them cannot be read.
    """
    found = hashlib.sha256()
    for name in FILES:
        try:
            with open(folder / name, 'rb') as file:
                found.update(hashlib.file_digest(file, 'sha256').digest())
        except OSError as error:
            raise UserError(f'{folder / name}: cannot be read: {error.strerror}') from error
    return found.hexdigest()[:16]


def has_digest(folder: Path, wanted: str) -> bool:
    """Whether a folder holds the saved encoder of a hash; not where it is gone, as a whole or in part."""
    try:
        return digest(folder) == wanted
    except UserError:
        return False


def fit(task: Task, found: Statistics, folder: Path) -> Encoder:
    """Fits the encoder of a task, or grows the one that it goes on from, and saves it.

    Args:
      task: what to prepare.
      found: statistics of all training rows.
      folder: folder for the encoder, and for `CHANGES` where one has grown.

    Raises:
      UserError: no rows; or the encoder to grow from is gone, or has changed.
    """
    if task.ancestor is None:
        encoder = fitting.fit(task.schema, found, task.families)
        encoder.save(folder)
        return encoder
    if not all((task.ancestor.folder / name).is_file() for name in FILES):
        raise UserError(
            f'{task.ancestor.folder}: gone, and so is the prepared data that was grown from it; put one of '
            'them back to go on'
        )
    if digest(task.ancestor.folder) != task.ancestor.digest:
        raise UserError(
            f'{task.ancestor.folder}: has changed since this run began from it; take another --workdir'
        )
    before = Encoder.load(task.ancestor.folder)
    encoder = grow(before, task, found)
    told = [
        f'{name} {of["kept"]:,} + {of["new"]:,} new, {of["forgotten"]:,} forgotten'
        for name, of in encoder.growth.items()
    ]
    _log.info('vocabularies grown from %s: %s', task.ancestor.folder.parent, '; '.join(told) or 'none')
    encoder.save(folder)
    changes(before, encoder).write_parquet(folder / CHANGES)
    return encoder


def known_families(ancestor: Ancestor, schema: Schema) -> dict[str, str]:
    """What columns with a type of their own held for an encoder that is to grow; checks that the schema fits.

    One that is gone, or has changed since, is missed where it is needed: the records may be there already.

    Args:
      ancestor: the encoder.
      schema: of the new files, before it is fitted.

    Raises:
      UserError: names every difference of the schema.
    """
    if not has_digest(ancestor.folder, ancestor.digest):
        return {}
    check_fits(load_schema(ancestor.folder), schema, str(ancestor.folder.parent))
    return load_families(ancestor.folder)


def check_fits(before: Schema, now: Schema, source: str) -> None:
    """Raises UserError, which names every difference, where a model trained on one schema cannot go on with
    another.

    Args:
      before: schema of a fitted encoder.
      now: schema of the new files, before it is fitted.
      source: what the encoder belongs to, for the error.
    """
    differences = list(_differences(before, now))
    if differences:
        raise UserError(
            f'config.training.warm_start: the schema does not fit that of {source}: {"; ".join(differences)}'
        )


def _differences(before: Schema, now: Schema) -> Iterator[str]:
    old, new = ({field.name: field for field in schema.fields} for schema in (before, now))
    for name in {**old, **new}:
        if name not in new or name not in old:
            yield f'field {name!r} is there {"only before" if name in old else "only now"}'
            continue
        # What reads a history may have parameters for each of its places.
        for key in (*_FIXED, 'length') if old[name].ordered else _FIXED:
            there, here = getattr(old[name], key), getattr(new[name], key)
            if there != here:
                yield f'field {name!r}: {key} {there!r} before, {here!r} now'
        there, here = old[name].treatment, new[name].treatment
        if here != there and (here != 'auto' or there not in ('quantile', 'piecewise')):
            yield f'field {name!r}: treatment {there!r} before, {here!r} now'
        if (old[name].fill, new[name].fill) == ('own', 'mean'):
            yield f"field {name!r}: fill 'own' before, 'mean' now"
    if set(old) == set(new) and list(old) != list(new):
        yield f'the fields are in another order: {", ".join(old)} before'


def grow(before: Encoder, task: Task, found: Statistics) -> Encoder:
    """The encoder with what later rows bring.

    Args:
      before: the encoder to grow.
      task: its `ancestor` says what is forgotten and refitted.
      found: statistics of the later training rows.

    Raises:
      UserError: no rows.
    """
    ancestor = task.ancestor
    assert ancestor is not None
    schema = _as_decided(before.schema, task.schema)
    counts = fitting.counted(schema, found)
    vocabularies, growth, expected = {}, {}, {}
    for field in schema.owners:
        if field.counted:
            old, counted = before.vocabularies[field.name], counts[field.name].cast({'value': pl.String})
            grown = _grown(old, counted, field, ancestor.forget_after)
            vocabularies[field.name] = grown
            new = len(grown.filter(pl.col('fresh')))
            growth[field.name] = {
                'kept': len(grown) - new, 'new': new, 'forgotten': len(old) - len(grown) + new,
            }  # fmt: skip
            expected[field.name] = _expected_unknown(counted, grown, field)
    vocabularies = {name: frame.drop('fresh') for name, frame in vocabularies.items()}
    moments, boundaries, fitted = before.moments, before.boundaries, before.curves
    if ancestor.refit_numbers:
        moments, boundaries, fitted = _refitted(before, schema, found)
    return fitting.assemble(
        schema, vocabularies, moments, boundaries, fitted, {**before.families, **task.families}, expected,
        growth,
    )  # fmt: skip


def _as_decided(before: Schema, now: Schema) -> Schema:
    """The new schema with what was decided when the first training rows were known."""
    old = {field.name: field for field in before.fields}

    def decided(field: Field) -> Field:
        there = old[field.name]
        kept = {key: getattr(there, key) for key in ('treatment', 'buckets', 'fill')}
        return dataclasses.replace(field, **kept)

    return dataclasses.replace(now, fields=tuple(map(decided, now.fields)))


def _grown(old: pl.DataFrame, counts: pl.DataFrame, field: Field, forget_after: int) -> pl.DataFrame:
    """The vocabulary with new values after those that are kept.

    Args:
      old: `value`, `count`, and `unseen` where it has grown before.
      counts: `value` and `count` of all values of the new training rows.
      field: decides which new values get an id.
      forget_after: number of generations without a value after which it is forgotten; 0: never.

    Returns:
      `value`, `count` (of all generations), `unseen` (generations since the latest with the value) and
      `fresh` (whether the value is new), in the order of the ids.
    """
    if 'unseen' not in old.columns:
        old = old.with_columns(unseen=pl.lit(0, pl.Int64))
    kept = (
        old.join(counts.rename({'count': 'now'}), on='value', how='left', maintain_order='left')
        .with_columns(
            count=pl.col('count') + pl.col('now').fill_null(0),
            unseen=pl.when(pl.col('now').is_null()).then(pl.col('unseen') + 1).otherwise(0),
            fresh=pl.lit(False),
        )
        .select('value', 'count', 'unseen', 'fresh')
    )
    if forget_after:
        kept = kept.filter(pl.col('unseen') < forget_after)
    new = fitting.vocabulary(counts.join(old, on='value', how='anti'), dataclasses.replace(field, max_size=0))
    if field.max_size:
        new = new.head(max(field.max_size - len(kept), 0))
    new = new.with_columns(unseen=pl.lit(0, pl.Int64), fresh=pl.lit(True))
    return pl.concat([kept.cast({'count': pl.Int64}), new.cast({'count': pl.Int64})])


def _expected_unknown(counts: pl.DataFrame, grown: pl.DataFrame, field: Field) -> float:
    """`fitting.expected_unknown`, where the values of before are known however rare they are now."""
    old = grown.filter(~pl.col('fresh')).select('value')
    known = int(counts.join(old, on='value', how='semi')['count'].sum())
    new = grown.filter(pl.col('fresh') & (pl.col('count') > field.min_count))
    total = int(counts['count'].sum())
    return round(1 - (known + int(new['count'].sum())) / total, 6) if total else 0.0


def _refitted(
    before: Encoder, schema: Schema, found: Statistics
) -> tuple[dict[str, Moments], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Moments, boundaries and curves of the new rows; those of before where ranges, which have rows or
    parameters of their own, would be more or fewer, and where no new row has a number."""
    measured = found.merged_moments()
    moments = {name: measured[name] if measured[name].count else old for name, old in before.moments.items()}
    boundaries, fitted = dict(before.boundaries), dict(before.curves)
    for field in schema.ranged:
        new = found.samples[field.name].boundaries(field.buckets)
        _take(boundaries, field, new, len(new) == len(boundaries[field.name]))
    for field in schema.numeric:
        values = found.samples[field.name].values if field.curved else np.empty(0)
        if values.size:
            new = curves.fit(field, values)
            same = field.treatment != 'piecewise' or new.shape == fitted[field.name].shape
            _take(fitted, field, new, same)
    return moments, boundaries, fitted


def _take(held: dict[str, np.ndarray], field: Field, new: np.ndarray, fits: bool) -> None:
    if fits:
        held[field.name] = new
    else:
        _log.warning(
            'column %r: the new rows make another number of ranges; its ranges stay as they were', field.name
        )


def row_sources(before: Encoder, after: Encoder) -> dict[int, np.ndarray]:
    """Where the rows of grown tables come from.

    Args:
      before: an encoder.
      after: the encoder that it grew to.

    Returns:
      By embedding size, for each row of the fused table after the row of before, int32 [rows]; of a new value
      -1 - r, r being the row before of its field's out-of-vocabulary id.
    """
    schema = after.schema
    found = {size: np.empty(schema.vocabulary_of(size), np.int32) for size in schema.embedding_sizes}
    starts, offsets = before.schema.offsets, schema.offsets
    for field in schema.owners:
        first, start = offsets[field.name], starts[field.name]
        rows = np.arange(start, start + field.size, dtype=np.int32)
        if field.counted:
            codes = Dictionary(before.typed_values(field.name)).find(after.typed_values(field.name))
            moved = codes + np.int32(start + RESERVED)
            rows[RESERVED:] = np.where(codes == UNKNOWN, np.int32(-1 - start - OUT_OF_VOCABULARY), moved)
        found[field.embedding_size][first : first + field.size] = rows
    return found


def changes(before: Encoder, after: Encoder) -> pl.DataFrame:
    """Values that are new or forgotten, in a table.

    Returns:
      `field`, `value`, `change`, `count` (of all generations), and `before` and `after`: their rows in the
      fused table of the field's embedding size, null where there is none.
    """
    empty: dict[str, type[pl.DataType]] = {
        'field': pl.String, 'value': pl.String, 'change': pl.String, 'count': pl.Int64, 'before': pl.Int64,
        'after': pl.Int64,
    }  # fmt: skip
    found = [pl.DataFrame(schema=empty)]
    for name in after.vocabularies:
        old, now = (
            encoder.vocabularies[name]
            .select('value', 'count')
            .with_row_index('row', offset=encoder.schema.offsets[name] + RESERVED)
            for encoder in (before, after)
        )
        for one, other, change in ((now, old, 'new'), (old, now, 'forgotten')):
            own = one.join(other, on='value', how='anti', maintain_order='left')
            row, none = pl.col('row').cast(pl.Int64), pl.lit(None, pl.Int64)
            places = {'before': none, 'after': row} if change == 'new' else {'before': row, 'after': none}
            own = own.with_columns(field=pl.lit(name), change=pl.lit(change), **places)
            found.append(own.select(list(empty)).cast(pl.Schema(empty)))
    return pl.concat(found)
