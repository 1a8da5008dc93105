"""FM: Rendle 2010, eq. 1, pair by pair."""

import numpy as np


def logits(config, params, stats, rows, train):
    embedding, linear = rows['embedding'], rows['linear']
    total = np.full(len(embedding), params['bias'][0])
    for i in range(embedding.shape[1]):
        total += linear[:, i, 0]
        for j in range(i + 1, embedding.shape[1]):
            total += np.sum(embedding[:, i] * embedding[:, j], 1)
    return total
