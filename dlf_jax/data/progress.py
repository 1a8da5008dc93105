"""One progress bar for everything that takes long."""

from __future__ import annotations

import sys

import tqdm

_LOG_SECONDS = 10.0


class Progress(tqdm.tqdm):
    """Progress on standard error, with a rate and, where the total is known, the time left.

    On a terminal a bar that is redrawn; in a log file a line every ten seconds.
    """

    def __init__(self, what: str, unit: str, total: int | None = None, done: int = 0):
        self._terminal = sys.stderr.isatty()
        super().__init__(
            desc=what,
            unit=f' {unit}',
            total=total,
            initial=done,
            unit_scale=True,
            file=sys.stderr,
            mininterval=0.1 if self._terminal else _LOG_SECONDS,
            delay=0 if self._terminal else _LOG_SECONDS,
            dynamic_ncols=self._terminal,
            ncols=None if self._terminal else 100,
            ascii=not self._terminal,
            leave=False,
        )

    def advance(self, count: int) -> None:
        """Counts what has been done since."""
        self.update(count)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        if self._terminal:
            return super().display(msg, pos)
        if msg != '':  # '' would clear the bar
            print(str(self), file=sys.stderr, flush=True)
        return True

    def clear(self, nolock: bool = False) -> None:
        if self._terminal:
            super().clear(nolock)
