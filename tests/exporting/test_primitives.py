"""Functions of JAX in ONNX Runtime, beside JAX, at several numbers of rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from dlf_jax.errors import UserError
from dlf_jax.exporting import onnx_file, onnx_jaxpr
from dlf_jax.exporting.onnx_graph import Graph, Tensor

WEIGHTS = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
CUBE = np.random.default_rng(1).normal(size=(3, 4, 2)).astype(np.float32)
PLACES = np.array([2, 0, 3, 3])

# By name, functions of x float32 [rows, 3, 4] and ids int32 [rows, 3], some of them past the end.
FUNCTIONS = {
    'arithmetic': lambda x, ids: (x + 2) * x - x / (jnp.abs(x) + 1) + -x**3 + x**2,
    'powers': lambda x, ids: jnp.power(jnp.abs(x) + 0.1, 0.3) + jnp.exp2(x) + lax.integer_pow(x, -2),
    'exponentials': lambda x, ids: jnp.exp(x) + jnp.expm1(x),
    'logarithms': lambda x, ids: jnp.log(jnp.abs(x) + 1) + jnp.log1p(jnp.abs(x)),
    'roots': lambda x, ids: jnp.sqrt(jnp.abs(x)) + jnp.cbrt(x) + lax.rsqrt(jnp.abs(x) + 1) + jnp.square(x),
    'waves': lambda x, ids: jnp.sin(x) + jnp.cos(x) + jnp.tan(x / 4) + jnp.arctan(x),
    # All quadrants and axes, and 0.
    'angles': lambda x, ids: jnp.arctan2(x, x[:, :, ::-1]) + jnp.arctan2((x > 0) * 1.0, jnp.floor(x)),
    'hyperbolic': lambda x, ids: jnp.sinh(x) + jnp.cosh(x) + jnp.arcsinh(x),
    'squashed': lambda x, ids: jnp.tanh(x) + jax.nn.sigmoid(x) + lax.erf(x) + lax.erfc(x) + jax.nn.gelu(x),
    'activations': lambda x, ids: jax.nn.relu(x) + jax.nn.silu(x) + jax.nn.softplus(x) + jax.nn.leaky_relu(x),
    'softmax': lambda x, ids: jax.nn.softmax(x) + jax.nn.log_softmax(x, 1),
    'logsumexp': lambda x, ids: jax.nn.logsumexp(x, 2, keepdims=True),
    'rounding': lambda x, ids: jnp.floor(x) + jnp.ceil(x) + jnp.round(x) + jnp.sign(x) + jnp.trunc(x),
    'remainder': lambda x, ids: lax.rem(x, jnp.float32(0.7)) + (ids // 3 % 2)[..., None],
    'extremes': lambda x, ids: jnp.maximum(x, 0.1) + jnp.minimum(x, WEIGHTS[:3, :4]) + jnp.clip(x, -0.5, 0.5),
    'comparisons': lambda x, ids: (
        (x > 0) + 2 * (x <= 0.5) + 4 * (x != x[:, :1]) + 8 * ((x > 0) == (x > 1)) + 16 * ((x >= 0) & ~(x < 1))
    ),
    'missing': lambda x, ids: jnp.where(jnp.isnan(x / 0 * 0), 1.0, x) + jnp.isfinite(x / (x > 0)),
    'choices': lambda x, ids: lax.select_n(ids % 3, ids, ids * 10, ids - 7) + jnp.where(ids > 2, ids, -1),
    'flags': lambda x, ids: jnp.where(x > 0, x > 0.5, x < -0.5) ^ (x > 1) | jnp.logical_not(x < 2),
    'sums': lambda x, ids: jnp.sum(x, 1) + jnp.mean(x, (1,)) + jnp.prod(x, 1) + jnp.sum(ids),
    'ends': lambda x, ids: jnp.max(x, 1) + jnp.min(x, 1) + jnp.argmax(x, 1) + 10 * jnp.argmin(x, 1),
    'all and any': lambda x, ids: jnp.any(x > 1, 1) + 2 * jnp.all(x > -1, 1),
    'over the rows': lambda x, ids: x - jnp.mean(x, 0) + jnp.arange(x.shape[0])[:, None, None],
    'cumulative': lambda x, ids: jnp.cumsum(x, 1) + lax.cumsum(x, 2, reverse=True),
    'sorted': lambda x, ids: jnp.sort(x, 2) + jnp.argsort(x, 2) + lax.top_k(x, 2)[0][..., :1],
    'dense': lambda x, ids: x @ WEIGHTS + WEIGHTS[0],
    'turned dense': lambda x, ids: jnp.einsum('oi,bfi->bfo', WEIGHTS.T, x),
    'token map': lambda x, ids: jnp.einsum('bfi,fk->bki', x, WEIGHTS[:3]),
    'own weights': lambda x, ids: jnp.einsum('bfi,fio->bfo', x, CUBE),
    'both contracted': lambda x, ids: jnp.einsum('bfi,fio->bo', x, CUBE),
    'pairs': lambda x, ids: jnp.einsum('bfi,bgi->bfg', x, jnp.tanh(x)),
    'outer': lambda x, ids: jnp.einsum('bi,bj->bij', x[:, 0], x[:, 1]),
    'inner': lambda x, ids: jnp.einsum('bfi,bfi->b', x, x + 1),
    'heads': lambda x, ids: jnp.einsum('bfhd,bghd->bhfg', x.reshape(-1, 3, 2, 2), x.reshape(-1, 3, 2, 2)),
    'vector': lambda x, ids: x @ WEIGHTS[:, 0],
    'shapes': lambda x, ids: jnp.swapaxes(x, 1, 2).reshape(-1, 2, 6)[:, None] + x.reshape(-1, 1, 12)[..., :6],
    'flat rows': lambda x, ids: (x.reshape(-1, 4) @ WEIGHTS).reshape(x.shape[0], 3, 5),
    'repeated': lambda x, ids: jnp.broadcast_to(x[:, :1], x.shape).reshape(-1, 12) + jnp.tile(ids, (1, 4)),
    'repeated weights': lambda x, ids: jnp.broadcast_to(WEIGHTS[0], (x.shape[0], 5)) * x[:, 0, :1],
    'joined': lambda x, ids: jnp.concatenate([x, jnp.zeros((x.shape[0], 2, 4)), x[:, :1]], 1),
    'stacked': lambda x, ids: jnp.stack([x[:, 0], jnp.ones((x.shape[0], 4)), x[:, 2]], 1),
    'split': lambda x, ids: sum(part[..., :1] for part in jnp.split(x, [1, 3], 2)),
    'sliced': lambda x, ids: x[:, 1:, ::2] + x[:, 0:1, 1:3] + lax.dynamic_slice_in_dim(x, 1, 2, 2)[:, :2],
    'turned around': lambda x, ids: x[:, ::-1] + jnp.flip(x, 2) + jnp.roll(x, 1, 2),
    'padded': lambda x, ids: jnp.pad(x, ((0, 0), (1, 0), (0, 2)), constant_values=3),
    'places': lambda x, ids: x[:, :, PLACES] + x[:, 1, :][:, None] + x[:, np.array([1, 2, 0])],
    'pairs of places': lambda x, ids: x[:, np.array([0, 2, 1]), np.array([3, 3, 0])],
    'rows of a table': lambda x, ids: jnp.take(WEIGHTS, ids, axis=0, mode='fill'),
    'rows in a table': lambda x, ids: jnp.asarray(WEIGHTS)[jnp.clip(ids, 0, 3)],
    'columns of a table': lambda x, ids: jnp.take(WEIGHTS, ids, axis=1, mode='clip'),
    'whole numbers': lambda x, ids: ids * 3 - ids // 2 + jnp.abs(ids - 4) + jnp.maximum(ids, 2),
    'set': lambda x, ids: x + jnp.zeros((3, 4)).at[np.array([0, 2])].set(1.5),
    'loop': lambda x, ids: lax.scan(lambda c, w: (c @ w, c.sum(1)), x, np.stack([WEIGHTS[:, :4]] * 3))[0],
    'loop over fields': lambda x, ids: lax.scan(
        lambda c, v: (c * 0.5 + v, c), x[:, 0], jnp.swapaxes(x, 0, 1), reverse=True
    )[1],
    'calls': lambda x, ids: jax.jit(jax.checkpoint(lambda y: jax.nn.relu(y) * 2))(x),
    'branches': lambda x, ids: lax.platform_dependent(x, cpu=lambda y: y * 2, default=lambda y: y + y),
}  # fmt: skip


def convert(function, folder):
    """The function in ONNX Runtime."""
    (rows,) = export.symbolic_shape('rows')
    x, ids = jax.ShapeDtypeStruct((rows, 3, 4), jnp.float32), jax.ShapeDtypeStruct((rows, 3), jnp.int32)
    graph, closed = Graph(), jax.make_jaxpr(function)(x, ids)
    inputs = [graph.input('x', 'float32', x.shape), graph.input('ids', 'int32', ids.shape)]
    (found,) = onnx_jaxpr.add(graph, closed, inputs, closed.out_avals[0].shape[0], 'the test')
    assert isinstance(found, Tensor)
    onnx_file.write(folder, graph.finish({'found': found}), graph.constants, {})
    return onnx_file.Runtime(folder)


@pytest.mark.parametrize('name', FUNCTIONS)
def test_onnx_computes_what_jax_does(tmp_path, name):
    run, function = convert(FUNCTIONS[name], tmp_path), FUNCTIONS[name]
    for rows in (1, 6):
        draw = np.random.default_rng(rows)
        x = draw.normal(size=(rows, 3, 4)).astype(np.float32)
        ids = draw.integers(-1, 6, (rows, 3)).astype(np.int32)
        found, wanted = run({'x': x, 'ids': ids})['found'], jax.eval_shape(function, x, ids)
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(found, jax.jit(function)(x, ids), rtol=3e-5, atol=3e-6)


def test_known_values_are_computed_once(tmp_path):
    """Of a function whose weights are known, only what depends on the rows is left."""

    def function(x, ids):
        scale = jnp.tanh(WEIGHTS[:, :4].T @ WEIGHTS[:, :4]) / jnp.sqrt(WEIGHTS.sum() ** 2 + 1)
        return x @ scale

    (rows,) = export.symbolic_shape('rows')
    x, ids = jax.ShapeDtypeStruct((rows, 3, 4), jnp.float32), jax.ShapeDtypeStruct((rows, 3), jnp.int32)
    graph, closed = Graph(), jax.make_jaxpr(function)(x, ids)
    onnx_jaxpr.add(graph, closed, [graph.input('x', 'float32', x.shape), np.zeros(3, np.int32)], rows, 'it')
    assert [node.op_type for node in graph.nodes] == ['MatMul']


@pytest.mark.parametrize(
    ('function', 'named'),
    [
        (lambda x, ids: lax.while_loop(lambda y: y.sum() < 9, lambda y: y + 1, x), 'while'),
        (lambda x, ids: lax.cond(x.sum() > 0, lambda: x, lambda: -x), 'cond'),
        (lambda x, ids: jnp.linalg.qr(x)[0], 'qr'),
        (lambda x, ids: jnp.take_along_axis(x, ids[..., None], 2), 'gather'),
        (lambda x, ids: x.at[0].set(jnp.max(x)), 'scatter'),
        (lambda x, ids: x.astype(jnp.bfloat16), 'convert_element_type'),
    ],
)
def test_what_has_no_counterpart_is_named(tmp_path, function, named):
    with pytest.raises(UserError, match=f"the model the test .* primitive '.*{named}.*'.*stablehlo"):
        convert(function, tmp_path)
