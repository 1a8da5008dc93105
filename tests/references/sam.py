"""SAM: Cheng & Xue 2021, pair by pair."""

import numpy as np

from tests.references.blocks import dense, flatten


def second_order(block, params, x):
    """Blocks '2a' and '2e': `[B, F, d] -> [B, F * F, d]`."""
    units = []
    for i in range(x.shape[1]):
        for j in range(x.shape[1]):
            similarity = np.sum(x[:, i] * x[:, j], 1, keepdims=True)
            units.append(similarity * (params['pair'][i, j] if block == '2a' else x[:, i] * x[:, j]))
    return np.stack(units, 1)


def third_order(config, params, x):
    """Blocks '3a' and '3e': `[B, F, d] -> [B, F, d]`."""
    output = np.zeros_like(x)
    for i in range(x.shape[1]):
        for j in range(x.shape[1]):
            key = x[:, j] @ params['key']['kernel']
            unit = params['pair'][i, j] if config['block'] == '3a' else x[:, i] * x[:, j]
            output[:, i] += np.sum(x[:, i] * key, 1, keepdims=True) * unit
        if config['residual']:
            output[:, i] += x[:, i] @ params['residual']['kernel']
    return output


def logits(config, params, stats, rows, train):
    x = rows['embedding']
    if config['block'] in ('2a', '2e'):
        x = second_order(config['block'], params.get('layer_0'), x)
    else:
        for i in range(config['layers']):
            x = third_order(config, params[f'layer_{i}'], x)
    if config['pooling'] == 'concat':
        return dense(params['head'], flatten(x))[:, 0]
    pooled = sum(params['pool'][i, 0] * x[:, i] for i in range(x.shape[1]))
    return dense(params['head'], pooled)[:, 0]
