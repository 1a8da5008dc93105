"""The parallel interaction blocks of a DLF layer and its gated residual (section 4.2, eqs. 5-7, 9).

Every block takes `E^(1): [B, F, d]` and its state `E^(l): [B, N, d]` to `n` tokens, `[B, n, d]`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from dlf_jax.models.layers import MLP, BatchNorm, Dropout, LayerNorm, Mode, kernel_init

NORMS = ('layer', 'batch', 'none')


@jax.custom_vjp
def map_tokens(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A linear map over the token axis: `[B, N, d]`, `[N, M]` -> `[B, M, d]`.

    On a CPU a product per row, and for the kernel's gradient the sum of such products: one product of all
    rows transposes its operands in memory first. Measured on 2 cores at B 2000, d 64, forward and
    backward: 29 ms against 73 (N 39, M 48); a layer's three maps of N 48 and two low-rank products
    65 ms against 85.
    """
    return lax.platform_dependent(x, kernel, cpu=_map_rows, default=_map_all)


def _map_rows(x, kernel):
    rows = jnp.broadcast_to(kernel.T, (x.shape[0], *kernel.T.shape))
    return rows @ x


def _map_all(x, kernel):
    return jnp.einsum('bnd,nm->bmd', x, kernel)


def _map_tokens_backward(residuals, dy):
    x, kernel = residuals
    d_kernel = lax.platform_dependent(
        x,
        dy,
        cpu=lambda x, dy: jnp.sum(x @ jnp.swapaxes(dy, 1, 2), 0),
        default=lambda x, dy: jnp.einsum('bnd,bmd->nm', x, dy),
    )
    return map_tokens(dy, kernel.T), d_kernel


map_tokens.defvjp(lambda x, kernel: (map_tokens(x, kernel), (x, kernel)), _map_tokens_backward)


def normalise(x: jax.Array, kind: str, mode: Mode) -> jax.Array:
    """Float32 `[B, ..., C]` to the same shape by a submodule `norm` of the caller, of the kind `NORMS` names.

    'layer' is over the last axis; 'batch' over the rows alone, so that every place of `[..., C]` has
    statistics and parameters of its own.
    """
    if kind == 'layer':
        return LayerNorm(name='norm')(x)
    if kind == 'batch':
        return BatchNorm(name='norm')(x.reshape(x.shape[0], -1), mode).reshape(x.shape)
    return x


class Block(nn.Module):
    """What the blocks share: how they end, `[B, C] -> [B, n, d]`.

    Attributes:
      tokens: `n`, tokens of the output.
      hidden: hidden layers before the output Dense.
      batch_norm: whether each hidden layer has a BatchNorm.
      dropout: rate in the hidden layers.
      relu: whether a ReLU follows the output Dense, as in eqs. 5-7.
      block_dropout: rate on the output.
    """

    tokens: int
    hidden: tuple[int, ...]
    batch_norm: bool
    dropout: float
    relu: bool
    block_dropout: float

    def to_tokens(self, flat: jax.Array, width: int, mode: Mode) -> jax.Array:
        mlp = MLP(self.hidden, self.tokens * width, self.batch_norm, self.dropout, name='mlp')
        tokens = mlp(flat, mode).reshape(-1, self.tokens, width)
        return self.drop(nn.relu(tokens) if self.relu else tokens, mode)

    def drop(self, tokens: jax.Array, mode: Mode) -> jax.Array:
        return Dropout(self.block_dropout, name='block_dropout')(tokens, mode)


