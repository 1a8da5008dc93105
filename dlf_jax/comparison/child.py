"""Starts `dlf_jax.main` so that it ends with the process that started it, however that one ends.

    python -m dlf_jax.comparison.child PARENT ARGUMENTS...

A comparison that is killed with `kill -9` cannot end its runs itself; left alone they would go on holding
devices and the locks of their folders. Linux can be told to end them; elsewhere they run to their end, and a
comparison that is started meanwhile waits for them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

# Option of prctl(2): the signal that this process gets when its parent dies.
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Becomes `dlf_jax.main` in this process; never returns."""
    parent, *arguments = sys.argv[1:]
    if sys.platform == 'linux':
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died before that call.
        if os.getppid() != int(parent):
            sys.exit(1)
    os.execv(sys.executable, [sys.executable, '-m', 'dlf_jax.main', *arguments])


if __name__ == '__main__':
    main()
