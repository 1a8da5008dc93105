"""MovielensLatest_x1 (whether a user gives a movie a tag), with the leaderboards' recipe.

    python -m dlf_jax.main --config=configs/movielens.py --config.dataset.train=FOLDER/train.csv \
        --config.dataset.valid=FOLDER/valid.csv --config.dataset.test=FOLDER/test.csv \
        --workdir=/tmp/dlf-movielens

Not trained on the full data yet: that takes files which are not part of the project.
"""

from ml_collections import ConfigDict

from dlf_jax import config as defaults


def get_config(model: str = 'dlf') -> ConfigDict:
    config = defaults.get_config(model)
    config.dataset.name = 'movielens'
    # One file is split at random: its rows are in no order of time.
    config.dataset.split = 'random'
    config.embedding.penalty = 0.01
    defaults.set_model(config, {}, embedding_size=10, dropout=0.2)
    return config
