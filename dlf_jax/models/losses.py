"""Losses that models add to the cross-entropy in training: means over the rows of the global batch.

A model sows them, `self.sow('losses', 'name', loss)`; see `dlf_jax.models`. Padding never counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from dlf_jax.models.layers import at_least_float32, masked_moments
from dlf_jax.models.mode import Mode


def cross_entropy(logits: jax.Array, mode: Mode) -> jax.Array:
    """Mean binary cross-entropy of logits, as training has it of the model's own: a float32 scalar.

    Args:
      logits: float32 or bfloat16 [B].
      mode: with `labels`; rows of weight 0 do not count.
    """
    assert mode.labels is not None
    losses = optax.sigmoid_binary_cross_entropy(at_least_float32(logits), mode.labels)
    weight = mode.weight
    if weight is None:
        weight = jnp.ones_like(losses) if mode.mask is None else mode.mask.astype(losses.dtype)
    # Not a product alone: 0 * inf in a padded row is NaN.
    losses = jnp.where(weight > 0, losses * weight, 0)
    total, count = mode.collectives.total((jnp.sum(losses), jnp.sum(weight)))
    found: jax.Array = total / jnp.maximum(count, 1e-12)
    return found


def distillation(outputs: Sequence[jax.Array], teacher: jax.Array, mode: Mode) -> jax.Array:
    """Distillation of several outputs from one that teaches them: a float32 scalar.

    `sum_k BCE(y_k, stop_gradient(sigmoid(teacher)))`, averaged over the rows that are not padding; it needs
    no labels.

    Args:
      outputs: logits `y_k`, each float32 or bfloat16 [B].
      teacher: logits, float32 or bfloat16 [B], which get no gradient.
      mode: its mask selects rows.
    """
    target = lax.stop_gradient(nn.sigmoid(at_least_float32(teacher)))
    losses = [optax.sigmoid_binary_cross_entropy(at_least_float32(output), target) for output in outputs]
    mean, _ = masked_moments(jnp.stack(losses, 1), mode)
    return jnp.sum(mean)
