"""Opening of files as tables (text, Parquet, libSVM, libFFM), and checks of their columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dlf_jax.data.readers import file_kinds, indexed_lines, text_blocks
from dlf_jax.data.readers.arrow_columns import join_families
from dlf_jax.data.readers.base import Table as Table
from dlf_jax.data.readers.indexed_lines import LibffmTable, LibsvmTable
from dlf_jax.data.readers.parquet_table import ParquetTable
from dlf_jax.data.readers.partitions import PartitionedTable
from dlf_jax.data.readers.paths import expand as expand
from dlf_jax.data.readers.text_table import SEPARATORS, TextTable, find_separator
from dlf_jax.errors import UserError

# Formats of files: found out, or as they are called.
AUTO = 'auto'
FORMATS = (AUTO, 'text', 'parquet', 'libsvm', 'libffm')


def open_table(
    paths: Sequence[str],
    *,
    separator: str = '',
    columns: Sequence[str] = (),
    quote: bool = True,
    format: str = AUTO,
) -> Table:
    """Opens files as a table, by their first bytes; folders such as `day=1` in their paths are columns.

    Args:
      paths: files of the same format, read one after the other.
      separator: character between the fields of text files; '' stands for a tab in `.tsv` and `.txt`
        files and a comma in others.
      columns: names of the columns, for text files without a header line.
      quote: whether fields of text files may stand in double quotes.
      format: one of `FORMATS`; `AUTO` looks at the first lines of the first file, unless there are columns.

    Raises:
      UserError: a file that cannot be opened or is none of these, or a damaged header line.
    """
    return PartitionedTable.of(_open(tuple(paths), separator, tuple(columns), quote, format))


def _open(
    paths: tuple[str, ...],
    separator: str,
    columns: tuple[str, ...],
    quote: bool,
    format: str,
) -> Table:
    kind = file_kinds.common_kind(paths)
    if format not in (AUTO, 'parquet' if kind == file_kinds.PARQUET else format):
        raise UserError(f'{paths[0]}: a Parquet file; config.dataset.format={format!r} is not for it')
    if kind == file_kinds.PARQUET:
        if columns:
            raise UserError(
                f'{paths[0]}: a Parquet file, which names its columns; leave config.dataset.columns out'
            )
        return ParquetTable(paths)
    if format == 'parquet':
        raise UserError(f"{paths[0]}: a text file; config.dataset.format='parquet' is not for it")
    if format == AUTO:
        # A separator and names are for text alone.
        format = 'text' if columns or separator else indexed_lines.format_of(paths[0]) or 'text'
    if format == 'libsvm':
        return LibsvmTable(paths)
    if format == 'libffm':
        return LibffmTable(paths)
    return TextTable(paths, separator or _default_separator(paths[0]), columns, quote)


def fields_of_first_row(path: str, separator: str = '') -> int:
    """Number of fields of a text file's first line.

    Args:
      path: the file.
      separator: as for `open_table`.
    """
    line = text_blocks.first_line(path).lstrip('\ufeff')
    sign = find_separator(line, separator or _default_separator(path))
    # A separator in quotes separates nothing.
    return text_blocks.unquoted(line.encode(), True).decode().count(sign) + 1


def _default_separator(path: str) -> str:
    return '\t' if path.lower().removesuffix('.gz').endswith(('.tsv', '.txt')) else ','


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
            hint = _header_hint(table.columns)
            raise UserError(f'{table.name}: no column {name!r} ({why}); found: {found}{hint}')


def _header_hint(columns: Sequence[str]) -> str:
    """What may be wrong with a header line, as the end of an error message; '' where nothing seems to be."""
    if columns and columns[0].startswith('#'):
        return (
            "; the first line begins with '#', and a header line has the columns' names alone: "
            'remove the line, or the sign'
        )
    if len(columns) == 1:
        other = [s for s in SEPARATORS if s in columns[0]]
        if other:
            return (
                f'; the separator looks like {SEPARATORS[other[0]]}: write the file with commas or, for '
                f'training, set --config.dataset.separator={other[0]!r}'
            )
    if any(re.fullmatch(r'[-+]?[0-9.]+|', column) for column in columns):
        return (
            '; the first line looks like a row: add a header line with the names of the columns or, for '
            "training, give them as --config.dataset.columns=\"('label','user',...)\""
        )
    return ''
