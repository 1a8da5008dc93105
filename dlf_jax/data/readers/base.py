"""Tables: what all of them offer, and the base of those that are made of another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from dlf_jax.data.readers.chunk import Chunk, Columns


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
    def folder_columns(self) -> tuple[str, ...]:
        """Names of the columns that folders such as `day=1` give."""

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

    def places(self, file: int, unpacked: str = '') -> Iterator[tuple[tuple, int]]:
        """Yields (place, number of rows) for each chunk of `paths[file]`; workers `read` one place each.

        Args:
          file: number of the file.
          unpacked: file for the text of a packed file, where that is the only way to begin in its midst;
            '': there is none.

        Raises:
          UserError: a file that cannot be read, or has no places.
        """

    def read(self, place: tuple, columns: Columns) -> Chunk:
        """Reads the chunk at a place, with the arguments and errors of `chunks`."""


class WrappedTable:
    """Table that is made of another one; a `Table`, of which a subclass overrides what differs."""

    def __init__(self, table: Table):
        """Takes the other table.

        Args:
          table: opened.
        """
        self.table = table

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Table.paths`."""
        return self.table.paths

    @property
    def name(self) -> str:
        """See `Table.name`."""
        return self.table.name

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Table.columns`."""
        return self.table.columns

    @property
    def absent(self) -> Mapping[str, str]:
        """See `Table.absent`."""
        return self.table.absent

    @property
    def folder_columns(self) -> tuple[str, ...]:
        """See `Table.folder_columns`."""
        return self.table.folder_columns

    @property
    def families(self) -> Mapping[str, tuple[str, str]]:
        """See `Table.families`."""
        return self.table.families

    @property
    def size(self) -> int:
        """See `Table.size`."""
        return self.table.size

    def chunks(self, columns: Columns) -> Iterator[Chunk]:
        """See `Table.chunks`."""
        for chunk in self.table.chunks(self._needed(columns)):
            yield self._made(chunk, columns)

    def places(self, file: int, unpacked: str = '') -> Iterator[tuple[tuple, int]]:
        """See `Table.places`."""
        return self.table.places(file, unpacked)

    def read(self, place: tuple, columns: Columns) -> Chunk:
        """See `Table.read`."""
        return self._made(self.table.read(place, self._needed(columns)), columns)

    def _needed(self, columns: Columns) -> Columns:
        """The columns of the other table that the wanted ones are made of."""
        return columns

    def _made(self, chunk: Chunk, columns: Columns) -> Chunk:
        """The wanted columns, made of a chunk of the needed ones."""
        del columns
        return chunk
