"""DLRM (Naumov et al. 2019), row by row; and its bottom MLP, which DLRM-DCNv2 has too."""

import numpy as np

from tests.references import blocks


def vectors(params, stats, rows, train, numbers):
    """`[e_0, e_1, ...]` of each row: `[B, N, d]`, where the last `numbers` fields are numeric ones."""
    fields = rows['embedding']
    if not numbers:
        return fields
    x = rows['numbers'][:, :numbers, 0]
    first = blocks.relu(
        blocks.mlp(params['numbers']['bottom'], stats.get('numbers', {}).get('bottom'), x, train)
    )
    return np.concatenate([first[:, None], fields[:, : fields.shape[1] - numbers]], axis=1)


def logits(params, stats, rows, train, *, interaction, numbers, **_):
    fields = vectors(params, stats, rows, train, numbers)
    features = []
    for row in fields:
        if interaction == 'cat':
            features.append(row.ravel())
            continue
        products = [row[i] @ row[j] for i in range(len(row)) for j in range(i + 1, len(row))]
        features.append(np.concatenate([products, row[0] if numbers else []]))
    return blocks.mlp(params['top'], stats.get('top'), np.array(features), train)[:, 0]
