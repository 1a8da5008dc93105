"""Data sets that are generated from a seed, with clicks drawn from known probabilities."""

from __future__ import annotations

import abc
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl

from dlf_jax.data.builders.base import CATEGORY_KEYS, SPLIT_KEYS, Builder
from dlf_jax.data.preprocess.splits import PARTS
from dlf_jax.data.preprocess.task import WHOLE
from dlf_jax.data.readers.chunk import Chunk, Columns
from dlf_jax.data.readers.tables import Table
from dlf_jax.errors import UserError

CHUNK_ROWS = 65_536


class GeneratedTable(abc.ABC):
    """Table of generated rows, any number of them, always the same for a seed.

    Class attributes:
      columns: names of its columns.
    """

    columns: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    folder_columns: tuple[str, ...] = ()
    absent: ClassVar[Mapping[str, str]] = {}
    families: ClassVar[Mapping[str, tuple[str, str]]] = {}

    def __init__(self, rows: int, seed: int):
        """Defines the rows; generates nothing.

        Args:
          rows: number of rows.
          seed: seed of the rows and of their law.
        """
        self.rows = rows
        self.seed = seed

    @abc.abstractmethod
    def frame(self, start: int) -> pl.DataFrame:
        """Generates the chunk of rows from row `start` on, with the `probability` of a click."""

    @property
    def name(self) -> str:
        """Name of the table, for error messages."""
        return 'the synthetic data'

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.rows

    def chunks(self, columns: Columns) -> Iterator[Chunk]:
        """See `Table.chunks`."""
        for place, _ in self.places(0):
            yield self.read(place, columns)

    def places(self, file: int, unpacked: str = '') -> Iterator[tuple[tuple, int]]:
        """See `Table.places`."""
        del file, unpacked
        for start in range(0, self.rows, CHUNK_ROWS):
            yield (start,), min(CHUNK_ROWS, self.rows - start)

    def read(self, place: tuple, columns: Columns) -> Chunk:
        """See `Table.read`."""
        (start,) = place
        frame = self.frame(start)
        kept = frame.select(columns.keep) if columns.keep else None
        single = [name for name in columns.text if not isinstance(frame.schema[name], pl.List)]
        typed = frame.select(columns.typed).cast(dict.fromkeys(single, pl.String))
        return Chunk(typed, self.name, start + 1, kept=kept)


class Generated(Builder):
    """Data set of a generated table: `dataset.rows` rows from the seed `dataset.seed`, split 7:2:1.

    Class attributes:
      TABLE: the kind of table.
    """

    TABLE: ClassVar[type[GeneratedTable]]
    KEYS = {
        **{key: neutral for key, neutral in SPLIT_KEYS.items() if key != 'time'},
        **CATEGORY_KEYS,
        'rows': 600_000,
        'seed': 0,
    }

    @functools.cached_property
    def _table(self) -> GeneratedTable:
        return self.TABLE(self.dataset.rows, self.dataset.seed)

    def open_tables(self) -> dict[str, Table]:
        if self.dataset.split == 'time':
            raise UserError("config.dataset.split='time': the synthetic data has no column of times")
        return {WHOLE: self._table}

    def write_extras(self, folder: Path) -> None:
        """Writes the true probabilities, from which the best possible AUC is computed."""
        table, split = self._table, self.task.split
        assert split is not None
        found = []
        for start in range(0, table.rows, CHUNK_ROWS):
            truth = table.frame(start)['probability']
            part = pl.Series('part', split.assign(start, len(truth), table.rows))
            found.append(pl.DataFrame([truth, part]).filter(pl.col('part') > 0))
        by_part = pl.concat(found).partition_by('part', as_dict=True, include_key=False)
        for (number,), rows in by_part.items():
            rows.write_parquet(_truth_path(folder, PARTS[number]))

    def true_probabilities(self, part: str) -> np.ndarray | None:
        """True click probabilities of the validation or test part; None for the training part."""
        path = _truth_path(self.data_dir, part)
        return pl.read_parquet(path)['probability'].to_numpy() if path.is_file() else None


def _truth_path(folder: str | os.PathLike, part: str) -> Path:
    return Path(folder) / f'truth-{part}.parquet'
