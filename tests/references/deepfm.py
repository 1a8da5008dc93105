"""DeepFM: Guo et al. 2017, eqs. 1-3."""

from tests.references import fm
from tests.references.blocks import flatten, mlp


def logits(config, params, stats, rows, train):
    deep = mlp(params['tower'], stats.get('tower'), flatten(rows['embedding']), train)
    return fm.logits(config, params, stats, rows, train) + deep[:, 0]
