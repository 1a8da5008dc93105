"""Chunk of rows of a file, which knows the line or row number of each of them; the columns to read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from dlf_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns to read from a table, and what each is read as.

    Attributes:
      text: names of the columns to read as String, or as lists of it (from Parquet).
      numbers: names of the columns to read as Float64; a name that is in `text` too is read as text alone.
      keep: names of the columns to hand on as they are in the file, with their own type.
      missing: texts that stand for a missing value beside the empty one, by column.
    """

    text: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    missing: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        # Each name once, in the order of the first.
        object.__setattr__(self, 'text', tuple(dict.fromkeys(self.text)))
        numbers = (name for name in dict.fromkeys(self.numbers) if name not in self.text)
        object.__setattr__(self, 'numbers', tuple(numbers))
        object.__setattr__(self, 'keep', tuple(dict.fromkeys(self.keep)))

    @property
    def typed(self) -> list[str]:
        """Names of the columns of a chunk's `frame`, in their order."""
        return [*self.text, *self.numbers]


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a file.

    Attributes:
      frame: the rows; text columns as String, number columns as Float64, empty fields null.
      path: the file.
      first: line number (text) or row number (Parquet) of the first row, counted from 1.
      raw: the text that the rows were parsed from; None for other formats.
      kept: the columns of `Columns.keep` as they are in the file; text files have String alone. None where
        there are none.
    """

    frame: pl.DataFrame
    path: str
    first: int
    raw: bytes | None = None
    kept: pl.DataFrame | None = None

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
        if row >= len(starts):
            # Damaged quotes, which the parser has read in another way.
            return f'{self.path}, from line {self.first}'
        return f'{self.path}, line {self.first + int(starts[row])}'


def to_numbers(chunk: Chunk, text: pl.Series, missing: Sequence[str] = ()) -> pl.Series:
    """Numbers that texts are, Float64; null for empty ones.

    Args:
      chunk: chunk that the texts are from, for error messages.
      text: String [rows], called as its column.
      missing: further texts that stand for a missing number.

    Raises:
      UserError: text that is no number.
    """
    found = text.cast(pl.Float64, strict=False)
    wrong = (found.is_null() & text.is_not_null() & ~text.is_in(['', *missing])).arg_true()
    if len(wrong):
        raise UserError(
            f'{chunk.where(wrong[0])}: column {text.name!r}: expected a number, found {text[wrong[0]]!r}'
        )
    return found
