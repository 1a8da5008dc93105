"""DLF `released`, DCNv2 and DeepFM in PyTorch, as one writes them there; what `step.py` measures against.

Called on `embedding: float32 [B, F, d]` (DeepFM also on `linear: [B, F, 1]`) they return logits,
float32 [B], and compute the same functions as dlf_jax's models. Imports nothing of dlf_jax.
"""

from __future__ import annotations

import torch
from torch import nn


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


class RankBlock(nn.Module):
    """`X (E^T W)`, flattened, LayerNorm, MLP to `n` tokens.

    `E: [B, N, d]` is the state and `X` the state too (high rank), or `E^(1)` (low rank), as it is or
    taken to `N` tokens by a learned map.
    """

    def __init__(self, count, left, width, tokens, rank, *, project, hidden, batch_norm, dropout):
        super().__init__()
        self.first_kernel = kernel(left, count) if project else None
        self.in_kernel = kernel(count, rank)
        flat = (count if project else left) * rank
        self.norm = nn.LayerNorm(flat)
        self.mlp = MLP(flat, hidden, tokens * width, batch_norm, dropout)
        self.tokens, self.width = tokens, width

    def forward(self, left, state):
        if self.first_kernel is not None:
            left = map_tokens(left, self.first_kernel)
        products = left @ (state.transpose(1, 2) @ self.in_kernel)
        return self.mlp(self.norm(products.flatten(1))).view(-1, self.tokens, self.width)


def map_tokens(x, weights):
    """`[B, N, d]`, `[N, M]` -> `[B, M, d]`."""
    return (x.transpose(1, 2) @ weights).transpose(1, 2)


class DLFLayer(nn.Module):
    """High-rank, low-rank and token blocks, concatenated; a token-projected residual; LayerNorm."""

    def __init__(self, count, fields, width, *, project, tokens, rank, **mlp):
        super().__init__()
        self.high_rank = RankBlock(count, count, width, tokens, rank, project=False, **mlp)
        self.low_rank = RankBlock(count, fields, width, tokens, rank, project=project, **mlp)
        self.implicit = kernel(count, tokens)
        self.token_kernel = kernel(count, 3 * tokens) if count != 3 * tokens else None
        self.norm = nn.LayerNorm(width)

    def forward(self, first, state):
        implicit = map_tokens(state, self.implicit)
        fused = torch.cat([self.high_rank(state, state), self.low_rank(first, state), implicit], 1)
        kept = state if self.token_kernel is None else map_tokens(state, self.token_kernel)
        return self.norm(fused + kept)


class DLF(nn.Module):
    """The model of DLF's authors' repository (dlf_jax's variant `released`)."""

    def __init__(self, fields, *, embedding_size, layers, tokens, rank, hidden, head, batch_norm, dropout):
        super().__init__()
        mlp = {'hidden': hidden, 'batch_norm': batch_norm, 'dropout': dropout}
        counts = [fields] + [3 * tokens] * layers
        self.layers = nn.ModuleList(
            DLFLayer(counts[i], fields, embedding_size, project=i > 0, tokens=tokens, rank=rank, **mlp)
            for i in range(layers)
        )
        self.head = MLP(counts[-1] * embedding_size, head, 1, batch_norm, dropout)

    def forward(self, embedding):
        state = embedding
        for layer in self.layers:
            state = layer(embedding, state)
        return self.head(state.flatten(1)).squeeze(1)


MODELS = {'dlf': DLF, 'dcnv2': DCNv2, 'deepfm': DeepFM}
TABLES = {'dlf': ('embedding',), 'dcnv2': ('embedding',), 'deepfm': ('embedding', 'linear')}


def build(name: str, fields: int, shape: dict) -> nn.Module:
    """The model called `name` for `fields` fields; `shape`: its keywords. Weights Xavier normal."""
    model = MODELS[name](fields, **shape)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d):
            # dlf_jax's epsilon is torch's default; momentum 0.1 is its 0.9.
            assert (module.eps, module.momentum) == (1e-5, 0.1)
    return model
