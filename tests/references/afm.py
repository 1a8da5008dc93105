"""AFM: Xiao et al. 2017, eqs. 2-6, pair by pair."""

import numpy as np

from tests.references.blocks import relu, softmax


def logits(config, params, stats, rows, train):
    embedding, linear = rows['embedding'], rows['linear']
    w, b = params['attention']['kernel'], params['attention']['bias']
    h, p = params['score']['kernel'][:, 0], params['pool']['kernel'][:, 0]
    scores, values = [], []
    for i in range(embedding.shape[1]):
        for j in range(i):
            product = embedding[:, i] * embedding[:, j]
            scores.append(relu(product @ w + b) @ h)
            values.append(product @ p)
    attention = softmax(np.stack(scores, 1))
    pooled = (attention * np.stack(values, 1)).sum(1)
    return params['bias'][0] + linear[:, :, 0].sum(1) + pooled
