"""Probabilities as prediction gives them: after the calibrator, where the model has one."""

from __future__ import annotations

import numpy as np

from dlf_jax.serving.predict import Predictor
from dlf_jax.training import probability_metrics


def probabilities(predictor: Predictor, logits: np.ndarray) -> np.ndarray:
    """Probabilities of the model's own logits, which are what is explained.

    Args:
      predictor: the model, with its calibrator or without one.
      logits: any shape.

    Returns:
      float64, of the same shape.
    """
    if predictor.calibrator is None:
        return np.asarray(probability_metrics.sigmoid(np.asarray(logits)), np.float64)
    return np.asarray(predictor.calibrator.probabilities(logits), np.float64)
