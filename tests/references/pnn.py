"""PNN: Qu et al. 2016, the product layer pair by pair."""

import numpy as np

from tests.references.blocks import flatten, mlp


def logits(config, params, stats, rows, train):
    embedding = rows['embedding']
    batch, fields, width = embedding.shape
    if config['product'] == 'inner':
        products = [
            [embedding[n, i] @ embedding[n, j] for i in range(fields) for j in range(i + 1, fields)]
            for n in range(batch)
        ]
    else:
        products = np.zeros((batch, width, width))
        for n in range(batch):
            for i in range(fields):
                for j in range(fields):
                    products[n] += np.outer(embedding[n, i], embedding[n, j])
        products = products.reshape(batch, -1)
    signals = np.concatenate([flatten(embedding), products], 1)
    return mlp(params['tower'], stats.get('tower'), signals, train)[:, 0]
