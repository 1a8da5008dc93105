"""Base class of Frappe and MovieLens: a few categorical fields, published as CSV and as libFM lines."""

from __future__ import annotations

from ml_collections import ConfigDict

from dlf_jax.data.builders.base import CATEGORY_KEYS, FILE_KEYS, SPLIT_KEYS, Builder
from dlf_jax.data.download.published_files import Published
from dlf_jax.data.readers.formats import LibfmTable, is_libfm
from dlf_jax.data.readers.tables import Table
from dlf_jax.data.schema import Schema


class Indexed(Builder):
    """Dataset of categorical fields, `FIELDS`, and a `label`."""

    KEYS = {**FILE_KEYS, **SPLIT_KEYS, **CATEGORY_KEYS}
    FIELDS: tuple[str, ...] = ()

    @classmethod
    def open_files(cls, config: ConfigDict, paths: tuple[str, ...]) -> Table:
        if is_libfm(paths[0]):
            return LibfmTable.open(paths, 'label', cls.FIELDS)
        return super().open_files(config, paths)

    def release_of(self, table: Table) -> Published | None:
        return None if isinstance(table, LibfmTable) else self.RELEASE

    def make_schema(self, table: Table) -> Schema:
        del table
        return Schema(tuple(self.categorical(name) for name in self.FIELDS), 'label')
