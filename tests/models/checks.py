"""What the baselines' tests share: a module against its float64 reference, on random weights."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dlf_jax.models import Collectives
from tests.references import gradient

BATCH = 9
# Rows that only pad the batch, in the middle and at the end.
MASK = np.arange(BATCH) % 4 != 3
FIELDS = 4
ORDER = np.array([2, 0, 3, 1])  # a permutation of the fields
ALL = 1 - 1e-7  # a dropout rate that leaves nothing
STEP = 1e-6

# (params, stats, rows, train, **the model's fields) -> (logits [B], what the loss gains).
Reference = Callable[..., tuple[np.ndarray, float]]


@dataclasses.dataclass(frozen=True)
class Mapped(Collectives):
    """Collectives over an axis that `vmap` maps, on a single device."""

    axis: str = 'devices'

    def total(self, tree):
        return lax.psum(tree, self.axis)

    def index(self):
        return lax.axis_index(self.axis)


def config(model: nn.Module) -> dict:
    """The model's fields, by name."""
    names = [field.name for field in dataclasses.fields(model) if field.name not in ('parent', 'name')]
    return {name: getattr(model, name) for name in names}


def random_inputs(model: nn.Module, fields: int = FIELDS, seed: int = 0) -> tuple[dict, dict]:
    """Random variables, every one of them, and rows; float64, by table, [B, F, width].

    Normal draws, wide as the fan-in asks, so that no product of many outgrows the others; variances
    are positive. What pads the batch is large: nothing of it may be seen.
    """
    rng = np.random.default_rng(seed)
    rows = {
        table: rng.normal(size=(BATCH, fields, width)) * np.where(MASK, 1, 1e3)[:, None, None]
        for table, width in model.tables.items()
    }
    shapes = jax.eval_shape(model.init, jax.random.key(0), rows)

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape)
        if path[-1].key == 'var':
            return 0.5 + values**2
        if len(leaf.shape) > 1:
            return values / np.sqrt(leaf.shape[-2])
        return values

    return jax.tree_util.tree_map_with_path(draw, dict(shapes)), rows


def count(model: nn.Module, fields: int = FIELDS) -> int:
    """Number of parameters."""
    variables, _ = random_inputs(model, fields)
    return sum(leaf.size for leaf in jax.tree.leaves(variables['params']))


def dense(inputs: int, outputs: int) -> int:
    """Parameters of a Dense."""
    return inputs * outputs + outputs


def mlp_count(inputs, hidden, output=1, batch_norm=True):
    """Number of parameters of an MLP; `output` 0: it ends with its last hidden layer."""
    widths = (inputs, *hidden)
    pairs = itertools.pairwise(widths)
    count = sum(before * width + width + 2 * width * batch_norm for before, width in pairs)
    return count + (widths[-1] + 1) * output


