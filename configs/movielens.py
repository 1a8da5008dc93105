"""MovielensLatest_x1 (whether a user gives a movie a tag), with the leaderboards' recipe.

    python -m dlf_jax.main --config=configs/movielens.py --config.dataset.train=FOLDER/train.csv \
        --config.dataset.valid=FOLDER/valid.csv --config.dataset.test=FOLDER/test.csv \
        --workdir=/tmp/dlf-movielens

Not trained on the full data yet: that takes files which are not part of the project.
"""

from ml_collections import ConfigDict

from dlf_jax import config as defaults

# The leaderboards' settings; DLF's are our own.
MODELS = {
    'afn': {'neurons': 800, 'hidden': (200,), 'dropout': 0.4, 'batch_norm': False},
    'autoint': {'attention_size': 128, 'layers': 2, 'heads': 4, 'layer_norm': True, 'scale': True},
    'dcnv2': {'cross_layers': 5},
    'dcn': {'cross_layers': 4},
    'deepfm': {'dropout': 0.3},
    # The leaderboard's has no regulation at all; this is the form that it has on Frappe.
    'edcn': {
        'layers': 2,
        'dropout': 0.1,
        'tau': 1.0,
        'residual': False,
        'gate_norm': True,
        'batch_norm': False,
    },
    'finalmlp': {
        'hidden_1': (400,),
        'dropout_1': 0.4,
        'hidden_2': (800,),
        'dropout_2': 0.2,
        'heads': 10,
    },
    'finalnet': {'hidden_1': (400, 400), 'hidden_2': (500,)},
    'pnn': {'dropout': 0.1},
    'sam': {'block': '3a', 'pooling': 'weighted', 'layers': 2},
    'xdeepfm': {'cin': (64, 64, 64), 'dropout': 0.3, 'batch_norm': False},
}
# lambda of the embedding penalty, where it is not 0.01.
PENALTIES = {'afm': 1e-5, 'afn': 1e-3, 'fm': 5e-6, 'lr': 5e-6, 'sam': 1e-3, 'xdeepfm': 5e-3}


def get_config(model: str = 'dlf') -> ConfigDict:
    config = defaults.get_config(model)
    config.dataset.name = 'movielens'
    # One file is split at random: its rows are in no order of time.
    config.dataset.split = 'random'
    config.embedding.penalty = PENALTIES.get(model, 0.01)
    defaults.set_model(config, MODELS, embedding_size=10, dropout=0.2)
    return config
