"""Numbers as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

# What stands where there is no number.
NONE = '–'
_MINUS = '\u2212'
_STEPS = (('', 1.0), (' k', 1e3), (' M', 1e6), (' G', 1e9))


def _defined(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def fixed(value: float | None, digits: int = 4) -> str:
    """A score with a fixed number of digits after the point: 0.9885."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f'{value:.{digits}f}'
    # No sign of what rounds to 0.
    return (text if float(text) else text.lstrip('-')).replace('-', _MINUS)


def signed(value: float | None, digits: int = 4) -> str:
    """A difference with its sign: +0.0012."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f'{value:+.{digits}f}'
    # No sign of what rounds to 0.
    return (text if float(text) else text.lstrip('+-')).replace('-', _MINUS)


def count(value: float | None) -> str:
    """A number of things: 288,609."""
    return f'{value:,.0f}'.replace('-', _MINUS) if value is not None and math.isfinite(value) else NONE


def short(value: float | None) -> str:
    """A number in three digits or so: 1.2 M, 0.0034, 5.1e-06."""
    if value is None or not math.isfinite(value):
        return NONE
    size = abs(value)
    if size and (size < 1e-4 or size >= 1e12):
        return re.sub(r'e([+-])0*', lambda sign: 'e' + sign[1].strip('+'), f'{value:.2g}').replace(
            '-', _MINUS
        )
    # The unit is that of the number with its three digits: 999.6 is 1 k.
    value = float(f'{value:.3g}')
    name, unit = next(((n, u) for n, u in reversed(_STEPS) if abs(value) >= u), _STEPS[0])
    return f'{value / unit:.3g}{name}'.replace('-', _MINUS)


def percent(share: float | None) -> str:
    """A share as per cent, with two digits that say something: 12 %, 3.4 %, 0.052 %."""
    if share is None or not math.isfinite(share):
        return NONE
    found = 100 * share
    if found == 0 or abs(found) >= 99.95:
        text = f'{found:.0f}'
    elif abs(found) >= 10:
        text = f'{found:.1f}'
    elif abs(found) >= 0.01:
        text = f'{found:.2g}'
    else:
        text = '< 0.01' if found > 0 else f'{found:.2g}'
    return f'{text} %'.replace('-', _MINUS)


def round_percent(share: float) -> str:
    """A round share for the mark of an axis: 25 %, 0.1 %, 0.0001 %."""
    return f'{100 * share:.6f}'.rstrip('0').rstrip('.').replace('-', _MINUS) + ' %'


def interval(bounds: Sequence[float] | None, digits: int = 4) -> str:
    """The ends of an interval: 0.9871 to 0.9893."""
    if bounds is None or not all(map(_defined, bounds)):
        return NONE
    return f'{fixed(bounds[0], digits)} to {fixed(bounds[1], digits)}'


def duration(seconds: float | None) -> str:
    """A time: 0.4 s, 48 s, 3 min 12 s, 2 h 5 min."""
    if seconds is None:
        return NONE
    if seconds < 10:
        return f'{seconds:.1f} s'
    whole = round(seconds)
    if whole < 60:
        return f'{whole} s'
    if whole < 3600:
        return f'{whole // 60} min {whole % 60} s'
    return f'{whole // 3600} h {whole % 3600 // 60} min'


def plural(number: int, one: str, many: str = '') -> str:
    """A number with its noun: 1 field, 10 fields."""
    return f'{number:,} {one if number == 1 else many or one + "s"}'
