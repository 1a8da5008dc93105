"""Frappe_x1 (which app in which context), with the leaderboards' recipe.

    python -m dlf_jax.main --config=configs/frappe.py --config.dataset.train=FOLDER/train.csv \
        --config.dataset.valid=FOLDER/valid.csv --config.dataset.test=FOLDER/test.csv \
        --workdir=/tmp/dlf-frappe

`--config=configs/frappe.py:mlp` takes another model. Times and scores: the table in README.md.
"""

from ml_collections import ConfigDict

from dlf_jax import config as defaults

MODELS = {
    # One layer: deeper stacks overfit these 200,000 rows, and so do normalised tokens.
    'dlf': {
        'layers': 1,
        'implicit_hidden': (400,),
        'dropout': 0.4,
        'layer_norm': False,
    },
    'mlp': {'dropout': 0.2},
}


def get_config(model: str = 'dlf') -> ConfigDict:
    config = defaults.get_config(model)
    config.dataset.name = 'frappe'
    config.embedding.penalty = 0.05
    defaults.set_model(config, MODELS, embedding_size=10)
    return config
