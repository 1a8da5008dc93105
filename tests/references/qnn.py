"""QNN-alpha (Li et al., KDD 2025), one row and one head at a time, with its self-ensemble loss."""

import numpy as np

from tests.references import blocks


def heads_of(x, fields, heads):
    """Head k of a row: its channels of every field, fields in order; `[D] -> [H, D / H]`."""
    by_field = np.split(x, fields)
    return np.array([np.concatenate([np.split(field, heads)[k] for field in by_field]) for k in range(heads)])


def layer(x, params, stats, train, fields, heads, rows, batch_norm):
    h = blocks.dense(params['hidden'], x)
    if batch_norm:
        h = blocks.batch_norm(params['norm'], stats['norm'], h, train)
    h = blocks.relu(h)
    made = []
    for row, neurons in zip(x, h, strict=True):
        neurons = neurons.reshape(heads, rows, -1)
        products = [
            sum(u * neurons[k, r] for r in range(rows)) for k, u in enumerate(heads_of(row, fields, heads))
        ]
        # Head by head beside field by field, as they lie.
        made.append(np.concatenate(products) + row)
    return np.array(made)


def logits(params, stats, rows, train, *, layers, heads, product_rows, batch_norm, target=None, **_):
    """Without dropout both passes are the same; `target` holds still what the gradient stops at."""
    first = rows['embedding']
    x, params, stats = first.reshape(len(first), -1), params['network'], stats.get('network', {})
    for i in range(layers):
        own, seen = params[f'layer_{i}'], stats.get(f'layer_{i}')
        x = layer(x, own, seen, train, first.shape[1], heads, product_rows, batch_norm)
    found = blocks.dense(params['out'], x)[:, 0]
    probability = blocks.sigmoid(found if target is None else target)
    return found, 2 * blocks.cross_entropy(found, probability) if train else 0.0
