"""Criteo: a week of display ad clicks, with 13 columns of numbers and 26 of categories."""

from __future__ import annotations

import re
from pathlib import Path

from ml_collections import ConfigDict

from dlf_jax.data.builders.base import Builder
from dlf_jax.data.download.published_files import CRITEO_RAW, CRITEO_X1, Published
from dlf_jax.data.readers.file_kinds import TEXT, kind
from dlf_jax.data.readers.tables import Table, open_table
from dlf_jax.data.readers.text_blocks import first_line
from dlf_jax.data.schema import Schema

NUMBERS = tuple(f'I{i}' for i in range(1, 14))
CATEGORIES = tuple(f'C{i}' for i in range(1, 27))
# Names of the files of the terabyte log.
_DAY = r'day_\d+(\.gz)?'


class Criteo(Builder):
    """Criteo_x1 (33,003,326 / 8,250,124 / 4,587,167 rows), the raw train.txt of Kaggle, or the terabyte log.

    The days of the latter (day_0 to day_23) are lines of the form of Kaggle's file.

    `dataset.treatment='auto'` stands for `none` for x1, whose numbers are normalised, and for `log2` (the
    categories of the competition's winners) for the raw form.
    """

    RELEASE = CRITEO_X1
    INSTRUCTIONS = (
        'Set --config.dataset.download=True, or download train.csv, valid.csv and test.csv of '
        'reczoo/Criteo_x1 from the Hugging Face hub and give their '
        'paths (--config.dataset.train=..., .valid=..., .test=...), or '
        "Kaggle's train.txt (45,840,617 tab-separated lines without a header), plain or .gz, as "
        '--config.dataset.train=.../train.txt: it is then split 7:2:1; or days of the terabyte log '
        "(--config.dataset.train='.../day_?.gz', .valid=.../day_23.gz). "
        'Without the files, --dataset=synthetic trains on embedded data of the same shape'
    )

    @classmethod
    def open_files(cls, config: ConfigDict, paths: tuple[str, ...]) -> Table:
        if not _is_raw(paths[0]):
            return super().open_files(config, paths)
        # Kaggle's files have no header; its test.txt has no label either.
        columns: tuple[str, ...] = ('label', *NUMBERS, *CATEGORIES)
        if first_line(paths[0]).count('\t') == len(columns) - 2:
            columns = columns[1:]
        return open_table(paths, separator='\t', columns=columns, quote=False)

    def release_of(self, table: Table) -> Published | None:
        if all(re.fullmatch(_DAY, Path(path).name) for path in table.paths):
            # The terabyte log's form is that of Kaggle's file, which is another sample.
            return None
        return CRITEO_RAW if _is_kaggle(table) else CRITEO_X1

    def make_schema(self, table: Table) -> Schema:
        treatment = 'log2' if _is_kaggle(table) else 'none'
        numbers = (self.number(name, treatment) for name in NUMBERS)
        return Schema((*numbers, *(self.categorical(name) for name in CATEGORIES)), 'label')


def _is_raw(path: str) -> bool:
    """Whether a file has the raw form: 40 fields by tabs, or 39 without the label, and no header line."""
    if kind(path) != TEXT:
        return False
    fields = first_line(path).split('\t')
    return len(fields) in (len(NUMBERS) + len(CATEGORIES), len(NUMBERS) + len(CATEGORIES) + 1) and (
        NUMBERS[0] not in fields
    )


def _is_kaggle(table: Table) -> bool:
    """Whether the files have Kaggle's values, whose numbers are counts; Parquet is taken to hold them."""
    return _is_raw(table.paths[0]) or kind(table.paths[0]) != TEXT
