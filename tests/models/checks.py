"""What the models' tests share, beside `dlf_jax.testing.check_model`: counts, drawn weights, permutations."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dlf_jax.data.schema import Field, Schema, number_field
from dlf_jax.models import Collectives, embedding
from dlf_jax.testing import check_model
from dlf_jax.testing.model_check import BATCH, FIELDS, MASK, fields_of, random_inputs

ORDER = np.array([2, 0, 3, 1])  # a permutation of the fields
ALL = 1 - 1e-7  # a dropout rate that leaves nothing


@dataclasses.dataclass(frozen=True)
class Mapped(Collectives):
    """Collectives over an axis that `vmap` maps, on a single device."""

    axis: str = 'devices'

    def total(self, tree):
        return lax.psum(tree, self.axis)

    def index(self):
        return lax.axis_index(self.axis)


def daily(cases: Iterable[str], *quick: str) -> list:
    """Parameters of a test by name, of which all but a few are slow: each takes seconds to compile."""
    return [case if case in quick else pytest.param(case, marks=pytest.mark.slow) for case in cases]


def call_of(model: nn.Module, fields: int = FIELDS, numbers: int = 0) -> tuple[dict, dict]:
    """Rows of zeros and further keywords of a model's call, of fields of which the last are numeric; and of a
    history, where the model needs one."""
    names = [f'field{i}' for i in range(fields)]
    made = [Field(name, 'categorical', size=3) for name in names[: fields - numbers]]
    made += [number_field(name, 'none') for name in names[fields - numbers :]]
    if model.needs_histories:
        made.append(Field('seen', 'multi-valued', pooling='mean', length=3, ordered=True, shares='field0'))
    rows, inputs = embedding.example(model.tables_of(fields), Schema(tuple(made), 'label'))
    return rows, {'inputs': inputs} if model.wants_inputs else {}


def count(model: nn.Module, fields: int = FIELDS, numbers: int = 0) -> int:
    """Number of dense parameters, with the last `numbers` fields numeric."""
    rows, options = call_of(model, fields, numbers)
    shapes = jax.eval_shape(functools.partial(model.init, **options), jax.random.key(0), rows)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes['params']))


def dense(inputs: int, outputs: int) -> int:
    """Parameters of a Dense."""
    return inputs * outputs + outputs


def mlp_count(inputs, hidden, output=1, batch_norm=True):
    """Number of parameters of an MLP; `output` 0: it ends with its last hidden layer."""
    widths = (inputs, *hidden)
    pairs = itertools.pairwise(widths)
    count = sum(before * width + width + 2 * width * batch_norm for before, width in pairs)
    return count + (widths[-1] + 1) * output


def check_against(reference, model: nn.Module) -> None:
    """`check_model` for a reference `(config, params, stats, rows, train) -> logits`."""

    def adapted(params, stats, rows, train, **switches):
        return reference(switches, params, stats, rows, train)

    check_model(model, adapted)


def check_dropout(model: nn.Module, rate: str) -> None:
    """Asserts that a model whose field `rate` is above 0 drops in training, and only there."""
    assert getattr(model, rate) > 0
    variables, rows = jax.tree.map(jnp.float32, random_inputs(model))
    without = model.clone(**{rate: 0.0})

    def train(model, seed):
        rngs = {'dropout': jax.random.key(seed)}
        mutable = ['batch_stats', 'losses']
        return model.apply(variables, rows, train=True, mask=MASK, rngs=rngs, mutable=mutable)[0][MASK]

    @jax.jit
    def logits():
        evaluated = model.apply(variables, rows), without.apply(variables, rows)
        return evaluated, [train(model, 0), train(model, 1), train(without, 0)]

    evaluated, trained = logits()
    np.testing.assert_allclose(*evaluated, rtol=1e-5)
    for i in range(3):
        assert not np.allclose(trained[i], trained[i - 1])


def check_variants(model: type[nn.Module]) -> None:
    """Asserts the parts of the contract that need no weights: variants, documentation, tables."""
    assert next(iter(model.variants.items())) == ('full', {})
    names = fields_of(model())
    for name in names:
        assert f'{name}:' in model.__doc__, f'{name} has no documentation'
    for variant in model.variants.values():
        assert set(variant) <= set(names)
        built = model(**variant)
        rows, options = call_of(built)
        variables = jax.eval_shape(functools.partial(built.init, **options), jax.random.key(0), rows)
        logits = jax.eval_shape(functools.partial(built.apply, **options), variables, rows)
        chex.assert_shape(logits, (2,))
        chex.assert_type([logits, *jax.tree.leaves(variables)], jnp.float32)


def random_rows(model, seed=0, spread=0.7):
    """Rows of all tables as float64, each of which float32 holds exactly."""
    draw = np.random.default_rng(seed)
    return {table: _normal(draw, (BATCH, FIELDS, width), spread) for table, width in model.tables.items()}


def random_variables(model, seed=1, spread=0.7):
    """Variables whose every entry is drawn anew, so that no zero, one or symmetry hides anything.

    Variances are positive, all else is normal. All are float64, each of which float32 holds exactly.
    """
    draw = np.random.default_rng(seed)

    def redraw(path, leaf):
        if path[-1].key == 'var':
            return np.abs(_normal(draw, leaf.shape, 1)) + 0.5
        return _normal(draw, leaf.shape, spread)

    return jax.tree.map_with_path(redraw, _shapes(model))


def parameter_shapes(model):
    """Tree of the shapes of all trainable parameters."""
    return jax.tree.map(lambda leaf: leaf.shape, _shapes(model)['params'])


def evaluate(model, variables, rows):
    """Logits in evaluation, float32 [B], of float64 variables and rows."""
    variables, rows = _cast((variables, rows), jnp.float32)
    return model.apply(variables, rows)


def train(model, variables, rows, seed=2):
    """Logits in training, float32 [B], with dropout's draws from `seed`."""
    variables, rows = _cast((variables, rows), jnp.float32)
    rngs = {'dropout': jax.random.key(seed)}
    return model.apply(variables, rows, train=True, rngs=rngs, mutable=['batch_stats'])[0]


def permute_fields(rows):
    """The rows with their fields in another order."""
    return {table: values[:, ORDER] for table, values in rows.items()}


def permute_kernel(dense):
    """Reorders, in place, a Dense on flattened fields so that it reads those of `permute_fields`."""
    kernel = dense['kernel']
    dense['kernel'] = kernel.reshape(FIELDS, -1, kernel.shape[1])[ORDER].reshape(kernel.shape)


def check_permutation(model, variables):
    """Checks that the order of the fields is of no account."""
    rows = random_rows(model)
    expected = evaluate(model, variables, rows)
    found = evaluate(model, variables, permute_fields(rows))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def _shapes(model):
    rows = {table: jnp.ones((BATCH, FIELDS, width)) for table, width in model.tables.items()}
    return jax.eval_shape(model.init, jax.random.key(0), rows)


def _normal(draw, shape, spread):
    return draw.normal(0, spread, shape).astype(np.float32).astype(np.float64)


def _cast(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)
