"""What the references of the baselines share, on top of `layers`.

There is no padding here: the rows that count are selected before, so statistics in training are of
all rows. What a module leaves out (BatchNorm, an output) is not among its parameters either.
"""

import numpy as np

from tests.references import layers
from tests.references.layers import Mode, relu
from tests.references.layers import layer_norm as layer_norm
from tests.references.layers import softmax as softmax


def dense(params, x):
    """`x W + b`: [..., I] to [..., O]; without a bias where there is none."""
    return x @ params['kernel'] + params.get('bias', 0)


def sigmoid(x):
    return (1 + np.tanh(x / 2)) / 2


def cross_entropy(logits, targets):
    """Mean binary cross-entropy of `logits: [B]` against `targets: [B]` in [0, 1]."""
    # -log sigmoid(x) = log(1 + exp(-x))
    return np.mean(targets * np.logaddexp(0, -logits) + (1 - targets) * np.logaddexp(0, logits))


def batch_norm(params, stats, x, train):
    """As in `layers`, but leaves `stats` as they are."""
    return layers.batch_norm(params, dict(stats), x, Mode(train))


def mlp(params, stats, x, train):
    """Dense, BatchNorm where there is one, ReLU per hidden layer; then the output's Dense."""
    params = params or {}
    i = 0
    while f'hidden_{i}' in params:
        x = dense(params[f'hidden_{i}'], x)
        if f'norm_{i}' in params:
            x = batch_norm(params[f'norm_{i}'], stats[f'norm_{i}'], x, train)
        x = relu(x)
        i += 1
    return dense(params['out'], x) if 'out' in params else x


def flatten(embedding):
    """`[B, F, d] -> [B, F * d]`, field after field."""
    return np.concatenate([embedding[:, i] for i in range(embedding.shape[1])], 1)
