"""Rows of one part among staged rows: counted and measured, and encoded once the encoder is fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from dlf_jax.data.loading.label_counts import LabelSums, label_sums
from dlf_jax.data.prefetch import column_pool, parallel_map, prefetch
from dlf_jax.data.preprocess import encoder as encoders
from dlf_jax.data.preprocess import statistics
from dlf_jax.data.preprocess.coder import CodedRows
from dlf_jax.data.preprocess.id_tables import IdTables
from dlf_jax.data.preprocess.splits import PARTS, Split
from dlf_jax.data.preprocess.staging import Staging
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UserError


class StagedPart:
    """Rows of one part among the staged rows of a table, or of a piece of it."""

    def __init__(
        self,
        staged: Staging,
        split: Split | None,
        part: str,
        cuts: Sequence[float],
        first: int = 0,
        total: int | None = None,
    ):
        """Counts the part's rows.

        Args:
          staged: the rows.
          split: how the table is cut; None where all rows are the part's.
          part: name of the part.
          cuts: result of `Split.time_cuts`; used by splits by time.
          first: number of the first staged row in the table.
          total: number of rows of the table; None: all are staged.
        """
        self._staged, self._split, self._part, self._cuts = staged, split, part, cuts
        self._first, self._total = first, staged.rows if total is None else total
        self._counts = [int(np.count_nonzero(self._mask(i))) for i in range(len(staged))]
        self.rows = sum(self._counts)

    def _bounds(self, chunk: int) -> tuple[int, int]:
        """Numbers of a chunk's first row and of the row after its last, in the table."""
        start, stop = self._staged.bounds(chunk)
        return self._first + start, self._first + stop

    def _mask(self, chunk: int) -> np.ndarray:
        first, stop = self._bounds(chunk)
        if self._split is None:
            return np.ones(stop - first, bool)
        times = self._staged.read(chunk, ('time',))['time'] if self._split.kind == 'time' else None
        found = self._split.assign(first, stop - first, self._total, times, self._cuts)
        return found == PARTS.index(self._part)

    def chunks(self, names: Sequence[str], start: int = 0) -> Iterator[tuple[int, np.ndarray, Rows]]:
        """Yields the part's staged rows, chunk by chunk.

        Args:
          names: names of the staged arrays to read.
          start: number of the first row within the part.

        Yields:
          (number of the chunk, row numbers in the table int64 [rows], staged columns).
        """
        for chunk, count in enumerate(self._counts):
            if start >= count:
                start -= count
                continue
            columns = self._staged.read(chunk, names)
            rows = np.arange(*self._bounds(chunk))
            if count < len(rows) or start:
                kept = np.flatnonzero(self._mask(chunk))[start:]
                rows, columns = rows[kept], {name: c.T[..., kept].T for name, c in columns.items()}
            yield chunk, rows, columns
            start = 0

    def labels(self) -> list[LabelSums]:
        """Sums over the part's labels by chunk; reads the columns of labels and weights alone."""
        names = [name for name in ('label', 'weight') if name in self._staged.names]
        return [label_sums(columns) for _, _, columns in self.chunks(names)]

    def measure(
        self, schema: Schema, values: Mapping[str, pl.Series], first_chunk: int = 0
    ) -> statistics.Statistics:
        """Statistics of the part's rows.

        Args:
          schema: the features, their fields without sizes.
          values: values in the order of their codes, by owning field.
          first_chunk: number of the first staged chunk in the table.
        """
        counts = statistics.no_counts(values)
        moments: list[tuple[int, dict[str, statistics.Moments]]] = []
        samples: dict[str, statistics.Sample] = {}
        with prefetch(self.chunks(('codes', 'numbers'))) as chunks:
            for chunk, rows, columns in chunks:
                measured = column_pool().submit(
                    statistics.moments_and_samples, schema, columns['numbers'], rows
                )
                statistics.count_codes(schema, columns['codes'], counts)
                found, sample = measured.result()
                moments.append((first_chunk + chunk, found))
                samples = statistics.merge_samples([samples, sample])
        found_values = statistics.value_counts(values, counts)
        return statistics.Statistics(self.rows, found_values, tuple(moments), samples)

    def encoded(
        self, encoder: encoders.Encoder, tables: IdTables, start: int, where: Callable[[int, str], str]
    ) -> Iterator[Rows]:
        """Yields the rows as they are stored in records.

        Args:
          encoder: fitted.
          tables: id tables of the staged codes.
          start: number of the first row within the part.
          where: location of a row of the table, by its number and the name of a column, for an error message.

        Raises:
          UserError: a number that is beyond float32 once it is treated.
        """
        names = [name for name in self._staged.names if name != 'time']

        def encode(found: tuple[int, np.ndarray, Rows]) -> Rows:
            _, rows, columns = found
            coded = CodedRows(columns.pop('codes'), columns.pop('numbers'))
            try:
                return {**columns, **encoder.encode(coded, tables)}
            except encoders.OutOfRange as error:
                place = where(int(rows[error.row]), error.field.name)
                raise UserError(f'{place}: {error}') from error

        with prefetch(self.chunks(names, start)) as chunks:
            yield from parallel_map(encode, chunks)
