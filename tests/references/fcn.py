"""FCN (Li et al., KDD 2026) and DCNv3, one row and one head at a time, with Tri-BCE."""

import numpy as np

from tests.references import blocks


def views(row, heads):
    """`[F, H d] -> [H, F d]`: of head k the first halves of all fields, then the second halves."""
    width = row.shape[1] // heads
    found = []
    for k in range(heads):
        own = row[:, k * width : (k + 1) * width]
        found.append(np.concatenate([own[:, : width // 2].ravel(), own[:, width // 2 :].ravel()]))
    return np.array(found)


def norm_by_head(params, stats, x, train):
    """BatchNorm whose channel is the head: of `[B, H, W]`."""
    return np.swapaxes(blocks.batch_norm(params, stats, np.swapaxes(x, 1, 2), train), 1, 2)


def layer(params, stats, anchor, x, train, second, batch_norm):
    h = x @ params['kernel']
    if batch_norm and second in ('mask', 'plain_mask'):
        h = norm_by_head(params['batch_norm'], stats['batch_norm'], h, train)
    if second == 'affine':
        other = params['scale'] * h + params['shift']
    elif second == 'layer_norm':
        other = blocks.layer_norm(params['layer_norm'], h)
    elif second == 'mask':
        other = h * blocks.relu(blocks.layer_norm(params['layer_norm'], h))
    else:
        other = h * blocks.relu(h)
    c = np.concatenate([h, other], axis=2)
    if batch_norm and second in ('affine', 'layer_norm'):
        c = norm_by_head(params['batch_norm'], stats['batch_norm'], c, train)
    return anchor * (c + params['bias']) + x


def branch(params, stats, first, train, kinds, second, batch_norm):
    x = first
    for i, kind in enumerate(kinds):
        name = f'layer_{i}'
        anchor = {'l': first, 'e': x}[kind]
        x = layer(params[name], stats.get(name), anchor, x, train, second, batch_norm)
    by_head = [blocks.dense(params['out'], x[:, k])[:, 0] for k in range(x.shape[1])]
    return sum(by_head) / len(by_head)


def logits(
    params, stats, rows, train, *, structure, ecn_layers, lcn_layers, heads, second, batch_norm, labels, **_
):  # fmt: skip
    first = np.array([views(row, heads) for row in rows['embedding']])
    ecn, lcn = 'e' * ecn_layers, 'l' * lcn_layers
    kinds = {
        'sp': {'a': ecn + lcn, 'b': lcn + ecn}, 'p': {'a': ecn, 'b': lcn}, 'ecn': {'a': ecn},
        'lcn': {'b': lcn},
    }[structure]  # fmt: skip
    outputs = [
        branch(params[f'branch_{k}'], stats.get(f'branch_{k}', {}), first, train, own, second, batch_norm)
        for k, own in kinds.items()
    ]
    found = sum(outputs) / len(outputs)
    return found, tri_bce(found, outputs, labels) if train and len(outputs) == 2 else 0.0


def tri_bce(mean, outputs, labels):
    loss = blocks.cross_entropy(mean, labels)
    own = [blocks.cross_entropy(output, labels) for output in outputs]
    return sum(max(behind - loss, 0.0) * behind for behind in own)
