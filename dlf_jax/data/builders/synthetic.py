"""Synthetic data of Criteo's shape, generated from a seed, with clicks drawn from known probabilities.

The logit of a row is a sum of known terms: a weight per value (first order), inner products of latent
vectors of pairs of fields (second), products of the latent signs of three fields (third), and linear and
crossed terms of the numbers. So the best AUC that any model can reach is known.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl

from dlf_jax.data.builders.base import CATEGORY_KEYS, NUMBER_KEYS, SPLIT_KEYS, Builder
from dlf_jax.data.builders.criteo import CATEGORIES, NUMBERS
from dlf_jax.data.preprocess.splits import PARTS
from dlf_jax.data.preprocess.task import WHOLE
from dlf_jax.data.readers.chunk import Chunk, Columns
from dlf_jax.data.readers.tables import Table
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UserError

CHUNK_ROWS = 65_536
SIZES = (
    300, 120, 200, 150, 40, 12, 200, 60, 4, 150, 100, 250, 80, 16, 120, 200, 10, 60, 40, 5, 150, 14,
    15, 150, 30, 90,
)  # fmt: skip
ZIPF = 1.4
MISSING_NUMBERS = 0.08
MISSING_VALUES = 0.04
PAIRS = ((5, 8), (13, 19), (16, 21), (22, 24), (8, 16), (5, 22), (4, 19))
TRIPLES = ((8, 16, 19), (5, 13, 19), (8, 21, 22))
# Categorical fields, each crossed with the number of its place in this list.
CROSSED = (4, 5, 7, 8, 13)
RANK = 2
# Standard deviation of each term of the logit, and the mean of the logit.
FIRST, SECOND, THIRD, NUMERIC, BIAS = 1.2, 0.65, 0.45, 0.9, -1.4


class SyntheticTable:
    """Table of generated rows, any number of them, always the same for a seed."""

    columns = ('label', *NUMBERS, *CATEGORIES)
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
        typed = frame.select(columns.typed).cast(dict.fromkeys(columns.text, pl.String))
        return Chunk(typed, self.name, start + 1, kept=kept)

    @functools.cached_property
    def _law(self) -> dict[str, list[np.ndarray] | np.ndarray]:
        """Latent weights, vectors and signs of every value, of which number 0 is the missing one.

        Rare values weigh less, so that the law can be learnt from some hundred thousand rows.
        """
        draw = np.random.Generator(np.random.PCG64([self.seed, 0]))
        return {
            'weight': [draw.normal(size=n + 1) / (1 + np.arange(n + 1) / 20) ** 0.5 for n in SIZES],
            'latent': [draw.normal(size=(n + 1, RANK)) for n in SIZES],
            'sign': [draw.choice([-1.0, 1.0], size=n + 1) for n in SIZES],
            'slope': draw.normal(size=len(NUMBERS)),
            'cumulated': [np.cumsum(1.0 / np.arange(1, n + 1) ** ZIPF) for n in SIZES],
        }

    def logits(self, ids: Sequence[np.ndarray], numbers: np.ndarray) -> np.ndarray:
        """The law: logits of rows, float64 [rows].

        Args:
          ids: number of each row's value by categorical field, int64 [rows] each; 0 for a missing one.
          numbers: float64 [rows, 13]; NaN where missing.
        """
        law, z = self._law, np.nan_to_num(numbers)
        weight, latent, sign = law['weight'], law['latent'], law['sign']
        first = sum(weight[f][i] for f, i in enumerate(ids)) / len(SIZES) ** 0.5
        second = sum((latent[a][ids[a]] * latent[b][ids[b]]).sum(1) for a, b in PAIRS)
        third = sum(sign[a][ids[a]] * sign[b][ids[b]] * sign[c][ids[c]] for a, b, c in TRIPLES)
        crossed = sum(z[:, n] * sign[f][ids[f]] for n, f in enumerate(CROSSED))
        logit: np.ndarray = (
            BIAS
            + FIRST * first
            + SECOND * second / (len(PAIRS) * RANK) ** 0.5
            + THIRD * third / len(TRIPLES) ** 0.5
            + NUMERIC * (z @ law['slope'] + crossed) / (len(NUMBERS) + len(CROSSED)) ** 0.5
        )
        return logit

    @functools.cached_property
    def _texts(self) -> list[pl.Series]:
        return [
            pl.Series([None, *(f'{(i * 0x9E3779B1 + f * 0x85EBCA77) % 2**32:08x}' for i in range(n))])
            for f, n in enumerate(SIZES)
        ]

    def frame(self, start: int) -> pl.DataFrame:
        """Generates the chunk of rows from row `start` on, with the `probability` of a click."""
        draw = np.random.Generator(np.random.PCG64([self.seed, 1, start]))
        rows = min(CHUNK_ROWS, self.rows - start)
        cumulated = self._law['cumulated']
        ids = [np.searchsorted(c, draw.random(rows) * c[-1], side='right') + 1 for c in cumulated]
        ids = [np.where(draw.random(rows) < MISSING_VALUES, 0, i) for i in ids]
        x = draw.normal(size=(rows, len(NUMBERS)))
        x[draw.random(x.shape) < MISSING_NUMBERS] = np.nan
        logit = self.logits(ids, x)
        probability = 1 / (1 + np.exp(-logit))
        columns = {'label': (draw.random(rows) < probability).astype(np.int8)}
        # Two decimals, as in files that people write; the law uses the numbers before rounding.
        columns |= {name: pl.Series(np.round(x[:, n], 2), nan_to_null=True) for n, name in enumerate(NUMBERS)}
        columns |= {
            name: self._texts[f].gather(ids[f].astype(np.uint32)) for f, name in enumerate(CATEGORIES)
        }
        return pl.DataFrame({**columns, 'probability': probability})


class Synthetic(Builder):
    """Synthetic data of Criteo's shape: `dataset.rows` rows from the seed `dataset.seed`, split 7:2:1."""

    KEYS = {
        **{key: neutral for key, neutral in SPLIT_KEYS.items() if key != 'time'},
        **CATEGORY_KEYS,
        **NUMBER_KEYS,
        'rows': 600_000,
        'seed': 0,
    }

    @functools.cached_property
    def _table(self) -> SyntheticTable:
        return SyntheticTable(self.dataset.rows, self.dataset.seed)

    def open_tables(self) -> dict[str, Table]:
        if self.dataset.split == 'time':
            raise UserError("config.dataset.split='time': the synthetic data has no column of times")
        return {WHOLE: self._table}

    def make_schema(self, table: Table) -> Schema:
        del table
        numbers = (self.number(name, 'standard') for name in NUMBERS)
        return Schema((*numbers, *(self.categorical(name) for name in CATEGORIES)), 'label')

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
