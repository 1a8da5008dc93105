"""Inputs of a model beyond its embeddings: field names, raw numbers, unpooled multi-valued fields."""

from __future__ import annotations

import flax.struct
import jax

from dlf_jax.data.schema import History
from dlf_jax.errors import UsageError, suggest


@flax.struct.dataclass
class Bag:
    """One multi-valued field before pooling, such as a user's history of items.

    Attributes:
      embeddings: embeddings of the values by table, `{table: float32 [B, L, width]}`. Where `mask` is
        False they are arbitrary.
      mask: bool [B, L], True where there is a value.
    """

    embeddings: dict[str, jax.Array]
    mask: jax.Array


@flax.struct.dataclass
class Inputs:
    """What a model with `wants_inputs` receives beside its embeddings.

    Attributes:
      fields: names of the fields in the order of the embeddings' second axis: categorical, numeric,
        multi-valued.
      numeric: float32 [B, Fn], values of the numeric fields after the dataset's treatment, 0 for a
        missing number that has a value of its own.
      numeric_fields: names of these fields, in the order of the columns of `numeric`.
      bags: unpooled multi-valued fields by name, in alphabetical order. The values of an ordered one, the
        oldest first, end with the last place.
      histories: the ordered ones that share the embeddings of a categorical field, with that field.
    """

    fields: tuple[str, ...] = flax.struct.field(pytree_node=False)
    numeric: jax.Array
    numeric_fields: tuple[str, ...] = flax.struct.field(pytree_node=False)
    bags: dict[str, Bag]
    histories: tuple[History, ...] = flax.struct.field(pytree_node=False, default=())

    def position(self, field: str, key: str) -> int:
        """Position of a field on the embeddings' second axis.

        Args:
          field: name of the field.
          key: model key that holds the name, such as 'context_1', for the error.

        Raises:
          UsageError: there is no such field.
        """
        if field not in self.fields:
            raise UsageError(f'config.model.{key}: there is no field {field!r}{suggest(field, self.fields)}')
        return self.fields.index(field)

    def bag(self, field: str, key: str) -> Bag:
        """An unpooled multi-valued field.

        Args:
          field: name of the field.
          key: model key that holds the name, such as 'history', for the error.

        Raises:
          UsageError: there is no such multi-valued field.
        """
        if field not in self.bags:
            raise UsageError(
                f'config.model.{key}: there is no multi-valued field {field!r}{suggest(field, self.bags)}'
            )
        return self.bags[field]
