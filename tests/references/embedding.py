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


def piecewise(vectors, position):
    """A number at a position on a scale of ranges, [w]: b + sum_t w_t clip(x - t, 0, 1).

    Args:
      vectors: b, w_0, w_1, ..., [1 + ranges, w].
      position: x.
    """
    found = vectors[0].astype(np.float64)
    for t, vector in enumerate(vectors[1:]):
        found = found + vector * min(max(position - t, 0.0), 1.0)
    return found


def periodic(vectors, frequencies, value):
    """Waves of a number, [w]: b + sum_k u_k sin(2 pi c_k x) + w_k cos(2 pi c_k x).

    Args:
      vectors: b, u_0, u_1, ..., w_0, w_1, ..., [1 + 2 K, w].
      frequencies: c, [K].
      value: x.
    """
    found = vectors[0].astype(np.float64)
    for k, frequency in enumerate(frequencies):
        found = found + vectors[1 + k] * np.sin(2 * np.pi * frequency * value)
        found = found + vectors[1 + len(frequencies) + k] * np.cos(2 * np.pi * frequency * value)
    return found
