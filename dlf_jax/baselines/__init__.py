"""What one would otherwise use, as a yardstick: fitted to the same encoded rows, splits and weights.

A baseline is a function from the encoded training and validation rows to something that gives logits; the
validation part alone decides what is to be decided, as it does for models. They are untuned on purpose: a
model that does not beat them is not worth its cost. Rows whose weight is 0 count nowhere.

They come beside a model (`config.baselines`) or in its place (`--config=FILE.py:lightgbm`), as rows of
`dlf_jax.compare` do.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Protocol

import numpy as np

from dlf_jax.baselines import lightgbm, logistic
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UsageError


class Fitted(Protocol):
    """A fitted baseline."""

    @property
    def steps(self) -> int:
        """Number of iterations that it took, or of trees."""

    @property
    def parameters(self) -> dict[str, int]:
        """Number of parameters: `table`, those that belong to ids, and `dense`, the others."""

    def logits(self, rows: Rows) -> np.ndarray:
        """Logits of encoded rows, float64 [rows]."""


# Called as `fit(train, valid, schema, seed)`, on the rows that `features.read` gives.
Fit = Callable[[Rows, Rows, Schema, int], Fitted]
# An entry per baseline; `dlf_jax.config.BASELINES` has their names.
BASELINES: dict[str, Fit] = {'logistic': logistic.fit, 'lightgbm': lightgbm.fit}
# The package that each needs.
_PACKAGES = {'logistic': 'sklearn', 'lightgbm': 'lightgbm'}


def check_installed(key: str, names: tuple[str, ...] = tuple(BASELINES)) -> None:
    """Imports what baselines need.

    Args:
      key: what asks for them, for the error.
      names: entries of `BASELINES`.

    Raises:
      UsageError: a package is missing, or cannot be imported; says how to install it.
    """
    for name in names:
        package = _PACKAGES[name]
        try:
            importlib.import_module(package)
        except (ImportError, OSError) as error:
            # LightGBM without the system's OpenMP raises OSError.
            raise UsageError(
                f"{key}: the baseline {name!r} needs {package}: pip install 'dlf_jax[baselines]' ({error})"
            ) from error
