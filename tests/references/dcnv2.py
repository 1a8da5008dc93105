"""DCN-V2: Wang et al. 2021, eqs. 1, 3 and 4, row by row and expert by expert."""

import numpy as np

from tests.references.blocks import dense, flatten, mlp, softmax


def expert(params, layer, k, first, x):
    """Eq. 4: `x_0 * (U g(C g(V^T x)) + b)`, `[D] -> [D]`."""
    u, c, v = (params[f'{matrix}_{layer}'][k] for matrix in 'ucv')
    return first * (u @ np.tanh(c @ np.tanh(v.T @ x)) + params[f'bias_{layer}'])


def cross(config, params, flat):
    outputs = []
    for first in flat:
        x = first
        for i in range(config['cross_layers']):
            if config['mixture']:
                gate = params['gate' if config['shared_gate'] else f'gate_{i}']
                gates = softmax(np.array([gate[:, k] @ x for k in range(config['experts'])]))
                x = x + sum(g * expert(params, i, k, first, x) for k, g in enumerate(gates))
            else:
                x = first * dense(params[f'layer_{i}'], x) + x
        outputs.append(x)
    return np.stack(outputs)


def logits(config, params, stats, rows, train):
    flat = flatten(rows['embedding'])
    crossed = cross(config, params['cross'], flat)

    def deep(x):
        return mlp(params['tower'], stats.get('tower'), x, train)

    if config['structure'] == 'crossnet_only' or not config['hidden']:
        final = crossed
    elif config['structure'] == 'stacked':
        final = deep(crossed)
    else:
        final = np.concatenate([crossed, deep(flat)], 1)
    return dense(params['head'], final)[:, 0]
