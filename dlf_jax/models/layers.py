"""Layers shared by several models: Dense, BatchNorm, LayerNorm, Dropout, Dice, PReLU, MLP.

All are pure `flax.linen` modules that compute in the dtype of their input; norms and softmax compute in
at least float32. A layer that depends on how the model is called (training, padding, devices) takes a
`Mode` as its last argument.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dlf_jax.models.initializers import GlorotNormal
from dlf_jax.models.mode import Collectives, Mode

# Xavier (Glorot) normal, as in FuxiCTR. Biases start at zero, scales of norms at one.
kernel_init = GlorotNormal()
stacked_kernel_init = GlorotNormal(stacked=True)

Dense = functools.partial(nn.Dense, kernel_init=kernel_init)


def at_least_float32(x: jax.Array) -> jax.Array:
    """Casts an array of a narrower dtype, such as bfloat16, to float32; others are returned unchanged."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def softmax(x: jax.Array, axis: int = -1) -> jax.Array:
    """Softmax over an axis, computed in at least float32; the result has the dtype of `x`."""
    return nn.softmax(at_least_float32(x), axis).astype(x.dtype)


def masked_moments(x: jax.Array, mode: Mode) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance over all axes but the last, of the rows that are not padding.

    Args:
      x: float32 [B, ..., C].
      mode: its `mask` selects rows; its `collectives` sum values and counts over the devices, so the
        result is exact however unevenly the padding is distributed.

    Returns:
      Mean and variance, float32 [C]; both are 0 if no row is left.
    """
    axes = tuple(range(x.ndim - 1))
    keep = None if mode.mask is None else mode.mask.reshape(-1, *[1] * (x.ndim - 1))
    count = _row_count(x.shape, mode.mask)
    total = mode.collectives.total

    def select(values: jax.Array) -> jax.Array:
        # Not a product with the mask: 0 * inf in a padded row is NaN.
        return values if keep is None else jnp.where(keep, values, 0)

    count = jnp.maximum(total(count), 1)
    mean = total(jnp.sum(select(x), axes)) / count
    # Two passes: E[x^2] - E[x]^2 cancels when the mean is large.
    variance = total(jnp.sum(jnp.square(select(x - mean)), axes)) / count
    return mean, variance


# Input, scale, mask, mean and inverse deviation, for the gradient.
_BatchResiduals = tuple[jax.Array, jax.Array, jax.Array | None, jax.Array, jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _normalise_batch(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    mask: jax.Array | None,
    collectives: Collectives,
    epsilon: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """BatchNorm in training: the output, and the mean and variance, which have no gradient.

    The gradient is written by hand: automatic differentiation of `masked_moments` needs two more sums over
    the batch.
    """
    mean, variance = masked_moments(x, Mode(mask=mask, collectives=collectives))
    return (x - mean) * (scale * lax.rsqrt(variance + epsilon)) + bias, mean, variance


def _normalise_batch_forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    mask: jax.Array | None,
    collectives: Collectives,
    epsilon: float,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], _BatchResiduals]:
    y, mean, variance = _normalise_batch(x, scale, bias, mask, collectives, epsilon)
    return (y, mean, variance), (x, scale, mask, mean, lax.rsqrt(variance + epsilon))


def _normalise_batch_backward(
    collectives: Collectives,
    epsilon: float,
    residuals: _BatchResiduals,
    cotangents: tuple[jax.Array, jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    del epsilon
    x, scale, mask, mean, inverse = residuals
    dy, _, _ = cotangents
    axes = tuple(range(x.ndim - 1))
    normal = (x - mean) * inverse
    d_bias, d_scale = jnp.sum(dy, axes), jnp.sum(dy * normal, axes)
    # Statistics belong to the global batch; gradients of the parameters to this device's share, since the
    # training step sums them over the devices.
    count, d_mean, d_deviation = collectives.total((_row_count(x.shape, mask), d_bias, d_scale))
    count = jnp.maximum(count, 1)
    through = d_mean / count + normal * (d_deviation / count)
    if mask is not None:
        through = jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), through, 0)
    return (dy - through) * (scale * inverse), d_scale, d_bias, None


_normalise_batch.defvjp(_normalise_batch_forward, _normalise_batch_backward)


def _row_count(shape: tuple[int, ...], mask: jax.Array | None) -> jax.Array:
    """Number of values per channel of [B, ..., C] in rows that are not padding, a float32 scalar."""
    rows = jnp.float32(shape[0]) if mask is None else jnp.sum(mask, dtype=jnp.float32)
    return rows * float(np.prod(shape[1:-1]))


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015) that ignores padding.

    `[B, ..., C] -> [B, ..., C]`, in the dtype of the input. Parameters `scale` and `bias`, both `[C]`;
    running statistics `mean` and `var`, both `[C]`, in the collection `batch_stats`, which must be
    mutable in training. The running variance is the biased one (PyTorch keeps the unbiased one).

    Attributes:
      momentum: fraction of the old running statistics kept at each step (PyTorch's is `1 - momentum`).
      epsilon: added to the variance.
      affine: whether there are a scale and a bias.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    affine: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        shape = (x.shape[-1],)
        if self.affine:
            scale = self.param('scale', nn.initializers.ones, shape)
            bias = self.param('bias', nn.initializers.zeros, shape)
        else:
            scale, bias = jnp.ones(shape), jnp.zeros(shape)
        running_mean = self.variable('batch_stats', 'mean', jnp.zeros, shape, jnp.float32)
        running_var = self.variable('batch_stats', 'var', jnp.ones, shape, jnp.float32)
        dtype = x.dtype
        x, scale, bias = map(at_least_float32, (x, scale, bias))
        if not mode.train:
            factor = scale * lax.rsqrt(running_var.value + self.epsilon)
            y = (x - running_mean.value) * factor + bias
        else:
            y, mean, variance = _normalise_batch(x, scale, bias, mode.mask, mode.collectives, self.epsilon)
            if not self.is_initializing():
                for running, value in ((running_mean, mean), (running_var, variance)):
                    running.value = self.momentum * running.value + (1 - self.momentum) * value
        return y.astype(dtype)


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis (Ba et al. 2016).

    `[..., C] -> [..., C]`, in the dtype of the input. Parameters `scale` and `bias`, both `[C]`.

    Attributes:
      epsilon: added to the variance.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1],)
        scale = self.param('scale', nn.initializers.ones, shape)
        bias = self.param('bias', nn.initializers.zeros, shape)
        return _normalise_last(*map(at_least_float32, (x, scale, bias)), self.epsilon).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalise_last(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """LayerNorm, with a gradient written by hand as in BatchNorm."""
    return _normalise_last_forward(x, scale, bias, epsilon)[0]


def _normalise_last_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    mean = jnp.mean(x, -1, keepdims=True)
    # Two passes: E[x^2] - E[x]^2 cancels when the mean is large.
    inverse = lax.rsqrt(jnp.mean(jnp.square(x - mean), -1, keepdims=True) + epsilon)
    return (x - mean) * inverse * scale + bias, (x, scale, mean, inverse)


def _normalise_last_backward(
    epsilon: float, residuals: tuple[jax.Array, ...], dy: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    del epsilon
    x, scale, mean, inverse = residuals
    axes = tuple(range(x.ndim - 1))
    normal = (x - mean) * inverse
    scaled = dy * scale
    along = jnp.mean(scaled * normal, -1, keepdims=True)
    d_x = (scaled - jnp.mean(scaled, -1, keepdims=True) - normal * along) * inverse
    return d_x, jnp.sum(dy * normal, axes), jnp.sum(dy, axes)


_normalise_last.defvjp(_normalise_last_forward, _normalise_last_backward)


def dropout_mask(
    key: jax.Array, shape: tuple[int, ...], keep: float, first: jax.Array | int = 0
) -> jax.Array:
    """Random mask of a dropout layer: a pure function of the key and of each element's position.

    Two words are drawn from the key, and each element's index is hashed with them (the `lowbias32`
    finalizer of Wellons). XLA fuses this with the use of the mask, so it is much faster than
    `jax.random.bernoulli`; its statistical quality is good enough for dropout only.

    Args:
      key: random key.
      shape: shape of the mask.
      keep: probability of True.
      first: index of the first element, uint32: where this mask begins in that of the global batch.

    Returns:
      bool of the given shape.
    """
    seed = jax.random.bits(key, (2,), jnp.uint32)
    index = jnp.full(shape, first, jnp.uint32)
    stride = 1
    # One iota per axis: a reshaped arange shards badly over devices.
    for axis in reversed(range(len(shape))):
        index += lax.broadcasted_iota(jnp.uint32, shape, axis) * np.uint32(stride % 2**32)
        stride *= shape[axis]
    bits = _lowbias32((index * np.uint32(0x9E3779B9) + seed[0]) ^ seed[1])
    return bits < np.uint32(min(round(keep * 2**32), 2**32 - 1))


def _lowbias32(bits: jax.Array) -> jax.Array:
    bits ^= bits >> 16
    bits *= np.uint32(0x7FEB352D)
    bits ^= bits >> 15
    bits *= np.uint32(0x846CA68B)
    return bits ^ (bits >> 16)


class Dropout(nn.Module):
    """Inverted dropout: in training an element is 0 with probability `rate`, else `x / (1 - rate)`.

    Shape and dtype are those of the input. The key comes from the rng collection `dropout`, which is
    required in training if the rate is above 0.

    Attributes:
      rate: probability in [0, 1) of dropping an element.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        if self.rate == 0 or not mode.train:
            return x
        keep = 1 - self.rate
        # This device's part of the mask that the whole batch would have.
        first = jnp.asarray(mode.collectives.index(), jnp.uint32) * np.uint32(x.size % 2**32)
        return jnp.where(dropout_mask(self.make_rng('dropout'), x.shape, keep, first), x / keep, 0)


