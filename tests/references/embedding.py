"""Embedding of a batch in float64 NumPy (4.1), field by field: the id of a field counts from 0."""

import numpy as np


def offsets(sizes):
    """First row of each field, [Fc], in the one table that holds fields of `sizes` rows in turn."""
    return np.cumsum([0, *sizes])[:-1]


def lookup(fields, vectors, ids, values):
    """Rows [B, Fc + Fn, w]: the fields' own tables first, the numeric fields behind them.

    Args:
      fields: a table [V_f, w] for each of the Fc categorical fields.
      vectors: v_f, [Fn, w], of the numeric fields.
      ids: int [B, Fc], each below its field's V_f.
      values: the numbers x, [B, Fn].
    """
    rows = []
    for row_ids, row_values in zip(ids, values, strict=True):
        row = [table[i] for table, i in zip(fields, row_ids, strict=True)]
        row += [v * x for v, x in zip(vectors, row_values, strict=True)]
        rows.append(np.stack(row))
    return np.stack(rows)


def pool(vectors, pooling):
    """One vector [w] of the vectors of a bag, [n, w]."""
    return {'sum': np.sum, 'mean': np.mean, 'max': np.max}[pooling](vectors, axis=0)
