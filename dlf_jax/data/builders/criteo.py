"""Criteo: a week of display ad clicks, with 13 columns of numbers and 26 of categories."""

from __future__ import annotations

from ml_collections import ConfigDict

from dlf_jax.data.builders.base import Builder
from dlf_jax.data.download.published_files import CRITEO_RAW, CRITEO_X1, Published
from dlf_jax.data.readers.tables import Table, open_table
from dlf_jax.data.readers.text_blocks import first_line
from dlf_jax.data.schema import Schema

NUMBERS = tuple(f'I{i}' for i in range(1, 14))
CATEGORIES = tuple(f'C{i}' for i in range(1, 27))


class Criteo(Builder):
    """Criteo_x1 (33,003,326 / 8,250,124 / 4,587,167 rows), or the raw train.txt of Kaggle.

    `dataset.treatment='auto'` stands for `none` for x1, whose numbers are normalised, and for `log2` (the
    categories of the competition's winners) for the raw form.
    """

    RELEASE = CRITEO_X1
    INSTRUCTIONS = (
        'Set --config.dataset.download=True, or download train.csv, valid.csv and test.csv of '
        'reczoo/Criteo_x1 from the Hugging Face hub and give their '
        'paths (--config.dataset.train=..., .valid=..., .test=...), or '
        "Kaggle's train.txt (45,840,617 tab-separated lines without a header), plain or .gz, as "
        '--config.dataset.train=.../train.txt: it is then split 7:2:1. '
        'Without the files, --dataset=synthetic trains on embedded data of the same shape'
    )

    @classmethod
    def open_files(cls, config: ConfigDict, paths: tuple[str, ...]) -> Table:
        if not paths[0].lower().removesuffix('.gz').endswith('.txt'):
            return super().open_files(config, paths)
        # Kaggle's files have no header; its test.txt has no label either.
        columns: tuple[str, ...] = ('label', *NUMBERS, *CATEGORIES)
        if first_line(paths[0]).count('\t') == len(columns) - 2:
            columns = columns[1:]
        return open_table(paths, separator='\t', columns=columns, quote=False)

    def release_of(self, table: Table) -> Published | None:
        return CRITEO_RAW if _is_raw(table) else CRITEO_X1

    def make_schema(self, table: Table) -> Schema:
        treatment = 'log2' if _is_raw(table) else 'none'
        numbers = (self.number(name, treatment) for name in NUMBERS)
        return Schema((*numbers, *(self.categorical(name) for name in CATEGORIES)), 'label')


def _is_raw(table: Table) -> bool:
    """Whether the files have Kaggle's form."""
    return not table.paths[0].lower().removesuffix('.gz').endswith('.csv')
