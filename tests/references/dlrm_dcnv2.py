"""DLRM-DCNv2 (MLPerf training), its cross layers row by row."""

import numpy as np

from tests.references import blocks
from tests.references.dlrm import vectors


def cross(params, first, layers):
    x = first
    for i in range(layers):
        low = params[f'v_{i}'].T @ x
        x = first * (params[f'w_{i}'].T @ low + params[f'bias_{i}']) + x
    return x


def logits(params, stats, rows, train, *, cross_layers, numbers, **_):
    fields = vectors(params, stats, rows, train, numbers)
    crossed = np.array([cross(params['cross'], row.ravel(), cross_layers) for row in fields])
    return blocks.mlp(params['top'], stats.get('top'), crossed, train)[:, 0]
