"""FiBiNET (Huang et al., RecSys 2019), one pair of one row at a time."""

import numpy as np

from tests.references import blocks


def senet(params, row, excitation):
    s = row.mean(axis=1)
    a = blocks.relu(s @ params['squeeze']) @ params['excite']
    a = blocks.relu(a) if excitation == 'relu' else blocks.sigmoid(a)
    return np.array([weight * e for weight, e in zip(a, row, strict=True)])


def products(kernel, row, kind):
    found, fields = [], len(row)
    for i in range(fields):
        for j in range(i + 1, fields):
            w = kernel if kind == 'all' else kernel[i if kind == 'each' else len(found)]
            found.append((row[i] @ w) * row[j])
    return found


def logits(params, stats, rows, train, *, bilinear, shared, excitation, **_):
    inputs = []
    for row in rows['embedding']:
        first = params['bilinear']['kernel']
        second = first if shared else params['bilinear_senet']['kernel']
        weighted = senet(params['senet'], row, excitation)
        both = products(first, row, bilinear) + products(second, weighted, bilinear)
        inputs.append(np.concatenate(both))
    deep = blocks.mlp(params['tower'], stats.get('tower'), np.array(inputs), train)[:, 0]
    return rows['linear'].sum(axis=(1, 2)) + deep
