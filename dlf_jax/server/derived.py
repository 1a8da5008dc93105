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

    def __init__(self, dataset: ConfigDict, schema: Schema):
        """Takes what was trained on.

        Args:
          dataset: `config.dataset` of the model.
          schema: the features.
        """
        self._options, self._schema = ConfigDict(dataset), schema
        self._builder = builders.dataset_class(dataset.name)
        # Whether the dataset makes any.
        self.any = self._builder.with_derived.__func__ is not Builder.with_derived.__func__  # type: ignore[attr-defined]

    def added(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows with the columns that are made of those they have; their own where they have them.

        Raises:
          UserError: a value that none can be made of.
        """
        names = set.intersection(*(set(row) for row in rows))
        fields = {field.name for field in self._schema.fields}
        # Further columns may hold anything; a column that others are made of holds values of one type.
        plain = {n: [row[n] for row in rows] for n in names - fields}
        others = sorted(name for name, values in plain.items() if _is_column(values))
        table = self._builder.with_derived(
            self._options, FrameTable({name: plain[name] for name in others}, 'the request')
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


def _is_column(values: Sequence[Any]) -> bool:
    """Whether values are texts, or numbers of 64 bits, or missing."""
    kinds = set(map(type, values)) - {type(None)}
    if int in kinds and not all(-(2**63) <= value < 2**63 for value in values if type(value) is int):
        return False
    return kinds <= {str} or kinds <= {int, float} or kinds <= {bool}
