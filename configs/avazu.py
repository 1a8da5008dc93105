"""Avazu (mobile ads; 22 categories): Avazu_x1's files, or Kaggle's train.csv.

    python -m dlf_jax.main --config=configs/avazu.py --config.dataset.train=FOLDER/train.csv \
        --config.dataset.valid=FOLDER/valid.csv --config.dataset.test=FOLDER/test.csv \
        --workdir=/tmp/dlf-avazu

Not trained on the full data yet: that takes files which are not part of the project.
"""

from ml_collections import ConfigDict

from dlf_jax import config as defaults


def get_config(model: str = 'dlf') -> ConfigDict:
    config = defaults.get_config(model)
    config.dataset.name = 'avazu'
    config.dataset.min_count = 2
    config.embedding.penalty = 0.05
    defaults.set_model(config, {}, embedding_size=10, dropout=0.1)
    return config
