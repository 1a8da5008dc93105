"""Avazu: ten days of mobile ad clicks; 22 or 23 categorical fields."""

from __future__ import annotations

from dlf_jax.data.builders.base import Builder
from dlf_jax.data.schema import Schema

X1_FIELDS = tuple(f'feat_{i}' for i in range(1, 23))
RAW_FIELDS = (
    'hour', 'C1', 'banner_pos', 'site_id', 'site_domain', 'site_category', 'app_id', 'app_domain',
    'app_category', 'device_id', 'device_ip', 'device_model', 'device_type', 'device_conn_type',
    'C14', 'C15', 'C16', 'C17', 'C18', 'C19', 'C20', 'C21',
)  # fmt: skip


class Avazu(Builder):
    """Avazu_x1 (28,300,276 / 4,042,897 / 8,085,794 rows), or Kaggle's raw train.csv, whose `id` is
    no feature and whose `hour` is taken as a category."""

    INSTRUCTIONS = (
        'Download train.csv, valid.csv and test.csv of the dataset reczoo/Avazu_x1 from the Hugging '
        'Face hub and give their paths (--config.dataset.train=..., .valid=..., .test=...), or '
        "Kaggle's train.csv (competition avazu-ctr-prediction), plain or .gz, as "
        '--config.dataset.train=.../train.csv: it is then split 7:2:1'
    )

    def make_schema(self, table):
        raw = 'click' in table.columns
        names, label = (RAW_FIELDS, 'click') if raw else (X1_FIELDS, 'label')
        return Schema(tuple(self.categorical(name) for name in names), label)
