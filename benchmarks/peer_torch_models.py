"""DLF, DCNv2, DeepFM and DLRM-DCNv2 in PyTorch, as one writes them there; what `step.py` measures against.

Called on `embedding: float32 [B, F, d]` (DeepFM also on `linear: [B, F, 1]`, DLRM-DCNv2 on the numbers and
the summed bags) they return logits, float32 [B], and compute the same functions as dlf_jax's models, whose
names their parameters have. Imports nothing of dlf_jax.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def kernel(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(shape)))


class MLP(nn.Module):
    """Per hidden layer Linear, BatchNorm, ReLU, Dropout; then an optional output Linear."""

    def __init__(self, width: int, hidden, output: int | None, batch_norm: bool, dropout: float):
        super().__init__()
        layers: list[nn.Module] = []
        for size in hidden:
            layers.append(nn.Linear(width, size))
            if batch_norm:
                layers.append(nn.BatchNorm1d(size))
            layers.append(nn.ReLU())
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = size
        if output is not None:
            layers.append(nn.Linear(width, output))
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


class DCNv2(nn.Module):
    """Matrix cross layers beside an MLP."""

    def __init__(self, fields, *, embedding_size, cross_layers, hidden, batch_norm, dropout):
        super().__init__()
        width = fields * embedding_size
        self.cross = nn.ModuleList(nn.Linear(width, width) for _ in range(cross_layers))
        self.tower = MLP(width, hidden, None, batch_norm, dropout)
        self.head = nn.Linear(width + hidden[-1], 1)

    def forward(self, embedding):
        first = embedding.flatten(1)
        x = first
        for layer in self.cross:
            x = first * layer(x) + x
        return self.head(torch.cat([x, self.tower(first)], 1)).squeeze(1)


class DeepFM(nn.Module):
    """A factorisation machine and an MLP on the same embeddings."""

    def __init__(self, fields, *, embedding_size, hidden, batch_norm, dropout):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.tower = MLP(fields * embedding_size, hidden, 1, batch_norm, dropout)

    def forward(self, embedding, linear):
        pairs = 0.5 * (embedding.sum(1).square() - embedding.square().sum(1)).sum(1)
        machine = self.bias + linear.sum((1, 2)) + pairs
        return machine + self.tower(embedding.flatten(1)).squeeze(1)


def map_tokens(x, weights):
    """`[B, N, d]`, `[N, M]` -> `[B, M, d]`."""
    return (x.transpose(1, 2) @ weights).transpose(1, 2)


class RankBlock(nn.Module):
    """`X (E^T W)`, flattened, LayerNorm, MLP to `n` tokens.

    `E: [B, N, d]` is the state and `X` the state too (high rank), or `E^(1)` (low rank), as it is or
    taken to `N` tokens by a learned map.
    """

    def __init__(self, count, left, width, tokens, rank, *, relu, project=False, hidden, batch_norm, dropout):
        super().__init__()
        self.first_kernel = kernel(left, count) if project else None
        self.in_kernel = kernel(count, rank)
        flat = (count if project else left) * rank
        self.norm = nn.LayerNorm(flat)
        self.mlp = MLP(flat, hidden, tokens * width, batch_norm, dropout)
        self.tokens, self.width, self.relu = tokens, width, relu

    def forward(self, left, state):
        if self.first_kernel is not None:
            left = map_tokens(left, self.first_kernel)
        products = left @ (state.transpose(1, 2) @ self.in_kernel)
        tokens = self.mlp(self.norm(products.flatten(1))).view(-1, self.tokens, self.width)
        return tokens.relu() if self.relu else tokens


class ImplicitBlock(nn.Module):
    """Linear and ReLU on the flattened state, to `n` tokens."""

    def __init__(self, count, width, tokens):
        super().__init__()
        self.mlp = MLP(count * width, (), tokens * width, batch_norm=False, dropout=0.0)
        self.tokens, self.width = tokens, width

    def forward(self, state):
        return self.mlp(state.flatten(1)).relu().view(-1, self.tokens, self.width)


class TokenBlock(nn.Module):
    """A linear map over the tokens."""

    def __init__(self, count, tokens):
        super().__init__()
        self.kernel = kernel(count, tokens)

    def forward(self, state):
        return map_tokens(state, self.kernel)


class AttentionLayer(nn.Module):
    """Every block attends to every block: from `S` of them, `[S, B, n, d]`, to as many (eqs. 10-13).

    Each has its own Linear to queries, keys and values, and to take what it reads from the others back to
    `d` channels; the sum of that, after a ReLU, and of what it reads from itself is its output.
    """

    def __init__(self, count, width, heads):
        super().__init__()
        self.qkv_kernel = stacked_kernel(count, width, 3 * width)
        self.qkv_bias = nn.Parameter(torch.zeros(count, 3 * width))
        self.cross_kernel = stacked_kernel(count, (count - 1) * width, width)
        self.cross_bias = nn.Parameter(torch.zeros(count, width))
        self.heads = heads

    def forward(self, blocks):
        count, _, tokens, _ = blocks.shape
        qkv = linear_each(blocks, self.qkv_kernel, self.qkv_bias)
        # Each [S, B, n, H, d / H].
        query, key, value = qkv.unflatten(-1, (3, self.heads, -1)).unbind(3)
        # All blocks' queries as one sequence, [B, H, S n, d / H], which attends to one block after the other.
        query = query.permute(1, 3, 0, 2, 4).flatten(2, 3)
        read = []
        for k, v in zip(key.transpose(2, 3), value.transpose(2, 3), strict=True):
            found = functional.scaled_dot_product_attention(query, k, v)
            # Of each reader: [S, B, n, d].
            read.append(found.unflatten(2, (count, tokens)).permute(2, 0, 3, 1, 4).flatten(3))
        own = torch.stack([read[m][m] for m in range(count)])
        others = [torch.cat([read[x][m] for x in range(count) if x != m], -1) for m in range(count)]
        return linear_each(torch.stack(others), self.cross_kernel, self.cross_bias).relu() + own


def stacked_kernel(count, *shape):
    return nn.Parameter(torch.stack([kernel(*shape).detach() for _ in range(count)]))


def linear_each(blocks, kernels, biases):
    """A Linear of its own for each block: `[S, B, n, C]`, `[S, C, W]`, `[S, W]` -> `[S, B, n, W]`."""
    outputs = torch.baddbmm(biases.unsqueeze(1), blocks.flatten(1, 2), kernels)
    return outputs.unflatten(1, blocks.shape[1:3])


class AttentionFusion(nn.Module):
    """The blocks' tokens, and `n` more from a stack of attention layers over them (eqs. 14, 15)."""

    def __init__(self, count, width, layers, heads):
        super().__init__()
        self.attention = nn.ModuleList(AttentionLayer(count, width, heads) for _ in range(layers))
        self.out = nn.Linear(count * width, width)

    def forward(self, blocks):
        attended = torch.stack(blocks)
        for layer in self.attention:
            attended = layer(attended)
        fused = self.out(attended.permute(1, 2, 0, 3).flatten(2)).relu()
        return torch.cat([*blocks, fused], 1)


