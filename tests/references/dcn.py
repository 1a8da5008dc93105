"""DCN: Wang et al. 2017, eq. 3 with its outer product `x_0 x_l^T`, row by row."""

import numpy as np

from tests.references.blocks import dense, flatten, mlp


def cross(config, params, flat):
    outputs = []
    for first in flat:
        x = first
        for i in range(config['cross_layers']):
            x = np.outer(first, x) @ params[f'kernel_{i}'][:, 0] + params[f'bias_{i}'] + x
        outputs.append(x)
    return np.stack(outputs)


def logits(config, params, stats, rows, train):
    flat = flatten(rows['embedding'])
    final = cross(config, params['cross'], flat)
    if config['hidden']:
        deep = mlp(params['tower'], stats.get('tower'), flat, train)
        final = np.concatenate([final, deep], 1)
    return dense(params['head'], final)[:, 0]
