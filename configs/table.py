"""Your own CSV, TSV or Parquet files, with a label column and features that you name.

    python -m dlf_jax.main --config=configs/table.py --config.dataset.train='logs/*.parquet' \
        --config.dataset.label=click --config.dataset.categorical="('user','ad','country')" \
        --config.dataset.numeric="('price',)" --workdir=/tmp/dlf-own

The rows are split 7:2:1 in file order unless `--config.dataset.valid` names files of their own. What depends
on the numbers of training rows and fields is chosen when they are known, unless you give it: batch size,
steps between evaluations, penalty, dropout, width of embeddings, BatchNorm (`dlf_jax/config_by_size.py`).
"""

from ml_collections import ConfigDict

from dlf_jax import config as defaults
from dlf_jax import config_by_size

# Narrower than for the public datasets: own tables mostly have fewer rows to learn from.
WIDTHS = (128, 64)
MODELS = {
    # Without norms a small embedding stays small, and the penalty can hold it.
    'dlf': {
        'layers': 1,
        'tokens': 4,
        'rank': 4,
        'heads': 1,
        'hidden': (),
        'implicit_hidden': WIDTHS,
        'head': (),
        'norm': 'none',
        'product_norm': 'none',
    },
    'dlrm': {'bottom_hidden': (64,)},
    'dlrm_dcnv2': {'bottom_hidden': (64,), 'rank': 32},
    'fcn': {'ecn_layers': 2, 'lcn_layers': 2},
    'finalmlp': {'heads': 4, 'gate_hidden': (64,)},
    'afm': {'attention_size': 32},
    'autoint': {'attention_size': 32, 'heads': 2, 'layers': 2},
    'afn': {'neurons': 200},
    'sam': {'layers': 1},
    'wukong': {'fm_tokens': 16, 'linear_tokens': 16, 'layers': 2},
}
# Of models whose every layer multiplies or normalises embeddings: these begin large enough to matter, and
# dropout after each of the layers would leave little.
_OF_LAYERS = {
    'optimizer.learning_rate': 3e-3,
    'embedding.penalty': 1e-3,
    'embedding.std': 0.1,
    'model.dropout': 0.0,
}
# Models whose embeddings are all that they have, or meet in products of several; FinalMLP's begin slowly;
# ONN has embeddings for each other field.
KEYS = {
    'finalmlp': {'optimizer.learning_rate': 3e-3},
    'fcn': _OF_LAYERS,
    'rankmixer': _OF_LAYERS,
    'onn': {'model.embedding_size': 4},
    'lr': {'optimizer.learning_rate': 1e-2, 'embedding.penalty': 1e-4},
    'fm': {'optimizer.learning_rate': 3e-3, 'embedding.penalty': 1e-3},
    'afm': {'optimizer.learning_rate': 3e-3, 'embedding.penalty': 1e-3, 'model.dropout': 0.0},
    'sam': {'optimizer.learning_rate': 3e-3, 'embedding.penalty': 1e-3, 'embedding.std': 0.1},
}


def get_config(model: str = 'dlf') -> ConfigDict:
    """The config of your own files for a model; see `dlf_jax.config.get_config`."""
    config = defaults.get_config(model)
    config.dataset.name = 'table'
    config.dataset.min_count = 2
    config.training.monitor = 'auc-logloss'
    config.plateau.factor = 0.5
    config.plateau.patience = 6
    config.predict.batch_size = 1024
    towers = dict.fromkeys(('hidden', 'deep_hidden', 'hidden_1', 'hidden_2'), WIDTHS)
    defaults.set_model(config, MODELS, **towers)
    config.update_from_flattened_dict(KEYS.get(model, {}))
    known = dict(defaults.flatten(config)).keys() - KEYS.get(model, {}).keys()
    config_by_size.leave_open(config, *(key for key in config_by_size.KEYS if key in known))
    return config
