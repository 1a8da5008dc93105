"""Embedded data of Criteo's shape, made from a seed, whose best possible AUC is known.

    launch/quickstart.sh

trains DLF on it; times and scores: README.md.
"""

from ml_collections import ConfigDict

from dlf_jax import config as defaults

MODELS = {
    'dlf': {'layers': 1, 'tokens': 4, 'head': (128,), 'dropout': 0.2},
    'mlp': {'hidden': (128, 64), 'dropout': 0.2},
}


def get_config(model: str = 'dlf') -> ConfigDict:
    config = defaults.get_config(model)
    config.dataset.name = 'synthetic'
    config.embedding.penalty = 2e-3
    config.training.batch_size = 2048
    config.training.evaluate_every = 200
    defaults.set_model(config, MODELS, embedding_size=8)
    return config
