"""The optimizer as an optax chain."""

from __future__ import annotations

import optax
from ml_collections import ConfigDict

from dlf_jax.training import schedules


def make(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """Norm clip over all parameters, Adam, then the schedule's learning rate (negated).

    Args:
      config: the whole config.
      total_steps: at most, for schedules that end.
    """
    options = config.optimizer
    clip = optax.clip_by_global_norm(options.clip_norm) if options.clip_norm else optax.identity()
    return optax.chain(
        clip,
        optax.scale_by_adam(options.b1, options.b2, options.eps),
        optax.scale_by_learning_rate(schedules.learning_rate(config, total_steps)),
    )
