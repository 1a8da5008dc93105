"""MovielensLatest_x1 (does a user give a movie a tag; 3 categorical fields), with the leaderboards' recipe.

    python -m dlf_jax.main --config=configs/movielens.py --config.dataset.train=FOLDER/train.csv \
        --config.dataset.valid=FOLDER/valid.csv --config.dataset.test=FOLDER/test.csv \
        --workdir=/tmp/dlf-movielens

Time and scores are unknown: nobody has trained it on the full data yet, whose files are not part of the
project.
"""

from ml_collections import ConfigDict

from dlf_jax import config as defaults

# Fields of each model: the leaderboards' settings. DLF has those of `dlf_jax.config.SMALL`.
MODELS = {
    'afn': {'neurons': 800, 'hidden': (200,), 'dropout': 0.4, 'batch_norm': False},
    'autoint': {'attention_size': 128, 'layers': 2, 'heads': 4, 'layer_norm': True, 'scale': True},
    'dcnv2': {'cross_layers': 5},
    'dcn': {'cross_layers': 4},
    'deepfm': {'dropout': 0.3},
    # The leaderboard's setting regulates nothing; this is the form that it has on Frappe.
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
# Embedding penalty (lambda) of each model, where it is not 0.01.
PENALTIES = {'afm': 1e-5, 'afn': 1e-3, 'fm': 5e-6, 'lr': 5e-6, 'sam': 1e-3, 'xdeepfm': 5e-3}


def get_config(model: str = 'dlf') -> ConfigDict:
    """The config of MovieLens for a model; see `dlf_jax.config.get_config`."""
    config = defaults.get_config(model)
    config.dataset.name = 'movielens'
    # A single file is split at random, because its rows are not ordered by time.
    config.dataset.split = 'random'
    config.embedding.penalty = PENALTIES.get(model, 0.01)
    defaults.set_model(config, MODELS, embedding_size=10, dropout=0.2)
    return config
