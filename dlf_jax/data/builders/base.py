"""What the builders share: fit the encoder, encode a pass per part, write block records."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from dlf_jax.data import encoder as encoders
from dlf_jax.data import records, sources, splits
from dlf_jax.data.digests import md5_sums
from dlf_jax.data.progress import Progress
from dlf_jax.data.schema import Field, Schema, number_field, text_field
from dlf_jax.errors import UserError, writing
from dlf_jax.lock import locked

PARTS = ('train', 'valid', 'test')

_log = logging.getLogger(__name__)


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS builder whose examples are blocks of encoded rows.

    Prepared data lies in `data_dir/NAME/FINGERPRINT/VERSION/`: the shards, TFDS's description, and
    `encoder/`. The fingerprint is of the dataset's config and the files' md5 sums, so changed
    input is prepared anew beside the old.
    """

    VERSION = tfds.core.Version('1.0.0')
    # What to put where, for the error when no files are given.
    INSTRUCTIONS = ''

    def __init__(self, config: ConfigDict, data_dir: str):
        """Looks at the files (exists, header, columns); reads no rows.

        Args:
          config: `config.dataset`.
          data_dir: where prepared data is kept.
        """
        self.dataset = config
        self.tables = self.open_tables()
        self.schema = self.make_schema(self.tables['train'])
        for table in self.tables.values():
            self.check(table, label=True)
        self._written: dict[str, int] = {}
        fingerprint = tfds.core.BuilderConfig(name=self._fingerprint(data_dir))
        with writing(f'prepared data in {data_dir}'):
            super().__init__(data_dir=data_dir, config=fingerprint, file_format='array_record')

    # What a dataset says of itself.

    @classmethod
    def open_files(cls, config: ConfigDict, paths: tuple[str, ...]) -> sources.Table:
        """Opens files of the dataset's form, for training (labelled) or prediction (perhaps not)."""
        return sources.open_table(paths, separator=config.separator)

    def make_schema(self, table: sources.Table) -> Schema:
        """The features, given the opened training files."""
        raise TypeError(f'{type(self).__name__} declares no schema')

    def open_tables(self) -> dict[str, sources.Table]:
        """The parts: given as files, or cut from one table by `dataset.split`."""
        config = self.dataset
        if not config.train:
            raise UserError(f'dataset {self.name}: no files given. {self.INSTRUCTIONS}')
        tables = {
            part: self.open_files(config, sources.expand(config[part], f'config.dataset.{part}'))
            for part in PARTS
            if config[part]
        }
        if 'valid' in tables:
            return tables
        if 'test' in tables:
            raise UserError('config.dataset.valid: not given, but config.dataset.test is')
        return splits.split(tables['train'], config.split, config.fractions, config.split_seed)

    # What they share.

    def categorical(self, name: str) -> Field:
        return text_field(name, self.dataset.min_count, self.dataset.max_vocabulary)

    def number(self, name: str, treatment: str) -> Field:
        return number_field(name, treatment, self.dataset.min_count, self.dataset.max_vocabulary)

    def check(self, table: sources.Table, label: bool) -> None:
        """Raises UserError where the table lacks a column that the schema needs."""
        if label:
            sources.check_columns(table, [self.schema.label], 'the label')
        sources.check_columns(table, [f.name for f in self.schema.fields], 'a feature')

    def _fingerprint(self, data_dir: str) -> str:
        config = self.dataset.to_dict()
        told = {
            'dataset': {key: value for key, value in config.items() if key not in PARTS},
            'files': {p: md5_sums(t.paths, data_dir) for p, t in self.tables.items()},
            'encoder': encoders.VERSION,
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    def prepare(self) -> None:
        """Writes the records where they are not there yet. Killed at any moment, it leaves nothing
        that looks finished; a second process waits for the first."""
        folder = Path(self.data_dir)
        if folder.exists():
            return
        with writing(f'prepared data in {folder}'):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(folder.parent / '.lock', wait=True):
                if folder.exists():
                    return
                for left in folder.parent.glob('incomplete.*'):
                    shutil.rmtree(left)
                _log.info('preparing %s in %s', self.name, folder)
                tfds.disable_progress_bar()
                self.download_and_prepare()

    def encoder(self) -> encoders.Encoder:
        """The fitted encoder of prepared data."""
        return encoders.Encoder.load(Path(self.data_dir) / 'encoder')

    def parts(self) -> tuple[str, ...]:
        """The prepared parts, in the order train, valid, test."""
        return tuple(part for part in PARTS if part in self.info.splits)

    def blocks(self, part: str) -> records.RecordBlocks:
        """The block records of a prepared part."""
        rows = self.info.metadata['rows'][part]
        return records.RecordBlocks(self, part, rows, self.info.metadata['block_rows'])

    # What TFDS asks for.

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=records.features(self.schema),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _example_writer(self):
        return records.BlockWriter()

    def _split_generators(self, dl_manager):
        del dl_manager
        chunks = self._read('train', 'counting values', label=False)
        self._encoder = encoders.fit(self.schema, chunks)
        # Inside download_and_prepare, data_dir is the unfinished folder that is renamed at the end.
        self._encoder.save(Path(self.data_dir) / 'encoder')
        return {part: self._generate_examples(part) for part in self.tables}

    def _generate_examples(self, part: str):
        def encoded() -> Iterator[records.Rows]:
            for chunk in self._read(part, f'encoding {part}', label=True):
                label = encoders.labels(chunk, self.schema.label)
                rows, _ = self._encoder.transform(chunk)
                self._written[part] = self._written.get(part, 0) + len(label)
                yield {'label': label, **{k: v for k, v in rows.items() if v.shape[1]}}

        yield from enumerate(records.reblock(encoded(), self.dataset.block_rows))
        if not self._written.get(part):
            raise UserError(f'the {part} part of {self.tables[part].name} has no rows')
        self.info.metadata['rows'] = dict(self._written)
        self.info.metadata['block_rows'] = self.dataset.block_rows

    def _read(self, part: str, doing: str, label: bool) -> Iterator[sources.Chunk]:
        table = self.tables[part]
        text = [f.name for f in self.schema.fields if not f.number]
        numbers = [f.name for f in self.schema.fields if f.number]
        with Progress(f'{self.name}: {doing}', 'rows') as progress:
            for chunk in table.chunks(text, numbers + [self.schema.label] * label):
                yield chunk
                progress.advance(chunk.frame.height)


def truth_path(folder: str | os.PathLike, part: str) -> Path:
    """Where a synthetic part keeps the probabilities that its clicks were drawn from."""
    return Path(folder) / f'truth-{part}.parquet'


def read_truth(folder: str | os.PathLike, part: str) -> np.ndarray | None:
    """The true probabilities of a synthetic part, float64 [rows]; None where they are not known."""
    path = truth_path(folder, part)
    return pl.read_parquet(path)['probability'].to_numpy() if path.is_file() else None
