"""Logistic regression: one weight per feature."""

from collections.abc import Mapping
from typing import ClassVar

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp


class LR(nn.Module):
    """Logistic regression, `logit = bias + sum_f w_f` (Richardson et al. 2007). It has no fields.

    A numeric field's weight is multiplied by its value in the lookup. Called on
    `{'linear': float32 [B, F, 1]}` it returns logits, float32 [B]. Parameters: `bias: [1]`.
    """

    variants: ClassVar[dict[str, dict]] = {'full': {}}

    @property
    def tables(self) -> dict[str, int]:
        """Width of each table that the model reads."""
        return {'linear': 1}

    @nn.compact
    def __call__(
        self,
        rows: Mapping[str, jax.Array],
        *,
        train: bool = False,
        mask: jax.Array | None = None,
        axis_name: str | None = None,
    ) -> jax.Array:
        del train, mask, axis_name  # the same in all cases
        chex.assert_shape(rows['linear'], (None, None, 1))
        return jnp.sum(rows['linear'], (1, 2)) + self.param('bias', nn.initializers.zeros, (1,))
