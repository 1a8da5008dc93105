"""Tables: files of rows (CSV, TSV, Parquet; globs, .gz) as a stream of chunks of typed columns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from dlf_jax.data.readers.chunk import Chunk, Columns
from dlf_jax.data.readers.parquet_table import ParquetTable, join_families
from dlf_jax.data.readers.text_table import SEPARATORS, TextTable
from dlf_jax.errors import UserError


class Table(Protocol):
    """Rows of one or more files of the same format, or rows that are generated."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The files; empty where the rows are generated."""

    @property
    def name(self) -> str:
        """The files, for error messages."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in file order."""

    @property
    def absent(self) -> Mapping[str, str]:
        """Columns of the first file that another file lacks, and which."""

    @property
    def families(self) -> Mapping[str, tuple[str, str]]:
        """By column with a type of its own: 'numbers', 'booleans' or 'dates or times', and a file with it.

        Raises:
          UserError: files of the table disagree.
        """

    @property
    def size(self) -> int:
        """Sum of the chunks' sizes, for the time left; 0 where it is not known."""

    def chunks(self, columns: Columns) -> Iterator[Chunk]:
        """Yields all rows in order.

        Args:
          columns: which columns, and as what.

        Raises:
          UserError: a row that cannot be read, named by its line; or no rows.
        """

    def places(self, file: int) -> Iterator[tuple[tuple, int]]:
        """Yields (place, number of rows) for each chunk of `paths[file]`; workers `read` one place each."""

    def read(self, place: tuple, columns: Columns) -> Chunk:
        """Reads the chunk at a place, with the arguments and errors of `chunks`."""


def expand(spec: str | Sequence[str], key: str) -> tuple[str, ...]:
    """Paths that a flag or config value names.

    Args:
      spec: one path, several separated by commas, or a glob.
      key: the flag or config key, for error messages.

    Raises:
      UserError: a path that does not exist or is a folder, or no path at all.
    """
    names = [name.strip() for name in spec.split(',')] if isinstance(spec, str) else list(spec)
    paths: list[str] = []
    for name in filter(None, names):
        name = os.path.expanduser(name)
        found = sorted(glob.glob(name)) if glob.has_magic(name) and not Path(name).exists() else [name]
        if not found:
            raise UserError(f'{key}: no file matches {name!r}')
        for path in found:
            if Path(path).is_dir():
                raise UserError(f'{key}: {path} is a folder; name the files, for example {path}/*.csv')
            if not Path(path).is_file():
                raise UserError(f'{key}: no such file: {path}')
        paths += found
    if not paths:
        raise UserError(f'{key}: no file named')
    return tuple(paths)


def open_table(
    paths: Sequence[str], *, separator: str = '', columns: Sequence[str] = (), quote: bool = True
) -> Table:
    """Opens files as a table, by the ending of the first name: `.parquet` or `.pq`, else text (or `.gz`).

    Args:
      paths: files of the same format, read one after the other.
      separator: character between the fields of text files; '' stands for a tab in `.tsv` and `.txt`
        files and a comma in others.
      columns: names of the columns, for text files without a header line.
      quote: whether fields of text files may stand in double quotes.

    Raises:
      UserError: a file that cannot be opened, or a damaged header line.
    """
    first = paths[0].lower().removesuffix('.gz')
    if first.endswith(('.parquet', '.pq')):
        return ParquetTable(tuple(paths))
    if not separator:
        separator = '\t' if first.endswith(('.tsv', '.txt')) else ','
    return TextTable(tuple(paths), separator, tuple(columns), quote)


def families(
    found: Sequence[Table], columns: Sequence[str], known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What columns with a type of their own hold, by name: 'numbers', 'booleans' or 'dates or times'.

    Args:
      found: tables that are to have the same values.
      columns: names of the columns that count.
      known: what the columns held in training, for tables to be scored.

    Raises:
      UserError: two tables disagree, so that no value of one is a value of the other.
    """
    joined = {name: (family, 'the training data') for name, family in (known or {}).items()}
    for table in found:
        join_families(joined, {n: f for n, f in table.families.items() if n in columns})
    return {name: family for name, (family, _) in sorted(joined.items())}


def check_columns(table: Table, wanted: Sequence[str], why: str) -> None:
    """Checks that a table has the wanted columns.

    Args:
      table: the table.
      wanted: names of columns.
      why: what they are needed for, for the error message.

    Raises:
      UserError: names the first missing column, and the separator where that looks wrong.
    """
    for name in wanted:
        if name not in table.columns:
            if name in table.absent:
                raise UserError(
                    f'{table.absent[name]}: no column {name!r} ({why}), which {table.paths[0]} has'
                )
            found = ', '.join(table.columns[:12]) + (', ...' if len(table.columns) > 12 else '')
            hint = ''
            if len(table.columns) == 1:
                other = [s for s in SEPARATORS if s in table.columns[0]]
                if other:
                    hint = (
                        f'; the separator looks like {SEPARATORS[other[0]]}: '
                        f'set --config.dataset.separator={other[0]!r}'
                    )
            raise UserError(f'{table.name}: no column {name!r} ({why}); found: {found}{hint}')