class Residual(nn.Module):
    """Adds the state, gated (eq. 9) or as it is, taken to as many tokens where it has others; LayerNorm."""

    def __init__(self, count, tokens, width, *, gate):
        super().__init__()
        self.gate_kernel = kernel(width, width) if gate else None
        self.token_kernel = kernel(count, tokens) if count != tokens else None
        self.norm = nn.LayerNorm(width)

    def forward(self, fused, state):
        kept = state
        if self.gate_kernel is not None:
            kept = (state @ self.gate_kernel).clamp(min=1e-6) * state
        if self.token_kernel is not None:
            kept = map_tokens(kept, self.token_kernel)
        return self.norm(fused + kept)


class DLFLayer(nn.Module):
    """Low-rank, high-rank and implicit blocks, fused by attention; a gated residual."""

    def __init__(self, number, count, fields, width, *, tokens, rank, attention_layers, heads, **mlp):
        super().__init__()
        self.low_rank = RankBlock(count, fields, width, tokens, rank, relu=True, **mlp)
        self.high_rank = RankBlock(count, count, width, tokens, rank, relu=True, **mlp)
        self.implicit = ImplicitBlock(count, width, tokens)
        self.fusion = AttentionFusion(3, width, attention_layers, heads)
        self.residual = Residual(count, 4 * tokens, width, gate=True)

    def forward(self, first, state):
        blocks = [self.low_rank(first, state), self.high_rank(state, state), self.implicit(state)]
        return self.residual(self.fusion(blocks), state)


