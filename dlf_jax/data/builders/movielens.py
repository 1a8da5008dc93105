"""MovieLens tags: whether a user gives a movie a tag; 3 categorical fields."""

from __future__ import annotations

from dlf_jax.data.builders.base import Builder
from dlf_jax.data.forms import LibfmTable, is_libfm
from dlf_jax.data.published import MOVIELENS_X1
from dlf_jax.data.schema import Schema

FIELDS = ('user_id', 'item_id', 'tag_id')


class Movielens(Builder):
    """MovielensLatest_x1: 1,404,801 / 401,372 / 200,686 rows, 33.3 % positive."""

    PUBLISHED = MOVIELENS_X1
    INSTRUCTIONS = (
        'Set --config.dataset.download=True, or download train.csv, valid.csv and test.csv of '
        'reczoo/MovielensLatest_x1 from the Hugging Face hub (research use only) and give their paths: '
        '--config.dataset.train=.../train.csv --config.dataset.valid=.../valid.csv '
        '--config.dataset.test=.../test.csv'
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
