"""DLF in float64 NumPy, written from the paper's equations and not from the project's modules.

Equation numbers are those of arXiv 2505.19182. B rows, F fields, d channels, n tokens of a block, R rank,
N tokens of a layer's input, M tokens of its output. Blocks stand in the order L, C, D (low-rank, high-rank,
implicit) wherever they are listed. `params` is the model's tree of parameters, `fields` all its fields.
"""

import copy

import numpy as np

from tests.references.layers import Mode, batch_norm, dense, layer_norm, mlp, relu, softmax


def low_order_product(first, state, kernel):
    """The interaction of eqs. 5 and 6, `E^(1) (E^(l))^T W_I`, by way of the Gram matrix.

    first [B, F, d], state [B, N, d], kernel [N, R]: [B, F, R].
    """
    gram = np.einsum('bfd,bnd->bfn', first, state)
    return np.einsum('bfn,nr->bfr', gram, kernel)


def norm(kind, params, stats, x, mode):
    """`x` [B, ...] after the normalisation of that kind: over the last axis, or place by place over rows."""
    if kind == 'none':
        return x
    if kind == 'layer':
        return layer_norm(params['norm'], x)
    return batch_norm(params['norm'], stats['norm'], x.reshape(len(x), -1), mode).reshape(x.shape)


def interaction_block(params, stats, first, state, fields, mode):
    """Eq. 5 with first = E^(1), eq. 6 with first = E^(l): Z_L or Z_C [B, n, d]."""
    product = low_order_product(first, state, params['in_kernel'])
    flat = norm(fields['product_norm'], params, stats, product.reshape(len(state), -1), mode)
    out = mlp(params['mlp'], stats.get('mlp'), flat, fields['hidden'], fields['batch_norm'], mode)
    return activate(out, fields).reshape(len(state), fields['tokens'], -1)


def implicit_block(params, stats, state, fields, mode):
    """Eq. 7: Z_D [B, n, d], of an MLP on the flattened state or of one linear map over its tokens."""
    if fields['implicit'] == 'token':
        return np.einsum('bnd,nm->bmd', state, params['kernel'])
    flat = state.reshape(len(state), -1)
    hidden = fields['implicit_hidden']
    out = mlp(params['mlp'], stats.get('mlp'), flat, hidden, fields['batch_norm'], mode)
    return activate(out, fields).reshape(len(state), fields['tokens'], -1)


def activate(x, fields):
    """sigma of eqs. 5 to 7; the released model's blocks go without."""
    return relu(x) if fields['block_relu'] else x


def block_names(fields):
    return ['low_rank', 'high_rank', 'implicit'] if fields['low_rank'] else ['high_rank', 'implicit']


def block(name, params, stats, first, state, fields, mode):
    """The output [B, n, d] of the block called `name`."""
    if name == 'implicit':
        return implicit_block(params, stats, state, fields, mode)
    left = state
    if name == 'low_rank':
        left = first
        if fields['project_first'] and state is not first:  # l > 1: E^(1) at the N tokens of E^(l).
            left = np.einsum('bfd,fn->bnd', first, params['first_kernel'])
    return interaction_block(params, stats, left, state, fields, mode)


def attend(query, key, value, heads):
    """Softmax attention of eqs. 11 and 13, `softmax(Q K^T / sqrt(d_head)) V` in each head: [B, n, d].

    A head owns a run of d / H neighbouring channels.
    """
    width = query.shape[-1] // heads
    out = np.empty_like(query)
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        scores = np.einsum('bnc,bmc->bnm', query[..., part], key[..., part]) / np.sqrt(width)
        out[..., part] = np.einsum('bnm,bmc->bnc', softmax(scores), value[..., part])
    return out


def attention_layer(params, blocks, heads, self_attention):
    """Eqs. 10 to 13 for a list of blocks [B, n, d]: the list of Att^C_M (+ Att^S_M), [B, n, d]."""
    split = []
    for m, z in enumerate(blocks):
        qkv = z @ params['qkv_kernel'][m] + params['qkv_bias'][m]
        split.append(np.split(qkv, 3, axis=-1))  # eq. 10
    outputs = []
    for m in range(len(blocks)):
        query, key, value = split[m]
        others = [attend(query, split[x][1], split[x][2], heads) for x in range(len(blocks)) if x != m]
        joined = np.concatenate(others, axis=-1)
        out = relu(joined @ params['cross_kernel'][m] + params['cross_bias'][m])  # eqs. 11, 12
        if self_attention:
            out = out + attend(query, key, value, heads)  # eq. 13
        outputs.append(out)
    return outputs


def attention_fusion(params, blocks, fields, self_attention):
    """Eqs. 10 to 14, with A attention layers one on the other: Att [B, n, d]."""
    for a in range(fields['attention_layers']):
        blocks = attention_layer(params[f'attention_{a}'], blocks, fields['heads'], self_attention)
    return relu(dense(params['out'], np.concatenate(blocks, axis=-1)))


