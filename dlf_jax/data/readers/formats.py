"""Files whose columns are not yet what a feature is made of: libFM lines, Avazu's hour."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence

import polars as pl

from dlf_jax.data.readers.tables import Chunk, Table, TextTable, read_first_line
from dlf_jax.errors import UserError

_LIBFM_LINE = re.compile(r'[-+]?[0-9.]+( \d+:\S+)+\s*')
HOUR_PARTS = ('hour_of_day', 'weekday', 'is_weekend')


def is_libfm(path: str) -> bool:
    """Whether a text file begins with a line such as `1 34:1 981:1`."""
    if path.lower().endswith(('.parquet', '.pq')):
        return False
    return bool(_LIBFM_LINE.fullmatch(read_first_line(path)))


@dataclasses.dataclass(frozen=True)
class LibfmTable:
    """libFM lines `label index:1 index:1 ...` with one index for each field, in the fields' order.

    An index is taken as the category; a label of -1 is 0.
    """

    text: TextTable

    @classmethod
    def open(cls, paths: tuple[str, ...], label: str, fields: Sequence[str]) -> LibfmTable:
        """Files without a header line."""
        return cls(TextTable(paths, ' ', (label, *fields), quote=False, strip=True))

    @property
    def paths(self) -> tuple[str, ...]:
        return self.text.paths

    @property
    def name(self) -> str:
        return self.text.name

    @property
    def columns(self) -> tuple[str, ...]:
        return self.text.columns

    @property
    def size(self) -> int:
        return self.text.size

    def chunks(self, text: Sequence[str], numbers: Sequence[str]) -> Iterator[Chunk]:
        return map(self._categories, self.text.chunks(text, numbers))

    def pieces(self, file: int) -> Iterator[tuple[tuple, int]]:
        return self.text.pieces(file)

    def piece(self, place: tuple, text: Sequence[str], numbers: Sequence[str]) -> Chunk:
        return self._categories(self.text.piece(place, text, numbers))

    def _categories(self, chunk: Chunk) -> Chunk:
        frame, label = chunk.frame, self.columns[0]
        for name in frame.columns:
            if name == label:
                frame = frame.with_columns(pl.col(label).replace(-1.0, 0.0))
                continue
            wrong = (~frame[name].str.contains(r'^\d+:1(\.0*)?$')).fill_null(True).arg_true()
            if len(wrong):
                raise UserError(
                    f'{chunk.where(wrong[0])}: field {name!r}: expected an index and a 1, such as '
                    f'34:1, found {frame[name][wrong[0]]!r}'
                )
            frame = frame.with_columns(pl.col(name).str.replace(r':.*$', ''))
        return dataclasses.replace(chunk, frame=frame)


@dataclasses.dataclass(frozen=True)
class HourTable:
    """A table whose column `hour`, YYMMDDHH, also gives `HOUR_PARTS`: the hour of the day (0 to 23),
    the weekday (1 is Monday) and whether it is a Saturday or Sunday (0 or 1)."""

    table: Table

    @property
    def paths(self) -> tuple[str, ...]:
        return self.table.paths

    @property
    def name(self) -> str:
        return self.table.name

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.table.columns, *HOUR_PARTS)

    @property
    def size(self) -> int:
        return self.table.size

    def chunks(self, text: Sequence[str], numbers: Sequence[str]) -> Iterator[Chunk]:
        for chunk in self.table.chunks(self._needed(text), numbers):
            yield self._with_parts(chunk, text, numbers)

    def pieces(self, file: int) -> Iterator[tuple[tuple, int]]:
        return self.table.pieces(file)

    def piece(self, place: tuple, text: Sequence[str], numbers: Sequence[str]) -> Chunk:
        return self._with_parts(self.table.piece(place, self._needed(text), numbers), text, numbers)

    @staticmethod
    def _needed(text: Sequence[str]) -> list[str]:
        """The columns to read for those asked for."""
        return list(dict.fromkeys('hour' if name in HOUR_PARTS else name for name in text))

    @staticmethod
    def _with_parts(chunk: Chunk, text: Sequence[str], numbers: Sequence[str]) -> Chunk:
        if not set(text) & set(HOUR_PARTS):
            return chunk
        hour = chunk.frame['hour']
        at = ('20' + hour + '00').str.to_datetime('%Y%m%d%H%M', strict=False)
        wrong = (at.is_null() | ~hour.str.contains(r'^\d{8}$')).arg_true()
        if len(wrong):
            raise UserError(
                f"{chunk.where(wrong[0])}: column 'hour': expected YYMMDDHH, such as 14102100, "
                f'found {hour[wrong[0]]!r}'
            )
        weekday = at.dt.weekday()
        frame = chunk.frame.with_columns(
            hour_of_day=at.dt.hour().cast(pl.String),
            weekday=weekday.cast(pl.String),
            is_weekend=(weekday > 5).cast(pl.Int8).cast(pl.String),
        )
        return dataclasses.replace(chunk, frame=frame.select(*text, *numbers))
