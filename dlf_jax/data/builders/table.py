"""Your own CSV, TSV or Parquet files."""

from __future__ import annotations

from dlf_jax.data.builders.base import Builder
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UserError


class Table(Builder):
    """Rows of your own: `dataset.label` names the label column, `dataset.categorical` and
    `dataset.numeric` the features; other columns are left alone."""

    INSTRUCTIONS = (
        'Give CSV, TSV or Parquet files: --config.dataset.train=day1.parquet (a glob or several by '
        'commas, split 7:2:1 unless --config.dataset.valid is given too), '
        "--config.dataset.label=click --config.dataset.categorical=\"('user','ad')\" "
        '--config.dataset.numeric="(\'price\',)"'
    )

    def make_schema(self, table):
        config = self.dataset
        if not config.categorical and not config.numeric:
            raise UserError(
                'config.dataset.categorical and config.dataset.numeric are empty; name the features '
                f'among the columns of {table.name}: {", ".join(table.columns)}'
            )
        treatment = 'standard' if config.treatment == 'auto' else config.treatment
        categorical = (self.categorical(name) for name in config.categorical)
        numeric = (self.number(name, treatment) for name in config.numeric)
        schema = Schema((*categorical, *numeric), config.label or 'label')
        names = [*(f.name for f in schema.fields), schema.label]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f'config.dataset: column {name!r} is named {names.count(name)} times')
        return schema
