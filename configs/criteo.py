"""Criteo (display ads; 13 numeric, 26 categorical fields): the files of Criteo_x1, or Kaggle's train.txt.

    python -m dlf_jax.main --config=configs/criteo.py --config.dataset.train=FOLDER/train.csv \
        --config.dataset.valid=FOLDER/valid.csv --config.dataset.test=FOLDER/test.csv \
        --workdir=/tmp/dlf-criteo

Without the files, `--dataset=synthetic` trains on generated data of the same shape. The paper's own setting,
too large for a laptop, is

    --config.model.embedding_size=64 --config.model.layers=8 --config.model.attention_layers=2 \
        --config.model.tokens=16 --config.training.batch_size=10000

Time and scores are unknown: nobody has trained it on the full data yet, whose files are not part of the
project.
"""

from ml_collections import ConfigDict

from dlf_jax import config as defaults


def get_config(model: str = 'dlf') -> ConfigDict:
    """The config of Criteo for a model; see `dlf_jax.config.get_config`."""
    config = defaults.get_config(model)
    config.dataset.name = 'criteo'
    config.dataset.min_count = 10
    config.embedding.penalty = 1e-5
    defaults.set_model(config, {}, embedding_size=16, dropout=0.1)
    return config
