"""What Frappe and MovieLens share: a few categorical fields, published as CSV and as libFM lines."""

from __future__ import annotations

from dlf_jax.data.builders.base import Builder
from dlf_jax.data.readers.formats import LibfmTable, is_libfm
from dlf_jax.data.schema import Schema


class Indexed(Builder):
    """A dataset of the `FIELDS`, all categorical, and a `label`."""

    FIELDS: tuple[str, ...] = ()

    @classmethod
    def open_files(cls, config, paths):
        if is_libfm(paths[0]):
            return LibfmTable.open(paths, 'label', cls.FIELDS)
        return super().open_files(config, paths)

    def published(self, table):
        return None if isinstance(table, LibfmTable) else self.PUBLISHED

    def make_schema(self, table):
        del table
        return Schema(tuple(self.categorical(name) for name in self.FIELDS), 'label')
