"""Tables of one's own: text, Parquet, libSVM or libFFM files with a schema file or named columns."""

from __future__ import annotations

from ml_collections import ConfigDict

from dlf_jax.data import schema_files
from dlf_jax.data.builders.base import Builder
from dlf_jax.data.readers import file_kinds
from dlf_jax.data.readers.tables import AUTO, Table, fields_of_first_row, open_table
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UserError

_COLUMN_KEYS = {
    'label': '', 'weight': '', 'group': '', 'categorical': (), 'numeric': (), 'positive': '',
    'soft_labels': False,
}  # fmt: skip


class OwnTable(Builder):
    """Table of one's own.

    `dataset.schema` is a file that describes the columns; or `dataset.label` names the column of the label,
    `dataset.categorical` and `dataset.numeric` the features, and other columns are ignored.
    """

    name = 'table'
    KEYS = {**Builder.KEYS, **_COLUMN_KEYS, 'schema': '', 'infer': False, 'columns': (), 'format': AUTO}
    INSTRUCTIONS = (
        'Give CSV, TSV, Parquet, libSVM or libFFM files: --config.dataset.train=day1.parquet (a folder, a '
        'glob or several by commas, split 7:2:1 unless --config.dataset.valid is given too), and '
        '--config.dataset.schema=schema.toml (--mode=prepare --config.dataset.infer=True proposes one), '
        "or --config.dataset.label=click --config.dataset.categorical=\"('user','ad')\" "
        '--config.dataset.numeric="(\'price\',)"'
    )

    @classmethod
    def open_files(cls, config: ConfigDict, paths: tuple[str, ...]) -> Table:
        columns, label = tuple(config.get('columns', ())), config.label or 'label'
        if label in columns and file_kinds.kind(paths[0]) == file_kinds.TEXT:
            without = tuple(name for name in columns if name != label)
            # Rows to be scored may come without their label.
            if fields_of_first_row(paths[0], config.separator) == len(without):
                columns = without
        return open_table(
            paths, separator=config.separator, columns=columns, format=config.get('format', AUTO)
        )

    def make_schema(self, table: Table) -> Schema:
        config = self.dataset
        if config.schema:
            for key in _COLUMN_KEYS:
                if config[key]:
                    raise UserError(f'config.dataset.{key}: not beside config.dataset.schema, which says it')
            defaults = {
                'min_count': config.min_count,
                'max_size': config.max_vocabulary,
                'hash_buckets': config.hash_buckets,
                'buckets': config.buckets,
                'frequencies': config.frequencies,
                'fill': config.fill,
                'missing': tuple(config.missing),
                'out_of_range': config.out_of_range,
                'treatment': config.treatment,
            }
            return schema_files.load(config.schema, defaults)
        if not config.categorical and not config.numeric:
            raise UserError(
                'config.dataset.schema, .categorical and .numeric are empty; name the features among '
                f'the columns of {table.name}: {", ".join(table.columns)}'
            )
        categorical = (self.categorical(name) for name in config.categorical)
        numeric = (self.number(name, 'auto') for name in config.numeric)
        try:
            schema = Schema(
                (*categorical, *numeric), config.label or 'label', config.weight, config.group,
                config.positive, config.soft_labels,
            )  # fmt: skip
        except ValueError as error:
            raise UserError(f'config.dataset: {error}') from error
        names = [*(f.name for f in schema.fields), schema.label]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f'config.dataset: column {name!r} is named {names.count(name)} times')
        return schema
