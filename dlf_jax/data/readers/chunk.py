"""Chunk of rows of a file, which knows the line or row number of each of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a file.

    Attributes:
      frame: the rows; text columns as String, number columns as Float64, empty fields null.
      path: the file.
      first: line number (text) or row number (Parquet) of the first row, counted from 1.
      raw: the text that the rows were parsed from; None for other formats.
    """

    frame: pl.DataFrame
    path: str
    first: int
    raw: bytes | None = None

    @property
    def size(self) -> int:
        """Share of the table's `size`: bytes of text, or rows."""
        return self.frame.height if self.raw is None else len(self.raw)

    def where(self, row: int) -> str:
        """Location of a row of the frame for an error message: `file, line N` or `file, row N`."""
        if self.raw is None:
            return f'{self.path}, row {self.first + row}'
        if b'"' not in self.raw:
            return f'{self.path}, line {self.first + row}'
        # A row with a line end inside quotes spans several lines.
        quotes = np.cumsum([text.count(b'"') for text in self.raw.split(b'\n')])
        starts = np.flatnonzero(np.concatenate([[0], quotes[:-1]]) % 2 == 0)
        return f'{self.path}, line {self.first + int(starts[row])}'
