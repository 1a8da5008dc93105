"""Staging of rows on disk between two passes, as plain arrays: one file per name, in the order of the chunks.

Inside a chunk the array is stored column by column, as it is made and used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dlf_jax.data.rows import Rows


class Staging:
    """Chunks of rows on disk, appended one after another and read by number."""

    def __init__(self, folder: Path):
        """Starts without rows; `folder` is made where it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._columns: dict[str, np.ndarray] = {}  # without rows, for dtype and shape
        self._starts = [0]

    def __len__(self) -> int:
        """Number of chunks."""
        return len(self._starts) - 1

    @property
    def rows(self) -> int:
        """Number of rows of all chunks."""
        return self._starts[-1]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays."""
        return tuple(self._columns)

    def bounds(self, chunk: int) -> tuple[int, int]:
        """Numbers of a chunk's first row and of the row after its last."""
        return self._starts[chunk], self._starts[chunk + 1]

    def append(self, columns: Rows) -> None:
        """Appends a chunk; all chunks have the same names, dtypes and trailing shapes."""
        for name, values in columns.items():
            if name not in self._files:
                self._files[name] = open(self._folder / name, 'wb')  # noqa: SIM115 - closed by close()
                self._columns[name] = values[:0]
            self._files[name].write(np.ascontiguousarray(values.T).data)
        self._starts.append(self._starts[-1] + len(values))

    def close(self) -> None:
        """Closes the files; no chunk may be appended any more."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def read(self, chunk: int, names: Sequence[str]) -> Rows:
        """Reads arrays of a chunk by name, each [rows, ...]."""
        first, stop = self.bounds(chunk)
        found = {}
        for name in names:
            empty = self._columns[name]
            width = int(np.prod(empty.shape[1:], dtype=np.int64))
            values = np.fromfile(
                self._folder / name,
                empty.dtype,
                (stop - first) * width,
                offset=first * width * empty.itemsize,
            )
            found[name] = values.reshape(*empty.shape[:0:-1], stop - first).T
        return found
