"""Wukong (Zhang et al., ICML 2024), one row at a time, the Gram matrix written out."""

import numpy as np

from tests.references import blocks


def products(x, kernel, norm):
    """`LayerNorm(flatten((X X^T) Y))` of one row: `[n, d] -> [n k]`."""
    count = len(x)
    gram = np.array([[np.sum(x[i] * x[j]) for j in range(count)] for i in range(count)])
    return blocks.layer_norm(norm, (gram @ kernel).ravel())


def fm(x, params, hidden):
    flat = products(x, params['fm_kernel'], params['fm_norm'])[None]
    return blocks.mlp(params['fm'], None, flat, False)[0]


def token_layer(x, params, fm_tokens, linear_tokens, hidden):
    """The paper's form: `[n, d] -> [n_F + n_L, d]`."""

    def combined(kernel):
        count, tokens = kernel.shape
        return [sum(kernel[i, t] * x[i] for i in range(count)) for t in range(tokens)]

    tokens = [*fm(x, params, hidden).reshape(fm_tokens, -1), *combined(params['linear_kernel'])]
    assert len(tokens) == fm_tokens + linear_tokens
    kept = x if len(tokens) == len(x) else combined(params['residual_kernel'])
    return np.array(
        [blocks.layer_norm(params['norm'], token + k) for token, k in zip(tokens, kept, strict=True)]
    )


def flat_layer(x, params, fm_tokens, linear_tokens, hidden):
    """The library's form: `[n, d] -> [n, d]`."""
    linear = x.ravel() @ params['linear']['kernel'] + params['linear']['bias']
    both = np.concatenate([blocks.relu(fm(x, params, hidden)), linear])
    assert both.shape == (fm_tokens + linear_tokens,)
    output = both @ params['out']['kernel'] + params['out']['bias']
    return blocks.layer_norm(params['norm'], output + x.ravel()).reshape(x.shape)


def logits(
    params, stats, rows, train, *, form, layers, fm_tokens, linear_tokens, fm_hidden, hidden, batch_norm,
    **_,
):  # fmt: skip
    layer = token_layer if form == 'tokens' else flat_layer
    states = list(rows['embedding'])
    for i in range(layers):
        weights = params[f'layer_{i}']
        states = [layer(x, weights, fm_tokens, linear_tokens, fm_hidden) for x in states]
    flat = np.array([x.ravel() for x in states])
    return blocks.mlp(params['head'], stats.get('head'), flat, train)[:, 0], 0.0
