"""The file that predictions are written to, CSV or Parquet."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from types import TracebackType

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dlf_jax.errors import UserError
from dlf_jax.file_writing import writing
from dlf_jax.serving.encoded_batches import check_types


@dataclasses.dataclass
class ScoreFile:
    """Rows to a CSV or Parquet file, a batch at a time, which is renamed when it is whole.

    Attributes:
      path: the file, by its ending.
    """

    path: str

    def __post_init__(self) -> None:
        target = Path(self.path)
        if target.suffix not in ('.csv', '.parquet'):
            raise UserError(f'--output={self.path}: expected a name that ends in .csv or .parquet')
        if target.is_dir() or not target.absolute().parent.is_dir():
            raise UserError(f'--output={self.path}: no such folder, or a folder itself')
        self._temporary = target.with_name(f'.{target.name}.tmp')
        self._parquet: pq.ParquetWriter | None = None
        self._kinds: pl.Schema | None = None
        self._lines = 0

    def __enter__(self) -> ScoreFile:
        with writing(self.path):
            self._file = open(self._temporary, 'wb')
        return self

    def write(self, frame: pl.DataFrame) -> None:
        """Appends rows."""
        with writing(self.path):
            if self._kinds is None:
                self._kinds = frame.schema
            check_types(self._kinds, frame.schema)
            if self.path.endswith('.csv'):
                self._check_flat(frame)
                frame.write_csv(self._file, include_header=not self._lines)
                self._lines += frame.height
                return
            table: pa.Table = frame.to_arrow()
            if self._parquet is None:
                self._parquet = pq.ParquetWriter(self._file, table.schema)
            self._parquet.write_table(table)

    def _check_flat(self, frame: pl.DataFrame) -> None:
        for name, kind in frame.schema.items():
            if kind.is_nested() or kind in (pl.Binary, pl.Duration):
                raise UserError(
                    f'--output={self.path}: a CSV file cannot hold the column {name!r} of {kind}; write a '
                    '.parquet, or leave it out of config.predict.keep'
                )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with writing(self.path):
                if self._parquet is not None:
                    self._parquet.close()
                self._file.close()
                if kind is None:
                    os.replace(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)
