"""Models: from looked-up embeddings to logits. They know nothing of files, devices or ids.

A model is a `CTRModel`, a pure `flax.linen` module. Its dataclass fields are the keys of `config.model`, its
property `tables` declares the embedding tables that it reads, and it is called as

    model(embeddings, *, train=False, mask=None, collectives=ONE_PROGRAM, inputs=None) -> logits

where `embeddings` is `{table: float32 [B, F, width]}` and the logits are float32 [B].

Adding a model takes one file:

    from dlf_jax.models import CTRModel, layers, validators

    class TwoLayers(CTRModel):
        \"\"\"An MLP on the concatenated embeddings.

        Attributes:
          embedding_size: width of an embedding.
          hidden: width of each hidden layer.
        \"\"\"

        embedding_size: int = 16
        hidden: tuple[int, ...] = (64, 64)

        def check(self):
            validators.check_positive(embedding_size=self.embedding_size)
            validators.check_widths(hidden=self.hidden)

        def logits(self, embeddings, mode):
            flat = embeddings['embedding'].reshape(len(embeddings['embedding']), -1)
            return layers.MLP(self.hidden, 1, name='tower')(flat, mode)[:, 0]

It trains as `--config.model.name=my_model.py:TwoLayers`, or `my_package.my_module:TwoLayers`. A model of this
package is also an entry of `MODELS`, under a name of its own.

- Hyperparameters need defaults, and are numbers, booleans, strings or tuples of these.
- Submodules and parameters are made where they are used, as in any compact method of Flax.
- `mode` goes to BatchNorm, Dropout and `layers.MLP`. A sum over the batch that a model takes itself is
  `mode.collectives.total(...)` over the rows that `mode.mask` selects, as in `layers.masked_moments`.
- Two tables or more, other widths: override the property `tables`; widths that follow from the number of
  fields: `tables_of`.
- Raw numbers, unpooled multi-valued fields, names of fields: `wants_inputs = True`, see `Inputs`.
- A further loss, the mean over the global batch: `self.sow('losses', 'name', loss)`, see `losses`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from dlf_jax import plugins
from dlf_jax.errors import UsageError, suggest
from dlf_jax.models.afm import AFM
from dlf_jax.models.afn import AFN
from dlf_jax.models.autoint import AutoInt
from dlf_jax.models.base import CTRModel as CTRModel
from dlf_jax.models.bst import BST
from dlf_jax.models.dcn import DCN
from dlf_jax.models.dcnv2 import DCNv2
from dlf_jax.models.deepfm import DeepFM
from dlf_jax.models.din import DIN
from dlf_jax.models.dlf import DLF
from dlf_jax.models.dlrm import DLRM
from dlf_jax.models.dlrm_dcnv2 import DLRMDCNv2
from dlf_jax.models.edcn import EDCN
from dlf_jax.models.eulernet import EulerNet
from dlf_jax.models.fcn import FCN
from dlf_jax.models.fibinet import FiBiNET
from dlf_jax.models.finalmlp import FinalMLP
from dlf_jax.models.finalnet import FinalNet
from dlf_jax.models.fm import FM
from dlf_jax.models.gdcn import GDCN
from dlf_jax.models.inputs import Bag as Bag
from dlf_jax.models.inputs import Inputs as Inputs
from dlf_jax.models.lr import LR
from dlf_jax.models.masknet import MaskNet
from dlf_jax.models.mlp import MLP
from dlf_jax.models.mode import ONE_PROGRAM as ONE_PROGRAM
from dlf_jax.models.mode import Collectives as Collectives
from dlf_jax.models.mode import Mode as Mode
from dlf_jax.models.onn import ONN
from dlf_jax.models.pnn import PNN
from dlf_jax.models.qnn import QNN
from dlf_jax.models.rankmixer import RankMixer
from dlf_jax.models.sam import SAM
from dlf_jax.models.wukong import Wukong
from dlf_jax.models.xdeepfm import XDeepFM

# Open list: an entry per model of this package.
MODELS: dict[str, type[CTRModel]] = {
    'afm': AFM,
    'afn': AFN,
    'autoint': AutoInt,
    'bst': BST,
    'dcn': DCN,
    'dcnv2': DCNv2,
    'deepfm': DeepFM,
    'din': DIN,
    'dlf': DLF,
    'dlrm': DLRM,
    'dlrm_dcnv2': DLRMDCNv2,
    'edcn': EDCN,
    'eulernet': EulerNet,
    'fcn': FCN,
    'fibinet': FiBiNET,
    'finalmlp': FinalMLP,
    'finalnet': FinalNet,
    'fm': FM,
    'gdcn': GDCN,
    'lr': LR,
    'masknet': MaskNet,
    'mlp': MLP,
    'onn': ONN,
    'pnn': PNN,
    'qnn': QNN,
    'rankmixer': RankMixer,
    'sam': SAM,
    'wukong': Wukong,
    'xdeepfm': XDeepFM,
}


def of_any_data() -> list[str]:
    """Names of the models that every dataset can train: those that need no history."""
    return [name for name, model in MODELS.items() if not model.needs_histories]


def model_class(name: str) -> type[CTRModel]:
    """Finds the class of a model.

    Args:
      name: an entry of `MODELS`, or `module:Name` or `file.py:Name` of a subclass of `CTRModel`.

    Raises:
      UsageError: there is no such model, or the object is not a `CTRModel` whose fields have defaults.
    """
    found = plugins.lookup(name, MODELS, 'config.model.name')
    if not (isinstance(found, type) and issubclass(found, CTRModel)):
        raise UsageError(
            f'config.model.name={name!r}: expected a subclass of dlf_jax.models.CTRModel, found {found!r}'
        )
    for field in _fields(found):
        if not hasattr(found, field):
            raise UsageError(
                f'config.model.name={name!r}: the field {field!r} of {found.__name__} has no default value, '
                'which config.model needs'
            )
    return found


def field_names(name: str) -> tuple[str, ...]:
    """Names of a model's hyperparameters, the keys of `config.model`, in their documented order.

    Raises:
      UsageError: see `model_class`.
    """
    return _fields(model_class(name))


def build(name: str, **fields: Any) -> CTRModel:
    """Makes a model.

    Args:
      name: see `model_class`.
      fields: hyperparameters; the others have their defaults.

    Raises:
      UsageError: see `model_class`.
      ValueError: the model has no such hyperparameter (the nearest name is suggested) or does not accept its
        value. The message begins with the key, `model.KEY`.
    """
    found = model_class(name)
    known = _fields(found)
    for field in fields:
        if field not in known:
            raise ValueError(f'model.{field}: {name!r} has no such field{suggest(field, known)}')
    return found(**fields)


def _fields(model: type[CTRModel]) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(model) if field.name not in ('parent', 'name'))
