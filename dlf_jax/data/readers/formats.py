"""Tables in formats of their own: libFM lines, and the columns of Avazu's hour."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import polars as pl

from dlf_jax.data.readers.base import WrappedTable
from dlf_jax.data.readers.chunk import Chunk, Columns
from dlf_jax.data.readers.file_kinds import TEXT, kind
from dlf_jax.data.readers.text_blocks import first_line
from dlf_jax.data.readers.text_table import TextTable
from dlf_jax.errors import UserError

_LIBFM_LINE = re.compile(r'[-+]?[0-9.]+( \d+:\S+)+\s*')
HOUR_COLUMNS = ('hour_of_day', 'weekday', 'is_weekend')


def is_libfm(path: str) -> bool:
    """Whether a text file begins with a line such as `1 34:1 981:1`."""
    return kind(path) == TEXT and bool(_LIBFM_LINE.fullmatch(first_line(path)))


class LibfmTable(WrappedTable):
    """libFM files of lines `label index:1 index:1 ...`, with one index per field in the fields' order.

    An index is a category.
    """

    @classmethod
    def open(cls, paths: tuple[str, ...], label: str, fields: Sequence[str]) -> LibfmTable:
        """Opens files.

        Args:
          paths: the files.
          label: name of the label's column.
          fields: names of the fields' columns.
        """
        return cls(TextTable(paths, ' ', (label, *fields), quote=False, strip=True))

    def _made(self, chunk: Chunk, columns: Columns) -> Chunk:
        del columns
        frame, label = chunk.frame, self.columns[0]
        for name in frame.columns:
            if name == label:
                continue
            wrong = (~frame[name].str.contains(r'^\d+:1(\.0*)?$')).fill_null(True).arg_true()
            if len(wrong):
                raise UserError(
                    f'{chunk.where(wrong[0])}: field {name!r}: expected an index and a 1, such as '
                    f'34:1, found {frame[name][wrong[0]]!r}'
                )
            frame = frame.with_columns(pl.col(name).str.replace(r':.*$', ''))
        return dataclasses.replace(chunk, frame=frame)


class HourTable(WrappedTable):
    """Table whose column `hour` (YYMMDDHH) also gives the columns `HOUR_COLUMNS`.

    These are the hour of the day (0 to 23), the weekday (1 is Monday) and 1 on Saturdays and Sundays, else 0.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Table.columns`."""
        return (*self.table.columns, *HOUR_COLUMNS)

    def _needed(self, columns: Columns) -> Columns:
        derived = {*columns.text, *columns.keep}.intersection(HOUR_COLUMNS)
        text = (*(name for name in columns.text if name not in derived), *(['hour'] if derived else []))
        keep = tuple(name for name in columns.keep if name not in derived)
        return dataclasses.replace(columns, text=text, keep=keep)

    def _made(self, chunk: Chunk, columns: Columns) -> Chunk:
        if not {*columns.text, *columns.keep}.intersection(HOUR_COLUMNS):
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
        derived = [
            at.dt.hour().cast(pl.String).alias('hour_of_day'),
            weekday.cast(pl.String).alias('weekday'),
            (weekday > 5).cast(pl.Int8).cast(pl.String).alias('is_weekend'),
        ]
        kept = None
        if columns.keep:
            read = [] if chunk.kept is None else chunk.kept.get_columns()
            kept = pl.DataFrame([*read, *derived]).select(columns.keep)
        frame = chunk.frame.with_columns(derived).select(columns.typed)
        return dataclasses.replace(chunk, frame=frame, kept=kept)
