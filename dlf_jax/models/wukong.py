"""Wukong: stacked factorization machines (Zhang et al., ICML 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.dlf_blocks import map_tokens
from dlf_jax.models.layers import MLP, Dense, Dropout, LayerNorm, kernel_init
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_choice, check_positive, check_rate, check_widths


class WukongLayer(nn.Module):
    """Wukong layer: `X: [B, n, d]` to `[B, n_F + n_L, d]`, or to `[B, n, d]` in the form 'flat'.

    Both forms use the pairwise products `P = LayerNorm(flatten(X (X^T Y)))`, `[B, n k]`.

    - 'tokens', of the paper: `LayerNorm([FMB ; LCB] + X)` over `d`, where `FMB = MLP(P)` has `n_F` tokens
      and `LCB` consists of `n_L` linear combinations of the tokens. If `X` does not have `n_F + n_L` tokens,
      it is mapped to as many by a learned matrix.
    - 'flat', of FuxiCTR: `LayerNorm(W [FMB ; LCB] + b + flatten(X))` over `n d`, where
      `FMB = relu(MLP(P))` has `n_F` numbers and `LCB = W_L flatten(X) + b_L` has `n_L` numbers.

    Parameters: `fm_kernel: [n, k]` (`Y`), `fm_norm: [n k]`, `fm/{hidden_i, out}`, `norm: [d]` or
    `[n d]`. Form 'tokens': `linear_kernel: [n, n_L]`, and `residual_kernel: [n, n_F + n_L]` if `X` is
    mapped. Form 'flat': `linear: [n d, n_L]`, `out: [n_F + n_L, n d]`.

    Attributes are those of `Wukong`.
    """

    form: str
    fm_tokens: int
    linear_tokens: int
    rank: int
    fm_hidden: tuple[int, ...]
    dropout: float
    block_dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        batch, count, width = x.shape
        # In this order the Gram matrix [B, n, n] is never formed.
        fm_kernel = self.param('fm_kernel', kernel_init, (count, self.rank))
        products = (x @ (jnp.swapaxes(x, 1, 2) @ fm_kernel)).reshape(batch, -1)
        products = LayerNorm(name='fm_norm')(products)

        def fm(outputs: int) -> jax.Array:
            mlp = MLP(self.fm_hidden, outputs, batch_norm=False, dropout=self.dropout, name='fm')
            return mlp(products, mode)

        drop = Dropout(self.block_dropout, name='block_dropout')
        if self.form == 'flat':
            flat = x.reshape(batch, -1)
            linear = drop(Dense(self.linear_tokens, name='linear')(flat), mode)
            output = jnp.concatenate([nn.relu(fm(self.fm_tokens)), linear], axis=1)
            output = Dense(count * width, name='out')(output)
            return LayerNorm(name='norm')(output + flat).reshape(x.shape)
        linear_kernel = self.param('linear_kernel', kernel_init, (count, self.linear_tokens))
        linear = drop(map_tokens(x, linear_kernel), mode)
        tokens = fm(self.fm_tokens * width).reshape(batch, self.fm_tokens, width)
        output = jnp.concatenate([tokens, linear], axis=1)
        if output.shape[1] != count:
            shape = (count, output.shape[1])
            x = map_tokens(x, self.param('residual_kernel', kernel_init, shape))
        return LayerNorm(name='norm')(output + x)


class Wukong(CTRModel):
    """Wukong: a stack of factorization machine blocks and linear compression blocks (Zhang et al. 2024).

    Starting with `X_0 = E: [B, F, d]`, a layer computes `X_{i+1} = LayerNorm([FMB(X_i) ; LCB(X_i)] + X_i)`,
    concatenated on the token axis; `logit = MLP(flatten(X_L))`. `WukongLayer` describes the blocks, in the
    form of the paper or, with `form='flat'`, of FuxiCTR, where their outputs are numbers instead of tokens.

    Reads the table 'embedding'. Parameters: `layer_{i}/...`, `head/{hidden_i, norm_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding and of every token.
      form: 'tokens' or 'flat'.
      layers: number of layers.
      fm_tokens: `n_F`, output tokens of a factorization machine block; numbers in the form 'flat'.
      linear_tokens: `n_L`, output tokens of a linear compression block; numbers in the form 'flat'.
      rank: `k`, number of columns of the learned `Y`.
      fm_hidden: width of each hidden layer of a factorization machine block; these have no BatchNorm.
      hidden: width of each hidden layer of the head.
      batch_norm: whether hidden layers of the head have a BatchNorm.
      dropout: dropout rate in hidden layers of the blocks and of the head.
      block_dropout: dropout rate on the outputs of linear compression blocks; FuxiCTR has no other dropout.
    """

    embedding_size: int = 10
    form: str = 'tokens'
    layers: int = 3
    fm_tokens: int = 40
    linear_tokens: int = 40
    rank: int = 8
    fm_hidden: tuple[int, ...] = (32, 32)
    hidden: tuple[int, ...] = (400, 400, 400)
    batch_norm: bool = True
    dropout: float = 0.0
    block_dropout: float = 0.0

    variants: ClassVar[dict[str, dict[str, Any]]] = {'full': {}, 'flat': {'form': 'flat'}}

    def check(self) -> None:
        check_positive(
            embedding_size=self.embedding_size,
            layers=self.layers,
            fm_tokens=self.fm_tokens,
            linear_tokens=self.linear_tokens,
            rank=self.rank,
        )
        check_choice('form', self.form, ('tokens', 'flat'))
        check_widths(fm_hidden=self.fm_hidden, hidden=self.hidden)
        check_rate(dropout=self.dropout, block_dropout=self.block_dropout)

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        x = embeddings['embedding']
        for i in range(self.layers):
            x = WukongLayer(
                self.form,
                self.fm_tokens,
                self.linear_tokens,
                self.rank,
                self.fm_hidden,
                self.dropout,
                self.block_dropout,
                name=f'layer_{i}',
            )(x, mode)
        head = MLP(self.hidden, 1, self.batch_norm, self.dropout, name='head')
        return head(x.reshape(x.shape[0], -1), mode)[:, 0]
