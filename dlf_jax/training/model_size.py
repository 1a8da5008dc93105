"""Size of a model before it is compiled: what its dense parameters and a step take, what would be smaller."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dlf_jax import models
from dlf_jax.data.schema import Schema
from dlf_jax.models import CTRModel, embedding
from dlf_jax.training import train_state
from dlf_jax.training.train_state import TrainState

_log = logging.getLogger(__name__)

# Dense parameters are out of proportion where they are more than both of these, the second for each training
# row, or where they are more than the first and fill more than this share of a device with their gradients
# and moments. A step is, where it takes longer than this.
_MANY, _MANY_FOR_A_ROW = 20_000_000, 100
_SHARE = 0.25
_SECONDS = 5.0
# Fewer operations take less, on a CPU and on anything else; tracing a model, to count them, takes a moment.
_QUICK = {'cpu': 1e11}
_QUICK_ELSEWHERE = 1e13
# Pairs of so many fields take operations that the number of parameters does not tell.
_MANY_FIELDS = 200
# A forward pass, the gradient of its inputs and that of its parameters, each a product and a sum.
_PASSES = 3
# What is tried is so many times smaller, and told where less than half is left.
_SMALLER = 4
_TOLD = 3
# The model to fall back on: its layers are as wide as they are told to be, whatever the number of fields.
_PLAIN = 'mlp'

# What is to become smaller.
Measure = Callable[[CTRModel], float]


@dataclasses.dataclass(frozen=True)
class Change:
    """A change of the config that makes a model smaller.

    Attributes:
      flag: makes the change.
      fields: of the model that it sets; `name` where it is another model.
      size: what is left, by the measure asked for.
    """

    flag: str
    fields: dict[str, Any]
    size: float


def warn_of_proportions(
    config: ConfigDict, schema: Schema, dense_bytes: int, memory: float, rows: int
) -> None:
    """Warns where a model's dense parameters or its steps are out of proportion; says what would be smaller.

    Args:
      config: the whole config.
      schema: of the data, sizes filled in.
      dense_bytes: of all of the state but the tables, gradients included, of all seeds.
      memory: bytes that a device may hold.
      rows: number of rows of the training part.
    """
    model = models.build(**config.model.to_dict())
    dense = dense_count(model, schema)
    many = dense > _MANY and (dense > _MANY_FOR_A_ROW * rows or dense_bytes > _SHARE * memory)
    operations = _many_operations(config, schema, model, dense)
    rate = _operations_a_second() if operations else 1.0
    slow = operations / rate > _SECONDS
    if many or slow:
        step = f', and a step {_seconds(operations / rate)} or more' if slow else ''
        _log.warning(
            'WARNING: %s has %s dense parameters for %s training rows; they take %.2g of %.3g GB, gradients '
            'and moments included%s. The largest: %s. %s',
            config.model.name, _number(dense), f'{rows:,}', dense_bytes / 1e9, memory / 1e9, step,
            _largest(model, schema),
            smaller_dense(config, schema) if many else _quicker(config, schema, rate),
        )  # fmt: skip


def _many_operations(config: ConfigDict, schema: Schema, model: CTRModel, dense: int) -> float:
    """Floating-point operations of a step; 0 where any device takes no time for them."""
    quick, rows = (
        _QUICK.get(jax.default_backend(), _QUICK_ELSEWHERE),
        config.seeds * config.training.batch_size,
    )
    if 2 * _PASSES * dense * rows < quick and len(schema.fields) < _MANY_FIELDS:
        return 0.0
    found = step_operations(model, schema, rows)
    return found if found > quick else 0.0


def smaller_dense(config: ConfigDict, schema: Schema) -> str:
    """Changes of a config that leave fewer dense parameters, in words.

    Args:
      config: the whole config.
      schema: of the data, sizes filled in.
    """
    found = smaller(config.model.to_dict(), lambda model: dense_count(model, schema))
    told = ', '.join(f'{change.flag} ({_number(change.size)})' for change in found)
    return f'Fewer dense parameters: {told}' if found else 'Take another model'


def _quicker(config: ConfigDict, schema: Schema, rate: float) -> str:
    """Changes of a config with quicker steps, in words."""
    rows = config.seeds * config.training.batch_size
    found = smaller(config.model.to_dict(), lambda model: step_operations(model, schema, rows))
    told = ', '.join(f'{change.flag} ({_seconds(change.size / rate)})' for change in found)
    return f'Quicker: {told}' if found else 'Take another model'


def smaller(model: Mapping[str, Any], measure: Measure) -> list[Change]:
    """Changes of a model that leave less than half of it.

    Args:
      model: `config.model`.
      measure: of a model; what is to become smaller.

    Returns:
      The variant and the single keys that leave least, the best two of them together, and the plain model.
    """
    limit = measure(models.build(**model)) / 2

    def tried(flag: str, fields: dict[str, Any], base: Mapping[str, Any] = model) -> list[Change]:
        try:
            found = Change(flag, fields, measure(models.build(**{**base, **fields})))
        except (ValueError, TypeError):
            # The model refuses the fields.
            return []
        return [found] if found.size < limit else []

    # The variant that changes the model least.
    variants = [change for flag, fields in _variants(model) for change in tried(flag, fields)]
    singles = sorted(variants, key=lambda change: (len(change.fields), change.size))[:1]
    singles += [change for flag, fields in _numbers(model) for change in tried(flag, fields)]
    singles = sorted(singles, key=lambda change: change.size)[:_TOLD]
    both = []
    if len(singles) > 1:
        first, second = singles[:2]
        both = tried(f'both {first.flag} and {second.flag}', {**second.fields, **first.fields})
    width = {'embedding_size': model['embedding_size']} if 'embedding_size' in model else {}
    other = {'name': _PLAIN, **width}
    plain = [] if model['name'] == _PLAIN else tried(f'the model {_PLAIN}', other, base={})
    return singles + both + plain


def _variants(model: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the flag and the fields of each of a model's variants."""
    for variant, fields in models.model_class(model['name']).variants.items():
        yield f'--variant={variant}', fields


