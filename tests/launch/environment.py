"""An environment for the scripts of `launch/` in which there is nothing to install."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.conftest import ROOT

EXTRAS = ('plain', 'docs', 'plots', 'plots,baselines', 'release', 'test', 'tune')


def virtual_environment(folder: Path, python: str = sys.executable) -> dict[str, str]:
    """Makes a virtual environment as `launch/environment.sh` knows them, which runs another Python.

    Args:
      folder: of the environment; made.
      python: the command that is its Python; this one, so that what is installed here is installed there.

    Returns:
      The variables of a process that is to use it.
    """
    (folder / 'bin').mkdir(parents=True)
    (folder / 'bin' / 'python').write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    (folder / 'bin' / 'python').chmod(0o755)
    (folder / 'bin' / 'activate').write_text(f'export PATH="{folder / "bin"}:$PATH"\n')
    for extra in EXTRAS:
        (folder / f'.installed-{extra}').write_text((ROOT / 'pyproject.toml').read_text())
    # Tools beside this Python, such as ruff.
    path = f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}'
    return {**os.environ, 'VENV': str(folder), 'PATH': path, 'JAX_PLATFORMS': 'cpu'}
