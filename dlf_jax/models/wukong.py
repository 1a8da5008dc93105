"""Wukong: a stack of factorization machines, each of which makes tokens for the next."""

from collections.abc import Mapping
from typing import ClassVar

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.dlf_blocks import map_tokens
from dlf_jax.models.layers import MLP, Dense, Dropout, LayerNorm, Mode, kernel_init
from dlf_jax.models.validators import check_choice, check_positive, check_rate, check_widths


class WukongLayer(nn.Module):
    """A layer: `X: [B, n, d]` to `[B, n_F + n_L, d]`, or, with the form 'flat', to `[B, n, d]`.

    The pairwise products are `P = LayerNorm(flatten(X (X^T Y)))`, `[B, n k]`, in both forms.

    - 'tokens', the paper's: `LayerNorm([FMB ; LCB] + X)` over `d`, with `FMB = MLP(P)`, `n_F` tokens,
      `LCB`, `n_L` linear combinations of the tokens, and `X` taken to `n_F + n_L` tokens by a
      learned map where it has another number;
    - 'flat', FuxiCTR's: `LayerNorm(W [FMB ; LCB] + b + flatten(X))` over `n d`, with
      `FMB = relu(MLP(P))`, `n_F` numbers, and `LCB = W_L flatten(X) + b_L`, `n_L` numbers.

    Parameters: `fm_kernel: [n, k]` (`Y`), `fm_norm: [n k]`, `fm/{hidden_i, out}`, `norm: [d]` or
    `[n d]`; 'tokens' `linear_kernel: [n, n_L]` and, where it projects,
    `residual_kernel: [n, n_F + n_L]`; 'flat' `linear: [n d, n_L]`, `out: [n_F + n_L, n d]`.

    Attributes: see `Wukong`.
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
        # In this order the Gram matrix [n, n] is never formed.
        fm_kernel = self.param('fm_kernel', kernel_init, (count, self.rank))
        products = (x @ (jnp.swapaxes(x, 1, 2) @ fm_kernel)).reshape(batch, -1)
        products = LayerNorm(name='fm_norm')(products)

        def fm(outputs):
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


class Wukong(nn.Module):
    """Wukong (Zhang et al., ICML 2024): factorization machine blocks and linear compression, stacked.

    Called on `{'embedding': float32 [B, F, d]}` it returns logits, float32 [B]. From `X_0 = E`,
    `X_{i+1} = LayerNorm([FMB(X_i) ; LCB(X_i)] + X_i)` on the token axis, and
    `logit = MLP(flatten(X_L))`. The blocks are those of `WukongLayer`, in the paper's form or,
    with `form='flat'`, FuxiCTR's, where they make numbers instead of tokens.

    Parameters: `layer_{i}/...`, `head/{hidden_i, norm_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding and of every token.
      form: 'tokens' or 'flat'.
      layers: number of layers.
      fm_tokens: `n_F`, tokens of a factorization machine block; numbers in the form 'flat'.
      linear_tokens: `n_L`, tokens of a linear compression block; numbers in the form 'flat'.
      rank: `k`, columns of the learned `Y`.
      fm_hidden: hidden layers of a factorization machine block, which has no BatchNorm.
      hidden: hidden layers of the head.
      batch_norm: whether each hidden layer of the head has a BatchNorm.
      dropout: rate in hidden layers, those of the blocks and of the head.
      block_dropout: rate on the outputs of linear compression blocks, FuxiCTR's only dropout.
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

    variants: ClassVar[dict[str, dict]] = {'full': {}, 'flat': {'form': 'flat'}}

    def __post_init__(self):
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
        super().__post_init__()

    @property
    def tables(self) -> dict[str, int]:
        """Width of each table that the model reads."""
        return {'embedding': self.embedding_size}

    @nn.compact
    def __call__(
        self,
        rows: Mapping[str, jax.Array],
        *,
        train: bool = False,
        mask: jax.Array | None = None,
        axis_name: str | None = None,
    ) -> jax.Array:
        mode = Mode(train, mask, axis_name)
        x = rows['embedding']
        chex.assert_shape(x, (None, None, self.embedding_size))
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
