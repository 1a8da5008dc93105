"""MovieLens tags: whether a user gives a movie a tag; 3 categorical fields."""

from __future__ import annotations

from dlf_jax.data.builders.base import Builder
from dlf_jax.data.schema import Schema


class Movielens(Builder):
    """MovielensLatest_x1: 1,404,801 / 401,372 / 200,686 rows, 33.3 % positive."""

    INSTRUCTIONS = (
        'Download train.csv, valid.csv and test.csv of the dataset reczoo/MovielensLatest_x1 from the '
        'Hugging Face hub (research use only) and give their paths: '
        '--config.dataset.train=.../train.csv --config.dataset.valid=.../valid.csv '
        '--config.dataset.test=.../test.csv'
    )

    def make_schema(self, table):
        del table
        names = ('user_id', 'item_id', 'tag_id')
        return Schema(tuple(self.categorical(name) for name in names), 'label')
