"""Avazu: ten days of mobile ad clicks, with 22 categorical fields, or 24."""

from __future__ import annotations

from ml_collections import ConfigDict

from dlf_jax.data.builders.base import CATEGORY_KEYS, FILE_KEYS, SPLIT_KEYS, Builder
from dlf_jax.data.download.published_files import AVAZU_RAW, AVAZU_X1, Published
from dlf_jax.data.readers.formats import HOUR_COLUMNS, HourTable
from dlf_jax.data.readers.tables import Table
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UserError

X1_FIELDS = tuple(f'feat_{i}' for i in range(1, 23))
RAW_FIELDS = (
    'hour', 'C1', 'banner_pos', 'site_id', 'site_domain', 'site_category', 'app_id', 'app_domain',
    'app_category', 'device_id', 'device_ip', 'device_model', 'device_type', 'device_conn_type',
    'C14', 'C15', 'C16', 'C17', 'C18', 'C19', 'C20', 'C21',
)  # fmt: skip


class Avazu(Builder):
    """Avazu_x1 (28,300,276 / 4,042,897 / 8,085,794 rows), or the raw train.csv of Kaggle.

    In the raw form, `id` is no feature, and `hour` is a category; with `dataset.hour='parts'` it becomes
    three: the hour of the day, the weekday and whether it is a weekend.
    """

    KEYS = {**FILE_KEYS, **SPLIT_KEYS, **CATEGORY_KEYS, 'hour': 'category'}
    RELEASE = AVAZU_X1
    INSTRUCTIONS = (
        'Set --config.dataset.download=True, or download train.csv, valid.csv and test.csv of '
        'reczoo/Avazu_x1 from the Hugging Face hub and give their '
        'paths (--config.dataset.train=..., .valid=..., .test=...), or '
        "Kaggle's train.csv (competition avazu-ctr-prediction), plain or .gz, as "
        '--config.dataset.train=.../train.csv: it is then split 7:2:1'
    )

    @classmethod
    def with_derived(cls, config: ConfigDict, table: Table) -> Table:
        return HourTable(table) if 'hour' in table.columns and config.hour == 'parts' else table

    def release_of(self, table: Table) -> Published | None:
        return AVAZU_RAW if 'click' in table.columns else AVAZU_X1

    def make_schema(self, table: Table) -> Schema:
        by_parts = self.dataset.hour == 'parts'
        if 'click' not in table.columns:
            if by_parts:
                raise UserError(
                    f"config.dataset.hour='parts': {table.name} has no column 'hour', only Kaggle's raw "
                    "form has; leave it at 'category'"
                )
            return Schema(tuple(self.categorical(name) for name in X1_FIELDS), 'label')
        names = (*HOUR_COLUMNS, *RAW_FIELDS[1:]) if by_parts else RAW_FIELDS
        return Schema(tuple(self.categorical(name) for name in names), 'click')
