"""MovieLens tags: whether a user gives a movie a tag; 3 categorical fields."""

from __future__ import annotations

from dlf_jax.data.builders.indexed import Indexed
from dlf_jax.data.download.published_files import MOVIELENS_X1


class Movielens(Indexed):
    """MovielensLatest_x1: 1,404,801 / 401,372 / 200,686 rows, 33.3 % positive."""

    FIELDS = ('user_id', 'item_id', 'tag_id')
    RELEASE = MOVIELENS_X1
    INSTRUCTIONS = (
        'Set --config.dataset.download=True, or download train.csv, valid.csv and test.csv of '
        'reczoo/MovielensLatest_x1 from the Hugging Face hub (research use only) and give their paths: '
        '--config.dataset.train=.../train.csv --config.dataset.valid=.../valid.csv '
        '--config.dataset.test=.../test.csv'
    )
