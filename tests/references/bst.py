"""BST (Chen et al., DLP-KDD 2019), row by row: an event that is not there is not computed with."""

import numpy as np

from tests.references import blocks


def attended(params, x, heads, causal):
    """Multi-head attention among the places of one row, [S, m]."""
    width = x.shape[1] // heads
    query, key, value = (blocks.dense(params[name], x) for name in ('query', 'key', 'value'))
    found = np.empty_like(x)
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        for place in range(len(x)):
            seen = slice(0, place + 1) if causal else slice(None)
            scores = key[seen, own] @ query[place, own] / np.sqrt(width)
            found[place, own] = blocks.softmax(scores) @ value[seen, own]
    return blocks.dense(params['out'], found)


def block(params, x, heads, causal, layer_norm, residual):
    def added(name, changed, before):
        total = changed + before if residual else changed
        return blocks.layer_norm(params[name], total) if layer_norm else total

    y = added('norm', attended(params, x, heads, causal), x)
    inner = blocks.dense(params['inner'], y)
    inner = np.where(inner > 0, inner, 0.01 * inner)
    return added('inner_norm', blocks.dense(params['outer'], inner), y)


def logits(
    params, stats, others, histories, train, *, heads, causal, layer_norm, residual, position, pooling, **rest
):
    """Logits [B]; arguments as those of `din.logits`. Of `concat` all places must have an event."""
    vectors = []
    for number, rows in enumerate(histories):
        pooled = []
        for target, events in rows:
            x = np.array([*events, target])
            if position:
                # The target has the last place, and the latest event the one before.
                place = params[f'history_{number}_place']
                x = np.concatenate([x, place[len(place) - len(x) :]], axis=1)
            for i in range(rest['blocks']):
                x = block(params[f'history_{number}_block_{i}'], x, heads, causal, layer_norm, residual)
            ways = {'mean': x.mean(0), 'sum': x.sum(0), 'target': x[-1], 'concat': x.ravel()}
            pooled.append(ways[pooling])
        vectors.append(np.array(pooled))
    x = np.concatenate([others, *vectors], axis=1)
    return blocks.mlp(params['tower'], stats.get('tower'), x, train)[:, 0]
