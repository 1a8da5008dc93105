"""AutoInt: Song et al. 2019, eqs. 5-9, head by head and field by field."""

import numpy as np

from tests.references.blocks import dense, flatten, mlp, relu, softmax


def layer_norm(params, x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * params['scale'] + params['bias']


def layer(config, params, x):
    """Eqs. 5-8: `[B, F, c] -> [B, F, A]`."""
    fields = x.shape[1]
    size = config['attention_size'] // config['heads']
    outputs = []
    for m in range(fields):
        heads = []
        for h in range(config['heads']):
            columns = slice(h * size, (h + 1) * size)
            query, key, value = (params[name]['kernel'][:, columns] for name in ('query', 'key', 'value'))
            scores = [np.sum((x[:, m] @ query) * (x[:, k] @ key), 1) for k in range(fields)]
            scores = np.stack(scores, 1)
            if config['scale']:
                scores = scores / np.sqrt(size)
            weights = softmax(scores)
            heads.append(sum(weights[:, k, None] * (x[:, k] @ value) for k in range(fields)))
        output = np.concatenate(heads, 1)
        if config['project_residual'] or x.shape[2] != config['attention_size']:
            output = output + x[:, m] @ params['residual']['kernel']
        else:
            output = output + x[:, m]
        if config['layer_norm']:
            output = layer_norm(params['norm'], output)
        outputs.append(relu(output))
    return np.stack(outputs, 1)


def logits(config, params, stats, rows, train):
    x = rows['embedding']
    for i in range(config['layers']):
        x = layer(config, params[f'layer_{i}'], x)
    total = dense(params['head'], flatten(x))[:, 0]
    if config['plus']:
        deep = mlp(params['tower'], stats.get('tower'), flatten(rows['embedding']), train)
        total = total + deep[:, 0]
    if config['wide']:
        total = total + rows['linear'][:, :, 0].sum(1)
    return total
