"""Interaction blocks of a DLF layer and its gated residual connection (section 4.2, eqs. 5-7, 9).

Every block maps `E^(1): [B, F, d]` and its state `E^(l): [B, N, d]` to `n` tokens, `[B, n, d]`.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from dlf_jax.models.layers import MLP, BatchNorm, Dropout, LayerNorm, kernel_init
from dlf_jax.models.mode import Mode

NORMS = ('layer', 'batch', 'none')


@jax.custom_vjp
def map_tokens(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Linear map over the token axis: `[B, N, d]`, `[N, M]` -> `[B, M, d]`.

    On a CPU it is computed as one product per example, and the gradient of the kernel as the sum of such
    products: a single product over the batch would first transpose its operands in memory.
    """
    return lax.platform_dependent(x, kernel, cpu=_map_each, default=_map_all)


def _map_each(x: jax.Array, kernel: jax.Array) -> jax.Array:
    kernels = jnp.broadcast_to(kernel.T, (x.shape[0], *kernel.T.shape))
    return kernels @ x


def _map_all(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.einsum('bnd,nm->bmd', x, kernel)


def _map_tokens_backward(
    residuals: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
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
    """Normalises `[B, ..., C]` with a submodule called `norm` of the calling module.

    Args:
      x: float32 [B, ..., C].
      kind: one of `NORMS`. 'layer' normalises over the last axis; 'batch' over the batch alone, with separate
        statistics and parameters for every element of `[..., C]`.
      mode: how the model is called.
    """
    if kind == 'layer':
        return LayerNorm(name='norm')(x)
    if kind == 'batch':
        return BatchNorm(name='norm')(x.reshape(x.shape[0], -1), mode).reshape(x.shape)
    return x


class Block(nn.Module):
    """Base class of the blocks: the map from features to output tokens, `[B, C] -> [B, n, d]`.

    Attributes:
      tokens: `n`, number of output tokens.
      hidden: width of each hidden layer before the output layer.
      batch_norm: whether hidden layers have a BatchNorm.
      dropout: dropout rate in hidden layers.
      relu: whether a ReLU follows the output layer, as in eqs. 5-7.
      block_dropout: dropout rate on the output.
    """

    tokens: int
    hidden: tuple[int, ...]
    batch_norm: bool
    dropout: float
    relu: bool
    block_dropout: float

    def to_tokens(self, flat: jax.Array, width: int, mode: Mode) -> jax.Array:
        """Maps features, float32 [B, C], to output tokens, float32 [B, n, width]."""
        mlp = MLP(self.hidden, self.tokens * width, self.batch_norm, self.dropout, name='mlp')
        tokens = mlp(flat, mode).reshape(-1, self.tokens, width)
        return self.drop(nn.relu(tokens) if self.relu else tokens, mode)

    def drop(self, tokens: jax.Array, mode: Mode) -> jax.Array:
        """Applies dropout to the output tokens."""
        return Dropout(self.block_dropout, name='block_dropout')(tokens, mode)


class RankBlock(Block):
    """Low- or high-rank interaction block, eqs. 5 and 6: `Z = relu(W_O (X (E^(l))^T W_I) + b)`.

    `X` is `E^(1)` in the low-rank block (eq. 5) and `E^(l)` in the high-rank block (eq. 6). The
    product `P: [B, |X|, R]` is flattened, normalised and passed through the hidden layers to `W_O`.

    Differs from the paper: `W_I` is `[N, R]` and `W_O` acts on the flattened `P`, since the printed shapes
    `R x d` and `d x d` do not match; norm and hidden layers are those of the authors' repository.

    Parameters: `in_kernel: [N, R]`, `norm: [|X| R]` (unless `norm` is 'none'), `mlp/...` to `[n d]`, and
    `first_kernel: [F, N]` with `project_first`.

    Attributes:
      rank: `R`, rank of `W_I`.
      norm: norm of the flattened product, one of `NORMS`; 'layer' in the repository.
      low: whether `X` is `E^(1)`.
      project_first: whether `E^(1)` is first mapped to `N` tokens.
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
        # In this order the Gram matrix [|X|, N] is never formed. An einsum, because XLA turns `@` on a
        # transposed map into a product of transposed operands, the slowest kind on a CPU.
        products = jnp.einsum('bxd,brd->bxr', left, map_tokens(state, kernel))
        if self.project_first:
            # (K^T E^(1)) Y as K^T (E^(1) Y): the map has R columns instead of d.
            shape = (products.shape[1], count)
            products = map_tokens(products, self.param('first_kernel', kernel_init, shape))
        flat = normalise(products.reshape(batch, -1), self.norm, mode)
        return self.to_tokens(flat, width, mode)


class ImplicitBlock(Block):
    """Implicit interaction block, eq. 7: `Z = relu(W_D E^(l) + b_D)` on the flattened `E^(l)`.

    Differs from the paper: `W_D: [N d, n d]` acts on all tokens at once, as the text ("MLP") suggests;
    the printed `d x d` would not mix them. Parameters: `mlp/...`.
    """

    @nn.compact
    def __call__(self, first: jax.Array, state: jax.Array, mode: Mode) -> jax.Array:
        del first
        return self.to_tokens(state.reshape(state.shape[0], -1), state.shape[-1], mode)


class TokenBlock(Block):
    """Implicit block of the authors' repository: a linear map over the tokens, without bias.

    It has no ReLU; `relu` is not used. Parameters: `kernel: [N, n]`.
    """

    @nn.compact
    def __call__(self, first: jax.Array, state: jax.Array, mode: Mode) -> jax.Array:
        del first
        kernel = self.param('kernel', kernel_init, (state.shape[1], self.tokens))
        return self.drop(map_tokens(state, kernel), mode)


class Residual(nn.Module):
    """Gated residual connection, eq. 9: `E^(l+1) = Z + max(eps, E^(l) W_gate) * E^(l)`, then a norm.

    `Z: [B, M, d]`, `E^(l): [B, N, d]` -> `[B, M, d]`. Without the gate the second term is `E^(l)`.

    Differs from the paper, which does not say what happens if `N != M`: the second term is then mapped to
    `M` tokens by a learned matrix. The norm is an addition as well; a deep stack needs it.

    Parameters: `gate_kernel: [d, d]`; `token_kernel: [N, M]` if the counts differ; `norm: [d]`, or
    `[M d]` with BatchNorm (unless `norm` is 'none'). For explanations it sows the `gate` and what is
    `carried`, the second term.

    Attributes:
      gate: whether the connection is gated.
      epsilon: smallest value of a gate.
      norm: norm of the sum, one of `NORMS`.
    """

    gate: bool
    epsilon: float
    norm: str

    @nn.compact
    def __call__(self, fused: jax.Array, state: jax.Array, mode: Mode) -> jax.Array:
        kept = self.carry(state, fused.shape[1])
        self.sow('intermediates', 'carried', kept)
        return normalise(fused + kept, self.norm, mode)

    def carry(self, state: jax.Array, tokens: int) -> jax.Array:
        """The second term, float32 [B, tokens, d]: what of the state goes past the blocks."""
        kept = state
        if self.gate:
            width = state.shape[-1]
            kernel = self.param('gate_kernel', kernel_init, (width, width))
            gate = jnp.maximum(self.epsilon, state @ kernel)
            self.sow('intermediates', 'gate', gate)
            kept = gate * state
        if kept.shape[1] != tokens:
            shape = (kept.shape[1], tokens)
            kept = map_tokens(kept, self.param('token_kernel', kernel_init, shape))
        return kept
