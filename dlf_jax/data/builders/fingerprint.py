"""Fingerprint of prepared data: what its records are made of, and whether the files are still those."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from dlf_jax.data.download import checksums
from dlf_jax.data.preprocess import encoder
from dlf_jax.data.preprocess.task import WHOLE, Task
from dlf_jax.data.readers.partitions import partition_values
from dlf_jax.errors import UserError, shown
from dlf_jax.file_writing import to_json

# Version of the fingerprint's own contents.
VERSION = 2


class Fingerprint:
    """Hash of the keys that a dataset reads, its schema and the sums of its files, and those in words.

    Attributes:
      name: the hash, 16 hexadecimal digits.
      made_of: what it is a hash of, and for people `dataset`, `release` and the files' paths.
    """

    name: str
    made_of: dict[str, Any]

    def __init__(
        self,
        task: Task,
        keys: Mapping[str, Any],
        release: str,
        data_dir: str,
        is_prepared: Callable[[str], bool],
    ):
        """Sums the files, those whose sums are remembered only where their records are to be made.

        Args:
          task: the tables and the schema.
          keys: the keys that decide about the records, where they are not neutral.
          release: version of the dataset's code.
          data_dir: folder of remembered sums.
          is_prepared: whether there are records of a fingerprint's name.

        Raises:
          UserError: a file cannot be read, or changes meanwhile.
        """
        self._task, self._keys, self._release, self._data_dir = task, keys, release, data_dir
        self._paths = [path for table in task.tables.values() for path in table.paths]
        # What the files were when they were summed.
        self._stamps: dict[str, str] = {}
        self._read_anew = not checksums.are_remembered(self._paths, data_dir)
        self._compute(anew=False)
        if not (self._read_anew or is_prepared(self.name)):
            # The records that are about to be made are of the bytes that are there now.
            self._read_anew = True
            self._compute(anew=True)

    def _compute(self, anew: bool) -> None:
        self._stamps = {path: checksums.stamp(path) for path in self._paths}
        sums = dict(zip(self._paths, checksums.sums(self._paths, self._data_dir, anew), strict=True))
        tables = self._task.tables
        contents = {
            'version': VERSION,
            'keys': dict(self._keys),
            'schema': self._task.schema.identity(),
            'files': {part: [sums[path] for path in table.paths] for part, table in tables.items()},
            'encoder': encoder.VERSION,
        }
        if self._task.ancestor:
            contents['grown_from'] = self._task.ancestor.digest
        if folders := _folders(self._task):
            contents['folders'] = folders
        self.name = hashlib.sha256(to_json(contents, sort_keys=True).encode()).hexdigest()[:16]
        files = {
            'train' if part == WHOLE else part: [
                {'path': shown(os.path.abspath(path)), 'sum': sums[path]} for path in table.paths
            ]
            for part, table in tables.items()
        }
        self.made_of = {'dataset': self._task.name, 'release': self._release, **contents, 'files': files}

    def grounds(self) -> str:
        """What says that the records are those of the files, in words; '' where there are no files."""
        if not self._paths:
            return ''
        if self._read_anew:
            return ': the files, which were read for it, have the sums that they had when it was prepared'
        return (
            ': the files have the sizes and times that they had when they were summed; '
            '--config.dataset.verify=True reads them again'
        )

    def check_unchanged(self) -> None:
        """Raises UserError where a file is not what it was when it was summed."""
        changed = [path for path, before in self._stamps.items() if checksums.stamp(path) != before]
        if not changed:
            return
        sums = {file['path']: file['sum'] for files in self.made_of['files'].values() for file in files}
        for path, now in zip(changed, checksums.sums(changed, self._data_dir), strict=True):
            if now != sums[shown(os.path.abspath(path))]:
                raise UserError(
                    f'{path}: changed while it was prepared; run the same command again once it is whole'
                )


def _folders(task: Task) -> dict[str, list[list[str | None]]]:
    """Values that folders give to columns that are read, by part and file; {} where there are none."""
    columns, found = task.columns(), {}
    for part, table in task.tables.items():
        if names := [name for name in columns.typed if name in table.folder_columns]:
            values = map(partition_values, table.paths)
            found[part] = [[by_name[name] for name in names] for by_name in values]
    return found
