"""What the builders share: which files, which features, and block records made of them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from dlf_jax import allocator
from dlf_jax.data.download.checksums import sums
from dlf_jax.data.download.fetch import fetch
from dlf_jax.data.download.published_files import Published, check_rows, recognise
from dlf_jax.data.loading import records
from dlf_jax.data.preprocess import beam, local
from dlf_jax.data.preprocess import encoder as encoders
from dlf_jax.data.preprocess.splits import PARTS, Split
from dlf_jax.data.readers import tables
from dlf_jax.data.schema import Field, Schema, number_field, text_field
from dlf_jax.errors import UserError, writing
from dlf_jax.lock import locked

_log = logging.getLogger(__name__)

# Keys of `config.dataset` that say where the input is or how the work is done, not what comes out.
PATHS = (
    *PARTS,
    'schema',
    'allow_modified',
    'download',
    'check_overlap',
    'beam_runner',
    'beam_options',
    'infer',
)


class Builder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """A TFDS builder whose examples are blocks of encoded rows.

    Prepared data lies in `data_dir/NAME/FINGERPRINT/VERSION/`: the shards, TFDS's description, and
    `encoder/`. The fingerprint is of the dataset's config and the files' sums, so changed
    input is prepared anew beside the old.
    """

    VERSION = tfds.core.Version('1.0.0')
    # What to put where, for the error when no files are given.
    INSTRUCTIONS = ''
    # What `dataset.download` fetches.
    PUBLISHED: Published | None = None

    def __init__(self, config: ConfigDict, data_dir: str):
        """Looks at the files (exists, header, columns); reads no rows.

        Args:
          config: `config.dataset`.
          data_dir: where prepared data is kept.
        """
        self.dataset = config = config.copy_and_resolve_references()
        if config.download and not config.train and self.PUBLISHED:
            folder = Path(data_dir) / 'downloads' / self.PUBLISHED.name
            config.update(fetch(self.PUBLISHED, folder, accept=True, data_dir=data_dir))
        self.task = self._task()
        for table in self.task.tables.values():
            self.check(table)
        self._claim = self.published(next(iter(self.task.tables.values())))
        if self._claim:
            given = {part if config.valid else 'train': t.paths for part, t in self.task.tables.items()}
            recognise(self._claim, given, data_dir, config.allow_modified)
        self._beam = beam.options(config.beam_runner, config.beam_options) if config.beam_runner else {}
        fingerprint = tfds.core.BuilderConfig(name=self._fingerprint(data_dir))
        with writing(f'prepared data in {data_dir}'):
            super().__init__(data_dir=data_dir, config=fingerprint, file_format='array_record')

    # What a dataset says of itself.

    @classmethod
    def open_files(cls, config: ConfigDict, paths: tuple[str, ...]) -> tables.Table:
        """Opens files of the dataset's form, for training (labelled) or prediction (perhaps not)."""
        return tables.open_table(paths, separator=config.separator)

    def published(self, table: tables.Table) -> Published | None:
        """What the opened training files claim to be by their form."""
        del table
        return self.PUBLISHED

    def make_schema(self, table: tables.Table) -> Schema:
        """The features, given the opened training files."""
        raise TypeError(f'{type(self).__name__} declares no schema')

    def open_tables(self) -> dict[str, tables.Table]:
        """The tables by part, or the one of all rows under `local.WHOLE`."""
        config = self.dataset
        if not config.train:
            raise UserError(f'dataset {self.name}: no files given. {self.INSTRUCTIONS}')
        tables = {
            part: self.open_files(config, tables.expand(config[part], f'config.dataset.{part}'))
            for part in PARTS
            if config[part]
        }
        if 'valid' in tables:
            return tables
        if 'test' in tables:
            raise UserError('config.dataset.valid: not given, but config.dataset.test is')
        return {local.WHOLE: tables['train']}

    # What they share.

    def categorical(self, name: str) -> Field:
        options = self.dataset
        if options.hash_buckets:
            return text_field(name, hash_buckets=options.hash_buckets)
        return text_field(name, min_count=options.min_count, max_size=options.max_vocabulary)

    def number(self, name: str, treatment: str) -> Field:
        options = self.dataset
        counting = {'min_count': options.min_count, 'max_size': options.max_vocabulary}
        return number_field(name, treatment, options.buckets, **counting)

    def _task(self) -> local.Task:
        config = self.dataset
        tables = self.open_tables()
        whole = local.WHOLE in tables
        split = Split(config.split, tuple(config.fractions), config.split_seed) if whole else None
        return local.Task(
            name=self.name,
            schema=self.make_schema(next(iter(tables.values()))),
            tables=tables,
            split=split,
            time=config.time if whole and config.split == 'time' else '',
            block_rows=config.block_rows,
        )

    def check(self, table: tables.Table) -> None:
        """Raises UserError where the table lacks a column that the task needs."""
        schema = self.task.schema
        tables.check_columns(table, [schema.label], 'the label')
        tables.check_columns(table, [f.name for f in schema.fields], 'a feature')
        others = {'the weight': schema.weight, 'the group': schema.group, 'the time': self.task.time}
        for why, name in others.items():
            tables.check_columns(table, [name] if name else [], why)

    def _fingerprint(self, data_dir: str) -> str:
        config = self.dataset.to_dict()
        told = {
            'dataset': {key: value for key, value in config.items() if key not in PATHS},
            'schema': self.task.schema.to_json(),
            'files': {part: sums(t.paths, data_dir) for part, t in self.task.tables.items()},
            'encoder': encoders.VERSION,
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    def prepare(self) -> None:
        """Writes the records where they are not there yet. Killed at any moment, it leaves nothing
        that looks finished; a second process waits for the first."""
        folder = Path(self.data_dir)
        if folder.exists():
            return
        allocator.keep_freed_memory()
        with writing(f'prepared data in {folder}'):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(folder.parent / '.lock', wait=True):
                if folder.exists():
                    # By another process, meanwhile.
                    self.info.read_from_directory(str(folder))
                    return
                for left in folder.parent.glob('incomplete.*'):
                    shutil.rmtree(left)
                _log.info('preparing %s in %s', self.name, folder)
                tfds.disable_progress_bar()
                with beam.explained():
                    self.download_and_prepare(download_config=tfds.download.DownloadConfig(**self._beam))

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

    def shared_rows(self) -> dict[str, int]:
        """How many rows of each later part the training part has too, features and label alike."""
        return records.shared_rows({part: self.blocks(part) for part in self.parts()})

    def _check_rows(self, rows: dict[str, int]) -> None:
        """Compares the rows of every table, once they are read, with the published numbers."""
        if self._claim:
            by_part = {part if self.dataset.valid else 'train': count for part, count in rows.items()}
            check_rows(self._claim, by_part, self.dataset.allow_modified)

    # What TFDS asks for.

    def _info(self) -> tfds.core.DatasetInfo:
        return _Info(
            builder=self,
            description=type(self).__doc__,
            features=records.features(self.task.schema),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _example_writer(self) -> records.BlockWriter:
        return records.BlockWriter()

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list[Callable[[], Iterator]]]:
        del dl_manager
        # Inside download_and_prepare, data_dir is the unfinished folder that is renamed at the end.
        folder = Path(self.data_dir)
        if self._beam:
            plan = beam.prepare(self.task, folder, self._check_rows, self._beam)
        else:
            plan = local.prepare(self.task, folder, self._check_rows)
        self.info.metadata['rows'] = plan.rows
        self.info.metadata['block_rows'] = self.dataset.block_rows
        return plan.shards

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        super()._download_and_prepare(*args, **kwargs)
        folder = Path(self.data_dir)
        shutil.rmtree(folder / 'staging', ignore_errors=True)
        # TFDS leaves what its Beam workers told each other.
        for left in folder.glob('*.shard_infos.json'):
            left.unlink()


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Nothing: these datasets are in no bucket, and TFDS's way to find out leaves an empty folder in the
        system's temporary one for every builder."""


def truth_path(folder: str | os.PathLike, part: str) -> Path:
    """Where a synthetic part keeps the probabilities that its clicks were drawn from."""
    return Path(folder) / f'truth-{part}.parquet'


def read_truth(folder: str | os.PathLike, part: str) -> np.ndarray | None:
    """The true probabilities of a synthetic part, float64 [rows]; None where they are not known."""
    path = truth_path(folder, part)
    return pl.read_parquet(path)['probability'].to_numpy() if path.is_file() else None
