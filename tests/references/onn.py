"""ONN (Yang et al., Neural Networks 2020), one pair of one row at a time."""

import numpy as np

from tests.references import blocks


def logits(params, stats, rows, train, *, embedding_size, **_):
    features = []
    for row in rows['embedding']:
        fields = len(row)
        v = [np.split(e, fields) for e in row]
        assert v[0][0].shape == (embedding_size,)
        products = [v[i][j] @ v[j][i] for i in range(fields) for j in range(i + 1, fields)]
        features.append(np.concatenate([*(v[i][i] for i in range(fields)), products]))
    return blocks.mlp(params['tower'], stats.get('tower'), np.array(features), train)[:, 0]
