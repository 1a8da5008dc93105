"""A model against a reference in float64 NumPy, on random weights: logits, losses and gradients."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dlf_jax.models import CTRModel
from dlf_jax.testing import gradient

BATCH = 9
# Rows that only pad the batch, in the middle and at the end.
MASK = np.arange(BATCH) % 4 != 3
FIELDS = 4
STEP = 1e-6

# (params, batch_stats, rows, train, **the model's fields) -> logits [B], or those and what the loss gains.
Reference = Callable[..., Any]
# Arrays by name, nested.
Tree = dict[str, Any]


def check_model(
    model: CTRModel,
    reference: Reference,
    fields: int = FIELDS,
    hold: Callable[[Tree, Tree, Tree], Mapping[str, Any]] | None = None,
    labels: bool = False,
) -> None:
    """Asserts that a model computes what its reference says, in evaluation and in training.

    All parameters and batch statistics are drawn, so that no bias of 0 and no scale of 1 hides a term. It
    compares

    - the logits of evaluation, and those and the further losses of training with rows that only pad the
      batch, in float32 (relative error under 1e-5) and, for training, in float64 (under 1e-11);
    - the gradient of a random sum of the training logits, plus what the model sows, by central differences of
      the reference along a random direction, for every parameter array and every table's rows.

    Dropout must be off, and the model must not ask for `inputs`.

    Args:
      model: the module, with values of its fields.
      reference: `(params, batch_stats, rows, train, **fields) -> logits`, or `-> (logits, losses)` where the
        model sows losses, of which the sum is wanted. `params` and `batch_stats` are the module's trees of
        float64 arrays, `rows` is `{table: [B, F, width]}` of the rows that count, `train` says whether
        BatchNorm uses the batch's statistics; `fields` are the module's by name. To be written from the
        equations, not from the module.
      fields: F, number of fields of a row.
      hold: from (params, batch_stats, rows) to keywords for the reference, which hold still what the model
        takes no gradient of.
      labels: whether the model sows a loss that compares with labels; the reference then takes `labels`, [B]
        of the rows that count.

    Raises:
      AssertionError: they differ, or the drawn weights tell nothing (rows of one logit, no gradient).
    """
    if model.wants_inputs:
        raise ValueError(
            'check_model: for models on embeddings alone; call the module with inputs of your own'
        )
    switches = fields_of(model)
    refer = functools.partial(_with_losses, reference)
    variables, rows = random_inputs(model, fields)
    params, stats = variables.get('params', {}), variables.get('batch_stats', {})
    counted = {table: values[MASK] for table, values in rows.items()}
    weights = np.random.default_rng(1).normal(size=BATCH)
    clicks = np.random.default_rng(3).integers(0, 2, BATCH).astype(float)
    if labels:
        refer = functools.partial(refer, labels=clicks[MASK])

    # No array from outside: each precision brings its own.
    def training_loss(params: Tree, rows: Tree, stats: Tree, weights: jax.Array, mask: jax.Array) -> Any:
        mutable = ['batch_stats', 'losses']
        variables = {'params': params, 'batch_stats': stats}
        options: dict[str, Any] = {'labels': jnp.asarray(clicks, weights.dtype)} if labels else {}
        logits, changed = model.apply(variables, rows, train=True, mask=mask, mutable=mutable, **options)
        extra = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(changed.get('losses', {})))
        # Not a product: padded rows may hold anything.
        return jnp.sum(jnp.where(mask, logits * weights, 0)) + extra, (logits, extra)

    # Evaluation. Rows that only pad are left out here too: so large, a product of many overflows.
    expected, _ = refer(params, stats, counted, False, **switches)
    _check_distinct(expected)
    logits = jax.jit(model.apply)(*jax.tree.map(jnp.float32, (variables, rows)))
    chex.assert_shape(logits, (BATCH,))
    chex.assert_type(logits, jnp.float32)
    scale = abs(expected).max()
    np.testing.assert_allclose(np.asarray(logits)[MASK], expected, rtol=0, atol=1e-5 * scale)

    # Training.
    expected, expected_extra = refer(params, stats, counted, True, **switches)
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
        functools.partial(refer, **{**switches, **held}),
        (params, stats, counted),
        (gradients[0], {table: values[MASK] for table, values in gradients[1].items()}),
        weights[MASK],
    )
    for values in gradients[1].values():
        assert not values[~MASK].any(), 'padding has a gradient'


def fields_of(model: CTRModel) -> dict[str, Any]:
    """The model's fields, by name."""
    names = [field.name for field in dataclasses.fields(model) if field.name not in ('parent', 'name')]
    return {name: getattr(model, name) for name in names}


def random_inputs(model: CTRModel, fields: int = FIELDS, seed: int = 0) -> tuple[Tree, Tree]:
    """Random variables, every one of them, and rows; float64, by table, [B, F, width].

    Normal draws, wide as the fan-in asks, so that no product of many outgrows the others; variances
    are positive. What pads the batch is large: nothing of it may be seen.
    """
    rng = np.random.default_rng(seed)
    rows = {
        table: rng.normal(size=(BATCH, fields, width)) * np.where(MASK, 1, 1e3)[:, None, None]
        for table, width in model.tables_of(fields).items()
    }
    shapes = jax.eval_shape(model.init, jax.random.key(0), rows)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        values = rng.normal(size=leaf.shape)
        if path[-1].key == 'var':
            return 0.5 + values**2
        if len(leaf.shape) > 1:
            return values / np.sqrt(leaf.shape[-2])
        return values

    # What a module sows is there as well.
    kept = {name: tree for name, tree in shapes.items() if name in ('params', 'batch_stats')}
    return jax.tree_util.tree_map_with_path(draw, kept), rows


def _with_losses(reference: Reference, *args: Any, **fields: Any) -> tuple[np.ndarray, Any]:
    """The reference's logits and further losses; 0 where it returns logits alone."""
    found = reference(*args, **fields)
    if not isinstance(found, tuple | list):
        return found, 0.0
    logits, losses = found
    return logits, losses


def _check_distinct(logits: np.ndarray) -> None:
    # Dead ReLUs would hide what comes before them.
    assert np.unique(logits.round(6)).size == len(logits), 'degenerate weights: rows have the same logit'


def _check_gradients(
    reference: Callable[..., Any],
    inputs: tuple[Tree, Tree, Tree],
    gradients: tuple[Tree, Tree],
    weights: np.ndarray,
) -> None:
    params, stats, rows = inputs
    draw = np.random.default_rng(2)

    def loss(tree: Tree) -> Any:
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
