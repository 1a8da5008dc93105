"""Progress bar of long work, for terminals and log files."""

from __future__ import annotations

import sys

import tqdm

_LOG_SECONDS = 10.0


class Progress(tqdm.tqdm):
    """Progress on standard error, with a rate and, where the total is known, the time left.

    On a terminal a bar that is redrawn; in a log file a line every ten seconds.
    """

    def __init__(self, what: str, unit: str, total: int | None = None, done: int = 0):
        """Starts the bar.

        Args:
          what: the work, as a heading.
          unit: what is counted, in the plural.
          total: count at the end; None where it is not known.
          done: count that was done before.
        """
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
        """Adds to the count of what is done."""
        self.update(count)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Redraws the bar, or prints it as a line of a log file; called by tqdm."""
        if self._terminal:
            return super().display(msg, pos)
        if msg != '':  # '' would clear the bar
            print(str(self), file=sys.stderr, flush=True)
        return True

    def clear(self, nolock: bool = False) -> None:
        """Removes the bar from a terminal; called by tqdm."""
        if self._terminal:
            super().clear(nolock)
