"""Your own CSV, TSV or Parquet files, with a label column and features that you name.

    python -m dlf_jax.main --config=configs/table.py --config.dataset.train='logs/*.parquet' \
        --config.dataset.label=click --config.dataset.categorical="('user','ad','country')" \
        --config.dataset.numeric="('price',)" --workdir=/tmp/dlf-own

The rows are split 7:2:1 in file order unless `--config.dataset.valid` names files of their own.
"""

from ml_collections import ConfigDict

from dlf_jax import config as defaults


def get_config(model: str = 'dlf') -> ConfigDict:
    """The config of your own files for a model; see `dlf_jax.config.get_config`."""
    config = defaults.get_config(model)
    config.dataset.name = 'table'
    config.dataset.min_count = 2
    config.embedding.penalty = 1e-4
    defaults.set_model(config, {}, embedding_size=16, dropout=0.1)
    return config
