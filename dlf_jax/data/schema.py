"""What a table of features is: the one thing that data, models and serving share."""

from __future__ import annotations

import dataclasses
from typing import Any

CATEGORICAL = 'categorical'
NUMERIC = 'numeric'

# How a column of numbers becomes a feature. `log2` makes categories, the others keep a number.
TREATMENTS = ('none', 'standard', 'minmax', 'log2')

# Every categorical field owns these two ids before those of its values.
OUT_OF_VOCABULARY = 0
MISSING = 1
RESERVED = 2


@dataclasses.dataclass(frozen=True)
class Field:
    """One feature.

    Attributes:
      name: the column's name in the source.
      kind: 'categorical' (an id into the fused table) or 'numeric' (a float32).
      treatment: for columns of numbers, one of `TREATMENTS`; '' for text columns. `log2` turns the
        number into a category (floor(log(x)^2) above 2, the competition winners' on Criteo).
      min_count: values seen less often in the training part share the out-of-vocabulary id.
      max_size: the most values that get ids of their own (the most frequent ones); 0: no limit.
      size: ids that the field owns, the two reserved ones included; 0 before the encoder is fitted
        and for numeric fields.
    """

    name: str
    kind: str
    treatment: str = ''
    min_count: int = 1
    max_size: int = 0
    size: int = 0

    def __post_init__(self) -> None:
        if self.kind not in (CATEGORICAL, NUMERIC):
            raise ValueError(f'field {self.name}: kind {self.kind!r} is not categorical or numeric')
        if self.treatment and self.treatment not in TREATMENTS:
            raise ValueError(f'field {self.name}: treatment {self.treatment!r} is none of {TREATMENTS}')
        if (self.kind == NUMERIC) != (self.treatment in ('none', 'standard', 'minmax')):
            raise ValueError(
                f'field {self.name}: a {self.kind} field cannot have treatment {self.treatment!r}'
            )

    @property
    def number(self) -> bool:
        """Whether the source's column holds numbers."""
        return bool(self.treatment)


def text_field(name: str, min_count: int = 1, max_size: int = 0) -> Field:
    """A categorical field read as text."""
    return Field(name, CATEGORICAL, '', min_count, max_size)


def number_field(name: str, treatment: str, min_count: int = 1, max_size: int = 0) -> Field:
    """A field read as numbers; categorical where the treatment makes categories."""
    if treatment == 'log2':
        return Field(name, CATEGORICAL, treatment, min_count, max_size)
    return Field(name, NUMERIC, treatment)


@dataclasses.dataclass(frozen=True)
class Schema:
    """The features of a dataset in their order, and its label column."""

    fields: tuple[Field, ...]
    label: str

    @property
    def categorical(self) -> tuple[Field, ...]:
        """The categorical fields: column `i` of a batch's `categorical` is the `i`-th of them."""
        return tuple(f for f in self.fields if f.kind == CATEGORICAL)

    @property
    def numeric(self) -> tuple[Field, ...]:
        """The numeric fields: column `i` of a batch's `numeric` is the `i`-th of them."""
        return tuple(f for f in self.fields if f.kind == NUMERIC)

    @property
    def vocabulary(self) -> int:
        """Rows of the fused table."""
        return sum(f.size for f in self.categorical)

    @property
    def offsets(self) -> tuple[int, ...]:
        """First row of each categorical field in the fused table."""
        offsets, total = [], 0
        for field in self.categorical:
            offsets.append(total)
            total += field.size
        return tuple(offsets)

    def to_json(self) -> dict[str, Any]:
        return {'label': self.label, 'fields': [dataclasses.asdict(f) for f in self.fields]}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Schema:
        return cls(tuple(Field(**field) for field in saved['fields']), saved['label'])
