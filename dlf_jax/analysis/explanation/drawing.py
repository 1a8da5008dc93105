"""How pictures are drawn: SVG that reads on light and on dark pages.

The background is transparent, texts are texts in a middle grey, and bars of two kinds differ in hatching as
well as in colour. They need matplotlib, the extra `plots`.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from typing import Any

# Middle tones, which stand out from white and from black alike.
BLUE, ORANGE, GREY = '#3d85c6', '#d97d1f', '#808080'
# From low to high on maps: from a middle grey, which is quiet on either page.
LOW_TO_HIGH = 'viridis'
_STYLE: Any = {
    'svg.fonttype': 'none', 'svg.hashsalt': 'dlf_jax', 'font.size': 9, 'font.family': 'sans-serif',
    'text.color': GREY, 'axes.labelcolor': GREY, 'axes.edgecolor': GREY, 'xtick.color': GREY,
    'ytick.color': GREY, 'axes.titlecolor': GREY, 'axes.titlesize': 9, 'hatch.linewidth': 0.6,
}  # fmt: skip


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec('matplotlib') is not None


def figure(width: float, height: float) -> Any:
    """An empty figure of so many inches."""
    # Not pyplot: it keeps figures, and may look for a screen.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout='constrained')


def style() -> Any:
    """A context in which figures are drawn."""
    import matplotlib

    return matplotlib.rc_context(_STYLE)


def quiet(axes: Any) -> None:
    """Draws axes and grid so that the data stands out."""
    axes.patch.set_alpha(0)
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(True, color=GREY, linewidth=0.5, alpha=0.4)
    axes.set_axisbelow(True)


def svg(drawn: Any, alt: str) -> str:
    """A figure as the text of an SVG file, the same bytes for the same figure.

    Args:
      drawn: the figure.
      alt: what is to be seen, for those who do not see it.
    """
    written = io.StringIO()
    # A date would make every file another.
    drawn.savefig(written, format='svg', transparent=True, metadata={'Date': None, 'Description': alt})
    return written.getvalue()


def shortened(text: str, length: int = 22) -> str:
    """A text of at most so many characters. Dollar signs stay texts, not mathematics."""
    return (text if len(text) <= length else f'{text[: length - 1]}…').replace('$', r'\$')


def interval(cost: Mapping[str, float | None]) -> tuple[float, float]:
    """Ends of a cost's interval; where it has none, as of one row, its mean."""
    mean, low, high = cost['mean'] or 0.0, cost['low'], cost['high']
    return (mean, mean) if low is None or high is None else (low, high)


def bars(
    axes: Any,
    names: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]] | None = None,
    colour: str = BLUE,
) -> None:
    """Draws a horizontal bar for each name, from top to bottom, with its interval."""
    places = range(len(names))
    errors = None
    if intervals is not None:
        lower = [value - low for value, (low, _) in zip(values, intervals, strict=True)]
        upper = [high - value for value, (_, high) in zip(values, intervals, strict=True)]
        errors = [lower, upper]
    axes.barh(places, values, xerr=errors, color=colour, ecolor=GREY, height=0.7, capsize=2)
    axes.set_yticks(places, [shortened(name) for name in names])
    # Few bars are no fatter than those of other pictures.
    axes.set_ylim(max(len(names), 5) - 0.4, -0.6)
    axes.axvline(0, color=GREY, linewidth=0.8)
    quiet(axes)
    axes.grid(False, axis='y')


def dots(axes: Any, names: Sequence[str], values: Sequence[float]) -> None:
    """Draws a dot for each name, from top to bottom, on an axis that need not begin at 0."""
    places = range(len(names))
    axes.plot(values, places, 'o', color=BLUE, markersize=4)
    axes.set_yticks(places, [shortened(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    quiet(axes)
