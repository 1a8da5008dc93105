"""Feature interactions shared by several models: products of field pairs, and cross networks."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dlf_jax.models.layers import Dense, kernel_init, softmax, stacked_kernel_init


def linear_terms(embeddings: Mapping[str, jax.Array]) -> jax.Array:
    """First-order terms `sum_f w_f` of the table 'linear': float32 [B, F, 1] to [B]."""
    return jnp.sum(embeddings['linear'], (1, 2))


def factorization(embedding: jax.Array) -> jax.Array:
    """Second-order term of a factorization machine, `sum_{i<j} <e_i, e_j>`: float32 [B, F, d] to [B].

    Computed as `1/2 sum_d [(sum_i e_i)^2 - sum_i e_i^2]`, in O(F d) (Rendle 2010, lemma 3.1).
    """
    of_sum = jnp.square(jnp.sum(embedding, 1))
    return 0.5 * jnp.sum(of_sum - jnp.sum(jnp.square(embedding), 1), 1)


def pair_products(embedding: jax.Array) -> jax.Array:
    """Elementwise products `e_i * e_j` of all pairs i < j: float32 [B, F, d] to [B, F(F-1)/2, d].

    Pairs are in the order (0, 1), (0, 2), ..., (1, 2), ...
    """
    # Slices instead of an index per pair: the gradient of a gather is a scatter with collisions.
    products = [embedding[:, i, None] * embedding[:, i + 1 :] for i in range(embedding.shape[1] - 1)]
    return jnp.concatenate(products, 1)


def inner_products(embedding: jax.Array) -> jax.Array:
    """Inner products `<e_i, e_j>` of all pairs i < j: float32 [B, F, d] to [B, F(F-1)/2].

    Pairs are in the order of `pair_products`.
    """
    batch, fields, _ = embedding.shape
    gram = jnp.einsum('bic,bjc->bij', embedding, embedding).reshape(batch, -1)
    above = np.flatnonzero(np.triu(np.ones((fields, fields)), k=1))
    return jnp.take(gram, above, axis=1, unique_indices=True, indices_are_sorted=True)


def outer_product(embedding: jax.Array) -> jax.Array:
    """Sum of the outer products of all pairs, `sum_{i,j} e_i e_j^T`: float32 [B, F, d] to [B, d * d].

    Computed as the outer product of `sum_i e_i` with itself.
    """
    total = jnp.sum(embedding, 1)
    return (total[:, :, None] * total[:, None, :]).reshape(total.shape[0], -1)


class VectorCross(nn.Module):
    """Cross network with weight vectors, `x_{l+1} = x_0 (w_l^T x_l) + b_l + x_l` (DCN, eq. 3).

    `x_0: float32 [B, D] -> [B, D]`. Parameters: `kernel_{l}: [D, 1]`, `bias_{l}: [D]`.

    Attributes:
      layers: number of cross layers.
    """

    layers: int

    @nn.compact
    def __call__(self, first: jax.Array) -> jax.Array:
        width = first.shape[-1]
        x = first
        for i in range(self.layers):
            kernel = self.param(f'kernel_{i}', kernel_init, (width, 1))
            bias = self.param(f'bias_{i}', nn.initializers.zeros, (width,))
            x = first * (x @ kernel) + bias + x
        return x


class MatrixCross(nn.Module):
    """Cross network with full matrices, `x_{l+1} = x_0 * (W_l x_l + b_l) + x_l` (DCN-V2, eq. 1).

    `x_0: float32 [B, D] -> [B, D]`. Parameters: `layer_{l}/{kernel: [D, D], bias: [D]}`.

    Attributes:
      layers: number of cross layers.
    """

    layers: int

    @nn.compact
    def __call__(self, first: jax.Array) -> jax.Array:
        x = first
        for i in range(self.layers):
            x = first * Dense(first.shape[-1], name=f'layer_{i}')(x) + x
        return x


class LowRankCross(nn.Module):
    """Cross network with matrices of low rank, `x_{l+1} = x_0 * (W_l (V_l x_l) + b_l) + x_l` (MLPerf's).

    Nothing stands between the two factors, and the first has no bias.

    `x_0: float32 [B, D] -> [B, D]`. Parameters, per layer: `v_{l}: [D, r]`, `w_{l}: [r, D]`, `bias_{l}: [D]`.

    Attributes:
      layers: number of cross layers.
      rank: `r`.
    """

    layers: int
    rank: int

    @nn.compact
    def __call__(self, first: jax.Array) -> jax.Array:
        width = first.shape[-1]
        x = first
        for i in range(self.layers):
            v = self.param(f'v_{i}', kernel_init, (width, self.rank))
            w = self.param(f'w_{i}', kernel_init, (self.rank, width))
            bias = self.param(f'bias_{i}', nn.initializers.zeros, (width,))
            x = first * (x @ v @ w + bias) + x
        return x


class MixtureCross(nn.Module):
    """Cross network whose layers are mixtures of `K` low-rank experts (DCN-V2, eqs. 3 and 4).

        x_{l+1} = sum_k G_k(x_l) E_k(x_l) + x_l
        E_k(x)  = x_0 * (U_k tanh(C_k tanh(V_k^T x)) + b_l)
        G(x)    = softmax(gate^T x)

    `x_0: float32 [B, D] -> [B, D]`. Parameters, per layer `l`: `u_{l}, v_{l}: [K, D, r]`,
    `c_{l}: [K, r, r]`, `bias_{l}: [D]`, and `gate_{l}: [D, K]`, or one `gate` for all.

    Attributes:
      layers: number of cross layers.
      rank: `r`, rank of an expert.
      experts: `K`, experts per layer.
      shared_gate: whether all layers share one gate.
    """

    layers: int
    rank: int
    experts: int
    shared_gate: bool = False

    @nn.compact
    def __call__(self, first: jax.Array) -> jax.Array:
        width = first.shape[-1]
        tall, square = (self.experts, width, self.rank), (self.experts, self.rank, self.rank)
        gate = None
        x = first
        for i in range(self.layers):
            u = self.param(f'u_{i}', stacked_kernel_init, tall)
            c = self.param(f'c_{i}', stacked_kernel_init, square)
            v = self.param(f'v_{i}', stacked_kernel_init, tall)
            bias = self.param(f'bias_{i}', nn.initializers.zeros, (width,))
            if gate is None or not self.shared_gate:
                name = 'gate' if self.shared_gate else f'gate_{i}'
                gate = self.param(name, kernel_init, (width, self.experts))
            low = jnp.tanh(jnp.einsum('bd,kdr->bkr', x, v))
            low = jnp.tanh(jnp.einsum('bkr,ksr->bks', low, c))
            # The gates sum to 1, so x_0 and the bias can be taken out of the sum over experts, and U is
            # applied together with the sum: no array [B, K, D] is made.
            low *= softmax(x @ gate)[..., None]
            x = first * (jnp.einsum('bks,kds->bd', low, u) + bias) + x
        return x
