"""Search spaces: config keys and the values that a search may give them, read from TOML.

    [embedding]
    penalty = { low = 0.01, high = 0.2, log = true }
    [model]
    tokens = [4, 8, 16]
    head = [[], [400], [400, 400]]
    [optimizer]
    learning_rate = { times = [0.5, 1, 2] }

A list is a choice. `low` and `high` are a range with both ends, of whole numbers where both are; `log` draws
its logarithm uniformly, `step` puts it on a grid. `times` holds one of both, of factors of the value that the
config has. `CONFIGS/spaces/` holds spaces that are put together from several files, see `of_model`.
"""

from __future__ import annotations

import dataclasses
import logging
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from dlf_jax.errors import UsageError, UserError

_log = logging.getLogger(__name__)

# Name of the file of keys that many models have.
_SHARED = 'shared.toml'


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several values.

    Attributes:
      values: the values as the command line writes them.
    """

    values: tuple[str, ...]

    def distribution(self) -> Any:
        """The entry as an Optuna distribution."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def text(self, value: str) -> str:
        """A value of the distribution as the command line writes it."""
        return value

    def parse(self, text: str) -> str:
        """A value as the command line writes it as a value of the distribution."""
        return text

    def holds(self, text: str) -> bool:
        """Whether the entry has a value, written as on the command line."""
        return text in self.values

    def ends(self) -> tuple[str, ...]:
        """The values; of a range the least and the largest."""
        return self.values

    def __str__(self) -> str:
        return ', '.join(f'`{value}`' for value in self.values)


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; whole numbers where both are.

    The methods are those of `Choice`.

    Attributes:
      low: the least value.
      high: the largest value.
      log: whether the logarithm is drawn uniformly.
      step: distance of neighbours of a grid from `low` on; None: no grid.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def distribution(self) -> Any:
        """The entry as an Optuna distribution."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def on_grid(self, value: float) -> bool:
        """Whether a whole number of steps leads from `low` to a value."""
        steps = (value - self.low) / self.step if self.step else 0
        return abs(steps - round(steps)) < 1e-8

    def text(self, value: float) -> str:
        """A value of the distribution as the command line writes it."""
        if self.whole:
            return str(value)
        # Three digits where there is no step: finer differences are lost in the noise of a run.
        return f'{value:.10g}' if self.step else f'{value:.3g}'

    def parse(self, text: str) -> float:
        """A value as the command line writes it as a value of the distribution."""
        # Rounded to three digits it may lie beyond an end.
        return int(text) if self.whole else min(max(float(text), self.low), self.high)

    def holds(self, text: str) -> bool:
        """Whether the entry has a value, written as on the command line."""
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            return False
        return self.low <= value <= self.high and self.on_grid(value)

    def ends(self) -> tuple[str, ...]:
        """The least and the largest value."""
        return self.text(self.low), self.text(self.high)

    def __str__(self) -> str:
        how = ' (log)' if self.log else f' by {self.step}' if self.step else ''
        return f'{self.low} to {self.high}{how}'


@dataclasses.dataclass(frozen=True)
class Times:
    """Values around the one that the config has.

    Attributes:
      factors: what it is multiplied by.
    """

    factors: tuple[float, ...] | Range

    def of(self, value: float) -> Choice | Range:
        """The entry for a value of the config, a number other than 0."""
        if isinstance(self.factors, Range):
            low, high = (_scaled(value, factor) for factor in (self.factors.low, self.factors.high))
            return Range(low, high, self.factors.log)
        return Choice(tuple(dict.fromkeys(as_text(_scaled(value, factor)) for factor in self.factors)))


def _scaled(value: float, factor: float) -> float:
    if factor == 1:
        return value
    return max(round(value * factor), 1) if isinstance(value, int) else float(f'{value * factor:.3g}')


# Entries by dotted config key.
Space = dict[str, Choice | Range]
# The same as files have it.
Unresolved = dict[str, Choice | Range | Times]


def read(path: str | Path) -> Unresolved:
    """Reads the space in a TOML file. Raises UserError naming the file and the key."""
    found = _searched(_read(Path(path).expanduser()))
    if not found:
        raise UserError(f'{path}: no keys to search')
    return found


def of_model(folder: str | Path, dataset: str, model: str, known: Collection[str]) -> Unresolved:
    """The space of a model where no file is named: that of four files, of which each wins over those before.

    They are `spaces/shared.toml`, `spaces/DATASET/shared.toml`, `spaces/MODEL.toml` and
    `spaces/DATASET/MODEL.toml`, as far as they are there. Keys of the shared ones that the model lacks are
    left out.

    Args:
      folder: of config files.
      dataset: name of the dataset.
      model: name of the model.
      known: keys of the config.

    Raises:
      UsageError: there is none of them.
      UserError: names a file and a key.
    """
    places = [Path(folder).expanduser() / 'spaces', Path(folder).expanduser() / 'spaces' / dataset]
    shared = [place / _SHARED for place in places if (place / _SHARED).is_file()]
    own = [place / f'{model}.toml' for place in places if (place / f'{model}.toml').is_file()]
    if not shared and not own:
        raise UsageError(f'{places[0]}/{model}.toml: there is no such search space; --space=FILE names one')
    found: Unresolved = {}
    for path in shared:
        found.update({key: entry for key, entry in _read(path).items() if key in known})
    for path in own:
        found.update(_read(path))
    return _searched(found)


def resolved(found: Unresolved, values: Mapping[str, Any], where: str) -> Space:
    """The space with values in place of factors.

    Args:
      found: entries by key.
      values: those of the config, by key.
      where: name of the space, for errors.

    Returns:
      The space; without keys of factors whose value is 0.

    Raises:
      UserError: names a key with factors whose value is no number.
    """
    space: Space = {}
    for key, entry in found.items():
        value = values[key]
        if not isinstance(entry, Times):
            space[key] = entry
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f'{where}, {key}: times needs a number in the config, which has {value!r}')
        elif value == 0:
            _log.info('config.%s is 0 whatever it is multiplied by; it is not searched', key)
        else:
            space[key] = entry.of(value)
    return space


def _read(path: Path) -> Unresolved:
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: cannot be read as a search space: {error}') from error
    return dict(_entries(found, path))


def _searched(found: Unresolved) -> Unresolved:
    """Without the keys that an empty list takes out."""
    return {key: entry for key, entry in found.items() if entry != Choice(())}


def _entries(
    found: Mapping[str, Any], path: Path, prefix: str = ''
) -> Iterator[tuple[str, Choice | Range | Times]]:
    for name, value in found.items():
        key = f'{prefix}{name}'
        if isinstance(value, Mapping) and value.keys() == {'times'}:
            yield key, _times(value['times'], f'{path}, {key}')
        elif isinstance(value, Mapping) and not value.keys() & {'low', 'high'}:
            yield from _entries(value, path, f'{key}.')
        elif isinstance(value, Mapping):
            yield key, _range(value, f'{path}, {key}')
        elif isinstance(value, list):
            yield key, Choice(tuple(dict.fromkeys(as_text(choice) for choice in value)))
        else:
            raise UserError(f'{path}, {key}: expected a list of values or {{ low = ..., high = ... }}')


def _times(value: Any, where: str) -> Times:
    found = _range(value, where) if isinstance(value, Mapping) else None
    factors = value if isinstance(value, list) else [found.low] if found else []
    good = all(isinstance(n, int | float) and not isinstance(n, bool) and n > 0 for n in factors)
    if not factors or not good or (found and found.step is not None):
        raise UserError(f'{where}: expected a list or a range without a step, of factors above 0')
    return Times(found or tuple(factors))


def _range(value: Mapping[str, Any], where: str) -> Range:
    unknown = value.keys() - {'low', 'high', 'log', 'step'}
    if unknown:
        raise UserError(f'{where}: {sorted(unknown)[0]!r}: a range has low, high, log and step')
    numbers = [value.get('low'), value.get('high'), value.get('step', 1)]
    if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise UserError(f'{where}: low, high and step must be numbers, low and high both given')
    found = Range(**value)
    if not found.low < found.high or (found.log and (found.low <= 0 or found.step)):
        raise UserError(f'{where}: expected low < high; with log, low > 0 and no step')
    if found.step is not None and (
        found.step <= 0 or not found.on_grid(found.high) or (found.whole and not isinstance(found.step, int))
    ):
        raise UserError(f'{where}: expected a step that leads from low to high, whole where they are')
    return found


def as_text(value: Any) -> str:
    """A value of a config or of TOML as `--config.KEY=` takes it."""
    return repr(tuple(value)) if isinstance(value, list | tuple) else str(value)
