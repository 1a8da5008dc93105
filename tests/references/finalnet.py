"""FINAL (Zhu et al., SIGIR 2023), layer by layer, with its distillation."""

import numpy as np

from tests.references import blocks as parts


def gated(params, first):
    """`[E ; E * G]` of one row, `[F, d] -> [2 F, d]`."""
    fields = list(first)
    for i in range(len(first)):
        gate = params['bias'][i] + sum(params['kernel'][j, i] * first[j] for j in range(len(first)))
        fields.append(gate * first[i])
    return np.array(fields)


def block(x, params, stats, train, *, hidden, residual, relu, batch_norm):
    for i in range(len(hidden)):
        h = parts.dense(params[f'hidden_{i}'], x)
        half = h.shape[1] // 2
        new = []
        for row in h:
            h2, h1 = row[:half], row[half:]
            new.append(h2 + h1 * h2 if residual == 'sum' else np.concatenate([h2, h1 * h2]))
        x = np.array(new)
        if batch_norm:
            x = parts.batch_norm(params[f'norm_{i}'], stats[f'norm_{i}'], x, train)
        if relu:
            x = parts.relu(x)
    return parts.dense(params['out'], x)[:, 0]


def logits(
    params, stats, rows, train, *, hidden_1, hidden_2, gate, residual, relu, batch_norm, target=None,
    blocks, **_,
):  # fmt: skip
    """`target` holds still what the gradient stops at; None: the mean as it is."""
    first = rows['embedding']
    fields = {'residual': residual, 'relu': relu, 'batch_norm': batch_norm}
    features = np.array([gated(params['gate'], row) for row in first]) if gate else first
    features = features.reshape(len(first), -1)
    name = 'block_1'
    outputs = [block(features, params[name], stats.get(name), train, hidden=hidden_1, **fields)]
    if blocks == 1:
        return outputs[0], 0.0
    flat, name = first.reshape(len(first), -1), 'block_2'
    outputs.append(block(flat, params[name], stats.get(name), train, hidden=hidden_2, **fields))
    mean = (outputs[0] + outputs[1]) / 2
    return mean, distillation(outputs, mean if target is None else target) if train else 0.0


def distillation(outputs, mean):
    target = parts.sigmoid(mean)
    return sum(parts.cross_entropy(output, target) for output in outputs)
