"""Scales of a chart: from numbers to places, with round numbers for the marks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

from dlf_jax.analysis.report import formatting

# Steps between two marks, times a power of ten.
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


def round_marks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about as many as asked for."""
    if not high > low:
        return [low]
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min(_ROUND, key=lambda factor: abs(math.log(power * factor / rough)))
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def powers(low: float, high: float) -> list[float]:
    """Powers of ten between two numbers above 0; where they are few, with 2 and 5 times them."""
    ends = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [f * 10.0**e for e in ends for f in factors if low * 0.999 <= f * 10.0**e <= high * 1.001]
        if len(found) >= 3:
            return found[:: max(1, len(found) // 5)]
    return found


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis of a chart.

    Attributes:
      label: what it measures; '': the chart's title says it.
      low: number at its beginning.
      high: number at its end, above `low`.
      log: whether equal ratios are equal distances; `low` is then above 0.
      marks: numbers that are marked and their texts; empty: round ones.
      text: writes a round number.
    """

    label: str
    low: float
    high: float
    log: bool = False
    marks: Sequence[tuple[float, str]] = ()
    text: Callable[[float], str] = formatting.short

    def place(self, value: float) -> float:
        """Where a number lies, 0 at the axis's beginning and 1 at its end; never beyond."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def marked(self, about: int = 5) -> list[tuple[float, str]]:
        """The numbers that are marked, with their texts."""
        if self.marks:
            return [(value, text) for value, text in self.marks if self.low <= value <= self.high]
        found = powers(self.low, self.high) if self.log else []
        # Powers are too far apart for an axis that is short.
        found = found if len(found) > 1 else round_marks(self.low, self.high, about)
        return [(value, self.text(value)) for value in found]


def spanning(
    label: str,
    values: Iterable[float | None],
    *,
    zero: bool = False,
    log: bool = False,
    text: Callable[[float], str] | None = None,
) -> Axis:
    """An axis that spans values, with a little room.

    Args:
      label: what it measures.
      values: those that are None or not finite, and on a log axis those that are not above 0, do not count.
      zero: whether it begins at 0.
      log: see `Axis`.
      text: see `Axis`; None: as many digits as the marks differ in.
    """
    known = [v for v in values if v is not None and math.isfinite(v) and (v > 0 or not log)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if log:
        low, high = (low, high) if known else (0.1, 1.0)
        low, high = low / 1.15, high * 1.15
    else:
        low = min(low, 0.0) if zero else low
        room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        high, low = high + room, low if zero and low >= 0 else low - room
    return Axis(label, low, high, log, text=text or _digits(low, high, log))


def _digits(low: float, high: float, log: bool) -> Callable[[float], str]:
    """Writes marks with the digits in which they differ."""
    if log or high - low >= 10 or max(abs(low), abs(high)) >= 1000:
        return formatting.short
    digits = max(0, math.ceil(-math.log10((high - low) / 5)) + 1)
    if digits > 6:
        return formatting.short
    return lambda value: _trimmed(formatting.fixed(value, digits))


def _trimmed(text: str) -> str:
    return text.rstrip('0').rstrip('.') if '.' in text else text
