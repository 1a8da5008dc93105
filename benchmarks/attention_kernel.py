"""DLF's attention layer as one GPU kernel, beside its plain form: distance and time, on an H100 or H200.

    python -m benchmarks.attention_kernel
    python -m benchmarks.attention_kernel --batch_size=4096 --tokens=8 --blocks=2

The distance of outputs and of gradients is that of the farthest array from the plain form in float32, as a
share of that array's norm, of the kernel and of the plain form in bfloat16. Rounding takes both some 0.01; a
kernel that computes something else is far beyond. The last line is a JSON object, with milliseconds of the
forward pass, and of forward and backward pass together.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlf_jax.models.dlf_attention_kernel import Weights, attention
from dlf_jax.models.dlf_fusion import AttentionLayer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (('batch_size', 10_000), ('blocks', 3), ('tokens', 16), ('width', 64), ('heads', 2)):
        parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--rounds', type=int, default=20)
    options = parser.parse_args()
    inputs, weights, gradients = draw(options.blocks, options.batch_size, options.tokens, options.width)
    layer = AttentionLayer(options.heads, True)
    forms: dict[str, Callable] = {
        'kernel': functools.partial(attention, heads=options.heads, self_attention=True),
        'plain': lambda inputs, weights: layer.apply({'params': weights._asdict()}, inputs),
    }
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), (inputs, weights, gradients))
    with jax.default_matmul_precision('highest'):
        expected = jax.block_until_ready(_both_passes(forms['plain'])(*wide))
    result: dict[str, Any] = {**vars(options), 'device': jax.devices()[0].device_kind}
    for name, form in forms.items():
        both = _both_passes(form)
        outputs, found = both(inputs, weights, gradients)
        result[f'{name}_outputs'] = _distance(outputs, expected[0])
        result[f'{name}_gradients'] = _distance(found, expected[1])
        result[f'{name}_forward_ms'] = _milliseconds(jax.jit(form), options.rounds, inputs, weights)
        result[f'{name}_ms'] = _milliseconds(both, options.rounds, inputs, weights, gradients)
    print(json.dumps(result))


def draw(
    blocks: int, batch: int, tokens: int, width: int
) -> tuple[list[jax.Array], Weights, list[jax.Array]]:
    """Blocks, [batch, tokens, width] each, weights, and gradients of the outputs, bfloat16.

    Nearly all cross-attention is far from 0 before the ReLU: what passes there is not to be for rounding to
    decide.
    """
    rng = np.random.default_rng(0)

    def normal(*shape: int, scale: float = 1.0) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape) * scale, jnp.bfloat16)

    weights = Weights(
        normal(blocks, width, 3 * width, scale=1.5 * width**-0.5),
        normal(blocks, 3 * width, scale=0.3),
        normal(blocks, (blocks - 1) * width, width, scale=width**-0.5),
        jnp.asarray(rng.choice([-6, 6], (blocks, width)), jnp.bfloat16),
    )
    inputs, gradients = ([normal(batch, tokens, width) for _ in range(blocks)] for _ in range(2))
    return inputs, weights, gradients


def _both_passes(form: Callable) -> Callable:
    @jax.jit
    def run(inputs: list[jax.Array], weights: Weights, gradients: list[jax.Array]) -> Any:
        outputs, pull = jax.vjp(form, inputs, weights)
        return outputs, pull(gradients)

    return run


def _distance(found: Any, expected: Any) -> float:
    shares = jax.tree.map(
        lambda a, b: jnp.linalg.norm(a.astype(jnp.float32) - b) / jnp.linalg.norm(b), found, expected
    )
    return float(max(jax.tree.leaves(shares)))


def _milliseconds(function: Callable, rounds: int, *args: Any) -> float:
    jax.block_until_ready(function(*args))
    start = time.perf_counter()
    for _ in range(rounds):
        result = function(*args)
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / rounds * 1e3


if __name__ == '__main__':
    main()
