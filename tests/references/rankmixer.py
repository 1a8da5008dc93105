"""RankMixer (Zhu et al., CIKM 2025), one row and one token at a time."""

import math

import numpy as np

from tests.references import blocks


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))) / 2


def mix(x):
    """Token h of the result: chunk h of every token. `[T, D] -> [T, D]`."""
    tokens = len(x)
    return np.array([np.concatenate([np.split(token, tokens)[h] for token in x]) for h in range(tokens)])


def network(params, x):
    """`[T, D] -> [T, D]`, each token with weights of its own."""
    made = []
    for t, token in enumerate(x):
        hidden = gelu(token @ params['up']['kernel'][t] + params['up']['bias'][t])
        made.append(hidden @ params['down']['kernel'][t] + params['down']['bias'][t])
    return np.array(made)


def block(params, x, norm):
    if norm == 'pre':
        s = x + mix(blocks.layer_norm(params['norm_mix'], x))
        return s + network(params, blocks.layer_norm(params['norm_ffn'], s))
    s = blocks.layer_norm(params['norm_mix'], mix(x) + x)
    return blocks.layer_norm(params['norm_ffn'], network(params, s) + s)


def projected(params, row, tokens, shared):
    flat = row.ravel()
    size = -(-len(flat) // tokens)
    flat = np.concatenate([flat, np.zeros(tokens * size - len(flat))])
    kernel, bias = params['kernel'], params['bias']
    chunks = [flat[t * size : (t + 1) * size] for t in range(tokens)]
    if shared:
        return np.array([chunk @ kernel + bias for chunk in chunks])
    return np.array([chunk @ kernel[t] + bias[t] for t, chunk in enumerate(chunks)])


def logits(params, stats, rows, train, *, tokens, layers, shared_projection, norm, pooling, **_):
    pooled = []
    for row in rows['embedding']:
        x = projected(params['projection'], row, tokens, shared_projection)
        for i in range(layers):
            x = block(params[f'block_{i}'], x, norm)
        if norm == 'pre':
            x = blocks.layer_norm(params['norm'], x)
        pooled.append(sum(x) / len(x) if pooling == 'mean' else np.concatenate(list(x)))
    return blocks.mlp(params['head'], None, np.array(pooled), train)[:, 0]
