"""Settings that are compared (a model, its variant, swept keys), and the paper's lists of them."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from dlf_jax import config as configs
from dlf_jax import models, plugins
from dlf_jax.errors import UsageError, suggest

# The model that the others are tested against, and those of the paper's Table 2 in its order.
REFERENCE = 'dlf'
_TABLE_2 = (
    'fm', 'afm', 'sam', 'autoint', 'dcn', 'dcnv2', 'deepfm', 'xdeepfm', 'afn', 'finalnet', 'finalmlp',
    'gdcn', 'pnn', 'edcn', 'wukong',
)  # fmt: skip
# File systems take names of 255 bytes.
_LONGEST_NAME = 120
# `file.py:Name` or `package.module:Name`, and perhaps `:VARIANT`.
_EXTERNAL = re.compile(r'(?P<place>.+?\.py|[\w.]+):(?P<object>\w+)(?::(?P<variant>.*))?')


@dataclasses.dataclass(frozen=True)
class Setting:
    """A row of the table before it has a dataset: a model, its variant, and swept config keys.

    Attributes:
      model: name in `MODELS`, or `module:Name` or `file.py:Name` with an absolute path; or a baseline.
      variant: one of the model's variants.
      swept: config keys and their values as text.
    """

    model: str
    variant: str = 'full'
    swept: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Name in tables and plots: `dlf`, `dlf:wo_gate`, `dlf layers=4`, `mine.py:Name`."""
        return self._text(short_name(self.model))

    @property
    def folder(self) -> str:
        """Folder of the setting's runs; two settings never share one."""
        return folder_name(self._text(self.model), self.name)

    def _text(self, model: str) -> str:
        model = model if self.variant == 'full' else f'{model}:{self.variant}'
        return ' '.join([model, *(f'{key.removeprefix("model.")}={value}' for key, value in self.swept)])


def short_name(name: str) -> str:
    """The name of an entry of an open list, for people: of a `file.py:Name` without the file's folder."""
    place, colon, attribute = name.rpartition(':')
    return f'{Path(place).name}:{attribute}' if place.endswith('.py') else f'{place}{colon}{attribute}'