class Dice(nn.Module):
    """Dice, an activation that bends where the data lies (Zhou et al., KDD 2018, eq. 9).

    `x (q + alpha (1 - q))`, `q = sigmoid(BN(x))` without scale and bias; `[B, C] -> [B, C]`, in the dtype of
    the input. Parameter `alpha: [C]`, 0 at the start, and the running statistics of `norm`.
    """

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        alpha = self.param('alpha', nn.initializers.zeros, (x.shape[-1],))
        norm = BatchNorm(momentum=0.99, epsilon=1e-9, affine=False, name='norm')
        wide = at_least_float32(x)
        share = nn.sigmoid(norm(wide, mode))
        return (wide * (share + alpha * (1 - share))).astype(x.dtype)


class PReLU(nn.Module):
    """ReLU with a learned slope below 0 for each channel (He et al. 2015).

    `[B, C] -> [B, C]`, in the dtype of the input. Parameter `alpha: [C]`, 0.1 at the start, as in FuxiCTR.
    """

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        del mode
        alpha = self.param('alpha', nn.initializers.constant(0.1), (x.shape[-1],))
        return jnp.where(x > 0, x, alpha.astype(x.dtype) * x)


# Activations that `MLP` has beside 'relu'.
ACTIVATIONS: dict[str, type[nn.Module]] = {'dice': Dice, 'prelu': PReLU}


