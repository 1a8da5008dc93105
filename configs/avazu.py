"""Avazu (mobile ads; 22 categorical fields): the files of Avazu_x1, or Kaggle's train.csv.

    python -m dlf_jax.main --config=configs/avazu.py --config.dataset.train=FOLDER/train.csv \
        --config.dataset.valid=FOLDER/valid.csv --config.dataset.test=FOLDER/test.csv \
        --workdir=/tmp/dlf-avazu

Time and scores are unknown: nobody has trained it on the full data yet, whose files are not part of the
project.
"""

from ml_collections import ConfigDict

from dlf_jax import config as defaults


def get_config(model: str = 'dlf') -> ConfigDict:
    """The config of Avazu for a model; see `dlf_jax.config.get_config`."""
    config = defaults.get_config(model)
    config.dataset.name = 'avazu'
    config.dataset.min_count = 2
    config.embedding.penalty = 0.05
    defaults.set_model(config, {}, embedding_size=10, dropout=0.1)
    return config
