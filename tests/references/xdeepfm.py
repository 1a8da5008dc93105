"""xDeepFM (Lian et al., KDD 2018), every feature map a sum over pairs."""

import numpy as np

from tests.references import blocks


def logits(params, stats, rows, train, *, cin, cin_bias, hidden, batch_norm, **_):
    first = rows['embedding']
    batch, fields, width = first.shape
    flat = first.reshape(batch, -1)
    deep = blocks.mlp(params.get('tower'), stats.get('tower'), flat, train)
    total = np.zeros(batch)
    for b in range(batch):
        pooled = []
        state = first[b]
        for k, maps in enumerate(cin):
            kernel = params['cin'][f'kernel_{k}'].reshape(len(state), fields, maps)
            new = np.zeros((maps, width))
            for n in range(maps):
                if cin_bias:
                    new[n] += params['cin'][f'bias_{k}'][n]
                for i in range(len(state)):
                    for j in range(fields):
                        new[n] += kernel[i, j, n] * state[i] * first[b, j]
            state = new
            pooled.extend(np.sum(feature_map) for feature_map in state)
        weights = params['out']['kernel'][:, 0]
        total[b] = weights[: deep.shape[1]] @ deep[b] + weights[deep.shape[1] :] @ np.array(pooled)
        total[b] += params['out']['bias'][0] + sum(rows['linear'][b, f, 0] for f in range(fields))
    return total, 0.0
