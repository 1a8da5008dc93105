"""FCN: fusing linear and exponential cross networks (Li et al., KDD 2026), and its forerunner DCNv3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlf_jax.models.base import CTRModel
from dlf_jax.models.initializers import Uniform
from dlf_jax.models.layers import BatchNorm, Dense, Dropout, LayerNorm, kernel_init
from dlf_jax.models.losses import cross_entropy
from dlf_jax.models.mode import Mode
from dlf_jax.models.validators import check_choice, check_own_rate, check_positive, check_rate

uniform_init = Uniform()

EXPONENTIAL, LINEAR = 'exponential', 'linear'
_MASKS = ('mask', 'plain_mask')


class HalfCross(nn.Module):
    """Cross layer half of whose products are learned by a matrix: anchor and `x: [B, H, D]` to `[B, H, D]`.

    `h = W x: [B, H, D / 2]`, and the other half `g(h)` costs little:

        x' = dropout(anchor * (BN([h ; g(h)]) + b) + x)

    `g` is by `second`: 'affine', `gamma * h + beta`; 'layer_norm', `LN(h)`; 'mask', `h * relu(LN(h))`;
    'plain_mask', `h * relu(h)`. With the masks BatchNorm is of `h` instead, before `g`. In BatchNorm the head
    is the channel, with statistics over batch and width. The heads share all other weights.

    Parameters: `kernel: [D, D / 2]`, `bias: [D]`, which starts U(0, 1), `scale, shift: [D / 2]` or
    `layer_norm/{scale, bias}`, `batch_norm/{scale, bias}: [H]`.

    Attributes are those of `FCN`.
    """

    second: str
    batch_norm: bool
    dropout: float

    @nn.compact
    def __call__(self, anchor: jax.Array, x: jax.Array, mode: Mode) -> jax.Array:
        width = x.shape[-1]
        half = (width // 2,)
        h = x @ self.param('kernel', kernel_init, (width, *half))
        if self.batch_norm and self.second in _MASKS:
            h = self._by_head(h, mode)
        if self.second == 'affine':
            scale = self.param('scale', nn.initializers.ones, half)
            other = scale * h + self.param('shift', nn.initializers.zeros, half)
        elif self.second == 'plain_mask':
            other = h * nn.relu(h)
        else:
            other = LayerNorm(name='layer_norm')(h)
            if self.second == 'mask':
                other = h * nn.relu(other)
        cross = jnp.concatenate([h, other], axis=-1)
        if self.batch_norm and self.second not in _MASKS:
            cross = self._by_head(cross, mode)
        cross += self.param('bias', uniform_init, (width,))
        return Dropout(self.dropout, name='dropout')(anchor * cross + x, mode)

    def _by_head(self, x: jax.Array, mode: Mode) -> jax.Array:
        normal = BatchNorm(name='batch_norm')(jnp.swapaxes(x, 1, 2), mode)
        return jnp.swapaxes(normal, 1, 2)


class Branch(nn.Module):
    """Cross layers of two kinds one after another, and an output layer: `[B, H, D]` to logits `[B]`.

    The anchor of a linear layer is the branch's input, so that a layer adds 1 to the order; that of an
    exponential layer is the layer's own input, which doubles it. The logit is the mean over the heads.

    Parameters: `layer_{i}/...`, `out/{kernel, bias}`.

    Attributes:
      kinds: of each layer, 'exponential' or 'linear'.
      second: see `FCN`.
      batch_norm: see `FCN`.
      rates: dropout rate by kind.
    """

    kinds: tuple[str, ...]
    second: str
    batch_norm: bool
    rates: Mapping[str, float]

    @nn.compact
    def __call__(self, first: jax.Array, mode: Mode) -> jax.Array:
        x = first
        for i, kind in enumerate(self.kinds):
            layer = HalfCross(self.second, self.batch_norm, self.rates[kind], name=f'layer_{i}')
            x = layer(first if kind == LINEAR else x, x, mode)
        return jnp.mean(Dense(1, name='out')(x)[..., 0], axis=1)


class FCN(CTRModel):
    """FCN: a linear and an exponential cross network, fused, without an MLP (Li et al., KDD 2026).

    An embedding has `H d` numbers, `d` for each of the heads. Per head `x_1: [B, H, D]`, `D = F d`, is the
    first half of every field's numbers, then the second half of every field's. From there `HalfCross` layers:

    - linear (LCN): `x_{l+1} = x_1 * c(x_l) + x_l`, of order `l + 1`;
    - exponential (ECN): `x_{l+1} = x_l * c(x_l) + x_l`, of order `2^l`.

    By `structure`: 'sp' (FCN_sp), two branches of all layers, one with the exponential layers first, the
    other with the linear ones; 'p' (FCN_p), a branch of exponential and one of linear layers; 'ecn' or
    'lcn', one of them alone. Each branch has a logit, `z_a` and `z_b`, and `logit = (z_a + z_b) / 2`.

    Tri-BCE: in training, with `L` the mean cross-entropy over the batch, each branch has the label's loss
    with a weight by how far it is behind, `relu(L(z_k) - L(z)) L(z_k)`. It is sown as `losses/tri_bce`;
    weights are not detached, as in the authors' code.

    What is taken from the authors' code (salmon1802/FCN) where the print differs or could not be compared:
    the bias after the concatenation, the mean of logits instead of predictions, `affine` as the "low-cost
    aggregation", the derivative through Tri-BCE's weights. DCNv3 (arXiv 2407.13349, v1 to v6) is the variant
    `dcnv3`: `structure='p'`, `second='mask'`.

    Reads the table 'embedding', of width `H d`. Parameters: `branch_a/...`, `branch_b/...`.

    Attributes:
      embedding_size: `d`, width of an embedding in one head; even.
      structure: 'sp', 'p', 'ecn' or 'lcn'.
      ecn_layers: number of exponential layers.
      lcn_layers: number of linear layers.
      heads: `H`, number of heads.
      second: second half of a layer's products, 'affine', 'layer_norm', 'mask' or 'plain_mask'.
      batch_norm: whether the layers have a BatchNorm, with a channel for each head.
      dropout: dropout rate after each layer.
      lcn_dropout: dropout rate after each linear layer; -1 for `dropout`.
    """

    embedding_size: int = 10
    structure: str = 'sp'
    ecn_layers: int = 4
    lcn_layers: int = 4
    heads: int = 1
    second: str = 'affine'
    batch_norm: bool = False
    dropout: float = 0.0
    lcn_dropout: float = -1.0

    variants: ClassVar[dict[str, dict[str, Any]]] = {
        'full': {},
        'sp': {'structure': 'sp', 'second': 'affine'},
        'p': {'structure': 'p', 'second': 'affine'},
        'dcnv3': {'structure': 'p', 'second': 'mask'},
        'ecn': {'structure': 'ecn'},
        'lcn': {'structure': 'lcn'},
    }

    def check(self) -> None:
        check_positive(
            embedding_size=self.embedding_size,
            ecn_layers=self.ecn_layers,
            lcn_layers=self.lcn_layers,
            heads=self.heads,
        )
        if self.embedding_size % 2:
            raise ValueError(f'model.embedding_size={self.embedding_size}: expected an even number')
        check_choice('structure', self.structure, ('sp', 'p', 'ecn', 'lcn'))
        check_choice('second', self.second, ('affine', 'layer_norm', *_MASKS))
        check_rate(dropout=self.dropout)
        check_own_rate('dropout', lcn_dropout=self.lcn_dropout)

    @property
    def tables(self) -> dict[str, int]:
        return {'embedding': self.heads * self.embedding_size}

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        first = views(embeddings['embedding'], self.heads)
        lcn_dropout = self.dropout if self.lcn_dropout == -1 else self.lcn_dropout
        rates = {EXPONENTIAL: self.dropout, LINEAR: lcn_dropout}
        outputs = []
        for name, kinds in self._branches().items():
            branch = Branch(kinds, self.second, self.batch_norm, rates, name=name)
            outputs.append(branch(first, mode))
        if len(outputs) == 1:
            return outputs[0]
        logits = (outputs[0] + outputs[1]) / 2
        if mode.train and mode.labels is not None:
            self.sow('losses', 'tri_bce', tri_bce(*(cross_entropy(z, mode) for z in (logits, *outputs))))
        return logits

    def _branches(self) -> dict[str, tuple[str, ...]]:
        """Kinds of layers of each branch, by name."""
        ecn, lcn = (EXPONENTIAL,) * self.ecn_layers, (LINEAR,) * self.lcn_layers
        return {
            'sp': {'branch_a': ecn + lcn, 'branch_b': lcn + ecn},
            'p': {'branch_a': ecn, 'branch_b': lcn},
            'ecn': {'branch_a': ecn},
            'lcn': {'branch_b': lcn},
        }[self.structure]


def views(embedding: jax.Array, heads: int) -> jax.Array:
    """Both halves of every field's numbers by head: [B, F, H d] to [B, H, F d], the first halves first."""
    batch, fields, _ = embedding.shape
    halves = embedding.reshape(batch, fields, heads, 2, -1)
    return jnp.transpose(halves, (0, 2, 3, 1, 4)).reshape(batch, heads, -1)


def tri_bce(loss: jax.Array, loss_a: jax.Array, loss_b: jax.Array) -> jax.Array:
    """What Tri-BCE adds to the loss for two branches, `sum_k relu(L_k - L) L_k`; all are scalars."""
    return nn.relu(loss_a - loss) * loss_a + nn.relu(loss_b - loss) * loss_b
