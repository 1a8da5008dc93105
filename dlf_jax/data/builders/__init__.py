"""Datasets by name, each a TFDS builder of block records.

A dataset is one class in one file. Its `make_schema` declares the features; all else has defaults:

    from dlf_jax.data.builders.base import Builder
    from dlf_jax.data.schema import Schema

    class Songs(Builder):
        \"\"\"Which song a listener skips.\"\"\"

        def make_schema(self, table):
            fields = (self.categorical('listener'), self.categorical('song'), self.number('age', 'standard'))
            return Schema(fields, label='skipped')

The file can be anywhere: `--config.dataset.name=songs.py:Songs` (or `package.module:Songs`) trains on it, and
the workdir remembers it. A dataset of this package has its file in this folder and an entry in `DATASETS`.

Fields of several values, such as a history, are `self.multi_valued(...)`; `examples/songs.py` has one.

What a dataset may override is documented in `base.Builder`: `open_files` where the files have a format of
their own, `with_derived` where columns are made of others, `open_tables` where the rows are generated,
`KEYS` where it reads other keys of `config.dataset` than the default ones (a key of its own is added to the
config by a config file), and `VERSION`, to be raised whenever the code makes other records of the same files,
since prepared data of the same version is reused.
"""

from __future__ import annotations

import inspect

from ml_collections import ConfigDict

from dlf_jax import plugins
from dlf_jax.data.builders.avazu import Avazu
from dlf_jax.data.builders.base import Builder
from dlf_jax.data.builders.criteo import Criteo
from dlf_jax.data.builders.frappe import Frappe
from dlf_jax.data.builders.movielens import Movielens
from dlf_jax.data.builders.own_table import OwnTable
from dlf_jax.data.builders.synthetic import Synthetic
from dlf_jax.data.builders.synthetic_histories import SyntheticHistories
from dlf_jax.data.preprocess.task import Ancestor
from dlf_jax.errors import UsageError

# Folder of prepared data, shared by all runs.
DATA_DIR = '~/.cache/dlf_jax'

DATASETS: dict[str, type[Builder]] = {
    'avazu': Avazu,
    'criteo': Criteo,
    'frappe': Frappe,
    'movielens': Movielens,
    'synthetic': Synthetic,
    'synthetic_histories': SyntheticHistories,
    'table': OwnTable,
}


def dataset_class(name: str) -> type[Builder]:
    """Class of a dataset.

    Args:
      name: a name in `DATASETS`, or `module:Name` or `file.py:Name`.

    Raises:
      UsageError: no such dataset, or an object that is none.
    """
    found = plugins.lookup(name, DATASETS, 'config.dataset.name')
    if not (inspect.isclass(found) and issubclass(found, Builder)) or found is Builder:
        kind = found.__name__ if inspect.isclass(found) else f'an object of type {type(found).__name__}'
        raise UsageError(
            f'config.dataset.name={name!r}: expected a subclass of dlf_jax.data.builders.base.Builder, '
            f'found {kind}'
        )
    if inspect.isabstract(found):
        raise UsageError(f'config.dataset.name={name!r}: {found.__name__} does not define make_schema')
    return found


def build(config: ConfigDict, data_dir: str, ancestor: Ancestor | None = None) -> Builder:
    """Opens the dataset that a config selects.

    Args:
      config: `config.dataset`.
      data_dir: folder of prepared data.

    Raises:
      UsageError: no such dataset.
      UserError: files that are missing, cannot be read, or are not what the config says.
    """
    if ancestor is None:
        return dataset_class(config.name)(config, data_dir)
    return dataset_class(config.name)(config, data_dir, ancestor)