def folder_name(name: str, shown: str = '') -> str:
    """A name as the name of a folder; two names never share one.

    Args:
      name: what is to be told apart.
      shown: a shorter form, for people; '': the name itself.
    """
    shown = shown or name
    plain = re.sub(r'[^\w.+=,-]', '_', shown.replace(' ', ',').replace(':', '-'))
    if shown == name and re.fullmatch(r'[\w.+=: -]*', name) and len(plain) <= _LONGEST_NAME:
        return plain
    # Brackets, quotes or folders were lost, or the end will be: a digest tells (8,) and [8] apart.
    plain = plain[:_LONGEST_NAME]
    return f'{plain}-{hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:6]}'


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A list of settings and the datasets that the paper shows them on."""

    datasets: tuple[str, ...]
    settings: tuple[Setting, ...]


def _along(key: str, values: Iterable[int]) -> tuple[Setting, ...]:
    return tuple(Setting(REFERENCE, swept=((key, str(value)),)) for value in values)


_FULL = Setting(REFERENCE)
# The paper does not say in words which datasets Figures 3 and 4 are about: Table 3's are taken.
EXPERIMENTS = {
    'table2': Experiment(
        ('avazu', 'criteo', 'movielens', 'frappe'), (*(Setting(model) for model in _TABLE_2), _FULL)
    ),
    'table3': Experiment(
        ('criteo', 'avazu'),
        (_FULL, *(Setting(REFERENCE, v) for v in ('wo_gate', 'wo_rli', 'wo_naf', 'wo_rli_naf'))),
    ),
    # The last of the figure's five, the full module, is the default, and so shares Table 2's runs.
    'figure3': Experiment(
        ('criteo', 'avazu'),
        (*(Setting(REFERENCE, f'fusion={f}') for f in ('concat', 'mlp', 'gate', 'attention')), _FULL),
    ),
    'figure4': Experiment(
        ('criteo', 'avazu'),
        (
            _FULL,
            *_along('model.attention_layers', (1, 2, 3, 4)),
            *_along('model.layers', (2, 4, 6, 8, 10, 12)),
        ),
    ),
}


def experiment(name: str) -> Experiment:
    """The experiment called `name`. Raises UsageError with the nearest name."""
    if name not in EXPERIMENTS:
        raise UsageError(f'--experiment={name}: no such experiment{suggest(name, EXPERIMENTS)}')
    return EXPERIMENTS[name]


def parse_models(text: str, sweeps: Sequence[str] = (), flag: str = '--models') -> tuple[Setting, ...]:
    """Reads a list of models and the keys that are swept.

    Args:
      text: by commas, models (`mlp`), variants (`dlf:wo_gate`), `MODEL:all` for all variants of a model, or
        `all` for all models but those that need histories, which few data have; a MODEL of one's own is
        `module:Name` or `file.py:Name`. `logistic` and `lightgbm` are the baselines, which `all` leaves out.
      sweeps: each `KEY=VALUE,VALUE,...`; several make a grid. Every model is taken along it.
      flag: name of the flag that holds `text`, for errors.

    Raises:
      UsageError: an unknown model or variant, with the nearest; a sweep of another form.
    """
    chosen: list[Setting] = []
    for name in split_list(text, flag):
        if name == 'all':
            chosen += [Setting(model) for model in models.of_any_data()]
            continue
        model, variant = _split_model(name, f'{flag}={name}')
        variants = configs.variants_of(model)
        if variant == 'all':
            chosen += [Setting(model, known) for known in variants]
        elif variant and variant not in variants:
            raise UsageError(f'{flag}={name}: {model} has no such variant{suggest(variant, variants)}')
        else:
            chosen.append(Setting(model, variant or 'full'))
    grid = [parse_sweep(sweep) for sweep in sweeps]
    keys = [key for key, _ in grid]
    if len(set(keys)) < len(keys):
        raise UsageError(f'--sweep: {" and ".join(keys)}; give each key once, with all its values')
    points = [tuple(zip(keys, values, strict=True)) for values in itertools.product(*(v for _, v in grid))]
    return tuple(
        dict.fromkeys(dataclasses.replace(setting, swept=point) for setting in chosen for point in points)
    )


def _split_model(name: str, where: str) -> tuple[str, str]:
    """Parts `MODEL:VARIANT` and `file.py:Name:VARIANT`; the variant is '' where there is none."""
    model, _, variant = name.partition(':')
    if model in models.MODELS or model in configs.BASELINES:
        return model, variant
    external = _EXTERNAL.fullmatch(name)
    # A mistyped model with a variant looks like an object of a module that there is not.
    if external and (external['place'].endswith('.py') or _is_module(external['place'])):
        return plugins.absolute(f'{external["place"]}:{external["object"]}'), external['variant'] or ''
    raise UsageError(
        f'{where}: there is no model {model!r}{suggest(model, (*models.MODELS, *configs.BASELINES))}'
    )


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
    except Exception:
        # There is one, and its package fails; looking the object up says how.
        return True


def parse_sweep(text: str) -> tuple[str, tuple[str, ...]]:
    """Reads `model.layers=2,4` as key and values; commas inside brackets are part of a value."""
    key, equals, values = text.removeprefix('config.').partition('=')
    if not equals or not key:
        raise UsageError(f'--sweep={text}: expected KEY=VALUE,VALUE,..., such as model.layers=2,4,6')
    return key, split_list(values, f'--sweep={key}')


def parse_seeds(text: str) -> tuple[int, ...]:
    """Reads seeds: `5` is the seeds 0 to 4; with a comma, the seeds themselves: `3,4` or `7,`."""
    try:
        numbers = [int(part) for part in text.split(',') if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or (numbers == [0] and ',' not in text):
        raise UsageError(f'--seeds={text}: expected how many, such as 5, or which, such as 0,1,7')
    return tuple(dict.fromkeys(numbers)) if ',' in text else tuple(range(numbers[0]))


def split_list(text: str, flag: str) -> tuple[str, ...]:
    """The parts between commas that are outside brackets and quotes, each once.

    Raises:
      UsageError: there are none.
    """
    parts = re.findall(r'(?:\([^)]*\)|\[[^\]]*\]|\'[^\']*\'|"[^"]*"|[^,])+', text)
    parts = [part.strip() for part in parts if part.strip()]
    if not parts:
        raise UsageError(f'{flag}={text}: expected names or values, separated by commas')
    return tuple(dict.fromkeys(parts))
