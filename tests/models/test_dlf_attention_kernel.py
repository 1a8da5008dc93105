"""The kernels of DLF's attention, in Pallas' interpreter: outputs, gradients, and what is refused.

The interpreter's parameters have no public name in JAX 0.10.
"""

import functools
import os
import subprocess
import sys
import types
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams
from jax.extend.core import jaxprs_in_params

from benchmarks.attention_kernel import draw
from dlf_jax import config as configs
from dlf_jax import models
from dlf_jax.data.schema import Field, Schema
from dlf_jax.errors import UsageError
from dlf_jax.models import dlf_attention_kernel as kernel
from dlf_jax.models import dlf_fusion
from dlf_jax.training.model_setup import TrainingSetup
from tests.references import dlf as reference

INTERPRET = InterpretGPUParams()


def distance(found, expected):
    """Of two trees, leaf by leaf, as a share of the second's norm: the largest."""
    shares = [
        np.linalg.norm(np.asarray(a, np.float64) - np.asarray(b, np.float64)) / np.linalg.norm(b)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    ]
    return max(shares)


def wide(tree):
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


@pytest.mark.parametrize('function', ['_outputs', '_gradients'])
def test_a_kernel_sums_over_no_rows(function):
    """Such a sum goes through memory that two warpgroups would use at once, which the interpreter does not
    show."""
    blocks, weights, gradients = draw(3, 8, 16, 64)
    flat = [[block.reshape(-1, 64) for block in part] for part in (blocks, gradients)]
    arguments = (flat[0], weights, *([flat[1]] if function == '_gradients' else []))
    layer = kernel.Layer(blocks=3, tokens=16, width=64, heads=2, self_attention=True)
    traced = jax.make_jaxpr(functools.partial(getattr(kernel, function), layer))(*arguments)
    # All of a kernel is in the scope of its memory.
    body = next(e.params['jaxpr'] for e in equations(traced.jaxpr) if e.primitive.name == 'run_scoped')
    found = [e.params['axes'] for e in equations(body) if e.primitive.name in ('reduce_sum', 'reduce_max')]
    assert found
    assert set(found) == {(1,)}


def compare(blocks, batch, tokens, width, heads, self_attention=True):
    """Compares outputs and gradients with those of the plain form in float32 and of the float64 reference.

    bfloat16 rounds by up to 0.4% (2^-8), 0.17% on average. The outputs have one rounding on top of those
    before it, gradients have about eight in a row, each of which is an average over many.
    """
    inputs, weights, gradients = draw(blocks, batch, tokens, width)
    attention = functools.partial(
        kernel.attention, heads=heads, self_attention=self_attention, interpret=INTERPRET
    )
    outputs, pull = jax.vjp(attention, inputs, weights)
    found = pull(gradients)
    assert {leaf.dtype for leaf in jax.tree.leaves((outputs, found))} == {jnp.dtype(jnp.bfloat16)}

    def plain(inputs, weights):
        layer = dlf_fusion.AttentionLayer(heads, self_attention)
        return layer.apply({'params': weights._asdict()}, inputs)

    expected, pull = jax.vjp(plain, wide(inputs), wide(weights))
    assert distance(outputs, expected) < 0.004
    assert distance(found, pull(wide(gradients))) < 0.008
    exact = jax.tree.map(lambda x: np.asarray(x, np.float64), (weights._asdict(), inputs))
    assert distance(outputs, reference.attention_layer(*exact, heads, self_attention)) < 0.004


@pytest.mark.parametrize(
    ('blocks', 'self_attention'), [(2, False), pytest.param(3, True, marks=pytest.mark.slow)]
)
def test_outputs_and_gradients(blocks, self_attention):
    # 5 examples of 16 tokens are a tile and a quarter.
    compare(blocks, 5, 16, 32, 1, self_attention)


def in_own_process(*arguments):
    """Compares in a process of its own: a warpgroup that waits for the other takes one of XLA's threads, of
    which there must be more than a machine may have cores."""
    script = f'from tests.models.test_dlf_attention_kernel import compare; compare(*{arguments})'
    environment = {**os.environ, 'NPROC': '8', 'JAX_PLATFORMS': 'cpu'}
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, '-c', script], env=environment, cwd=root, check=True, timeout=300)


@pytest.mark.slow
def test_two_warpgroups():
    in_own_process(2, 4, 16, 32, 2)


@pytest.mark.slow
@pytest.mark.parametrize('heads', [1, 2, 4])
def test_width_of_the_paper(heads):
    in_own_process(3, 5, 16, 64, heads)


