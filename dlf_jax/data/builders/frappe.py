"""Frappe: which app a user takes in which context; 10 categorical fields."""

from __future__ import annotations

from dlf_jax.data.builders.indexed import Indexed
from dlf_jax.data.download.published_files import FRAPPE_X1


class Frappe(Indexed):
    """Frappe_x1 (Baltrunas et al. 2015): 202,027 / 57,722 / 28,860 rows, 33.3 % positive."""

    FIELDS = (
        'user', 'item', 'daytime', 'weekday', 'isweekend', 'homework', 'cost', 'weather', 'country',
        'city',
    )  # fmt: skip
    RELEASE = FRAPPE_X1
    INSTRUCTIONS = (
        'Set --config.dataset.download=True, or download train.csv, valid.csv and test.csv of '
        'reczoo/Frappe_x1 from the Hugging Face hub (research use only) and give their '
        'paths: --config.dataset.train=.../train.csv '
        '--config.dataset.valid=.../valid.csv --config.dataset.test=.../test.csv'
    )
