"""What the references share, in float64 NumPy: dense, softmax, normalisations, the multi-layer perceptron."""

from typing import NamedTuple

import numpy as np

EPSILON = 1e-5  # Of both normalisations.
MOMENTUM = 0.9


class Mode(NamedTuple):
    """How a forward pass runs: in training, with which rows of the batch (bool [B], None for all)."""

    train: bool = False
    mask: np.ndarray | None = None


def relu(x):
    return np.maximum(x, 0.0)


def softmax(x):
    """Softmax over the last axis."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def dense(params, x):
    """`x W + b`: [..., I] to [..., O]."""
    return x @ params['kernel'] + params['bias']


def layer_norm(params, x):
    """Normalises the last axis of [..., C] with its own mean and biased variance."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + EPSILON) * params['scale'] + params['bias']


def batch_norm(params, stats, x, mode):
    """Normalises each channel of [B, ..., C]; in training, updates `stats` in place.

    Evaluation takes the running mean and variance, training those of the rows that the mask keeps.
    """
    if not mode.train:
        mean, variance = stats['mean'], stats['var']
    else:
        rows = x if mode.mask is None else x[mode.mask]
        rows = rows.reshape(-1, x.shape[-1])
        mean = rows.mean(axis=0)
        variance = ((rows - mean) ** 2).mean(axis=0)
        stats['mean'] = MOMENTUM * stats['mean'] + (1 - MOMENTUM) * mean
        stats['var'] = MOMENTUM * stats['var'] + (1 - MOMENTUM) * variance
    return (x - mean) / np.sqrt(variance + EPSILON) * params['scale'] + params['bias']


def mlp(params, stats, x, hidden, normalise, mode):
    """Dense, BatchNorm (with `normalise`), ReLU for each width of `hidden`, then the output's Dense."""
    for i in range(len(hidden)):
        x = dense(params[f'hidden_{i}'], x)
        if normalise:
            x = batch_norm(params[f'norm_{i}'], stats[f'norm_{i}'], x, mode)
        x = relu(x)
    return dense(params['out'], x)
