"""Values of config keys that follow from the size of the data: its training rows and its fields.

A config file leaves a key to the size by `leave_open`, as `configs/table.py` does; a value that is given, on
the command line or anywhere else, stays. How the rule was found: docs/how-to/own-data.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from dlf_jax import config as configs
from dlf_jax.data.builders.base import Builder

# An epoch has about this many steps where the batch size allows it.
_STEPS = 128
_SMALLEST_BATCH, _LARGEST_BATCH = 32, 4096
# From this size on, one short batch among the many of an epoch does no harm.
_LARGE_BATCH = 256
# Number of steps between evaluations: an epoch, but within these bounds.
_FEWEST_STEPS, _MOST_STEPS = 50, 1000
# Fields times the width of their embeddings.
_WIDEST = 2048
# Rows for each field from which on BatchNorm helps more than it harms.
_ROWS_OF_FIELD = 50


def batch_size(rows: int) -> int:
    """Number of rows of a batch: a power of two, for about `_STEPS` steps an epoch.

    The last batch of an epoch holds the rows that are left, and BatchNorm makes statistics of it as of any
    other. Where it would be less than half full, a small batch is the nearest multiple of 8 that leaves more.
    """
    power = 2 ** round(math.log2(max(rows / _STEPS, 1)))
    size = min(max(power, _SMALLEST_BATCH), _LARGEST_BATCH)
    if size >= _LARGE_BATCH:
        return size
    near = sorted(range(size // 2, 2 * size, 8), key=lambda candidate: abs(candidate - size))
    return next((candidate for candidate in near if 2 * (rows % candidate or candidate) >= candidate), size)


def steps_between_evaluations(rows: int, batch: int) -> int:
    """An epoch, unless it has so few steps that they change little, or so many that one waits."""
    return min(max(-(-rows // batch), _FEWEST_STEPS), _MOST_STEPS)


def penalty(rows: int) -> float:
    """Weight of the embedding penalty: a prior, which beside a mean over more rows weighs less."""
    return float(f'{1e-2 * min(1.0, 1e5 / rows):.1e}')


def dropout(rows: int) -> float:
    """Dropout rate: 0.5 at a thousand rows and 0.1 less for ten times as many, down to 0.1."""
    return round(min(max(0.8 - 0.1 * math.log10(max(rows, 1)), 0.1), 0.5), 2)


def embedding_size(fields: int) -> int:
    """Width of embeddings: 16, and less where all fields together would be more than `_WIDEST`, down to 4."""
    return min(max(2 ** int(math.log2(_WIDEST / max(fields, 1))), 4), 16)


def batch_norm(rows: int, fields: int) -> bool:
    """Whether hidden layers have BatchNorm: not where few rows would teach it the noise of many fields."""
    return rows >= _ROWS_OF_FIELD * fields


def mixture(fields: int) -> bool:
    """Whether cross layers (DCNv2) have a low rank: where full ones would be wider than `_WIDEST`."""
    return fields * embedding_size(fields) > _WIDEST


@dataclasses.dataclass(frozen=True)
class Size:
    """Size of the data.

    Attributes:
      rows: number of training rows.
      fields: number of fields.
    """

    rows: int
    fields: int


def size_of(builder: Builder) -> Size:
    """The size of prepared data."""
    return Size(builder.blocks('train').rows, len(builder.schema().fields))


def _steps(size: Size, config: ConfigDict) -> int:
    return steps_between_evaluations(size.rows, config.training.batch_size)


# Values of the keys from the size, and from a config that has those of the keys before.
_RULES: dict[str, Callable[[Size, ConfigDict], int | float]] = {
    'training.batch_size': lambda size, _: batch_size(size.rows),
    'training.evaluate_every': _steps,
    'plateau.steps': _steps,
    'embedding.penalty': lambda size, _: penalty(size.rows),
    'model.embedding_size': lambda size, _: embedding_size(size.fields),
    'model.mixture': lambda size, _: mixture(size.fields),
    'model.batch_norm': lambda size, _: batch_norm(size.rows, size.fields),
    **dict.fromkeys(
        ('model.dropout', 'model.dropout_1', 'model.dropout_2', 'model.deep_dropout'),
        lambda size, _: dropout(size.rows),
    ),
}
KEYS = tuple(_RULES)


def leave_open(config: ConfigDict, *keys: str) -> None:
    """Leaves keys to the size of the data, in place.

    Args:
      config: the whole config.
      keys: some of `KEYS`.
    """
    for key in keys:
        section, name = key.split('.')
        config[section][name] = config_dict.placeholder(type(config[section][name]))


def open_keys(config: ConfigDict) -> list[str]:
    """The keys of a config that are left to the size of the data."""
    values = dict(configs.flatten(config))
    return [key for key in KEYS if key in values and values[key] is None]


def filled(config: ConfigDict, size: Size, known: Mapping[str, Any] | None = None) -> ConfigDict:
    """The config with values for the keys that are left to the size of the data; others are as they were.

    Args:
      config: the whole config.
      size: of the data.
      known: values by key that go before the rules', such as those of a run that goes on.
    """
    found = config.copy_and_resolve_references()
    for key in open_keys(config):
        section, name = key.split('.')
        value = (known or {}).get(key)
        found[section][name] = _RULES[key](size, found) if value is None else value
    return found


def stand_in(config: ConfigDict) -> ConfigDict:
    """The config as of the smallest data, to check the keys that are given."""
    return filled(config, Size(rows=1, fields=1))
