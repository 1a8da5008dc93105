"""EulerNet: feature interactions of learned order in the complex plane (Tian et al., SIGIR 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.dlf_blocks import map_tokens
from dlf_jax.models.layers import Dense, Dropout, LayerNorm
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_positive, check_rate, check_widths

# Added to the squared modulus before its logarithm.
_EPSILON = 1e-8
# Squared modulus below which a number has no angle.
_NOTHING = 1e-30
shift_init = nn.initializers.normal(0.01)


def order_init(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
    """Orders at the start, [N, M]: each new token is one of the old ones, or nearly.

    The identity where `N = M`, else softmax over the old tokens of 100 N(0, 1).
    """
    if shape[0] == shape[1]:
        return jnp.eye(shape[0], dtype=dtype)
    return nn.softmax(100 * jax.random.normal(key, shape, dtype), axis=0)


class EulerLayer(nn.Module):
    """Euler interaction layer: real and imaginary parts `r, p: [B, N, d]` to two arrays `[B, M, d]`.

    Explicit part, in polar form: with `lam = log(r^2 + p^2 + 1e-8) / 2` and `theta = atan2(p, r)`,

        lam'_m = exp(sum_n alpha_nm lam_n + b_m),  theta'_m = sum_n alpha_nm theta_n + c_m

    and `lam' cos theta'`, `lam' sin theta'`: products of tokens with learned, real exponents `alpha`.
    Implicit part: the same Dense `N d -> M d` and ReLU on `flat(r)` and on `flat(p)`. The result is the sum
    of both parts, with `layer_norm` after a LayerNorm over `d`, one for `r` and one for `p`.

    Parameters: `orders: [N, M]` (`alpha`), `log_modulus, phase: [M, d]` (`b`, `c`),
    `implicit/{kernel, bias}`, `norm_real, norm_imaginary/{scale, bias}`.

    Attributes:
      tokens: `M`.
      layer_norm: see `EulerNet`.
      dropout: see `EulerNet`.
      implicit_dropout: see `EulerNet`.
    """

    tokens: int
    layer_norm: bool
    dropout: float
    implicit_dropout: float

    @nn.compact
    def __call__(self, r: jax.Array, p: jax.Array, mode: Mode) -> tuple[jax.Array, jax.Array]:
        batch, count, width = r.shape
        shape = (self.tokens, width)
        orders = self.param('orders', order_init, (count, self.tokens))
        shifts = self.param('log_modulus', shift_init, shape), self.param('phase', shift_init, shape)
        logarithm, angle = polar(r, p)
        logarithm = Dropout(self.dropout, name='modulus_dropout')(logarithm, mode)
        angle = Dropout(self.dropout, name='phase_dropout')(angle, mode)
        modulus = jnp.exp(map_tokens(logarithm, orders) + shifts[0])
        angle = map_tokens(angle, orders) + shifts[1]
        explicit = modulus * jnp.cos(angle), modulus * jnp.sin(angle)
        implicit = Dense(self.tokens * width, name='implicit')
        outputs = []
        for name, part, own in zip(('real', 'imaginary'), (r, p), explicit, strict=True):
            flat = Dropout(self.implicit_dropout, name=f'{name}_dropout')(part.reshape(batch, -1), mode)
            x = nn.relu(implicit(flat)).reshape(own.shape) + own
            outputs.append(LayerNorm(name=f'norm_{name}')(x) if self.layer_norm else x)
        return outputs[0], outputs[1]


def polar(r: jax.Array, p: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logarithms of the moduli, and the angles, of complex numbers; arrays of one shape.

    At 0, and so near to it that the angle's gradient, of the size of 1 / modulus, would overflow, the angle
    is 0 and has no gradient.
    """
    nothing = jnp.square(r) + jnp.square(p) < _NOTHING
    # Both arguments, or the gradient of what is not taken would be NaN.
    angle = jnp.arctan2(jnp.where(nothing, 0, p), jnp.where(nothing, 1, r))
    return jnp.log(jnp.square(r) + jnp.square(p) + _EPSILON) / 2, angle


class EulerNet(CTRModel):
    """EulerNet: interactions of learned order by Euler's formula (Tian et al., SIGIR 2023).

    Each number of `e_j` is an angle, `r = mu_j cos e_j`, `p = mu_j sin e_j`, with a learned modulus `mu` for
    each field. `EulerLayer`s make other numbers of tokens of them, and one Dense reads both parts:
    `logit = w . flat(r) + w . flat(p) + 2 b`. There is no MLP and there are no linear terms.

    The layer is that of the authors' code (Ethan-TZ/EulerNet), whose orders `alpha` are a number for each
    pair of tokens; whether the print has a vector was not verified. The implicit Dense starts like every
    other in this package (there: Xavier uniform, and torch's default bias).

    Reads the table 'embedding'. Parameters: `modulus: [F]` (`mu`), `layer_{i}/...`, `out/{kernel, bias}`.

    Attributes:
      embedding_size: `d`, width of an embedding and of every token.
      shape: number of tokens that each layer makes.
      layer_norm: whether the layers end with a LayerNorm.
      dropout: dropout rate of the logarithms of moduli and of the angles.
      implicit_dropout: dropout rate of the inputs of the implicit parts.
    """

    embedding_size: int = 10
    shape: tuple[int, ...] = (3,)
    layer_norm: bool = False
    dropout: float = 0.0
    implicit_dropout: float = 0.0

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size)
        check_widths(shape=self.shape)
        check_rate(dropout=self.dropout, implicit_dropout=self.implicit_dropout)

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        first = embeddings['embedding']
        modulus = self.param('modulus', nn.initializers.ones, (first.shape[1],))[:, None]
        r, p = modulus * jnp.cos(first), modulus * jnp.sin(first)
        for i, tokens in enumerate(self.shape):
            layer = EulerLayer(
                tokens, self.layer_norm, self.dropout, self.implicit_dropout, name=f'layer_{i}'
            )
            r, p = layer(r, p, mode)
        out = Dense(1, name='out')
        return (out(r.reshape(r.shape[0], -1)) + out(p.reshape(p.shape[0], -1)))[:, 0]
