"""Schema of a dataset: its features, label, weight and group; shared by data, models and serving."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

CATEGORICAL = 'categorical'
NUMERIC = 'numeric'
MULTI_VALUED = 'multi-valued'
KINDS = (CATEGORICAL, NUMERIC, MULTI_VALUED)

# Treatments of a column of numbers: these keep a number, `log2` and `bucket` make categories.
SCALED = ('none', 'standard', 'minmax')
# Treatments that follow a rising curve through quantiles of the training part, see `preprocess.curves`.
CURVED = ('quantile', 'piecewise', 'periodic')
# `auto` becomes one of these when the training rows are known, see `preprocess.curves.suited`.
NUMBERS = ('auto', *SCALED, *CURVED)
TREATMENTS = (*NUMBERS, 'log2', 'bucket')
# Treatments that have a number of ranges.
_RANGES = ('auto', 'bucket', 'piecewise')
# What a missing number becomes: the training mean, or a value of its own.
FILLS = ('mean', 'own')

# Poolings of the embeddings of a multi-valued field.
POOLINGS = ('sum', 'mean', 'max')

# Reserved ids of every field that owns ids; those of its values come after.
OUT_OF_VOCABULARY = 0
MISSING = 1
RESERVED = 2
# Options of fields that share a vocabulary, which must be the same.
SHARED_OPTIONS = ('hash_buckets', 'embedding_size', 'missing', 'verbatim')

# Group of a row without one.
NO_GROUP = -1
# What becomes of numbers that are infinite or leave the range of float32 once treated.
OUT_OF_RANGE = ('error', 'missing')

# Filler after the last value of a multi-valued field, before the first of an ordered one; not an id.
PADDING = -1


@dataclasses.dataclass(frozen=True)
class Field:
    """Feature of a dataset: a column, its kind, and how its values become ids or numbers.

    Attributes:
      name: name of the column in the source.
      kind: 'categorical' (an id into the fused table), 'numeric' (a float32) or 'multi-valued'
        (several ids, pooled).
      treatment: one of `TREATMENTS` for a column of numbers; '' for a text column. `log2` turns the
        number into a category (floor(log(x)^2) above 2, as the winners of the Criteo competition did),
        `bucket` into one of `buckets` ranges that hold about as many training rows each. `quantile` keeps the
        normal score of a number's rank; `piecewise` embeds it by `buckets` pieces of a line, `periodic` by
        `frequencies` waves of its normal score (Gorishniy et al. 2022, arXiv 2203.05556). `auto` is one of
        them, chosen when the training rows are known.
      min_count: minimum number of training rows of a value with an id of its own; rarer values share
        the out-of-vocabulary id.
      max_size: maximum number of values with ids of their own (the most frequent ones); 0: no limit.
      hash_buckets: number of ids that values are hashed to, without a vocabulary; 0: a vocabulary.
      buckets: maximum number of ranges of a `bucket`, `piecewise` or `auto` field; fewer where values repeat,
        and of `piecewise` where rows are few. Once the encoder is fitted, the number that a `piecewise` field
        has.
      frequencies: number of waves of a `periodic` field.
      fill: what a missing number becomes, one of `FILLS`; under 'own' a numeric field has an embedding for
        it. Once the encoder is fitted, 'mean' where no training row had none.
      separator: character between the values of a multi-valued text column; '' for columns of lists.
      pooling: pooling of a multi-valued field, one of `POOLINGS`.
      length: maximum number of values of a multi-valued field in a row; later values are dropped, of an
        ordered field the earlier ones.
      ordered: whether the values of a multi-valued field are in order, the oldest first. One that shares the
        vocabulary of a categorical field is a history of it (`Schema.histories`).
      beside: name of another history whose values are of the same events, place by place, such as that of
        the items of which this one has the categories; '' for none.
      shares: name of the field whose vocabulary and embeddings this one uses; '' for its own.
      embedding_size: width of the field's embeddings in a table of its own, projected up to the
        model's width (Ginart et al. 2019, "Mixed dimension embeddings"); 0: the model's width.
      missing: texts that stand for a missing value, beside the empty one.
      verbatim: whether values are told apart as they are written, so that the texts 7 and 7.0 are two
        (`data.values`).
      out_of_range: what becomes of a number that is infinite or leaves the range of float32 once treated:
        'error', or 'missing'.
      size: number of ids that the field owns, the two reserved ones included; 0 before the encoder is
        fitted, for numeric fields and where it shares another's.
    """

    name: str
    kind: str
    treatment: str = ''
    min_count: int = 1
    max_size: int = 0
    hash_buckets: int = 0
    buckets: int = 0
    frequencies: int = 0
    fill: str = 'mean'
    separator: str = ''
    pooling: str = ''
    length: int = 0
    ordered: bool = False
    beside: str = ''
    shares: str = ''
    embedding_size: int = 0
    missing: tuple[str, ...] = ()
    verbatim: bool = False
    out_of_range: str = 'error'
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
        check(isinstance(self.ordered, bool), f'ordered={self.ordered!r}: true or false')
        check(self.bag or not self.ordered, f'ordered=true is for multi-valued fields, not {self.kind} ones')
        ranges = self.treatment in _RANGES
        check((self.buckets >= 2) == ranges, f'buckets={self.buckets}: at least 2')
        periodic = self.treatment == 'periodic'
        check((self.frequencies >= 1) == periodic, f'frequencies={self.frequencies}: at least 1')
        check(self.fill in FILLS, f'fill {self.fill!r} is none of {FILLS}')
        check(self.fill == 'mean' or self.kind == NUMERIC, "fill='own' is for numeric fields")
        for name in ('min_count', 'max_size', 'hash_buckets', 'embedding_size', 'size'):
            value = getattr(self, name)
            check(isinstance(value, int) and value >= (name == 'min_count'), f'{name}={value!r}')
        check(self.hash_buckets < 2**31 - RESERVED, f'hash_buckets={self.hash_buckets}: ids are int32')
        check(
            self.out_of_range in OUT_OF_RANGE, f'out_of_range {self.out_of_range!r} is none of {OUT_OF_RANGE}'
        )
        check(
            isinstance(self.missing, tuple) and all(isinstance(text, str) for text in self.missing),
            f'missing={self.missing!r}: texts',
        )
        check(isinstance(self.verbatim, bool), f'verbatim={self.verbatim!r}: true or false')
        check(not (self.hash_buckets and self.treatment), 'hash_buckets is for text columns')
        check(not (self.hash_buckets and self.max_size), 'hash_buckets leaves no vocabulary for max_size')

    @property
    def number(self) -> bool:
        """Whether the column in the source holds numbers."""
        return bool(self.treatment)

    @property
    def curved(self) -> bool:
        """Whether the number follows a curve that is fitted to the training part."""
        return self.treatment in CURVED

    @property
    def bag(self) -> bool:
        """Whether the field is multi-valued."""
        return self.kind == MULTI_VALUED

    @property
    def owner(self) -> str:
        """Name of the field that owns the ids: the field's own, unless it shares another's."""
        return self.shares or self.name

    @property
    def counted(self) -> bool:
        """Whether the field has a vocabulary, counted in the training part."""
        return self.kind != NUMERIC and not self.hash_buckets and self.treatment != 'bucket'


def text_field(name: str, **options: Any) -> Field:
    """Categorical field of a text column; `options` are attributes of `Field`."""
    return Field(name, CATEGORICAL, **options)


def number_field(
    name: str,
    treatment: str,
    numbers: Mapping[str, Any] | None = None,
    vocabulary: Mapping[str, Any] | None = None,
    **options: Any,
) -> Field:
    """Field of a column of numbers; categorical where the treatment makes categories.

    Args:
      name: name of the column.
      treatment: one of `TREATMENTS`.
      numbers: see `number_options`.
      vocabulary: attributes of `Field` that vocabularies have, such as `min_count`; left out where the
        field has no vocabulary.
      options: further attributes of `Field`.
    """
    if treatment == 'log2':
        return Field(name, CATEGORICAL, treatment, **(vocabulary or {}), **options)
    kind = CATEGORICAL if treatment == 'bucket' else NUMERIC
    return Field(name, kind, treatment, **number_options(treatment, numbers or {}), **options)


def number_options(treatment: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes among `buckets`, `frequencies` and `fill` that a treatment has.

    Args:
      treatment: one of `TREATMENTS`.
      wanted: their values where the treatment has them; a `fill` of 'auto' is 'own' for curves, and else
        'mean', as published results have it.
    """
    found: dict[str, Any] = {}
    if treatment in _RANGES:
        found['buckets'] = wanted.get('buckets', 0)
    if treatment == 'periodic':
        found['frequencies'] = wanted.get('frequencies', 0)
    if treatment in NUMBERS:
        fill = wanted.get('fill', 'auto')
        found['fill'] = ('mean' if treatment in SCALED else 'own') if fill == 'auto' else fill
    return found


