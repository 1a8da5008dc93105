"""Predictors that nobody trained: weights large enough that every part of a model matters."""

import types
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from dlf_jax import config as configs
from dlf_jax.exporting import export_model
from dlf_jax.serving import weights
from dlf_jax.serving.predict import Predictor

# EDCN's products of small numbers give every row nearly the same; SAM's of large ones lose their digits.
SPREADS = {'edcn': (1.0, 0.3), 'sam': (0.1, 0.03)}


class Untrained(Predictor):
    """A predictor with drawn weights in place of a checkpoint's."""

    # Standard deviations of what is added to the rows of tables, and to other parameters.
    spread = (0.3, 0.03)

    def __init__(self, workdir, config):
        with mock.patch.object(weights, 'restore', self._drawn):
            super().__init__(workdir, config)

    def _drawn(self, workdir, config, setup):
        state = setup.initial_state((0,))
        draw = np.random.default_rng(0)

        def drawn(path, array):
            name = jax.tree_util.keystr(path, simple=True, separator='/')
            if name.endswith('/var'):
                return jnp.asarray(draw.uniform(0.5, 1.5, array.shape), array.dtype)
            spread = self.spread[0 if name.startswith('tables') else 1]
            return array + jnp.asarray(draw.normal(0, spread, array.shape), array.dtype)

        params, statistics = (
            jax.tree_util.tree_map_with_path(drawn, tree) for tree in (state.params, state.batch_stats)
        )
        return state.replace(params=params, batch_stats=statistics)


def config(model, variant='full', **keys):
    """The config of a small model, as exports have it."""
    found = configs.get_config(model)
    configs.set_model(found, {}, embedding_size=8, hidden=(16, 8))
    found.variant = variant
    found.training.batch_size = 512
    configs.apply_choices(found, ())
    found.update_from_flattened_dict(keys)
    return export_model.exact(found)


def predictor(encoder, model, variant='full', **keys):
    """A predictor of a small model with drawn weights."""
    kind = type('Scaled', (Untrained,), {'spread': SPREADS.get(model, Untrained.spread)})
    return kind(
        types.SimpleNamespace(encoder=lambda: encoder, calibration=Path('nowhere')),
        config(model, variant, **keys),
    )
