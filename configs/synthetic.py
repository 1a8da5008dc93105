"""Generated data of Criteo's shape (13 numeric, 26 categorical fields), whose best possible AUC is known.

    python -m dlf_jax.main --config=configs/synthetic.py --workdir=/tmp/dlf-synthetic

Expected of DLF on the validation part: AUC 0.811, where 0.822 is the best possible, in a few minutes on two
CPU cores. `launch/quickstart.sh` does the same from a bare checkout.
"""

from ml_collections import ConfigDict

from dlf_jax import config as defaults

MODELS = {
    'dlf': {'layers': 1, 'tokens': 4, 'head': (128,), 'dropout': 0.2},
    'mlp': {'hidden': (128, 64), 'dropout': 0.2},
}


def get_config(model: str = 'dlf') -> ConfigDict:
    """The config of the synthetic data for a model; see `dlf_jax.config.get_config`."""
    config = defaults.get_config(model)
    config.dataset.name = 'synthetic'
    config.embedding.penalty = 2e-3
    config.training.batch_size = 2048
    config.training.evaluate_every = 200
    defaults.set_model(config, MODELS, embedding_size=8)
    return config
