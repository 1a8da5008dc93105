"""Schemas that people write: a TOML file of columns, and a first proposal of one for files not seen
before."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from dlf_jax.data.readers.tables import Table
from dlf_jax.data.schema import KINDS, MULTI_VALUED, NUMBERS, NUMERIC, Field, Schema
from dlf_jax.errors import UserError, suggest, writing

IGNORED = 'ignored'
LENGTH = 20
# What `propose` reads.
ROWS = 1_000_000
_LABELS = ('label', 'click', 'clicked', 'is_click', 'target', 'y')
_BAG_SEPARATORS = '|;,'
_OPTIONS = {f.name for f in dataclasses.fields(Field)} - {'name', 'size'}


def load(path: str, defaults: Mapping[str, Any]) -> Schema:
    """Reads a schema file.

        label = "click"            # also weight = "...", group = "..."
        [columns.user]
        kind = "categorical"       # numeric, multi-valued, ignored
        min_count = 2              # any option of `schema.Field`

    Args:
      path: of the file.
      defaults: `min_count`, `max_size`, `hash_buckets`, `buckets` and the `treatment` of numbers, for
        columns that do not say.

    Raises:
      UserError: not there, not TOML, an unknown key, a value that cannot be.
    """
    try:
        found = tomllib.loads(Path(path).expanduser().read_text('utf-8'))
    except FileNotFoundError as error:
        raise UserError(f'config.dataset.schema: no such file: {path}') from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f'{path}: cannot be read as TOML: {error}') from error
    columns = found.pop('columns', {})
    for key in found:
        if key not in ('label', 'weight', 'group'):
            raise UserError(
                f'{path}: {key!r}: no such key{suggest(key, ["label", "weight", "group", "columns"])}'
            )
        if not isinstance(found[key], str):
            raise UserError(f'{path}: {key}={found[key]!r}: expected the name of a column')
    if not found.get('label'):
        raise UserError(f'{path}: label: expected the name of the column that holds 0 or 1')
    if not isinstance(columns, dict) or not columns:
        raise UserError(f'{path}: no columns; expected tables such as [columns.user]')
    try:
        fields = [_field(path, name, options, defaults) for name, options in columns.items()]
        fields = {field.name: field for field in fields if field}
        for name, field in fields.items():
            if field.shares in fields:
                # What it does not say itself it has from the field that it shares with.
                owner = fields[field.shares]
                same = {k: getattr(owner, k) for k in ('hash_buckets', 'embedding_size')}
                kept = {k: v for k, v in same.items() if k not in columns[name]}
                fields[name] = dataclasses.replace(field, **kept)
        schema = Schema(tuple(fields.values()), **found)
    except (ValueError, TypeError) as error:
        raise UserError(f'{path}: {error}') from error
    if not schema.fields:
        raise UserError(f'{path}: every column is ignored; at least one must be a feature')
    if schema.label in columns and any(f.name == schema.label for f in schema.fields):
        raise UserError(f'{path}: column {schema.label!r} is the label and a feature; make it ignored')
    return schema


def _field(path: str, name: str, options: Any, defaults: Mapping[str, Any]) -> Field | None:
    if not isinstance(options, dict):
        raise UserError(f'{path}: columns.{name}={options!r}: expected a table [columns.{name}]')
    options = dict(options)
    kind = options.pop('kind', None)
    if kind not in (*KINDS, IGNORED):
        raise UserError(
            f'{path}: [columns.{name}] kind={kind!r}: no such kind{suggest(str(kind), [*KINDS, IGNORED])}'
        )
    if kind == IGNORED:
        return None
    for key in options:
        if key not in _OPTIONS:
            raise UserError(
                f'{path}: [columns.{name}] {key!r}: no such option{suggest(key, sorted(_OPTIONS))}'
            )
    if kind == NUMERIC:
        kept = defaults['treatment'] if defaults['treatment'] in NUMBERS else 'standard'
        return Field(name, kind, **{'treatment': kept, **options})
    if options.get('treatment') == 'bucket':
        return Field(name, kind, **{'buckets': defaults['buckets'], **options})
    if 'shares' not in options:
        hashed = 0 if options.get('treatment') else defaults['hash_buckets']
        options = {'hash_buckets': hashed, **options}
        if not options['hash_buckets']:
            options = {'min_count': defaults['min_count'], 'max_size': defaults['max_size'], **options}
    if kind == MULTI_VALUED:
        options = {'pooling': 'mean', 'length': LENGTH, **options}
    return Field(name, kind, **options)


def propose(table: Table, path: str) -> dict[str, Any]:
    """Writes a schema file for a table from its first rows, with what was found beside each column.

    Args:
      table: opened.
      path: of the file to write; must not be there yet.

    Returns:
      Numbers of `rows` read and of columns by kind.
    """
    if os.path.exists(path):
        raise UserError(f'{path}: is there already; name another file with --output, or remove it')
    frames, rows = [], 0
    for chunk in table.chunks(table.columns, ()):
        frames.append(chunk.frame)
        rows += chunk.frame.height
        if rows >= ROWS:
            break
    frame = pl.concat(frames).head(ROWS)
    found = {name: _Column.look(frame[name]) for name in table.columns}
    label = _label(found)
    more = ' (the first ones)' if rows > frame.height or rows >= ROWS else ''
    lines = [
        f'# Proposed from {frame.height:,} rows{more} of {table.name}; look through it, then',
        f'#   python -m dlf_jax.main --config=configs/table.py --config.dataset.schema={path} ...',
        '',
        f'label = {json.dumps(label)}' + ('' if label else '  # no column of 0 and 1 was found'),
        '# weight = "..."  # column of the rows\' weights',
        '# group = "..."   # column of users or sessions that AUC is averaged over too',
    ]
    kinds = dict.fromkeys((*KINDS, IGNORED), 0)
    for name, column in found.items():
        if name == label:
            continue
        kind, options = column.proposal(name)
        kinds[kind] += 1
        key = name if re.fullmatch(r'[A-Za-z0-9_-]+', name) else json.dumps(name, ensure_ascii=False)
        lines += ['', f'[columns.{key}]  # {column.told()}', f'kind = {json.dumps(kind)}', *options]
    with writing(path):
        temporary = Path(f'{path}.tmp')
        temporary.write_text('\n'.join(lines) + '\n', 'utf-8')
        os.replace(temporary, path)
    return {'schema': path, 'rows': frame.height, 'label': label, **kinds}


@dataclasses.dataclass(frozen=True)
class _Column:
    """What was found in a column."""

    rows: int
    missing: int
    distinct: int
    examples: tuple[str, ...]
    numbers: pl.Series | None  # where all values are numbers
    lists: int  # the longest list; 0 where there are none
    separator: str

    @classmethod
    def look(cls, values: pl.Series) -> _Column:
        rows, missing = len(values), values.null_count()
        values = values.drop_nulls()
        if values.dtype == pl.List(pl.String):
            flat = values.list.explode(empty_as_null=False, keep_nulls=False).drop_nulls()
            longest = int(values.list.len().max() or 0)
            return cls(rows, missing, flat.n_unique(), _examples(flat), None, max(longest, 1), '')
        numbers = values.cast(pl.Float64, strict=False)
        if numbers.null_count() or not len(values):
            numbers = None
        separator, longest = '', 0
        if numbers is None and len(values):
            for candidate in _BAG_SEPARATORS:
                lengths = values.str.count_matches(candidate, literal=True)
                if (lengths > 0).mean() > 0.2:
                    separator, longest = candidate, int(lengths.max()) + 1
                    break
        return cls(rows, missing, values.n_unique(), _examples(values), numbers, longest, separator)

    @property
    def whole(self) -> bool:
        return self.numbers is not None and bool((self.numbers == self.numbers.floor()).all())

    def told(self) -> str:
        parts = [f'{self.distinct:,} values', f'{100 * self.missing / max(self.rows, 1):.1f} % missing']
        if self.numbers is not None and len(self.numbers):
            low, mean, high = self.numbers.min(), self.numbers.mean(), self.numbers.max()
            parts.append(f'{low:g} to {high:g}, mean {mean:.4g}')
        return ', '.join(parts) + (f'; such as {", ".join(self.examples)}' if self.examples else '')

    def proposal(self, name: str) -> tuple[str, list[str]]:
        """Kind and further lines."""
        if self.distinct <= 1:
            return IGNORED, ['# the same value in every row']
        if self.lists:
            length = min(self.lists, LENGTH)
            lines = [f'separator = {json.dumps(self.separator)}'] if self.separator else []
            return MULTI_VALUED, [*lines, 'pooling = "mean"  # or sum, max', f'length = {length}']
        named_id = re.search(r'(^|_)id(_|$)|[a-z]Id$', name) is not None
        if self.numbers is not None and not named_id and not (self.whole and self.distinct <= 100):
            return NUMERIC, [
                'treatment = "standard"  # or none, minmax; log2 and bucket with kind = "categorical"'
            ]
        if self.rows >= 1000 and self.distinct > 0.95 * (self.rows - self.missing):
            return IGNORED, ['# another value in nearly every row: nothing to learn from']
        return 'categorical', ['min_count = 2'] if self.distinct > 1000 else []


def _examples(values: pl.Series) -> tuple[str, ...]:
    texts = itertools.islice(values.unique(maintain_order=True).head(3).to_list(), 3)
    return tuple(json.dumps(text[:24], ensure_ascii=False) for text in texts)


def _label(found: Mapping[str, _Column]) -> str:
    def binary(column: _Column) -> bool:
        values = set() if column.numbers is None else set(column.numbers.unique().to_list())
        return not column.missing and values == {0.0, 1.0}

    names = [name for name, column in found.items() if binary(column)]
    known = [name for name in names if name.lower() in _LABELS]
    return (known or names or [''])[0]
