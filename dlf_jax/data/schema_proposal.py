"""Proposal of a schema file for a table, from its first rows."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dlf_jax.data.readers.chunk import Columns
from dlf_jax.data.readers.tables import Table
from dlf_jax.data.schema import CATEGORICAL, KINDS, MULTI_VALUED, NUMERIC
from dlf_jax.data.schema_files import IGNORED, LENGTH
from dlf_jax.errors import UserError
from dlf_jax.file_writing import writing

# Maximum number of rows that are read.
ROWS = 1_000_000
_LABELS = ('label', 'click', 'clicked', 'is_click', 'target', 'y')
_BAG_SEPARATORS = '|;,'


def propose(table: Table, path: str) -> dict[str, Any]:
    """Writes a schema file for a table, with the statistics of each column as a comment.

    Args:
      table: the table; its first `ROWS` rows are read.
      path: the file to write, which must not exist.

    Returns:
      `schema` (the path), `rows` that were read, `label` and the number of columns of each kind.

    Raises:
      UserError: the file exists or cannot be written, or a row cannot be read.
    """
    if os.path.exists(path):
        raise UserError(f'{path}: is there already; name another file with --output, or remove it')
    frames, rows = [], 0
    for chunk in table.chunks(Columns(text=table.columns)):
        frames.append(chunk.frame)
        rows += chunk.frame.height
        if rows >= ROWS:
            break
    frame = pl.concat(frames).head(ROWS)
    found = {name: _Column.of(frame[name]) for name in table.columns}
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
        lines += ['', f'[columns.{key}]  # {column.comment()}', f'kind = {json.dumps(kind)}', *options]
    with writing(path):
        temporary = Path(f'{path}.tmp')
        temporary.write_text('\n'.join(lines) + '\n', 'utf-8')
        os.replace(temporary, path)
    return {'schema': path, 'rows': frame.height, 'label': label, **kinds}


@dataclasses.dataclass(frozen=True)
class _Column:
    """Statistics of a column."""

    rows: int
    missing: int
    distinct: int
    examples: tuple[str, ...]
    numbers: pl.Series | None  # None where a value is no number
    lists: int  # length of the longest list; 0 where there are none
    separator: str

    @classmethod
    def of(cls, values: pl.Series) -> _Column:
        rows, missing = len(values), values.null_count()
        values = values.drop_nulls()
        if values.dtype == pl.List(pl.String):
            flat = values.list.explode(empty_as_null=False, keep_nulls=False).drop_nulls()
            longest = int(values.list.len().to_numpy().max(initial=0))
            return cls(rows, missing, flat.n_unique(), _examples(flat), None, max(longest, 1), '')
        cast = values.cast(pl.Float64, strict=False)
        numbers = cast if len(values) and not cast.null_count() else None
        separator, longest = '', 0
        if numbers is None and len(values):
            for candidate in _BAG_SEPARATORS:
                counts = values.str.count_matches(candidate, literal=True).to_numpy()
                if np.mean(counts > 0) > 0.2:
                    separator, longest = candidate, int(counts.max()) + 1
                    break
        return cls(rows, missing, values.n_unique(), _examples(values), numbers, longest, separator)

    @property
    def whole(self) -> bool:
        """Whether all values are whole numbers."""
        return self.numbers is not None and bool((self.numbers == self.numbers.floor()).all())

    def comment(self) -> str:
        found = [f'{self.distinct:,} values', f'{100 * self.missing / max(self.rows, 1):.1f} % missing']
        if self.numbers is not None and len(self.numbers):
            low, mean, high = self.numbers.min(), self.numbers.mean(), self.numbers.max()
            span = f'{low:g} to {high:g}, mean {mean:.4g}'  # type: ignore[str-bytes-safe]  # Float64's are floats
            found.append(span)
        return ', '.join(found) + (f'; such as {", ".join(self.examples)}' if self.examples else '')

    def proposal(self, name: str) -> tuple[str, list[str]]:
        """The proposed kind, and further lines of the column's entry."""
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
        return CATEGORICAL, ['min_count = 2'] if self.distinct > 1000 else []


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