def _numbers(model: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the flag and the field of each number, or tuple of numbers, that can be smaller."""
    for key, value in model.items():
        if isinstance(value, tuple) and value and all(_is_large(one) for one in value):
            widths = tuple(one // _SMALLER for one in value)
            yield f"--config.model.{key}='{widths}'".replace(' ', ''), {key: widths}
        elif _is_large(value):
            yield f'--config.model.{key}={value // _SMALLER}', {key: value // _SMALLER}


def _is_large(value: Any) -> bool:
    return isinstance(value, int) and value >= _SMALLER


def dense_count(model: CTRModel, schema: Schema) -> int:
    """Number of a model's dense parameters; computes nothing."""
    return train_state.parameter_counts(_shapes(model, schema).params)['dense']


def step_operations(model: CTRModel, schema: Schema, batch_size: int) -> float:
    """Floating-point operations of a training step, estimated from its forward pass; compiles nothing.

    Args:
      model: called on embeddings.
      schema: of the data, sizes filled in.
      batch_size: number of rows.
    """

    def forward(params: Any, batch_stats: Any) -> Any:
        embeddings, inputs = embedding.example(model.tables_of(len(schema.fields)), schema, batch_size)
        options: dict[str, Any] = {'inputs': inputs} if model.wants_inputs else {}
        return model.apply({'params': params, 'batch_stats': batch_stats}, embeddings, **options)

    state = _shapes(model, schema)
    lowered = jax.jit(forward).lower(state.params['dense']['model'], state.batch_stats)
    return _PASSES * float((lowered.cost_analysis() or {}).get('flops', 0.0))


def _shapes(model: CTRModel, schema: Schema) -> TrainState:
    create = functools.partial(train_state.create, model=model, schema=schema, std=1.0)
    shapes: TrainState = jax.eval_shape(create, np.int32(0))
    return shapes


def _largest(model: CTRModel, schema: Schema) -> str:
    """The largest arrays of a model in words, by the path of their module."""
    leaves = jax.tree_util.tree_leaves_with_path(_shapes(model, schema).params['dense']['model'])
    told = [
        f'{jax.tree_util.keystr(path, simple=True, separator="/")} [{", ".join(map(str, leaf.shape))}]'
        for path, leaf in sorted(leaves, key=lambda pair: -pair[1].size)
    ]
    return ', '.join(told[:_TOLD])


def _operations_a_second() -> float:
    """What a product of matrices reaches on all devices together, in floating-point operations a second."""
    # CPU devices share the machine.
    size, devices = (1024, 1) if jax.default_backend() == 'cpu' else (8192, len(jax.devices()))
    product, spent = jax.jit(jnp.matmul), list[float]()
    square = jnp.ones((size, size))
    for _ in range(4):
        start = time.perf_counter()
        product(square, square).block_until_ready()
        spent.append(time.perf_counter() - start)
    # The first one compiles.
    return devices * 2 * size**3 / min(spent[1:])


def _number(count: float) -> str:
    return f'{count / 1e6:,.3g} million' if count >= 1e6 else f'{count:,.0f}'


def _seconds(count: float) -> str:
    return f'{count:,.0f} s' if count >= 10 else f'{count:.1f} s'
