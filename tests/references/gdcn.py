"""GDCN-S and GDCN-P (Wang et al., CIKM 2023), one row and one output channel at a time."""

import numpy as np

from tests.references import blocks


def crossed(params, x0, layers):
    """One row through the gated cross network: `[D] -> [D]`."""
    x = x0
    for layer in range(layers):
        weights = params[f'cross_{layer}']
        new = np.empty_like(x)
        for c in range(len(x)):
            cross = sum(weights['kernel'][i, c] * x[i] for i in range(len(x)))
            gate = sum(weights['gate_kernel'][i, c] * x[i] for i in range(len(x)))
            new[c] = x0[c] * (cross + weights['bias'][c]) * blocks.sigmoid(gate) + x[c]
        x = new
    return x


def logits(params, stats, rows, train, *, cross_layers, structure, hidden, batch_norm, **_):
    flat = rows['embedding'].reshape(len(rows['embedding']), -1)
    cross = np.array([crossed(params, row, cross_layers) for row in flat])

    def mlp(x):
        return blocks.mlp(params.get('tower'), stats.get('tower'), x, train)

    if structure == 'stacked':
        final = mlp(cross)
    else:
        final = np.array([[*c, *m] for c, m in zip(cross, mlp(flat), strict=True)])
    return blocks.dense(params['out'], final)[:, 0], 0.0
