"""What a table of features is: the one thing that data, models and serving share."""

from __future__ import annotations

import dataclasses
from typing import Any

CATEGORICAL = 'categorical'
NUMERIC = 'numeric'
MULTI_VALUED = 'multi-valued'
KINDS = (CATEGORICAL, NUMERIC, MULTI_VALUED)

# How a column of numbers becomes a feature: the first three keep a number, the others make categories.
NUMBERS = ('none', 'standard', 'minmax')
TREATMENTS = (*NUMBERS, 'log2', 'bucket')

# How the embeddings of a multi-valued field become one.
POOLINGS = ('sum', 'mean', 'max')

# Every field of ids owns these two before those of its values.
OUT_OF_VOCABULARY = 0
MISSING = 1
RESERVED = 2
# Stands in a multi-valued field after its last value; no id.
PADDING = -1


@dataclasses.dataclass(frozen=True)
class Field:
    """One feature.

    Attributes:
      name: the column's name in the source.
      kind: 'categorical' (an id into the fused table), 'numeric' (a float32) or 'multi-valued'
        (several ids, pooled).
      treatment: for columns of numbers, one of `TREATMENTS`; '' for text columns. `log2` turns the
        number into a category (floor(log(x)^2) above 2, the competition winners' on Criteo),
        `bucket` into one of `buckets` ranges that hold about as many training rows each.
      min_count: values seen less often in the training part share the out-of-vocabulary id.
      max_size: the most values that get ids of their own (the most frequent ones); 0: no limit.
      hash_buckets: above 0, no vocabulary: a value's id is a hash of it, one of so many.
      buckets: ranges of a `bucket` field.
      separator: between the values of a multi-valued text column; list columns need none.
      pooling: of a multi-valued field, one of `POOLINGS`.
      length: the most values of a multi-valued field that count in a row: the first ones.
      shares: name of the field whose vocabulary and embeddings this one uses; '' for its own.
      embedding_size: width of the field's rows in a table of its own kind, projected up to the
        model's width (Ginart et al. 2019, "Mixed dimension embeddings"); 0: the model's width.
      size: ids that the field owns, the two reserved ones included; 0 before the encoder is fitted,
        for numeric fields and where it shares another's.
    """

    name: str
    kind: str
    treatment: str = ''
    min_count: int = 1
    max_size: int = 0
    hash_buckets: int = 0
    buckets: int = 0
    separator: str = ''
    pooling: str = ''
    length: int = 0
    shares: str = ''
    embedding_size: int = 0
    size: int = 0

    def __post_init__(self) -> None:
        def check(good: bool, complaint: str) -> None:
            if not good:
                raise ValueError(f'field {self.name!r}: {complaint}')

        check(self.kind in KINDS, f'kind {self.kind!r} is none of {KINDS}')
        treatments = ('', *TREATMENTS)
        check(self.treatment in treatments, f'treatment {self.treatment!r} is none of {TREATMENTS}')
        check(
            (self.kind == NUMERIC) == (self.treatment in NUMBERS) and (self.treatment == '' or not self.bag),
            f'a {self.kind} field cannot have treatment {self.treatment!r}',
        )
        check((self.pooling in POOLINGS) == self.bag, f'pooling {self.pooling!r} of a {self.kind} field')
        check((self.length >= 1) == self.bag, f'length {self.length} of a {self.kind} field')
        check((self.buckets >= 2) == (self.treatment == 'bucket'), f'buckets={self.buckets}: at least 2')
        for name in ('min_count', 'max_size', 'hash_buckets', 'embedding_size', 'size'):
            value = getattr(self, name)
            check(isinstance(value, int) and value >= (name == 'min_count'), f'{name}={value!r}')
        check(not (self.hash_buckets and self.treatment), 'hash_buckets is for text columns')
        check(not (self.hash_buckets and self.max_size), 'hash_buckets leaves no vocabulary for max_size')

    @property
    def number(self) -> bool:
        """Whether the source's column holds numbers."""
        return bool(self.treatment)

    @property
    def bag(self) -> bool:
        """Whether the field is multi-valued."""
        return self.kind == MULTI_VALUED

    @property
    def owner(self) -> str:
        """Name of the field whose ids this one uses: its own, unless it shares."""
        return self.shares or self.name

    @property
    def counted(self) -> bool:
        """Whether the field's ids come from counting values in the training part."""
        return self.kind != NUMERIC and not self.hash_buckets and self.treatment != 'bucket'


