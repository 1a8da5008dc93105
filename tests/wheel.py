"""The package as a wheel, installed outside of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path

# All that a wheel is made of.
SOURCES = ('dlf_jax', 'configs', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE')


class Installed:
    """A virtual environment with the wheel; the packages that it needs are those of this environment.

    Attributes:
      python: path of its Python.
      site: folder of its packages.
    """

    def __init__(self, root: Path, folder: Path, environment: Mapping[str, str]):
        """Builds the wheel and installs it.

        Args:
          root: the project.
          folder: an empty folder.
          environment: variables of the processes that run in it, beside this process's own.
        """
        self._environment = environment
        source = folder / 'source'
        source.mkdir()
        for name in SOURCES:
            # A copy: building leaves files behind.
            if (root / name).is_dir():
                shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy(root / name, source)
        self._build(sys.executable, '-m', 'pip', 'wheel', '--no-deps', '-w', folder / 'dist', source)
        [wheel] = (folder / 'dist').glob('*.whl')
        venv.create(folder / 'venv', with_pip=False)
        self.python = folder / 'venv/bin/python'
        paths = sysconfig.get_paths(vars={'base': str(folder / 'venv'), 'platbase': str(folder / 'venv')})
        self.site = paths['purelib']
        install = ('install', '--no-deps', '--no-index', '--target', self.site)
        self._build(sys.executable, '-m', 'pip', *install, wheel)
        with open(f'{self.site}/dependencies.pth', 'w') as file:
            file.write(f'{sysconfig.get_paths()["purelib"]}\n')

    @staticmethod
    def _build(*line: str | Path) -> None:
        done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def __call__(self, folder: Path, *arguments: str | Path, fails: bool = False) -> str:
        """Runs `python ARGUMENTS` in a folder; returns its standard output, or its error if it must fail."""
        return self._run(folder, self.python, *arguments, fails=fails)

    def shell(self, folder: Path, code: str, **environment: str) -> str:
        """Runs lines of bash in a folder, in which `python` is that of the wheel; returns their standard
        output."""
        return self._run(folder, 'bash', '-euo', 'pipefail', '-c', code, **environment)

    def _run(self, folder: Path, *line: str | Path, fails: bool = False, **environment: str) -> str:
        env = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
        path = f'{self.python.parent}{os.pathsep}{env["PATH"]}'
        done = subprocess.run(
            line, cwd=folder, env={**env, **self._environment, 'PATH': path, **environment},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout
