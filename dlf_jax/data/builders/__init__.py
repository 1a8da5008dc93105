"""Datasets by name, each a TFDS builder of block records."""

from __future__ import annotations

from ml_collections import ConfigDict

from dlf_jax.data.builders.avazu import Avazu
from dlf_jax.data.builders.base import Builder
from dlf_jax.data.builders.criteo import Criteo
from dlf_jax.data.builders.frappe import Frappe
from dlf_jax.data.builders.movielens import Movielens
from dlf_jax.data.builders.synthetic import Synthetic
from dlf_jax.data.builders.table import Table

BUILDERS: dict[str, type[Builder]] = {
    'avazu': Avazu,
    'criteo': Criteo,
    'frappe': Frappe,
    'movielens': Movielens,
    'synthetic': Synthetic,
    'table': Table,
}


def build(config: ConfigDict, data_dir: str) -> Builder:
    """The builder that `config.dataset.name` selects."""
    return BUILDERS[config.name](config, data_dir)
