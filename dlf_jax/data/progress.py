"""Progress bar of long work, for terminals, log files and notebooks."""

from __future__ import annotations

import sys
from typing import Any

import tqdm.auto

_LOG_SECONDS = 10.0


# The class of bars that are widgets is there in a notebook alone, if it has ipywidgets.
_notebook = sys.modules.get('tqdm.notebook')


class Progress(tqdm.auto.tqdm):
    """Progress on standard error, with a rate and, where the total is known, the time left.

    On a terminal a bar that is redrawn; in a log file a line every ten seconds; in a notebook a widget.
    """

    _widget = _notebook is not None and issubclass(tqdm.auto.tqdm, _notebook.tqdm)

    def __init__(self, what: str, unit: str, total: int | None = None, done: int = 0):
        """Starts the bar.

        Args:
          what: the work, as a heading.
          unit: what is counted, in the plural.
          total: count at the end; None where it is not known.
          done: count that was done before.
        """
        self._terminal = sys.stderr.isatty() and not self._widget
        redrawn = self._terminal or self._widget
        super().__init__(
            desc=what,
            unit=f' {unit}',
            total=total,
            initial=done,
            unit_scale=True,
            file=sys.stderr,
            mininterval=0.1 if redrawn else _LOG_SECONDS,
            delay=0 if redrawn else _LOG_SECONDS,
            dynamic_ncols=redrawn,
            ncols=None if redrawn else 100,
            ascii=not redrawn,
            leave=False,
        )

    def advance(self, count: int) -> None:
        """Adds to the count of what is done."""
        self.update(count)

    def display(self, msg: str | None = None, pos: int | None = None, **options: Any) -> bool | None:
        """Redraws the bar, or prints it as a line of a log file; called by tqdm."""
        if self._widget:
            return super().display(msg or self._widget_text(), pos, **options)
        if self._terminal:
            return super().display(msg, pos)
        if msg != '':  # '' would clear the bar
            print(str(self), file=sys.stderr, flush=True)
        return True

    def _widget_text(self) -> str | None:
        """What stands around a widget's bar, which is `<bar/>`; None: what tqdm writes."""
        return None

    def clear(self, *args: Any, **options: Any) -> None:
        """Removes the bar from a terminal; called by tqdm."""
        if self._terminal:
            super().clear(*args, **options)

    def close(self) -> None:
        """Ends the bar."""
        if self._widget:
            # Work that ends before its total, as training may, is no error, which tqdm would paint red.
            self.total = None
        super().close()
