"""EDCN (Chen et al., 2021), one field at a time in the gates, one row at a time in the bridges."""

import numpy as np

from tests.references import blocks


def regulated(x, gate, tau, fields):
    """`softmax(g / tau)_f x_f`: `[B, F d] -> [B, F d]`."""
    weights = blocks.softmax(gate / tau)
    parts = [weights[f] * part for f, part in enumerate(np.split(x, fields, axis=1))]
    return np.concatenate(parts, axis=1)


def bridged(x, h, params, kind, channels):
    """One row: `[D]`, `[D] -> [D]`."""
    if kind == 'hadamard':
        return x * h
    if kind == 'add':
        return x + h
    kernel, bias = params['dense']['kernel'], params['dense']['bias']
    if kind == 'concat':
        return blocks.relu(np.concatenate([x, h]) @ kernel + bias)
    x_score, h_score = (blocks.relu(z @ kernel + bias) @ params['score']['kernel'] for z in (x, h))
    if channels:
        return blocks.softmax(x_score) * x + blocks.softmax(h_score) * h
    x_weight, h_weight = blocks.softmax(np.array([x_score[0], h_score[0]]))
    return x_weight * x + h_weight * h


def logits(
    params, stats, rows, train, *, layers, bridge, channel_attention, regulation, tau, residual, gate_norm,
    batch_norm, **_,
):  # fmt: skip
    batch, fields, _ = rows['embedding'].shape
    state = rows['embedding'].reshape(batch, -1)
    x0 = None
    for i in range(layers):

        def named(part, i=i):
            return params.get(f'layer_{i}_{part}'), stats.get(f'layer_{i}_{part}')

        gates, running = named('regulation')
        x = regulated(state, gates['cross_gate'], tau, fields) if regulation else state
        h = regulated(state, gates['deep_gate'], tau, fields) if regulation else state
        if gate_norm:
            x = blocks.batch_norm(gates['cross_norm'], running['cross_norm'], x, train)
            h = blocks.batch_norm(gates['deep_norm'], running['deep_norm'], h, train)
        x0 = x if x0 is None else x0
        weights, _ = named('cross')
        new = np.empty_like(x)
        for b in range(batch):
            scale = sum(weights['kernel'][c, 0] * x[b, c] for c in range(x.shape[1]))
            new[b] = x0[b] * scale + weights['bias'] + (x[b] if residual else 0)
        x = new
        weights, running = named('deep')
        h = blocks.mlp(weights, running, h, train)
        weights, _ = named('bridge')
        state = np.array([bridged(x[b], h[b], weights, bridge, channel_attention) for b in range(batch)])
    final = np.concatenate([x, h, state], axis=1)
    return blocks.dense(params['out'], final)[:, 0], 0.0
