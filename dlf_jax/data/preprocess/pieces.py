"""Chunks of tables before they are read, numbered as one machine would read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from dlf_jax.data.readers.chunk import Chunk, Columns
from dlf_jax.data.readers.tables import Table
from dlf_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Piece:
    """Chunk of a table before it is read.

    Attributes:
      table: key of the table in `Task.tables`.
      number: number of the chunk in its table.
      place: place of the chunk, for `Table.read`.
      first: number of the chunk's first row in the table.
      rows: number of rows.
    """

    table: str
    number: int
    place: tuple
    first: int
    rows: int

    def read(self, table: Table, columns: Columns) -> Chunk:
        """Reads the chunk.

        Args:
          table: that of the key.
          columns: see `Table.read`.

        Raises:
          UserError: rows that cannot be read, or another number of rows than before.
        """
        chunk = table.read(self.place, columns)
        if chunk.frame.height != self.rows:
            raise UserError(
                f'{chunk.path}: changed while it was prepared; run the same command again once it is whole'
            )
        return chunk


def numbered(table: str, files: Iterable[Iterable[tuple[tuple, int]]]) -> list[Piece]:
    """The chunks of a table.

    Args:
      table: its key in `Task.tables`.
      files: `Table.places` of each of its files, in their order.
    """
    pieces: list[Piece] = []
    first = 0
    for places in files:
        for place, rows in places:
            pieces.append(Piece(table, len(pieces), tuple(place), first, rows))
            first += rows
    return pieces