def compare(
    model: nn.Module,
    reference: Reference,
    fields: int = FIELDS,
    hold: Callable[[dict, dict, dict], dict] | None = None,
) -> None:
    """Asserts that a module and its reference agree, in both modes, values and gradients.

    - Evaluation and training with a mask, in float32 (relative error under 1e-5) and float64.
    - The training loss's gradient against central differences of the reference, along a random
      direction for every parameter tensor and every table's rows. The loss is a random
      combination of the logits that count, plus what the module sows.

    Args:
      hold: from (params, stats, rows that count) to keywords for the reference, which hold still
        what the module takes no gradient of.
    """
    switches = config(model)
    variables, rows = random_inputs(model, fields)
    params, stats = variables['params'], variables.get('batch_stats', {})
    counted = {table: values[MASK] for table, values in rows.items()}
    weights = np.random.default_rng(1).normal(size=BATCH)

    # No array from outside: each precision brings its own.
    def training_loss(params, rows, stats, weights, mask):
        mutable = ['batch_stats', 'losses']
        variables = {'params': params, 'batch_stats': stats}
        logits, changed = model.apply(variables, rows, train=True, mask=mask, mutable=mutable)
        extra = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(changed.get('losses', {})))
        # Not a product: padded rows may hold anything.
        return jnp.sum(jnp.where(mask, logits * weights, 0)) + extra, (logits, extra)

    # Evaluation. Rows that only pad are left out here too: so large, a product of many overflows.
    expected, _ = reference(params, stats, counted, False, **switches)
    _check_distinct(expected)
    logits = jax.jit(model.apply)(*jax.tree.map(jnp.float32, (variables, rows)))
    chex.assert_shape(logits, (BATCH,))
    chex.assert_type(logits, jnp.float32)
    scale = abs(expected).max()
    np.testing.assert_allclose(np.asarray(logits)[MASK], expected, rtol=0, atol=1e-5 * scale)

    # Training.
    expected, expected_extra = reference(params, stats, counted, True, **switches)
    _check_distinct(expected)
    inputs = (params, rows, stats, weights)
    single = jax.tree.map(jnp.float32, inputs)
    _, (logits, extra) = jax.jit(training_loss)(*single, MASK)
    scale = abs(expected).max()
    np.testing.assert_allclose(np.asarray(logits)[MASK], expected, rtol=0, atol=1e-5 * scale)
    np.testing.assert_allclose(extra, expected_extra, rtol=1e-5)

    with jax.enable_x64(True):
        differentiate = jax.grad(training_loss, argnums=(0, 1), has_aux=True)
        # Run once: compiling is what takes time.
        differentiate = jax.jit(differentiate, compiler_options={'xla_backend_optimization_level': 0})
        gradients, (logits, extra) = jax.device_get(differentiate(*inputs, MASK))
    np.testing.assert_allclose(logits[MASK], expected, rtol=0, atol=1e-11 * scale)
    np.testing.assert_allclose(extra, expected_extra, rtol=1e-11)

    held = hold(params, stats, counted) if hold else {}
    _check_gradients(
        functools.partial(reference, **{**switches, **held}),
        (params, stats, counted),
        (gradients[0], {table: values[MASK] for table, values in gradients[1].items()}),
        weights[MASK],
    )
    for values in gradients[1].values():
        assert not values[~MASK].any(), 'padding has a gradient'


def check_against(reference, model: nn.Module) -> None:
    """`compare` for a reference `(config, params, stats, rows, train) -> logits` without other losses."""

    def adapted(params, stats, rows, train, **switches):
        return reference(switches, params, stats, rows, train), 0.0

    compare(model, adapted)


def _check_distinct(logits):
    # Dead ReLUs would hide what comes before them.
    assert np.unique(logits.round(6)).size == len(logits), 'degenerate weights: rows have the same logit'


def _check_gradients(reference, inputs, gradients, weights):
    params, stats, rows = inputs
    draw = np.random.default_rng(2)

    def loss(tree):
        logits, extra = reference(tree['params'], stats, tree['rows'], True)
        return np.sum(logits * weights) + extra

    tree = {'params': params, 'rows': rows}
    found = dict(gradient.leaves({'params': gradients[0], 'rows': gradients[1]}))
    size = abs(loss(tree))
    for path, array in gradient.leaves(tree):
        # A bias may be one that a BatchNorm takes away again.
        removed = any('bias' in key for key in path) and bool(stats)
        assert removed or abs(found[path]).max() > 1e-12, f'degenerate weights: no gradient at {path}'
        # Rounding of the reference, 1e-16 / STEP of the loss, is the floor.
        floor = 1e-8 * max(1, size, np.linalg.norm(found[path]))
        gradient.check(loss, tree, path, array, found[path], draw, 1e-5, floor, STEP)


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
    names = config(model())
    for name in names:
        assert f'{name}:' in model.__doc__, f'{name} has no documentation'
    for variant in model.variants.values():
        assert set(variant) <= set(names)
        built = model(**variant)
        rows = {table: jnp.ones((2, FIELDS, width)) for table, width in built.tables.items()}
        variables = jax.eval_shape(built.init, jax.random.key(0), rows)
        logits = jax.eval_shape(built.apply, variables, rows)
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
