"""Click-through-rate prediction in JAX: DLF and the models that it is compared with."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = '0.2.0.dev0'

# Public names and the modules that hold them: imported when asked for, so that `import dlf_jax` takes no
# time and the command can set its process up before numpy and JAX start threads.
_PUBLIC = {
    'fit': 'dlf_jax.fit_frames',
    'load_config': 'dlf_jax.api',
    'prepare': 'dlf_jax.api',
    'train': 'dlf_jax.api',
    'evaluate': 'dlf_jax.trained_runs',
    'predict': 'dlf_jax.trained_runs',
    'export': 'dlf_jax.trained_runs',
    'explain': 'dlf_jax.trained_runs',
    'calibrate': 'dlf_jax.trained_runs',
    'compare_runs': 'dlf_jax.trained_runs',
    'report': 'dlf_jax.trained_runs',
    'load': 'dlf_jax.trained_runs',
    'get_config': 'dlf_jax.config',
    'TrainedModel': 'dlf_jax.trained_model',
    'UserError': 'dlf_jax.errors',
    'UsageError': 'dlf_jax.errors',
    'CTRModel': 'dlf_jax.models',
    'MODELS': 'dlf_jax.models',
    'DATASETS': 'dlf_jax.data.builders',
    'METRICS': 'dlf_jax.training.metrics',
    'OPTIMIZERS': 'dlf_jax.training.optimizers',
    'ROW_OPTIMIZERS': 'dlf_jax.training.row_optimizers',
}

if TYPE_CHECKING:
    from dlf_jax.api import load_config, prepare, train
    from dlf_jax.config import get_config
    from dlf_jax.data.builders import DATASETS
    from dlf_jax.errors import UsageError, UserError
    from dlf_jax.fit_frames import fit
    from dlf_jax.models import MODELS, CTRModel
    from dlf_jax.trained_model import TrainedModel
    from dlf_jax.trained_runs import (
        calibrate,
        compare_runs,
        evaluate,
        explain,
        export,
        load,
        predict,
        report,
    )
    from dlf_jax.training.metrics import METRICS
    from dlf_jax.training.optimizers import OPTIMIZERS
    from dlf_jax.training.row_optimizers import ROW_OPTIMIZERS

__all__ = [
    'DATASETS',
    'METRICS',
    'MODELS',
    'OPTIMIZERS',
    'ROW_OPTIMIZERS',
    'CTRModel',
    'TrainedModel',
    'UsageError',
    'UserError',
    'calibrate',
    'compare_runs',
    'evaluate',
    'explain',
    'export',
    'fit',
    'get_config',
    'load',
    'load_config',
    'predict',
    'prepare',
    'report',
    'train',
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
