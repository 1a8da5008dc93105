"""MLP in float64 NumPy: the fields' embeddings side by side through a multi-layer perceptron."""

import copy

from tests.references.layers import Mode, mlp


def forward(params, batch_stats, rows, fields, train=False, mask=None):
    """Logits [B] of `rows` [B, F, d], and the batch statistics after the pass."""
    stats = copy.deepcopy(batch_stats)
    flat = rows.reshape(len(rows), -1)
    mode = Mode(train, mask)
    logits = mlp(params['tower'], stats.get('tower'), flat, fields['hidden'], fields['batch_norm'], mode)
    return logits[:, 0], stats
