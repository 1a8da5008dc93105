"""Sizes of data that need not be there: the schema, the training rows, the shapes of a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dlf_jax import config_by_size
from dlf_jax.data import builders
from dlf_jax.data.builders import avazu, criteo, synthetic_histories
from dlf_jax.data.builders.frappe import Frappe
from dlf_jax.data.builders.movielens import Movielens
from dlf_jax.data.loading.records import features
from dlf_jax.data.schema import MULTI_VALUED, RESERVED, Field, Schema, number_field, text_field
from dlf_jax.errors import UserError
from dlf_jax.training import warm_start


@dataclasses.dataclass(frozen=True)
class DataSizes:
    """What programs depend on of the data.

    Attributes:
      schema: with the fields' sizes.
      rows: number of training rows.
      source: where that is from, in words.
    """

    schema: Schema
    rows: int
    source: str

    @property
    def size(self) -> config_by_size.Size:
        """The size that decides the keys which a config leaves to it."""
        return config_by_size.Size(self.rows, len(self.schema.fields))

    def batch(self) -> dict[str, np.ndarray]:
        """Arrays of a batch, of one row."""
        shapes = features(self.schema).items()
        arrays = {name: np.zeros((1, *spec.shape[1:]), spec.np_dtype) for name, spec in shapes}
        return {**arrays, 'weight': np.ones(1, np.float32)}


@dataclasses.dataclass(frozen=True)
class _Published:
    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    vocabulary: int
    rows: int
    # By name: the field whose vocabulary it shares, and the length.
    histories: Mapping[str, tuple[str, int]] = dataclasses.field(default_factory=dict)


# Fields and rows as published; vocabularies, in round numbers, as the public leaderboards' logs have them.
_PUBLISHED = {
    'criteo': _Published(criteo.NUMBERS, criteo.CATEGORIES, 2_086_000, 33_003_326),
    'avazu': _Published((), avazu.X1_FIELDS, 1_299_000, 28_300_276),
    'movielens': _Published((), Movielens.FIELDS, 90_000, 1_404_801),
    'frappe': _Published((), Frappe.FIELDS, 5_400, 202_027),
    'synthetic': _Published(criteo.NUMBERS, criteo.CATEGORIES, 2_600, 420_000),
    'synthetic_histories': _Published(
        (), ('item', 'place'), 100, 420_000, {'history': ('item', synthetic_histories.RECENT)}
    ),
}


def find(config: ConfigDict, data_dir: str) -> DataSizes:
    """Sizes of prepared data where there is some, else those that are published.

    Args:
      config: validated; `compile.vocabulary` replaces the number of embedding rows, in proportion.
      data_dir: folder of prepared data.

    Raises:
      UserError: neither is there.
    """
    found = _prepared(config, data_dir) or _published(config)
    wanted = config.compile.vocabulary
    if not wanted:
        return found
    schema = _scaled(found.schema, wanted)
    return DataSizes(schema, found.rows, f'{found.source}, but {schema.vocabulary:,} embedding rows')


def _prepared(config: ConfigDict, data_dir: str) -> DataSizes | None:
    """Sizes of prepared data; None where no files are given, or they are not prepared."""
    dataset = config.dataset
    reads_files = 'train' in builders.dataset_class(dataset.name).KEYS
    if reads_files and not dataset.train:
        return None
    builder = builders.build(dataset, data_dir, warm_start.ancestor(config))
    if not builder.is_prepared():
        return None
    size = config_by_size.size_of(builder)
    return DataSizes(builder.schema(), size.rows, f'the prepared data in {builder.data_dir}')


def _published(config: ConfigDict) -> DataSizes:
    """Sizes as published, with fields of even size."""
    dataset, known = config.dataset, _PUBLISHED.get(config.dataset.name)
    if known is None:
        raise UserError(
            f'config.dataset.name={dataset.name!r}: programs depend on the fields and the vocabulary, which '
            'only prepared data tells; prepare it (--mode=prepare) and give the same flags here'
        )
    size = known.vocabulary // len(known.categories)
    treatment = 'standard' if dataset.treatment == 'auto' else dataset.treatment
    numbers = {key: dataset[key] for key in ('buckets', 'frequencies', 'fill')}
    fields = [number_field(name, treatment, numbers) for name in known.numbers]
    fields = [_sized(field, dataset.buckets + RESERVED) for field in fields]
    fields += [text_field(name, size=size) for name in known.categories]
    fields += [
        Field(name, MULTI_VALUED, pooling='mean', length=length, ordered=True, shares=shares)
        for name, (shares, length) in known.histories.items()
    ]
    return DataSizes(Schema(tuple(fields), 'label'), known.rows, f'the published sizes of {dataset.name}')


def _sized(field: Field, size: int) -> Field:
    """The field with a size, where it is one that owns ids."""
    return dataclasses.replace(field, size=size) if field.kind == 'categorical' else field


def _scaled(schema: Schema, vocabulary: int) -> Schema:
    """The schema with another number of embedding rows, in proportion, at least the reserved ones a field."""
    factor = vocabulary / schema.vocabulary
    sizes: Mapping[str, Any] = {f.name: max(round(f.size * factor), RESERVED) for f in schema.owners}
    fields = tuple(
        dataclasses.replace(f, size=sizes[f.name]) if f.name in sizes else f for f in schema.fields
    )
    return dataclasses.replace(schema, fields=fields)
