"""Blocks that two models or more are built from.

All are pure `flax.linen` modules, in the dtype that they are called in; norms and softmax compute in
float32 at least. A block whose behaviour depends on the call (training
or not, padding, devices) takes a `Mode` as its last argument.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Xavier (Glorot) normal, as in the field's usual library; biases start at zero, norm scales at one.
kernel_init = nn.initializers.glorot_normal()
# One matrix per block on the leading axis: the fans are those of a single matrix.
stacked_kernel_init = nn.initializers.glorot_normal(in_axis=-2, out_axis=-1, batch_axis=0)

Dense = functools.partial(nn.Dense, kernel_init=kernel_init)


@dataclasses.dataclass(frozen=True)
class Mode:
    """How a model is being called, handed through to the blocks that need to know.

    Attributes:
      train: whether dropout is on and BatchNorm uses, and records, the batch's statistics.
      mask: bool [B], False on the rows that only pad the batch; None where there are none.
      axis_name: the mapped axis inside `pmap` over which BatchNorm sums; None elsewhere. Under
        `jit` leave it None: there the batch is the global one already.
    """

    train: bool = False
    mask: jax.Array | None = None
    axis_name: str | None = None


def at_least_float32(x: jax.Array) -> jax.Array:
    """The array itself, or a narrower one (bfloat16) as float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def softmax(x: jax.Array, axis: int = -1) -> jax.Array:
    """Softmax over an axis, in float32 at least; the result has the dtype of `x`."""
    return nn.softmax(at_least_float32(x), axis).astype(x.dtype)


def masked_moments(x: jax.Array, mode: Mode) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance over all axes but the last, of the rows that are not padding.

    Args:
      x: float32 [B, ..., C].
      mode: its `mask` selects rows; with `axis_name` sums *and* counts are taken over the devices,
        so the result is exact however unevenly the padding falls on them.

    Returns:
      float32 [C] twice. Without any row left the mean and the variance are 0.
    """
    axes = tuple(range(x.ndim - 1))
    keep = None if mode.mask is None else mode.mask.reshape(-1, *[1] * (x.ndim - 1))
    count = _row_count(x.shape, mode.mask)

    def total(values):
        return values if mode.axis_name is None else lax.psum(values, mode.axis_name)

    def select(values):
        # Not a product with the mask: 0 * inf in a padded row would poison the sums.
        return values if keep is None else jnp.where(keep, values, 0)

    count = jnp.maximum(total(count), 1)
    mean = total(jnp.sum(select(x), axes)) / count
    # A second pass: E[x^2] - E[x]^2 cancels when the mean is large.
    variance = total(jnp.sum(jnp.square(select(x - mean)), axes)) / count
    return mean, variance


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _normalise_batch(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    mask: jax.Array | None,
    axis_name: str | None,
    epsilon: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """BatchNorm in training: the output, and the mean and variance, which have no gradient.

    Its gradient is written out: derived from `masked_moments` it takes two more sums over the batch.
    """
    mean, variance = masked_moments(x, Mode(mask=mask, axis_name=axis_name))
    return (x - mean) * (scale * lax.rsqrt(variance + epsilon)) + bias, mean, variance


def _normalise_batch_forward(x, scale, bias, mask, axis_name, epsilon):
    y, mean, variance = _normalise_batch(x, scale, bias, mask, axis_name, epsilon)
    return (y, mean, variance), (x, scale, mask, mean, lax.rsqrt(variance + epsilon))


def _normalise_batch_backward(axis_name, epsilon, residuals, cotangents):
    del epsilon
    x, scale, mask, mean, inverse = residuals
    dy, _, _ = cotangents
    axes = tuple(range(x.ndim - 1))
    normal = (x - mean) * inverse
    d_bias, d_scale = jnp.sum(dy, axes), jnp.sum(dy * normal, axes)
    # The statistics are of the rows that count on all devices; the parameters' gradients are this one's.
    count, d_mean, d_deviation = _row_count(x.shape, mask), d_bias, d_scale
    if axis_name is not None:
        count, d_mean, d_deviation = lax.psum((count, d_mean, d_deviation), axis_name)
    count = jnp.maximum(count, 1)
    through = d_mean / count + normal * (d_deviation / count)
    if mask is not None:
        through = jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), through, 0)
    return (dy - through) * (scale * inverse), d_scale, d_bias, None


_normalise_batch.defvjp(_normalise_batch_forward, _normalise_batch_backward)


def _row_count(shape: tuple[int, ...], mask: jax.Array | None) -> jax.Array:
    """Values of each channel in [B, ..., C] whose row counts, a float32 scalar."""
    rows = jnp.float32(shape[0]) if mask is None else jnp.sum(mask, dtype=jnp.float32)
    return rows * float(np.prod(shape[1:-1]))


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015) that ignores padding.

    `[B, ..., C] -> [B, ..., C]`, float32. Parameters `scale` and `bias`, running statistics `mean`
    and `var`, all `[C]`, the latter in the collection `batch_stats`, which must be mutable in
    training. The running variance is the biased one (torch keeps the unbiased).

    Attributes:
      momentum: share of the old running statistics kept at each step (torch's is `1 - momentum`).
      epsilon: added to the variance.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        shape = (x.shape[-1],)
        scale = self.param('scale', nn.initializers.ones, shape)
        bias = self.param('bias', nn.initializers.zeros, shape)
        running_mean = self.variable('batch_stats', 'mean', jnp.zeros, shape, jnp.float32)
        running_var = self.variable('batch_stats', 'var', jnp.ones, shape, jnp.float32)
        dtype = x.dtype
        x, scale, bias = map(at_least_float32, (x, scale, bias))
        if not mode.train:
            factor = scale * lax.rsqrt(running_var.value + self.epsilon)
            y = (x - running_mean.value) * factor + bias
        else:
            y, mean, variance = _normalise_batch(x, scale, bias, mode.mask, mode.axis_name, self.epsilon)
            if not self.is_initializing():
                for running, value in ((running_mean, mean), (running_var, variance)):
                    running.value = self.momentum * running.value + (1 - self.momentum) * value
        return y.astype(dtype)


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis (Ba et al. 2016): `[..., C] -> [..., C]`, float32.

    Parameters `scale` and `bias`, both `[C]`.

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
    """LayerNorm; its gradient is written out, as BatchNorm's."""
    return _normalise_last_forward(x, scale, bias, epsilon)[0]


