"""The models: from looked-up rows to logits. They know nothing of files, devices or ids.

A model is a pure `flax.linen` module. Its fields are the keys of `config.model`, its property
`tables` declares the embedding tables it reads (`{name: width}`), its class attribute `variants`
maps each published variant to the fields it sets, and

    model(rows, *, train=False, mask=None, axis_name=None) -> logits

takes `rows: {table: float32 [B, F, width]}` to logits, float32 [B]. `mask`, bool [B], is False on
rows that only pad the batch; `axis_name` is the mapped axis inside `pmap`.
"""

import dataclasses
from typing import Any

import flax.linen as nn

from dlf_jax.errors import suggest
from dlf_jax.models.dlf import DLF
from dlf_jax.models.lr import LR
from dlf_jax.models.mlp import MLP

MODELS: dict[str, type[nn.Module]] = {'dlf': DLF, 'mlp': MLP, 'lr': LR}


def field_names(name: str) -> tuple[str, ...]:
    """Names of a model's fields, the keys of `config.model`, in their documented order."""
    fields = dataclasses.fields(_model_class(name))
    return tuple(field.name for field in fields if field.name not in ('parent', 'name'))


def build(name: str, **fields: Any) -> nn.Module:
    """The model called `name` with the given fields, the others at their defaults.

    Raises:
      ValueError: if there is no such model or field (the nearest name is suggested), or a field's
        value is not one that the model accepts.
    """
    known = field_names(name)
    for field in fields:
        if field not in known:
            raise ValueError(f'model.{field}: {name!r} has no such field{suggest(field, known)}')
    return MODELS[name](**fields)


def _model_class(name: str) -> type[nn.Module]:
    if name not in MODELS:
        raise ValueError(f'model.name={name!r}: there is no such model{suggest(name, MODELS)}')
    return MODELS[name]
