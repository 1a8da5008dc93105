"""Generated data of Criteo's shape (13 numeric, 26 categorical fields), whose best possible AUC is known.

    python -m dlf_jax.main --config=configs/synthetic.py --workdir=/tmp/dlf-synthetic

`launch/quickstart.sh` does the same from a bare checkout. One epoch, for a first result within a minute:
expected of DLF on the validation part is an AUC of 0.809 to 0.811, where 0.822 is the best possible; with
`--config.training.epochs=4`, 0.816.
"""

from ml_collections import ConfigDict

from dlf_jax import config as defaults

MODELS = {
    'dlf': {'layers': 1, 'tokens': 4, 'heads': 1, 'head': (128,), 'dropout': 0.1},
    'dlrm_dcnv2': {'bottom_hidden': (64,), 'rank': 32, 'hidden': (128, 64)},
    'mlp': {'hidden': (128, 64), 'dropout': 0.2},
}


def get_config(model: str = 'dlf') -> ConfigDict:
    """The config of the synthetic data for a model; see `dlf_jax.config.get_config`."""
    config = defaults.get_config(model)
    config.dataset.name = 'synthetic'
    config.embedding.penalty = 2e-3
    # In one epoch there is no time to grow from small embeddings by small steps, nor to wait for evaluations
    # without gain: the learning rate begins high and ends at 0.
    config.embedding.std = 0.1
    config.optimizer.learning_rate = 1e-2
    config.optimizer.schedule = 'cosine'
    config.plateau.factor = 1.0
    config.plateau.patience = 0
    config.training.epochs = 1
    config.training.batch_size = 512
    defaults.set_model(config, MODELS, embedding_size=8)
    return config