@dataclasses.dataclass(frozen=True)
class History:
    """What happened before a row, the oldest first, and what the row is about, told in the same values.

    Attributes:
      fields: ordered fields whose values are of the same events, place by place: items and their categories.
      targets: the categorical field whose vocabulary and embeddings each of them shares.
    """

    fields: tuple[str, ...]
    targets: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Schema:
    """Features of a dataset in their order, and its label, weight and group columns.

    Attributes:
      fields: the features.
      label: name of the label's column.
      weight: name of the column of row weights, 0 or more; '' where all rows weigh 1.
      group: name of the column of groups (users, sessions) that AUC is averaged over; '' for none.
      positive: value of the label that is a click, every other being none; '' where labels are 0 or 1, or
        words for them.
      soft_labels: whether labels are numbers from 0 to 1.
    """

    fields: tuple[Field, ...]
    label: str
    weight: str = ''
    group: str = ''
    positive: str = ''
    soft_labels: bool = False

    def __post_init__(self) -> None:
        if self.positive and self.soft_labels:
            raise ValueError(f'positive={self.positive!r} is not for soft labels')
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
            if any(getattr(owner, name) != getattr(field, name) for name in SHARED_OPTIONS):
                raise ValueError(
                    f'fields {field.name!r} and {field.shares!r} share a vocabulary, so '
                    f'{", ".join(SHARED_OPTIONS)} must be the same'
                )
        self._check_beside(by_name)

    def _check_beside(self, by_name: Mapping[str, Field]) -> None:
        for field in self.fields:
            if not field.beside:
                continue
            first = by_name.get(field.beside)
            if first is None or first.beside or not all(map(self._is_history, (field, first))):
                raise ValueError(
                    f'field {field.name!r} is beside {field.beside!r}: both must be ordered, and each must '
                    'share the vocabulary of a categorical field, the latter beside no other'
                )
            if first.length != field.length:
                raise ValueError(
                    f'fields {field.name!r} and {field.beside!r} are beside each other, so length must be '
                    f'the same, found {field.length} and {first.length}'
                )

    def _is_history(self, field: Field) -> bool:
        return field.ordered and any(f.name == field.shares for f in self.categorical)

    @property
    def categorical(self) -> tuple[Field, ...]:
        """Categorical fields, in the order of the columns of a batch's `categorical`."""
        return tuple(f for f in self.fields if f.kind == CATEGORICAL)

    @property
    def numeric(self) -> tuple[Field, ...]:
        """Numeric fields, in the order of the columns of a batch's `numeric`."""
        return tuple(f for f in self.fields if f.kind == NUMERIC)

    @property
    def sampled(self) -> tuple[Field, ...]:
        """Fields whose encoding depends on the quantiles of the training part."""
        return tuple(f for f in (*self.numeric, *self.ranged) if f.treatment not in SCALED)

    @property
    def coded(self) -> tuple[Field, ...]:
        """Categorical fields with a vocabulary or hash buckets: all but the ranges."""
        return tuple(f for f in self.categorical if f.treatment != 'bucket')

    @property
    def ranged(self) -> tuple[Field, ...]:
        """Categorical fields that are ranges of a number (`bucket`)."""
        return tuple(f for f in self.categorical if f.treatment == 'bucket')

    @property
    def bags(self) -> tuple[Field, ...]:
        """Multi-valued fields, with `field.length` columns each of a batch's `bags`."""
        return tuple(f for f in self.fields if f.bag)

    @property
    def histories(self) -> tuple[History, ...]:
        """The ordered fields that share the vocabulary of a categorical field, and those beside them."""
        found = []
        for first in self.bags:
            if self._is_history(first) and not first.beside:
                fields = (first, *(field for field in self.bags if field.beside == first.name))
                names, targets = zip(*((field.name, field.shares) for field in fields), strict=True)
                found.append(History(names, targets))
        return tuple(found)

    @property
    def bag_columns(self) -> int:
        """Number of columns of a batch's `bags`."""
        return sum(f.length for f in self.bags)

    def bag_slices(self, first: int = 0) -> Iterator[tuple[Field, slice]]:
        """Yields each multi-valued field with its columns, of an array in which those of all bags begin at
        `first`."""
        for field in self.bags:
            yield field, slice(first, first + field.length)
            first += field.length

    @property
    def owners(self) -> tuple[Field, ...]:
        """Fields that own ids: categorical ones, then multi-valued ones that share no other's."""
        return tuple(f for f in (*self.categorical, *self.bags) if not f.shares)

    @property
    def embedding_sizes(self) -> tuple[int, ...]:
        """Distinct embedding widths, rising, 0 (the model's) first; each has a fused table."""
        return tuple(sorted({f.embedding_size for f in self.owners}))

    def vocabulary_of(self, embedding_size: int) -> int:
        """Number of rows of the fused table of the fields of one embedding size."""
        return sum(f.size for f in self.owners if f.embedding_size == embedding_size)

    @property
    def vocabulary(self) -> int:
        """Number of rows of all fused tables together."""
        return sum(f.size for f in self.owners)

    @property
    def offsets(self) -> dict[str, int]:
        """First row of each field that owns ids in its fused table, by the field's name."""
        offsets: dict[str, int] = {}
        totals = dict.fromkeys(self.embedding_sizes, 0)
        for field in self.owners:
            offsets[field.name] = totals[field.embedding_size]
            totals[field.embedding_size] += field.size
        return offsets

    def text_columns(self) -> list[str]:
        """Names of the features' columns that hold text or lists of text."""
        return [f.name for f in self.fields if not f.number]

    def number_columns(self) -> list[str]:
        """Names of the features' columns that hold numbers."""
        return [f.name for f in self.fields if f.number]

    def identity(self) -> dict[str, Any]:
        """The attributes that differ from their defaults, as JSON values.

        Unlike `to_json`, it stays the same when a later version adds an attribute.
        """
        return {**_set_attributes(self), 'fields': [_set_attributes(field) for field in self.fields]}

    def to_json(self) -> dict[str, Any]:
        """The schema as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Schema:
        """Reads what `to_json` wrote, now or in an older version; attributes it lacks have their defaults."""
        fields = tuple(Field(**{**f, 'missing': tuple(f.get('missing', ()))}) for f in saved['fields'])
        return cls(fields, **{key: value for key, value in saved.items() if key != 'fields'})


def _set_attributes(value: Field | Schema) -> dict[str, Any]:
    """The attributes of a dataclass that differ from their defaults."""
    found = ((field.name, field.default, getattr(value, field.name)) for field in dataclasses.fields(value))
    return {
        name: list(current) if isinstance(current, tuple) else current
        for name, default, current in found
        if current != default
    }
