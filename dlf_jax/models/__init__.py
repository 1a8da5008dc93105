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
from dlf_jax.models.afm import AFM
from dlf_jax.models.afn import AFN
from dlf_jax.models.autoint import AutoInt
from dlf_jax.models.dcn import DCN
from dlf_jax.models.dcnv2 import DCNv2
from dlf_jax.models.deepfm import DeepFM
from dlf_jax.models.dlf import DLF
from dlf_jax.models.edcn import EDCN
from dlf_jax.models.finalmlp import FinalMLP
from dlf_jax.models.finalnet import FinalNet
from dlf_jax.models.fm import FM
from dlf_jax.models.gdcn import GDCN
from dlf_jax.models.lr import LR
from dlf_jax.models.mlp import MLP
from dlf_jax.models.pnn import PNN
from dlf_jax.models.sam import SAM
from dlf_jax.models.wukong import Wukong
from dlf_jax.models.xdeepfm import XDeepFM

MODELS: dict[str, type[nn.Module]] = {
    'afm': AFM,
    'afn': AFN,
    'autoint': AutoInt,
    'dcn': DCN,
    'dcnv2': DCNv2,
    'deepfm': DeepFM,
    'dlf': DLF,
    'edcn': EDCN,
    'finalmlp': FinalMLP,
    'finalnet': FinalNet,
    'fm': FM,
    'gdcn': GDCN,
    'lr': LR,
    'mlp': MLP,
    'pnn': PNN,
    'sam': SAM,
    'wukong': Wukong,
    'xdeepfm': XDeepFM,
}


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
