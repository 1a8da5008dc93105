"""Columns that the folders of a file's path name, as in `logs/day=2026-11-01/part-0.parquet` (Hive)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from urllib.parse import unquote

import polars as pl

from dlf_jax.data.readers.base import Table, WrappedTable
from dlf_jax.data.readers.chunk import Chunk, Columns, to_numbers
from dlf_jax.errors import UserError

# What Hive, Spark and others write for a missing value.
_MISSING = '__HIVE_DEFAULT_PARTITION__'


def partition_values(path: str) -> dict[str, str | None]:
    """Values by column that the folders of a path name; None where missing. The innermost folder wins."""
    found: dict[str, str | None] = {}
    for part in PurePath(path).parts[:-1]:
        name, sign, value = part.partition('=')
        if sign and name:
            value = unquote(value)
            found[unquote(name)] = None if value in ('', _MISSING) else value
    return found


class PartitionedTable(WrappedTable):
    """Table whose files' folders give further columns of text; a column of the files wins over a folder's."""

    def __init__(self, table: Table, added: tuple[str, ...], absent: Mapping[str, str]):
        """Adds columns; `of` finds out which.

        Args:
          table: the files.
          added: names of the columns that the folders give, in the order of the first path.
          absent: see `Table.absent`.
        """
        super().__init__(table)
        self._added, self._absent = added, absent

    @classmethod
    def of(cls, table: Table) -> Table:
        """The table with the columns of its folders; the table itself where they give none."""
        values = {path: partition_values(path) for path in table.paths}
        first = values[table.paths[0]]
        lacking = {
            name: path
            for path in reversed(table.paths)
            for name in first
            if name not in values[path] and name not in table.columns
        }
        # A column that only some of the files have is absent, whatever the folders say.
        absent = {**lacking, **table.absent}
        added = tuple(name for name in first if name not in absent and name not in table.columns)
        if not (added or lacking):
            return table
        return cls(table, added, absent)

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Table.columns`; those of the folders are last."""
        columns = self.table.columns
        # Of the same type, which may know more names than it lists (`indexed_lines`).
        return type(columns)((*columns, *self._added))

    @property
    def absent(self) -> Mapping[str, str]:
        """See `Table.absent`."""
        return self._absent

    @property
    def folder_columns(self) -> tuple[str, ...]:
        """See `Table.folder_columns`."""
        return self._added

    def _own(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name not in self._added)

    def _needed(self, columns: Columns) -> Columns:
        text, numbers, keep = map(self._own, (columns.text, columns.numbers, columns.keep))
        if not (text or numbers or keep):
            # Any column, to know the number of rows.
            if not self.table.columns:
                raise UserError(f'{self.name}: no column is in all of the files')
            keep = self.table.columns[:1]
        return dataclasses.replace(columns, text=text, numbers=numbers, keep=keep)

    def _made(self, chunk: Chunk, columns: Columns) -> Chunk:
        wanted = set(self._added).intersection((*columns.typed, *columns.keep))
        if not wanted:
            return chunk
        values = partition_values(chunk.path)
        rows = chunk.frame.height if chunk.frame.width or chunk.kept is None else chunk.kept.height
        added = {name: pl.repeat(values[name], rows, dtype=pl.String, eager=True) for name in wanted}
        read = {column.name: column for column in chunk.frame.get_columns()}
        for name, column in added.items():
            column = added[name] = column.alias(name)
            if name in columns.numbers:
                column = to_numbers(chunk, column, columns.missing.get(name, ()))
            read[name] = column
        kept = None
        if columns.keep:
            there = [] if chunk.kept is None else chunk.kept.get_columns()
            kept = pl.DataFrame([*there, *added.values()]).select(columns.keep)
        frame = pl.DataFrame([read[name] for name in columns.typed])
        return dataclasses.replace(chunk, frame=frame, kept=kept)