class MLP(nn.Module):
    """Multi-layer perceptron: hidden layers and an optional output layer.

    A hidden layer is Dense, BatchNorm (optional), ReLU, Dropout; the output layer is a Dense.
    `[B, ..., C] -> [B, ..., W]`, in the dtype of the input, `W` being the width of the last layer.
    Parameters: `hidden_{i}/{kernel, bias}`, `norm_{i}/{scale, bias}`, `activation_{i}/alpha` (of another
    activation than ReLU), `out/{kernel, bias}`.

    Attributes:
      hidden: width of each hidden layer; () for none.
      output: width of the output layer; None for no output layer.
      batch_norm: whether hidden layers have a BatchNorm.
      dropout: dropout rate after each hidden layer.
      activation: 'relu', or an entry of `ACTIVATIONS` in its place.
    """

    hidden: tuple[int, ...]
    output: int | None = None
    batch_norm: bool = True
    dropout: float = 0.0
    activation: str = 'relu'

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        for i, width in enumerate(self.hidden):
            x = Dense(width, name=f'hidden_{i}')(x)
            if self.batch_norm:
                x = BatchNorm(name=f'norm_{i}')(x, mode)
            if self.activation == 'relu':
                x = nn.relu(x)
            else:
                x = ACTIVATIONS[self.activation](name=f'activation_{i}')(x, mode)
            x = Dropout(self.dropout, name=f'dropout_{i}')(x, mode)
        return x if self.output is None else Dense(self.output, name='out')(x)
