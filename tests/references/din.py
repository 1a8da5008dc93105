"""DIN (Zhou et al., KDD 2018), row by row and event by event; and the activation Dice."""

import numpy as np

from tests.references import blocks


def normal(stats, x, train):
    """BatchNorm without scale and bias, of [n, C]."""
    mean, variance = (x.mean(0), ((x - x.mean(0)) ** 2).mean(0)) if train else (stats['mean'], stats['var'])
    return (x - mean) / np.sqrt(variance + 1e-9)


def activated(kind, params, stats, x, train):
    """Dice, PReLU or ReLU of [n, C]."""
    if kind == 'relu':
        return blocks.relu(x)
    if kind == 'prelu':
        return np.where(x > 0, x, params['alpha'] * x)
    q = blocks.sigmoid(normal(stats['norm'], x, train))
    return q * x + (1 - q) * params['alpha'] * x


def mlp(kind, params, stats, x, train):
    """Dense, BatchNorm where there is one, activation per hidden layer; then the output's Dense."""
    i = 0
    while f'hidden_{i}' in params:
        x = blocks.dense(params[f'hidden_{i}'], x)
        if f'norm_{i}' in params:
            x = blocks.batch_norm(params[f'norm_{i}'], stats[f'norm_{i}'], x, train)
        own = f'activation_{i}'
        x = activated(kind, params.get(own), stats.get(own), x, train)
        i += 1
    return blocks.dense(params['out'], x)


def pooled(params, stats, history, train, activation, softmax):
    """Weighted sums [B, k] of the events of each row: a list of (target [k], events [n, k])."""
    pairs = [np.concatenate([t, s, t - s, t * s]) for t, events in history for s in events]
    # The statistics are of all events of the batch, and of nothing else.
    scores = iter(mlp(activation, params['unit'], stats.get('unit', {}), np.array(pairs), train)[:, 0])
    vectors = []
    for target, events in history:
        weights = np.array([next(scores) for _ in events])
        if softmax and len(events):
            weights = blocks.softmax(weights)
        vectors.append(sum((w * s for w, s in zip(weights, events, strict=True)), np.zeros_like(target)))
    return np.array(vectors)


def logits(params, stats, others, histories, train, *, attention_activation, activation, softmax, **_):
    """Logits [B].

    Args:
      others: all fields but the histories, side by side, [B, n].
      histories: of each history its rows, see `pooled`.
    """
    vectors = [
        pooled(
            params[f'history_{i}'], stats.get(f'history_{i}', {}), rows, train, attention_activation, softmax
        )
        for i, rows in enumerate(histories)
    ]
    x = np.concatenate([others, *vectors], axis=1)
    return mlp(activation, params['tower'], stats.get('tower', {}), x, train)[:, 0]
