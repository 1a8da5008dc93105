"""LR: logistic regression, one weight per feature."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax

from dlf_jax.models.base import CTRModel
from dlf_jax.models.interactions import linear_terms
from dlf_jax.models.mode import Mode


class LR(CTRModel):
    """Logistic regression, `logit = bias + sum_f w_f` (Richardson et al. 2007).

    The weight of a numeric field is multiplied by its value in the lookup. Reads the table 'linear'. There
    are no hyperparameters. Parameters: `bias: [1]`.
    """

    @property
    def tables(self) -> dict[str, int]:
        return {'linear': 1}

    def logits(self, embeddings: Mapping[str, jax.Array], mode: Mode) -> jax.Array:
        del mode  # the same in training and evaluation
        return linear_terms(embeddings) + self.param('bias', nn.initializers.zeros, (1,))