class ReleasedLayer(nn.Module):
    """High-rank, low-rank and token blocks, concatenated; a plain residual."""

    def __init__(self, number, count, fields, width, *, tokens, rank, **mlp):
        super().__init__()
        self.high_rank = RankBlock(count, count, width, tokens, rank, relu=False, **mlp)
        self.low_rank = RankBlock(count, fields, width, tokens, rank, relu=False, project=number > 0, **mlp)
        self.implicit = TokenBlock(count, tokens)
        self.residual = Residual(count, 3 * tokens, width, gate=False)

    def forward(self, first, state):
        fused = [self.high_rank(state, state), self.low_rank(first, state), self.implicit(state)]
        return self.residual(torch.cat(fused, 1), state)


class DLF(nn.Module):
    """The model of DLF's paper (dlf_jax's variant `full`): layers on the embeddings, and a head."""

    # What makes a layer, and how many times `tokens` it puts out.
    layer, blocks = DLFLayer, 4

    def __init__(self, fields, *, embedding_size, layers, tokens, head, batch_norm, dropout, **options):
        super().__init__()
        options |= {'tokens': tokens, 'batch_norm': batch_norm, 'dropout': dropout}
        counts = [fields] + [self.blocks * tokens] * layers
        self.layers = nn.ModuleList(
            self.layer(i, counts[i], fields, embedding_size, **options) for i in range(layers)
        )
        self.head = MLP(counts[-1] * embedding_size, head, 1, batch_norm, dropout)

    def forward(self, embedding):
        state = embedding
        for layer in self.layers:
            state = layer(embedding, state)
        return self.head(state.flatten(1)).squeeze(1)


class ReleasedDLF(DLF):
    """The model of DLF's authors' repository (dlf_jax's variant `released`)."""

    layer, blocks = ReleasedLayer, 3


class LowRankCross(nn.Module):
    """Cross layers whose matrices have two factors: `x_{l+1} = x_0 * (W_l (V_l x_l) + b_l) + x_l`."""

    def __init__(self, width, layers, rank):
        super().__init__()
        self.v = nn.ParameterList(kernel(width, rank) for _ in range(layers))
        self.w = nn.ParameterList(kernel(rank, width) for _ in range(layers))
        self.bias = nn.ParameterList(nn.Parameter(torch.zeros(width)) for _ in range(layers))

    def forward(self, first):
        x = first
        for v, w, bias in zip(self.v, self.w, self.bias, strict=True):
            x = first * torch.addmm(bias, x @ v, w) + x
        return x


class DLRMDCNv2(nn.Module):
    """MLPerf's model: the numbers through a bottom MLP, low-rank cross layers, a top MLP."""

    def __init__(self, fields, *, numbers, embedding_size, bottom_hidden, cross_layers, rank, hidden):
        super().__init__()
        plain = {'batch_norm': False, 'dropout': 0.0}
        self.bottom = MLP(numbers, bottom_hidden, embedding_size, **plain)
        width = (fields + 1) * embedding_size
        self.cross = LowRankCross(width, cross_layers, rank)
        self.top = MLP(width, hidden, 1, **plain)

    def forward(self, numbers, embedding):
        first = self.bottom(numbers).relu()
        return self.top(self.cross(torch.cat([first, embedding.flatten(1)], 1))).squeeze(1)


# By model and variant.
MODELS = {
    'dlf': {'full': DLF, 'released': ReleasedDLF},
    'dcnv2': {'full': DCNv2},
    'deepfm': {'full': DeepFM},
    'dlrm_dcnv2': {'full': DLRMDCNv2},
}
TABLES = {'dlf': ('embedding',), 'dcnv2': ('embedding',), 'deepfm': ('embedding', 'linear')}


def build(name: str, variant: str, fields: int, shape: dict) -> nn.Module:
    """A variant of a model for `fields` fields, by their names; `shape`: keywords. Weights Xavier normal."""
    if variant not in MODELS.get(name, {}):
        known = ', '.join(f'{name} {variant}' for name in MODELS for variant in MODELS[name])
        raise ValueError(f'no peer of {name} {variant}: there are {known}; give --peer=none')
    model = MODELS[name][variant](fields, **shape)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d):
            # dlf_jax's epsilon is torch's default; momentum 0.1 is its 0.9.
            assert (module.eps, module.momentum) == (1e-5, 0.1)
    return model
