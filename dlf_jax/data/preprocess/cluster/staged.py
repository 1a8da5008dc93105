"""Jobs that find the chunks of files and stage their rows, as codes of the values of a few chunks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from dlf_jax.data.prefetch import prefetch
from dlf_jax.data.preprocess.cluster.work import Work
from dlf_jax.data.preprocess.coder import Coder
from dlf_jax.data.preprocess.pieces import Piece
from dlf_jax.data.preprocess.splits import Split
from dlf_jax.data.preprocess.staged_part import StagedPart
from dlf_jax.data.preprocess.staging import Staging
from dlf_jax.data.readers.chunk import Columns
from dlf_jax.data.schema import Schema
from dlf_jax.file_writing import writing


@dataclasses.dataclass(frozen=True)
class Group:
    """Consecutive chunks of a table, staged together.

    Attributes:
      pieces: the chunks.
      staged: their rows; the codes are those of the values beside them.
      folder: where both are.
      signs: texts of 0 and -1 among the labels, see `columns.labels`.
    """

    pieces: tuple[Piece, ...]
    staged: Staging
    folder: str
    signs: frozenset[str]

    @property
    def table(self) -> str:
        """Key of the table in `Task.tables`."""
        return self.pieces[0].table

    def part(self, split: Split | None, name: str, cuts: Sequence[float], total: int) -> StagedPart:
        """Rows of a part among these; the arguments are those of `StagedPart`."""
        return StagedPart(self.staged, split, name, cuts, self.pieces[0].first, total)

    def where(self, work: Work, row: int, column: str) -> str:
        """Location of a row of the table, for an error message."""
        piece = next(p for p in self.pieces if row < p.first + p.rows)
        chunk = work.task.tables[self.table].read(piece.place, Columns(text=(column,)))
        return chunk.where(row - piece.first)


def values(folder: str, schema: Schema) -> dict[str, pl.Series]:
    """Values of a group in the order of their codes, by owning field with a vocabulary.

    Args:
      folder: of the group.
      schema: the features.
    """
    owners = [field.name for field in schema.owners if field.counted]
    return {name: pl.read_parquet(_values_file(folder, i))['value'] for i, name in enumerate(owners)}


def _values_file(folder: str, number: int) -> Path:
    return Path(folder) / f'values-{number}.parquet'


def places(work: Work, table: str, file: int) -> list[tuple[tuple, int]]:
    """The chunks of a file, and their numbers of rows; a .gz file is unpacked into the staging folder.

    Raises:
      UserError: the file cannot be read.
    """
    unpacked = work.new_place(f'unpacked-{table}')
    with writing(f'an unpacked file in {work.staging}'):
        return list(work.task.tables[table].places(file, str(unpacked)))


def stage(work: Work, pieces: tuple[Piece, ...], signs: frozenset[str] = frozenset()) -> Group:
    """Stages chunks.

    Args:
      work: the task.
      pieces: the chunks.
      signs: those of the chunks before, where they are known.

    Raises:
      UserError: rows that cannot be read.
    """
    task = work.task
    table, columns = task.tables[pieces[0].table], task.columns()
    folder = work.new_place('staged')
    coder, seen = Coder(task.schema), set(signs)
    with writing(f'staged rows in {work.staging}'):
        staged = Staging(folder)
        with prefetch(piece.read(table, columns) for piece in pieces) as chunks:
            for chunk in chunks:
                staged.append(coder.staged(chunk, task.time, seen))
        staged.close()
        for i, dictionary in enumerate(coder.dictionaries.values()):
            dictionary.values.to_frame('value').write_parquet(_values_file(str(folder), i), compression='lz4')
    return Group(pieces, staged, str(folder), frozenset(seen))