class RankBlock(Block):
    """Low- or high-rank interaction, eqs. 5 and 6: `Z = relu(W_O (X (E^(l))^T W_I) + b)`.

    `X` is `E^(1)` in the low-rank block (eq. 5) and `E^(l)` in the high-rank one (eq. 6). The
    product `P: [B, |X|, R]` is flattened and goes through a norm and the hidden layers to `W_O`.

    Departs from the print: `W_I` is `[N, R]` and `W_O` acts on the flattened `P`, since the printed
    `R x d` and `d x d` do not multiply; LayerNorm and hidden layers are the authors' repository's.

    Parameters: `in_kernel: [N, R]`, `norm: [|X| R]` (not without a norm), `mlp/...` to `[n d]` and, where
    the low-rank block projects, `first_kernel: [F, N]`.

    Attributes:
      rank: `R`.
      norm: of the flattened product, one of `NORMS`; the repository's is 'layer'.
      low: whether `X` is `E^(1)`.
      project_first: whether `E^(1)` is first taken to `N` tokens.
    """

    rank: int
    norm: str
    low: bool
    project_first: bool = False

    @nn.compact
    def __call__(self, first: jax.Array, state: jax.Array, mode: Mode) -> jax.Array:
        batch, count, width = state.shape
        left = first if self.low else state
        kernel = self.param('in_kernel', kernel_init, (count, self.rank))
        # In this order the Gram matrix [|X|, N] is never formed. Not `@` on a transposed map: XLA turns that
        # into a product [B, d, R] of transposed operands, on a CPU the slowest kind.
        products = jnp.einsum('bxd,brd->bxr', left, map_tokens(state, kernel))
        if self.project_first:
            # K^T E^(1) times an array [d, R] as K^T times the product: on R columns instead of d.
            shape = (products.shape[1], count)
            products = map_tokens(products, self.param('first_kernel', kernel_init, shape))
        flat = normalise(products.reshape(batch, -1), self.norm, mode)
        return self.to_tokens(flat, width, mode)


class ImplicitBlock(Block):
    """Implicit interaction, eq. 7: `Z = relu(W_D E^(l) + b_D)` on the flattened `E^(l)`.

    Departs from the print: `W_D` acts on all tokens at once (`[N d, n d]`, as the text's "MLP"
    suggests) where the printed `d x d` would not mix them. Parameters: `mlp/...`.
    """

    @nn.compact
    def __call__(self, first: jax.Array, state: jax.Array, mode: Mode) -> jax.Array:
        del first
        return self.to_tokens(state.reshape(state.shape[0], -1), state.shape[-1], mode)


class TokenBlock(Block):
    """The authors' repository's form of the implicit block: a bias-free linear map over the tokens.

    Linear whatever `relu` says. Parameters: `kernel: [N, n]`.
    """

    @nn.compact
    def __call__(self, first: jax.Array, state: jax.Array, mode: Mode) -> jax.Array:
        del first
        kernel = self.param('kernel', kernel_init, (state.shape[1], self.tokens))
        return self.drop(map_tokens(state, kernel), mode)


class Residual(nn.Module):
    """Gated residual, eq. 9: `E^(l+1) = Z + max(eps, E^(l) W_gate) * E^(l)`, then a norm.

    `Z: [B, M, d]`, `E^(l): [B, N, d]` -> `[B, M, d]`. Without the gate the second term is `E^(l)`.

    Departs from the print, which has no answer where `N != M`: the second term is then taken to
    `M` tokens by a learned map. The norm is an addition too; a deep stack needs it.

    Parameters: `gate_kernel: [d, d]`, `token_kernel: [N, M]` where the counts differ, `norm: [d]`, with
    BatchNorm `[M d]` (not without a norm).

    Attributes:
      gate: whether the residual is gated.
      epsilon: the least gate.
      norm: what follows, one of `NORMS`.
    """

    gate: bool
    epsilon: float
    norm: str

    @nn.compact
    def __call__(self, fused: jax.Array, state: jax.Array, mode: Mode) -> jax.Array:
        kept = state
        if self.gate:
            width = state.shape[-1]
            kernel = self.param('gate_kernel', kernel_init, (width, width))
            kept = jnp.maximum(self.epsilon, state @ kernel) * state
        if kept.shape[1] != fused.shape[1]:
            shape = (kept.shape[1], fused.shape[1])
            kept = map_tokens(kept, self.param('token_kernel', kernel_init, shape))
        return normalise(fused + kept, self.norm, mode)
