"""Frappe: which app a user takes in which context; 10 categorical fields."""

from __future__ import annotations

from dlf_jax.data.builders.base import Builder
from dlf_jax.data.forms import LibfmTable, is_libfm
from dlf_jax.data.published import FRAPPE_X1
from dlf_jax.data.schema import Schema

FIELDS = (
    'user', 'item', 'daytime', 'weekday', 'isweekend', 'homework', 'cost', 'weather', 'country',
    'city',
)  # fmt: skip


class Frappe(Builder):
    """Frappe_x1 (Baltrunas et al. 2015): 202,027 / 57,722 / 28,860 rows, 33.3 % positive."""

    PUBLISHED = FRAPPE_X1
    INSTRUCTIONS = (
        'Set --config.dataset.download=True, or download train.csv, valid.csv and test.csv of '
        'reczoo/Frappe_x1 from the Hugging Face hub (research use only) and give their '
        'paths: --config.dataset.train=.../train.csv '
        '--config.dataset.valid=.../valid.csv --config.dataset.test=.../test.csv'
    )

    @classmethod
    def open_files(cls, config, paths):
        return (
            LibfmTable.open(paths, 'label', FIELDS)
            if is_libfm(paths[0])
            else super().open_files(config, paths)
        )

    def published(self, table):
        return None if isinstance(table, LibfmTable) else self.PUBLISHED

    def make_schema(self, table):
        del table
        return Schema(tuple(self.categorical(name) for name in FIELDS), 'label')
