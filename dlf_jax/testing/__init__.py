"""Checks for models of one's own: against a reference in float64 NumPy, values and gradients."""

from dlf_jax.testing.model_check import check_model

__all__ = ['check_model']
