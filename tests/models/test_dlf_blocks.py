"""DLF block by block: interaction blocks, fusions, residual."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlf_jax.models import dlf_blocks, dlf_fusion
from dlf_jax.models.mode import Mode

B, F, D, N, R = 16, 5, 4, 3, 2
# Compiled in a hurry: the tests' time is compilation.
jit = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


def blocks_and_state(count=3, tokens=6):
    keys = jax.random.split(jax.random.key(5), count + 1)
    blocks = [jax.random.normal(key, (B, N, D)) for key in keys[1:]]
    return blocks, jax.random.normal(keys[0], (B, tokens, D))


FIELDS = {
    'tokens': N,
    'hidden': (8,),
    'batch_norm': True,
    'dropout': 0.0,
    'relu': True,
    'block_dropout': 0.0,
}


@pytest.mark.parametrize(
    'block',
    [
        dlf_blocks.RankBlock(rank=R, norm='layer', low=True, **FIELDS),
        dlf_blocks.RankBlock(rank=R, norm='layer', low=True, project_first=True, **FIELDS),
        dlf_blocks.RankBlock(rank=R, norm='layer', low=False, **FIELDS),
        dlf_blocks.ImplicitBlock(**FIELDS),
        dlf_blocks.TokenBlock(**FIELDS),
    ],
)
def test_block_shapes(block):
    _, state = blocks_and_state()
    first = jax.random.normal(jax.random.key(6), (B, F, D))
    tokens = jit(lambda *x: block.init_with_output(jax.random.key(7), *x, Mode())[0])(first, state)
    chex.assert_shape(tokens, (B, N, D))
    chex.assert_type(tokens, jnp.float32)
    if not isinstance(block, dlf_blocks.TokenBlock):
        assert (tokens >= 0).all()


@pytest.mark.parametrize('count', [2, 3])
@pytest.mark.parametrize(
    ('fusion', 'added'),
    [
        (dlf_fusion.AttentionFusion(2, 2, True), 1),
        (dlf_fusion.AttentionFusion(2, 2, False), 1),
        (dlf_fusion.MLPFusion((6,), True, 0.0), 1),
        (dlf_fusion.GateFusion(), 1),
        (dlf_fusion.ConcatFusion(), 0),
        (dlf_fusion.InputAttention(heads=2, **FIELDS), 1),
    ],
)
def test_fusion_keeps_the_blocks_and_adds_tokens(fusion, added, count):
    blocks, state = blocks_and_state(count)
    fused = jit(lambda *x: fusion.init_with_output(jax.random.key(8), *x, Mode())[0])(blocks, state)
    chex.assert_shape(fused, (B, (count + added) * N, D))
    chex.assert_trees_all_equal(fused[:, : count * N], jnp.concatenate(blocks, axis=1))


@pytest.mark.parametrize('self_attention', [True, False])
@pytest.mark.parametrize('count', [2, 3])
def test_attention_layer_block_by_block(count, self_attention):
    blocks, _ = blocks_and_state(count)
    layer = dlf_fusion.AttentionLayer(2, self_attention)
    outputs, variables = jit(layer.init_with_output)(jax.random.key(9), blocks)
    params = variables['params']

    def qkv(i):
        return jnp.split(blocks[i] @ params['qkv_kernel'][i] + params['qkv_bias'][i], 3, axis=-1)

    for m, output in enumerate(outputs):
        seen = [dlf_fusion.attend(qkv(m)[0], *qkv(x)[1:], heads=2) for x in range(count)]
        own = seen.pop(m)
        cross = jnp.concatenate(seen, -1) @ params['cross_kernel'][m] + params['cross_bias'][m]
        expected = jnp.maximum(cross, 0) + (own if self_attention else 0)
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


def test_attention_of_equal_tokens_is_their_value():
    _, state = blocks_and_state()
    value = jnp.broadcast_to(state[:, :1], (B, 3, D))
    output = dlf_fusion.attend(state, value, value, heads=2)
    np.testing.assert_allclose(output, jnp.broadcast_to(state[:, :1], state.shape), rtol=1e-5)


def test_heads_are_adjacent_channels():
    query, key, value = jax.random.normal(jax.random.key(0), (3, B, N, D))
    whole = dlf_fusion.attend(query, key, value, heads=2)
    for half in (slice(0, D // 2), slice(D // 2, D)):
        alone = dlf_fusion.attend(query[..., half], key[..., half], value[..., half], heads=1)
        np.testing.assert_allclose(whole[..., half], alone, rtol=1e-5)


def test_plain_residual_of_equal_counts_is_a_sum():
    blocks, _ = blocks_and_state()
    residual = dlf_blocks.Residual(gate=False, epsilon=0.1, norm='none')
    output, variables = residual.init_with_output(jax.random.key(0), blocks[0], blocks[1], Mode())
    assert not variables
    chex.assert_trees_all_equal(output, blocks[0] + blocks[1])


def test_gate_is_at_least_epsilon():
    blocks, _ = blocks_and_state()
    residual = dlf_blocks.Residual(gate=True, epsilon=0.1, norm='none')
    closed = {'params': {'gate_kernel': jnp.zeros((D, D))}}
    output = residual.apply(closed, blocks[0], blocks[1], Mode())
    np.testing.assert_allclose(output, blocks[0] + 0.1 * blocks[1], rtol=1e-6)
