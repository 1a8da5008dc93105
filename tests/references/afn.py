"""AFN and AFN+ (Cheng et al., AAAI 2020) as products of powers, never as a sum of logarithms."""

import numpy as np

from tests.references import blocks


def logits(params, stats, rows, train, *, epsilon, plus, **_):
    first = rows['embedding']
    batch, fields, width = first.shape
    neurons = params['kernel'].shape[1]

    # BatchNorm by field: fields go last for `blocks`.
    logarithms = np.log(np.where(abs(first) > epsilon, abs(first), epsilon))
    moved = np.moveaxis(logarithms, 1, 2)
    normal = blocks.batch_norm(params['log_norm'], stats.get('log_norm'), moved, train)
    powers = np.empty((batch, width, neurons))
    for b, c, j in np.ndindex(batch, width, neurons):
        product = 1.0
        for i in range(fields):
            product *= np.exp(normal[b, c, i]) ** params['kernel'][i, j]
        powers[b, c, j] = product
    powers = blocks.batch_norm(params['exp_norm'], stats.get('exp_norm'), powers, train)

    def tower(name, x):
        return blocks.mlp(params[name], stats.get(name), x, train)[:, 0]

    total = tower('tower', powers.reshape(batch, -1))
    if plus:
        deep = tower('deep', rows['deep'].reshape(batch, -1))
        (w1,), (w2,) = params['combine']['kernel']
        total = w1 * total + w2 * deep + params['combine']['bias'][0]
    return total, 0.0