def mlp_fusion(params, stats, blocks, fields, mode):
    """Fig. 3, `fusion=mlp`: Att [B, n, d] of each token's channels in all blocks."""
    channels = np.concatenate(blocks, axis=-1)
    hidden = fields['fusion_hidden']
    return relu(mlp(params['mlp'], stats.get('mlp'), channels, hidden, fields['batch_norm'], mode))


def gate_fusion(params, blocks):
    """Fig. 3, `fusion=gate`: Att = sum_M g_M Z_M with softmax gates from the blocks' mean tokens."""
    pooled = np.concatenate([z.mean(axis=1) for z in blocks], axis=-1)
    gates = softmax(dense(params['gate'], pooled))
    return sum(gates[:, m, None, None] * z for m, z in enumerate(blocks))


def input_attention(params, stats, state, fields, mode):
    """The released model's self-attention over the layer's input tokens: [B, n, d]."""
    query, key, value = np.split(dense(params['qkv'], state), 3, axis=-1)
    mixed = attend(query, key, value, fields['heads'])
    flat = layer_norm(params['norm'], mixed.reshape(len(state), -1))
    out = mlp(params['mlp'], stats.get('mlp'), flat, fields['hidden'], fields['batch_norm'], mode)
    return activate(out, fields).reshape(len(state), fields['tokens'], -1)


def fuse(params, stats, outputs, state, fields, mode):
    """psi of eq. 8: Z [B, M, d] from the blocks' outputs, `{name: [B, n, d]}`. Tokens as in eq. 15."""
    blocks = [outputs[name] for name in block_names(fields)]
    fusion = fields['fusion']
    if fusion == 'released':
        order = [name for name in ('high_rank', 'low_rank', 'implicit') if name in outputs]
        blocks = [outputs[name] for name in order]
        extra = [input_attention(params, stats, state, fields, mode)] if fields['input_attention'] else []
    elif fusion == 'concat':
        extra = []
    elif fusion == 'mlp':
        extra = [mlp_fusion(params, stats, blocks, fields, mode)]
    elif fusion == 'gate':
        extra = [gate_fusion(params, blocks)]
    else:
        extra = [attention_fusion(params, blocks, fields, self_attention=fusion == 'naf')]
    return np.concatenate([*blocks, *extra], axis=1)


def residual(params, stats, z, state, fields, mode):
    """Eq. 9 and the norm behind it: E^(l+1) [B, M, d] from Z [B, M, d] and E^(l) [B, N, d]."""
    kept = state
    if fields['gate']:
        kept = np.maximum(fields['gate_epsilon'], state @ params['gate_kernel']) * state
    if state.shape[1] != z.shape[1]:
        kept = np.einsum('bnd,nm->bmd', kept, params['token_kernel'])
    return norm(fields['norm'], params, stats, z + kept, mode)


def layer(params, stats, first, state, fields, mode):
    """One layer with fusion: E^(l) [B, N, d] to E^(l+1) [B, M, d]."""
    outputs = {
        name: block(name, params[name], stats.get(name, {}), first, state, fields, mode)
        for name in block_names(fields)
    }
    z = fuse(params.get('fusion'), stats.get('fusion', {}), outputs, state, fields, mode)
    return residual(params.get('residual', {}), stats.get('residual', {}), z, state, fields, mode)


def separate_layer(params, stats, first, states, fields, mode):
    """One layer without fusion (Table 3, w/o NAF): each block's own E^(l) [B, N, d] to its [B, n, d]."""
    following = {}
    for name, state in states.items():
        z = block(name, params[name], stats.get(name, {}), first, state, fields, mode)
        own = f'{name}_residual'
        following[name] = residual(params.get(own, {}), stats.get(own, {}), z, state, fields, mode)
    return following


def forward(params, batch_stats, embeddings, fields, train=False, mask=None):
    """Logits [B] (eq. 16 short of its sigmoid) of E [B, F, d], and the batch statistics after the pass."""
    stats = copy.deepcopy(batch_stats)
    mode = Mode(train, mask)
    separate = fields['fusion'] == 'none'
    state = dict.fromkeys(block_names(fields), embeddings) if separate else embeddings
    step = separate_layer if separate else layer
    for index in range(fields['layers']):
        name = f'layer_{index}'
        state = step(params[name], stats.get(name, {}), embeddings, state, fields, mode)
    if separate:
        state = np.concatenate([state[name] for name in block_names(fields)], axis=1)
    flat = state.reshape(len(embeddings), -1)
    head = stats.get('head')
    logits = mlp(params['head'], head, flat, fields['head'], fields['batch_norm'], mode)
    return logits[:, 0], stats
