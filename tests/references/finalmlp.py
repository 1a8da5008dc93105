"""FinalMLP (Mao et al., AAAI 2023), the bilinear fusion a sum over heads and pairs of channels."""

import numpy as np

from tests.references import blocks


def logits(
    params, stats, rows, train, *, hidden_1, hidden_2, heads, gate, gate_hidden, context_1, context_2,
    context_tables, batch_norm, **_,
):  # fmt: skip
    batch = len(rows['embedding'])
    flat = rows['embedding'].reshape(batch, -1)
    outputs = []
    for stream, context in ((1, context_1), (2, context_2)):
        features = flat
        if gate:
            name = f'context_{stream}'
            if context:
                table = rows[name] if context_tables else rows['embedding']
                seen = np.array([np.concatenate([row[f] for f in context]) for row in table])
            else:
                seen = np.array([params[name]] * batch)
            gates = blocks.mlp(params[f'gate_{stream}'], None, seen, train)
            features = flat * (2 * blocks.sigmoid(gates))
        name = f'stream_{stream}'
        outputs.append(blocks.mlp(params[name], stats.get(name), features, train))
    x, y = outputs
    fusion = params['fusion']
    kernel = fusion['linear']['kernel'][:, 0]
    total = np.empty(batch)
    for b in range(batch):
        total[b] = fusion['linear']['bias'][0]
        total[b] += sum(w * channel for w, channel in zip(kernel, [*x[b], *y[b]], strict=True))
        x_width, y_width = x.shape[1] // heads, y.shape[1] // heads
        for h in range(heads):
            for i in range(x_width):
                for j in range(y_width):
                    product = x[b, h * x_width + i] * y[b, h * y_width + j]
                    total[b] += fusion['kernel'][h, i, j] * product
    return total, 0.0
