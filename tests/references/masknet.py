"""MaskNet (Wang et al., DLP-KDD 2021), row by row."""

import numpy as np

from tests.references import blocks as parts


def block(params, v, u, layer_norm):
    """`[B, D]` and `[B, m]` to `[B, n]`."""
    made = []
    for all_fields, own in zip(v, u, strict=True):
        hidden = parts.relu(parts.dense(params['mask_hidden'], all_fields))
        mask = parts.dense(params['mask_out'], hidden)
        x = (mask * own) @ params['out']['kernel']
        if layer_norm:
            x = parts.layer_norm(params['norm'], x)
        made.append(parts.relu(x))
    return np.array(made)


def normal_fields(params, row):
    """Each field of `[F, d]` by its own LayerNorm."""
    return [
        parts.layer_norm({name: array[i] for name, array in params.items()}, field)
        for i, field in enumerate(row)
    ]


def logits(params, stats, rows, train, *, structure, hidden, blocks, embedding_norm, layer_norm, **_):
    first = rows['embedding']
    v = u = parts.flatten(first)
    if embedding_norm:
        u = np.array([np.concatenate(normal_fields(params['embedding_norm'], row)) for row in first])
    if structure == 'serial':
        for i in range(len(hidden)):
            u = block(params[f'block_{i}'], v, u, layer_norm)
        return parts.dense(params['out'], u)[:, 0]
    outputs = [block(params[f'block_{i}'], v, u, layer_norm) for i in range(blocks)]
    return parts.mlp(params['tower'], None, np.concatenate(outputs, axis=1), train)[:, 0]
