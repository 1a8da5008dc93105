"""FiBiNET: squeeze-excitation of fields and bilinear products of pairs (Huang et al., RecSys 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.interactions import linear_terms
from dlf_jax.models.layers import MLP, kernel_init, stacked_kernel_init
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_choice, check_pairs, check_positive, check_rate, check_widths


class SqueezeExcitation(nn.Module):
    """SENET: embeddings `e: [B, F, d]` times a weight of each field, `a_i e_i`, that follows from all fields.

    `s_i = mean_d(e_i)`, `a = act(W2 relu(W1 s))`, between them `max(1, int(F / ratio))` neurons; no biases.

    Parameters: `squeeze: [F, r]`, `excite: [r, F]`.

    Attributes are those of `FiBiNET`.
    """

    ratio: float
    excitation: str

    @nn.compact
    def __call__(self, first: jax.Array) -> jax.Array:
        fields = first.shape[1]
        inner = max(1, int(fields / self.ratio))
        hidden = nn.relu(jnp.mean(first, -1) @ self.param('squeeze', kernel_init, (fields, inner)))
        weights = hidden @ self.param('excite', kernel_init, (inner, fields))
        activation = nn.relu if self.excitation == 'relu' else nn.sigmoid
        return first * activation(weights)[..., None]


class Bilinear(nn.Module):
    """Bilinear products `(e_i W) * e_j` of all pairs i < j: `[B, F, d]` to `[B, F(F-1)/2, d]`.

    `W` is one matrix ('all'), one for each left field ('each'), or one for each pair ('interaction').
    Pairs are in the order (0, 1), (0, 2), ..., (1, 2), ...

    Parameters: `kernel`, `[d, d]`, `[F - 1, d, d]` or `[F(F-1)/2, d, d]`, Xavier normal per matrix.

    Attributes:
      bilinear: see `FiBiNET`.
    """

    bilinear: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        _, fields, width = x.shape
        pairs = fields * (fields - 1) // 2
        if self.bilinear == 'interaction':
            kernel = self.param('kernel', stacked_kernel_init, (pairs, width, width))
            left = jnp.einsum('bpd,pde->bpe', _lefts(x, fields), kernel)
        elif self.bilinear == 'each':
            kernel = self.param('kernel', stacked_kernel_init, (fields - 1, width, width))
            left = _lefts(jnp.einsum('bfd,fde->bfe', x[:, :-1], kernel), fields)
        else:
            left = _lefts(x @ self.param('kernel', kernel_init, (width, width)), fields)
        return left * jnp.concatenate([x[:, i + 1 :] for i in range(fields - 1)], axis=1)


def _lefts(x: jax.Array, fields: int) -> jax.Array:
    """The left field of every pair: [B, F or F - 1, d] to [B, F(F-1)/2, d]; the last field is never one."""
    batch, _, width = x.shape
    # Repeated slices instead of an index per pair: the gradient of a gather is a scatter with collisions.
    counts = range(fields - 1, 0, -1)
    repeated = [jnp.broadcast_to(x[:, i, None], (batch, n, width)) for i, n in enumerate(counts)]
    return jnp.concatenate(repeated, axis=1)


class FiBiNET(CTRModel):
    """FiBiNET: bilinear products of the embeddings and of re-weighted embeddings (Huang et al. 2019).

    With `V = SENET(E)` (`SqueezeExcitation`) and the products of `Bilinear`,

        logit = sum_f w_f + MLP([bilinear(E) ; bilinear(V)])

    whose MLP reads `F (F - 1) d` numbers. As in the runs of the public leaderboards one set of matrices
    serves both; the paper's print was not compared. There is no matrix for the last field, which is never on
    the left.

    Reads the tables 'embedding' and 'linear'. Parameters: `senet/{squeeze, excite}`, `bilinear/kernel`, and
    `bilinear_senet/kernel` without `shared`, `tower/{hidden_i, norm_i, out}`.

    Attributes:
      embedding_size: `d`, width of an embedding.
      bilinear: matrices of the products, 'all', 'each' or 'interaction'.
      shared: whether the products of `E` and of `V` have the same matrices.
      ratio: reduction of SENET's inner layer, which has `max(1, int(F / ratio))` neurons.
      excitation: last activation of SENET, 'relu' or 'sigmoid'.
      hidden: width of each hidden layer of the MLP.
      batch_norm: whether hidden layers have a BatchNorm.
      dropout: dropout rate after each hidden layer.
    """

    embedding_size: int = 10
    bilinear: str = 'interaction'
    shared: bool = True
    ratio: float = 3.0
    excitation: str = 'relu'
    hidden: tuple[int, ...] = (400, 400, 400)
    batch_norm: bool = True
    dropout: float = 0.0

    variants: ClassVar[dict[str, dict[str, Any]]] = {
        'full': {},
        'all': {'bilinear': 'all'},
        'each': {'bilinear': 'each'},
        'interaction': {'bilinear': 'interaction'},
    }

    def check(self) -> None:
        check_positive(embedding_size=self.embedding_size)
        check_choice('bilinear', self.bilinear, ('all', 'each', 'interaction'))
        check_choice('excitation', self.excitation, ('relu', 'sigmoid'))
        if not isinstance(self.ratio, int | float) or self.ratio <= 0:
            raise ValueError(f'model.ratio={self.ratio!r}: expected a number above 0')
        check_widths(hidden=self.hidden)
        check_rate(dropout=self.dropout)

    @property
    def tables(self) -> dict[str, int]:
        return {'embedding': self.embedding_size, 'linear': 1}

    def tables_of(self, fields: int) -> dict[str, int]:
        check_pairs('fibinet', fields)
        return self.tables

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        first = embeddings['embedding']
        weighted = SqueezeExcitation(self.ratio, self.excitation, name='senet')(first)
        products = Bilinear(self.bilinear, name='bilinear')
        other = products if self.shared else Bilinear(self.bilinear, name='bilinear_senet')
        both = jnp.concatenate([products(first), other(weighted)], axis=1)
        tower = MLP(self.hidden, 1, self.batch_norm, self.dropout, name='tower')
        return linear_terms(embeddings) + tower(both.reshape(both.shape[0], -1), mode)[:, 0]