def test_examples_of_a_tile_do_not_see_each_other():
    inputs, weights, gradients = draw(2, 4, 16, 32)
    others = (jnp.arange(4) != 1)[:, None, None]
    changed = [jnp.where(others, 100 * jnp.flip(x), x) for x in inputs]
    alone = [jnp.where(others, 0, x) for x in gradients]
    attention = functools.partial(kernel.attention, heads=1, self_attention=True, interpret=INTERPRET)

    def run(inputs):
        outputs, pull = jax.vjp(lambda inputs: attention(inputs, weights), inputs)
        return outputs, pull(alone)[0]

    for before, after in zip(jax.tree.leaves(run(inputs)), jax.tree.leaves(run(changed)), strict=True):
        np.testing.assert_array_equal(before[1], after[1])
    assert not any(np.any(x[others[:, 0, 0]]) for x in run(inputs)[1])


@pytest.mark.slow
def test_seeds_of_one_program():
    inputs, weights, _ = draw(2, 4, 16, 32)
    stack = jax.tree.map(lambda x: jnp.stack([x, -x]), (inputs, weights))

    def total(inputs, weights):
        outputs = kernel.attention(inputs, weights, 1, True, INTERPRET)
        return sum(jnp.sum(jnp.square(x.astype(jnp.float32))) for x in outputs)

    gradient = jax.grad(total, (0, 1))
    second = jax.tree.map(lambda x: x[1], jax.vmap(gradient)(*stack))
    jax.tree.map(np.testing.assert_array_equal, second, gradient(*jax.tree.map(lambda x: x[1], stack)))


FIELDS = {'embedding_size': 32, 'tokens': 16, 'layers': 1, 'attention_layers': 1, 'hidden': (), 'rank': 2}


def test_training_takes_the_kernel_and_predictions_do_not(monkeypatch):
    calls = []

    def attention(blocks, weights, heads, self_attention):
        calls.append((len(blocks), heads, self_attention))
        return blocks

    monkeypatch.setattr(kernel, 'attention', attention)
    plain = models.build('dlf', **FIELDS, heads=1)
    fused = models.build('dlf', **FIELDS, heads=1, attention_kernel='mosaic_gpu')
    rows = {'embedding': jnp.ones((4, 5, 32))}
    # Shapes alone: of the parameters, which are the same, and of a step.
    shapes = [jax.eval_shape(model.init, jax.random.key(1), rows) for model in (plain, fused)]
    chex.assert_trees_all_equal(*shapes)
    jax.eval_shape(fused.apply, shapes[0], rows)
    assert not calls
    train = {'train': True, 'mutable': ['batch_stats', 'losses']}
    jax.eval_shape(functools.partial(plain.apply, **train), shapes[0], rows)
    assert not calls
    jax.eval_shape(functools.partial(fused.apply, **train), shapes[0], rows)
    assert calls == [(3, 1, True)]


def test_other_dtypes_are_refused():
    inputs, weights, _ = draw(2, 4, 16, 32)
    with pytest.raises(ValueError, match=r'attention_kernel.*expected arrays of bfloat16, found .*float32'):
        kernel.attention(wide(inputs), weights, 1, True)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'attention_kernel': 'triton'}, r"model.attention_kernel='triton': expected one of 'plain'"),
        ({'fusion': 'mlp'}, r"model.attention_kernel=mosaic_gpu: needs model.fusion='naf'"),
        ({'embedding_size': 48}, r'needs model.embedding_size=32 or 64, found 48'),
        ({'tokens': 24}, r'needs model.tokens to divide 64, found 24'),
        ({'heads': 4}, r'needs heads of a multiple of 16 channels, found model.heads=4'),
    ],
)
def test_models_without_a_kernel(fields, message):
    with pytest.raises(ValueError, match=message):
        models.build('dlf', **{**FIELDS, 'attention_kernel': 'mosaic_gpu', **fields})


H100 = types.SimpleNamespace(compute_capability='9.0', device_kind='NVIDIA H100')
A100 = types.SimpleNamespace(compute_capability='8.0', device_kind='NVIDIA A100')


@pytest.mark.parametrize(
    ('precision', 'devices', 'message'),
    [
        ('float32', [H100], r'computes in bfloat16, found precision=float32'),
        ('bfloat16', [H100, A100], r'needs H100 or H200 GPUs, found NVIDIA A100'),
    ],
)
def test_trainings_without_a_kernel(precision, devices, message):
    model = models.build('dlf', **FIELDS, attention_kernel='mosaic_gpu')
    with pytest.raises(ValueError, match=f'model.attention_kernel=mosaic_gpu: .*{message}'):
        model.check_training(precision, devices)
    model.check_training('bfloat16', [H100, H100])
    models.build('dlf', **FIELDS).check_training(precision, devices)


def test_training_on_this_machine_is_refused():
    config = configs.get_config('dlf')
    config.precision = 'bfloat16'
    config.model.update({**FIELDS, 'attention_kernel': 'mosaic_gpu'})
    schema = Schema((Field('a', 'categorical', size=9),), 'label')
    with pytest.raises(UsageError, match=r'config.model.attention_kernel=mosaic_gpu: needs .* found cpu'):
        TrainingSetup(config, schema, 10, 64, jax.devices('cpu')[:1])
