"""RankMixer: token mixing and a feed-forward network of each token's own (Zhu et al., CIKM 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.errors import UsageError
from dlf_jax.models.base import CTRModel
from dlf_jax.models.inputs import Inputs
from dlf_jax.models.layers import MLP, Dense, Dropout, LayerNorm, stacked_kernel_init
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_choice, check_positive, check_rate, check_widths


class PerToken(nn.Module):
    """A Dense of each token's own: `[B, T, C]` to `[B, T, W]`.

    Parameters: `kernel: [T, C, W]`, Xavier normal per matrix, and `bias: [T, W]`.

    Attributes:
      width: `W`.
    """

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        _, tokens, channels = x.shape
        kernel = self.param('kernel', stacked_kernel_init, (tokens, channels, self.width))
        bias = self.param('bias', nn.initializers.zeros, (tokens, self.width))
        return jnp.einsum('btc,tcw->btw', x, kernel) + bias


class MixerBlock(nn.Module):
    """Token mixing and the tokens' feed-forward networks: `[B, T, D_t]` to the same.

    `norm='post'`: `S = LN(mix(X) + X)`, `X' = LN(P(S) + S)`; `'pre'`: `S = X + mix(LN(X))`,
    `X' = S + P(LN(S))`. `P` is `W2_t gelu(W1_t s_t + b1_t) + b2_t`, all weights of token `t` alone. Dropout
    is on `mix` and on `P`.

    Parameters: `norm_mix, norm_ffn/{scale, bias}: [D_t]`, `up/{kernel, bias}`, `down/{kernel, bias}`.

    Attributes are those of `RankMixer`.
    """

    expansion: int
    norm: str
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        width = x.shape[-1]

        def mixed(x: jax.Array) -> jax.Array:
            return Dropout(self.dropout, name='mix_dropout')(mix(x), mode)

        def network(x: jax.Array) -> jax.Array:
            hidden = nn.gelu(PerToken(self.expansion * width, name='up')(x), approximate=False)
            return Dropout(self.dropout, name='ffn_dropout')(PerToken(width, name='down')(hidden), mode)

        norm_mix, norm_ffn = LayerNorm(name='norm_mix'), LayerNorm(name='norm_ffn')
        if self.norm == 'pre':
            x = x + mixed(norm_mix(x))
            return x + network(norm_ffn(x))
        x = norm_mix(mixed(x) + x)
        return norm_ffn(network(x) + x)


class RankMixer(CTRModel):
    """RankMixer: tokens that are mixed without weights, and weights of each token's own (Zhu et al. 2025).

    The embeddings of a row, concatenated, are cut into `T` equal chunks (zeros fill the last one), and each
    is projected to a token of width `D_t`. Of `L` blocks (`MixerBlock`) each mixes the tokens (`mix`: token
    `h` of the result is chunk `h` of every token) and passes each through a feed-forward network of its own.
    `logit = w^T MLP(mean_t x_t) + b`.

    The paper does not say whether the projection is one for each chunk, how wide the networks are, or what
    follows the mean: here a projection for each, an expansion of 4, and a Dense (`hidden=()`). Its sparse
    mixture of experts, whose training is not told in full, is not part of the model.

    Reads the table 'embedding'. Parameters: `projection/{kernel, bias}`, `block_{i}/...`,
    `norm/{scale, bias}` with `norm='pre'`, `head/{hidden_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      tokens: `T`, number of tokens, and of chunks of a token; divides `token_size`.
      token_size: `D_t`, width of a token.
      layers: `L`, number of blocks.
      expansion: `k`, the feed-forward networks have `k D_t` hidden neurons.
      order: names of fields that come first when the embeddings are cut into chunks, so that the fields of a
        group (user, item, ...) lie side by side; the others follow in their own order.
      shared_projection: whether one projection serves all chunks.
      norm: 'post', LayerNorm after each sum, or 'pre', before each part and once at the end.
      pooling: 'mean' over the tokens, or 'flat', all of them side by side.
      hidden: width of each hidden layer of the head, which has no BatchNorm.
      dropout: dropout rate of each block's two parts and in the head.
    """

    embedding_size: int = 16
    tokens: int = 8
    token_size: int = 64
    layers: int = 2
    expansion: int = 4
    order: tuple[str, ...] = ()
    shared_projection: bool = False
    norm: str = 'post'
    pooling: str = 'mean'
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0

    wants_bags = False
    variants: ClassVar[dict[str, dict[str, Any]]] = {
        'full': {},
        'pre': {'norm': 'pre', 'pooling': 'flat'},
    }

    def check(self) -> None:
        check_positive(
            embedding_size=self.embedding_size,
            tokens=self.tokens,
            token_size=self.token_size,
            layers=self.layers,
            expansion=self.expansion,
        )
        if self.token_size % self.tokens:
            raise ValueError(f'model.tokens={self.tokens}: must divide model.token_size={self.token_size}')
        named = isinstance(self.order, tuple) and all(isinstance(name, str) for name in self.order)
        if not named or len(set(self.order)) < len(self.order):
            raise ValueError(
                f"model.order={self.order!r}: expected a tuple of fields' names, each once, such as ('user',)"
            )
        check_choice('norm', self.norm, ('post', 'pre'))
        check_choice('pooling', self.pooling, ('mean', 'flat'))
        check_widths(hidden=self.hidden)
        check_rate(dropout=self.dropout)

    @property
    def wants_inputs(self) -> bool:  # type: ignore[override]
        return bool(self.order)

    def logits(
        self, embeddings: Mapping[str, jax.Array], mode: Mode, inputs: Inputs | None = None
    ) -> jax.Array:
        fields = self._in_order(embeddings['embedding'], inputs)
        chunks = cut(fields.reshape(fields.shape[0], -1), self.tokens)
        projection = Dense if self.shared_projection else PerToken
        x = projection(self.token_size, name='projection')(chunks)
        for i in range(self.layers):
            x = MixerBlock(self.expansion, self.norm, self.dropout, name=f'block_{i}')(x, mode)
        if self.norm == 'pre':
            x = LayerNorm(name='norm')(x)
        pooled = jnp.mean(x, axis=1) if self.pooling == 'mean' else x.reshape(x.shape[0], -1)
        head = MLP(self.hidden, 1, batch_norm=False, dropout=self.dropout, name='head')
        return head(pooled, mode)[:, 0]

    def _in_order(self, fields: jax.Array, inputs: Inputs | None) -> jax.Array:
        """The embeddings, [B, F, d], those of the fields that are named first."""
        if not self.order:
            return fields
        if inputs is None:
            raise UsageError('config.model.order: needs the names of fields')
        first = [inputs.position(name, 'order') for name in self.order]
        others = [i for i in range(fields.shape[1]) if i not in first]
        return jnp.stack([fields[:, i] for i in (*first, *others)], axis=1)


def cut(flat: jax.Array, tokens: int) -> jax.Array:
    """Cuts [B, D] into equal chunks, [B, T, ceil(D / T)]; zeros fill the last ones."""
    batch, width = flat.shape
    padded = jnp.pad(flat, ((0, 0), (0, -width % tokens)))
    return padded.reshape(batch, tokens, -1)


def mix(x: jax.Array) -> jax.Array:
    """Mixes tokens, [B, T, D_t] to the same: token `h` has chunk `h` of every token, side by side.

    It is its own inverse.
    """
    batch, tokens, width = x.shape
    heads = x.reshape(batch, tokens, tokens, width // tokens)
    return jnp.swapaxes(heads, 1, 2).reshape(x.shape)
