"""Predictors that nobody trained: weights large enough that every part of a model matters."""

import types

import jax
import jax.numpy as jnp
import numpy as np

from dlf_jax import config as configs
from dlf_jax.export import exporting
from dlf_jax.serving.predict import Predictor


class Untrained(Predictor):
    """A predictor with drawn weights in place of a checkpoint's."""

    def _restore(self, workdir, setup):
        state = setup.initial_state((0,))
        draw = np.random.default_rng(0)

        def shaken(array):
            return array + jnp.asarray(draw.normal(0, 0.03, array.shape), array.dtype)

        def scattered(array):
            return jnp.asarray(draw.uniform(0.3, 1.0, array.shape), array.dtype)

        weights = jax.tree.map(shaken, state.params)
        return state.replace(params=weights, batch_stats=jax.tree.map(scattered, state.batch_stats))


def config(model, variant='full', **keys):
    """The config of a small model, as exports have it."""
    found = configs.get_config(model)
    configs.set_model(found, {}, embedding_size=8, hidden=(16, 8))
    found.variant = variant
    found.training.batch_size = 512
    configs.apply_choices(found, ())
    found.update_from_flattened_dict(keys)
    return exporting.exact(found)


def predictor(encoder, model, variant='full', **keys):
    """A predictor of a small model with drawn weights."""
    return Untrained(types.SimpleNamespace(encoder=lambda: encoder), config(model, variant, **keys))
