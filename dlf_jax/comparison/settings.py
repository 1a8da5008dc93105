"""What is compared: settings (a model, its variant, swept keys), and the paper's lists of them."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence

from dlf_jax import models
from dlf_jax.errors import UsageError, suggest

# What the others are tested against, and how the baselines of Table 2 are ordered there.
REFERENCE = 'dlf'
BASELINES = (
    'fm', 'afm', 'sam', 'autoint', 'dcn', 'dcnv2', 'deepfm', 'xdeepfm', 'afn', 'finalnet', 'finalmlp',
    'gdcn', 'pnn', 'edcn', 'wukong',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Setting:
    """A row of the table: a model, its variant, and config keys with their values as text."""

    model: str
    variant: str = 'full'
    swept: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """`dlf`, `dlf:wo_gate`, `dlf layers=4`."""
        model = self.model if self.variant == 'full' else f'{self.model}:{self.variant}'
        return ' '.join([model, *(f'{key.removeprefix("model.")}={value}' for key, value in self.swept)])


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
        ('avazu', 'criteo', 'movielens', 'frappe'), (*(Setting(model) for model in BASELINES), _FULL)
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
    """The list called `name`. Raises UsageError with the nearest name."""
    if name not in EXPERIMENTS:
        raise UsageError(f'--experiment={name}: no such experiment{suggest(name, EXPERIMENTS)}')
    return EXPERIMENTS[name]


def parse_models(text: str, sweeps: Sequence[str] = (), flag: str = '--models') -> tuple[Setting, ...]:
    """The settings that flags name.

    Args:
      text: by commas, models (`mlp`), variants (`dlf:wo_gate`), `MODEL:all` for all variants of a
        model, or `all` for all models.
      flag: what they were given by.
      sweeps: each `KEY=VALUE,VALUE,...`; several make a grid. Every setting is taken along it.

    Raises:
      UsageError: an unknown model or variant, with the nearest; a sweep of another form.
    """
    found: list[Setting] = []
    for name in split_list(text, flag):
        model, _, variant = name.partition(':')
        if model == 'all' and not variant:
            found += [Setting(model) for model in models.MODELS]
            continue
        if model not in models.MODELS:
            raise UsageError(f'{flag}={name}: there is no model {model!r}{suggest(model, models.MODELS)}')
        variants = models.MODELS[model].variants
        if variant == 'all':
            found += [Setting(model, known) for known in variants]
        elif variant and variant not in variants:
            raise UsageError(f'{flag}={name}: {model} has no such variant{suggest(variant, variants)}')
        else:
            found.append(Setting(model, variant or 'full'))
    grid = [parse_sweep(sweep) for sweep in sweeps]
    keys = [key for key, _ in grid]
    if len(set(keys)) < len(keys):
        raise UsageError(f'--sweep: {" and ".join(keys)}; each key once, with all its values')
    swept = [tuple(zip(keys, values, strict=True)) for values in itertools.product(*(v for _, v in grid))]
    return tuple(
        dict.fromkeys(dataclasses.replace(setting, swept=point) for setting in found for point in swept)
    )


def parse_sweep(text: str) -> tuple[str, tuple[str, ...]]:
    """`model.layers=2,4` as key and values; commas inside brackets are part of a value."""
    key, equals, values = text.removeprefix('config.').partition('=')
    if not equals or not key:
        raise UsageError(f'--sweep={text}: expected KEY=VALUE,VALUE,..., such as model.layers=2,4,6')
    return key, split_list(values, f'--sweep={key}')


def parse_seeds(text: str) -> tuple[int, ...]:
    """`5` is the seeds 0 to 4; with a comma, the seeds themselves: `3,4` or `7,`."""
    try:
        numbers = [int(part) for part in text.split(',') if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or (numbers == [0] and ',' not in text):
        raise UsageError(f'--seeds={text}: expected how many, such as 5, or which, such as 0,1,7')
    return tuple(dict.fromkeys(numbers)) if ',' in text else tuple(range(numbers[0]))


def split_list(text: str, flag: str) -> tuple[str, ...]:
    """Parts between commas that are outside brackets and quotes, without doubles."""
    parts = re.findall(r'(?:\([^)]*\)|\[[^\]]*\]|\'[^\']*\'|"[^"]*"|[^,])+', text)
    parts = [part.strip() for part in parts if part.strip()]
    if not parts:
        raise UsageError(f'{flag}={text}: names nothing')
    return tuple(dict.fromkeys(parts))
