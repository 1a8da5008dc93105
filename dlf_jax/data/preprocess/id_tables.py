"""Tables from the codes of values to their ids in the fused embedding tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from dlf_jax.data.preprocess.dictionary import NULL, PAD, UNKNOWN
from dlf_jax.data.schema import MISSING, OUT_OF_VOCABULARY, PADDING, RESERVED, Schema


@dataclasses.dataclass(frozen=True)
class IdTables:
    """Id tables of all fields, concatenated.

    Attributes:
      ids: the tables, int32 [total size].
      starts: position in `ids` of the id of code 0, by owning field with a vocabulary; the negative codes
        come before. Ids of other fields' codes are those codes plus `shifts`.
      shifts: id of code 0, by owning field without a vocabulary.
    """

    ids: np.ndarray
    starts: dict[str, int]
    shifts: dict[str, int]

    @classmethod
    def of(cls, schema: Schema, known: Mapping[str, np.ndarray]) -> IdTables:
        """Builds the tables.

        Args:
          schema: fields with sizes.
          known: id of every code, without the field's offset, int32 [codes], by owning field with a
            vocabulary. The codes of other fields are hash buckets or ranges, in the order of the ids.
        """
        tables, starts, shifts, offsets, size = [], {}, {}, schema.offsets, 0
        for field in schema.owners:
            ids = known.get(field.name)
            if ids is None:
                shifts[field.name] = offsets[field.name] + RESERVED
                continue
            table, zero = id_table(offsets[field.name], ids, OUT_OF_VOCABULARY, MISSING)
            tables.append(table)
            starts[field.name] = size + zero
            size += len(table)
        return cls(np.concatenate([np.empty(0, np.int32), *tables]), starts, shifts)

    def lookup(self, codes: np.ndarray, owners: Sequence[str]) -> np.ndarray:
        """Ids of codes.

        Args:
          codes: int [columns, rows].
          owners: for each column, the field that owns its table.

        Returns:
          int32 [columns, rows].
        """
        if all(owner in self.starts for owner in owners):
            # All columns in one operation.
            return self.ids.take(codes + np.array([[self.starts[owner]] for owner in owners]))
        found = np.empty(codes.shape, np.int32)
        for i, owner in enumerate(owners):
            if owner in self.starts:
                found[i] = self.ids.take(codes[i] + self.starts[owner])
                continue
            first = self.shifts[owner]
            np.add(codes[i], first, out=found[i], casting='unsafe')
            found[i][codes[i] == NULL] = first - RESERVED + MISSING
            found[i][codes[i] == PAD] = PADDING
        return found


def id_table(offset: int, known: np.ndarray, out_of_vocabulary: int, missing: int) -> tuple[np.ndarray, int]:
    """Id table of one field.

    Args:
      offset: first id of the field in its fused table.
      known: id of each code, without the offset, int [codes].
      out_of_vocabulary: id of `UNKNOWN`, without the offset.
      missing: id of `NULL`, without the offset.

    Returns:
      The table, int32 [codes + 3], and the position of code 0 in it; the negative codes come before.
    """
    zero = -PAD
    table = np.empty(zero + len(known), np.int32)
    table[zero:] = known
    table[zero + UNKNOWN], table[zero + NULL] = out_of_vocabulary, missing
    table += offset
    table[zero + PAD] = PADDING
    return table, zero
