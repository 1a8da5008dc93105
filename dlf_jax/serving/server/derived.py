"""Columns that a dataset makes of others, such as the parts of Avazu's hour, of a request's rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from dlf_jax.data import builders
from dlf_jax.data.builders.base import Builder
from dlf_jax.data.readers import columns
from dlf_jax.data.readers.chunk import Columns
from dlf_jax.data.readers.frames import FrameTable
from dlf_jax.data.schema import Schema


class DerivedColumns:
    """Maker of the columns that a dataset makes of others; most make none."""

    def __init__(self, config: ConfigDict, schema: Schema):
        """Takes what was trained on.

        Args:
          config: of the model.
          schema: the features.
        """
        self._options, self._schema = ConfigDict(config.dataset), schema
        self._builder = builders.dataset_class(config.dataset.name)
        # Whether the dataset makes any.
        self.any = self._builder.with_derived.__func__ is not Builder.with_derived.__func__  # type: ignore[attr-defined]

    def added(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows with the columns that are made of those they have; their own where they have them.

        Raises:
          UserError: a value that none can be made of.
        """
        names = set.intersection(*(set(row) for row in rows))
        others = sorted(names - {field.name for field in self._schema.fields})
        table = self._builder.with_derived(
            self._options, FrameTable({n: [row[n] for row in rows] for n in others}, 'the request')
        )
        made = [name for name in table.columns if name not in others]
        if not made:
            return list(rows)
        wanted = columns.columns_of(self._schema, labelled=False)
        (chunk,) = table.chunks(
            Columns(
                text=tuple(name for name in made if name in wanted.text),
                numbers=tuple(name for name in made if name in wanted.numbers),
            )
        )
        return [{**new, **row} for new, row in zip(chunk.frame.to_dicts(), rows, strict=True)]