def _normalise_last_forward(x, scale, bias, epsilon):
    mean = jnp.mean(x, -1, keepdims=True)
    # A second pass: E[x^2] - E[x]^2 loses the variance of inputs that are far from zero.
    inverse = lax.rsqrt(jnp.mean(jnp.square(x - mean), -1, keepdims=True) + epsilon)
    return (x - mean) * inverse * scale + bias, (x, scale, mean, inverse)


def _normalise_last_backward(epsilon, residuals, dy):
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
    """Bernoulli(`keep`) draws: bool `shape`, a pure function of `key` and of the position.

    Two words are drawn from the key and each element's index is hashed with them (Wellons'
    `lowbias32` finalizer), which fuses with the use of the mask: 3 ms against 47 ms with
    `jax.random.bernoulli` at 4096 x 1200 on one CPU core. Not for anything but dropout.
    """
    seed = jax.random.bits(key, (2,), jnp.uint32)
    index = jnp.full(shape, first, jnp.uint32)
    stride = 1
    # Index by index rather than a reshaped arange, which partitions badly over devices.
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

    Shape and dtype are kept. The key comes from the rng collection `dropout`, which training with
    a rate above 0 must provide.

    Attributes:
      rate: probability in [0, 1) of dropping an element.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        if self.rate == 0 or not mode.train:
            return x
        keep = 1 - self.rate
        first = 0
        if mode.axis_name is not None:
            # The same mask as for the whole batch: this device's part of it.
            first = lax.axis_index(mode.axis_name).astype(jnp.uint32) * np.uint32(x.size % 2**32)
        return jnp.where(dropout_mask(self.make_rng('dropout'), x.shape, keep, first), x / keep, 0)


class MLP(nn.Module):
    """Per hidden layer Dense, BatchNorm (optional), ReLU, Dropout; then an optional output Dense.

    `[B, ..., C] -> [B, ..., W]`, float32, with `W` the output's width, or the last hidden one's.
    Parameters: `hidden_{i}/{kernel, bias}`, `norm_{i}/{scale, bias}` and `out/{kernel, bias}`.

    Attributes:
      hidden: width of each hidden layer, possibly none.
      output: width of the output Dense, which nothing follows; None leaves it out.
      batch_norm: whether each hidden layer has a BatchNorm.
      dropout: rate after each hidden layer.
    """

    hidden: tuple[int, ...]
    output: int | None = None
    batch_norm: bool = True
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
        for i, width in enumerate(self.hidden):
            x = Dense(width, name=f'hidden_{i}')(x)
            if self.batch_norm:
                x = BatchNorm(name=f'norm_{i}')(x, mode)
            x = Dropout(self.dropout, name=f'dropout_{i}')(nn.relu(x), mode)
        return x if self.output is None else Dense(self.output, name='out')(x)