def text_field(name: str, **options: Any) -> Field:
    """A categorical field read as text."""
    return Field(name, CATEGORICAL, **options)


def number_field(name: str, treatment: str, buckets: int = 0, **options: Any) -> Field:
    """A field read as numbers; categorical where the treatment makes categories, which is where
    `options` such as `min_count` count."""
    if treatment == 'bucket':
        options = {k: v for k, v in options.items() if k == 'embedding_size'}
        return Field(name, CATEGORICAL, treatment, buckets=buckets, **options)
    if treatment == 'log2':
        return Field(name, CATEGORICAL, treatment, **options)
    return Field(name, NUMERIC, treatment)


@dataclasses.dataclass(frozen=True)
class Schema:
    """The features of a dataset in their order, and what its other columns are.

    Attributes:
      fields: the features.
      label: column of the label, 0 or 1.
      weight: column of the rows' weights, 0 or more; '' where all weigh 1.
      group: column of the groups (users, sessions) that AUC is averaged over; '' for none.
    """

    fields: tuple[Field, ...]
    label: str
    weight: str = ''
    group: str = ''

    def __post_init__(self) -> None:
        by_name = {field.name: field for field in self.fields}
        for field in self.fields:
            if not field.shares:
                continue
            owner = by_name.get(field.shares)
            if owner is None or owner.shares or owner.kind == NUMERIC or owner.number or field.number:
                raise ValueError(
                    f'field {field.name!r} shares the vocabulary of {field.shares!r}, which must be a '
                    'categorical or multi-valued text field with a vocabulary of its own'
                )
            if (owner.hash_buckets, owner.embedding_size) != (field.hash_buckets, field.embedding_size):
                raise ValueError(
                    f'fields {field.name!r} and {field.shares!r} share a vocabulary, so hash_buckets '
                    'and embedding_size must be the same'
                )

    @property
    def categorical(self) -> tuple[Field, ...]:
        """The categorical fields: column `i` of a batch's `categorical` is the `i`-th of them."""
        return tuple(f for f in self.fields if f.kind == CATEGORICAL)

    @property
    def numeric(self) -> tuple[Field, ...]:
        """The numeric fields: column `i` of a batch's `numeric` is the `i`-th of them."""
        return tuple(f for f in self.fields if f.kind == NUMERIC)

    @property
    def coded(self) -> tuple[Field, ...]:
        """The categorical fields whose values have codes: all but the ranges."""
        return tuple(f for f in self.categorical if f.treatment != 'bucket')

    @property
    def ranged(self) -> tuple[Field, ...]:
        """The categorical fields that are ranges of a number."""
        return tuple(f for f in self.categorical if f.treatment == 'bucket')

    @property
    def bags(self) -> tuple[Field, ...]:
        """The multi-valued fields: `field.length` columns each of a batch's `bags`."""
        return tuple(f for f in self.fields if f.bag)

    @property
    def bag_columns(self) -> int:
        """Columns of a batch's `bags`."""
        return sum(f.length for f in self.bags)

    @property
    def owners(self) -> tuple[Field, ...]:
        """The fields that own ids: categorical ones, then multi-valued ones that share nobody's."""
        return tuple(f for f in (*self.categorical, *self.bags) if not f.shares)

    @property
    def embedding_sizes(self) -> tuple[int, ...]:
        """The widths of fields' rows, 0 (the model's) first; each has a fused table."""
        return tuple(sorted({f.embedding_size for f in self.owners}))

    def vocabulary_of(self, embedding_size: int) -> int:
        """Rows of the fused table of the fields of one embedding size."""
        return sum(f.size for f in self.owners if f.embedding_size == embedding_size)

    @property
    def vocabulary(self) -> int:
        """Rows of all fused tables together."""
        return sum(f.size for f in self.owners)

    @property
    def offsets(self) -> dict[str, int]:
        """First row, in its fused table, of each field that owns ids."""
        offsets: dict[str, int] = {}
        totals = dict.fromkeys(self.embedding_sizes, 0)
        for field in self.owners:
            offsets[field.name] = totals[field.embedding_size]
            totals[field.embedding_size] += field.size
        return offsets

    def text_columns(self) -> list[str]:
        """Columns that the features are read from as text or lists of text."""
        return [f.name for f in self.fields if not f.number]

    def number_columns(self) -> list[str]:
        """Columns that the features are read from as numbers."""
        return [f.name for f in self.fields if f.number]

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Schema:
        fields = tuple(Field(**field) for field in saved['fields'])
        return cls(fields, **{key: value for key, value in saved.items() if key != 'fields'})
