"""Base class of the datasets: files and features in, prepared block records out."""

from __future__ import annotations

import abc
import dataclasses
import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from dlf_jax import allocator
from dlf_jax.data.builders import cluster_shards, part_counts
from dlf_jax.data.builders.fingerprint import Fingerprint
from dlf_jax.data.download import checksums
from dlf_jax.data.download.fetch import fetch
from dlf_jax.data.download.published_files import Published, check_rows, recognise
from dlf_jax.data.loading.label_counts import LabelCounts
from dlf_jax.data.loading.overlap import shared_rows
from dlf_jax.data.loading.records import BlockWriter, RecordBlocks, features
from dlf_jax.data.preprocess import beam, encoder, growing, local
from dlf_jax.data.preprocess.cluster import connection
from dlf_jax.data.preprocess.cluster import options as cluster_options
from dlf_jax.data.preprocess.cluster import prepare as cluster
from dlf_jax.data.preprocess.splits import PARTS, Split
from dlf_jax.data.preprocess.task import WHOLE, Ancestor, ShardWriter, Task
from dlf_jax.data.readers.tables import Table, check_columns, expand, families, open_table
from dlf_jax.data.schema import MULTI_VALUED, SHARED_OPTIONS, Field, Schema, number_field, text_field
from dlf_jax.errors import UserError
from dlf_jax.file_writing import writing
from dlf_jax.library_logs import without_chatter
from dlf_jax.lock import locked
from dlf_jax.storage import data_folder

_log = logging.getLogger(__name__)

# Keys of `config.dataset`, in groups that a dataset reads or does not read, each with its neutral value: the
# value under which the records are those of the time before the key existed. A key at its neutral value is
# not in the fingerprint, so neither a new key nor a key of other datasets makes prepared data invalid. A
# neutral value must never be changed, whatever becomes of the key's default.
COMMON_KEYS = {
    'name': '',
    'block_rows': 8192,
    'check_overlap': False,
    'beam_runner': '',
    'beam_options': (),
    'forget_after': 0,
    'refit_numbers': False,
}
FILE_KEYS = {'train': '', 'valid': '', 'test': '', 'separator': '', 'verify': False}
RELEASE_KEYS = {'download': False, 'allow_modified': False}
SPLIT_KEYS = {'split': 'chronological', 'time': '', 'fractions': (7.0, 2.0, 1.0), 'split_seed': 0}
CATEGORY_KEYS = {'min_count': 1, 'max_vocabulary': 0, 'hash_buckets': 0, 'missing': ()}
NUMBER_KEYS = {
    'treatment': 'auto', 'buckets': 50, 'frequencies': 16, 'fill': 'auto', 'out_of_range': 'error',
}  # fmt: skip

# Keys that say where the input is or how the work is done. They do not change the records of the same input.
_WORK_KEYS = (
    'name', 'check_overlap', 'beam_runner', 'beam_options', *PARTS, *RELEASE_KEYS, 'schema', 'infer',
    'verify',
)  # fmt: skip
# Keys that decide how an encoder grows from another, and nothing where it does not.
_GROWTH_KEYS = ('forget_after', 'refit_numbers')


class Builder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """TFDS builder of a dataset whose examples are blocks of encoded rows.

    Prepared data is in `data_dir/NAME/FINGERPRINT/VERSION/`: the shards, TFDS's description, and `encoder/`.
    The fingerprint is a hash of the keys that the dataset reads, the schema and the files' sums, so changed
    input is prepared anew beside the old.

    A dataset overrides `make_schema` and what else differs from the defaults: the class attributes,
    `open_files`, `with_derived`, `open_tables`, `release_of`, `write_extras`, `true_probabilities`.
    """

    # Raised by the dataset when its code makes other records of the same files.
    VERSION = tfds.core.Version('1.0.0')
    # Keys of `config.dataset` that the dataset reads beside `COMMON_KEYS`, with their neutral values.
    KEYS: ClassVar[Mapping[str, Any]] = {**FILE_KEYS, **SPLIT_KEYS, **CATEGORY_KEYS, **NUMBER_KEYS}
    # Advice for the error that no files are given.
    INSTRUCTIONS = ''
    # Published files that `dataset.download` fetches; they add the `RELEASE_KEYS`.
    RELEASE: Published | None = None
    # Whether `prepare` found the records there.
    reused = False

    def __init_subclass__(cls, **options: Any):
        """Names the dataset after its class, unless it has a `name`, and keeps it out of TFDS's registry.

        Datasets are found through `DATASETS` or as `file.py:Name`. The registry is of the whole process and
        refuses two datasets of one name.
        """
        if 'name' not in vars(cls):
            cls.name = re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', cls.__name__).lower()
        options['skip_registration'] = True
        super().__init_subclass__(**options)  # type: ignore[call-arg]  # TFDS has no types

    def __init__(self, config: ConfigDict, data_dir: str, ancestor: Ancestor | None = None):
        """Opens the files and checks their columns; reads no rows.

        Args:
          config: `config.dataset`. The dataset sees the keys of `keys()` alone.
          data_dir: folder of prepared data.
          ancestor: encoder to grow from; None: one is fitted to the training part alone.

        Raises:
          UserError: no files, files that cannot be read, missing columns, files that claim to be a
            published dataset and are not, or a schema that does not fit the ancestor's.
        """
        self.dataset = ConfigDict(
            {key: config.get(key, neutral) for key, neutral in self._neutral_values().items()}
        )
        if self.RELEASE and self.dataset.download and not self.dataset.train:
            folder = Path(data_dir) / 'downloads' / self.RELEASE.name
            self.dataset.update(fetch(self.RELEASE, folder, accept=True, data_dir=data_dir))
        self.task = self._task(ancestor)
        for table in self.task.tables.values():
            self._check_columns(table)
        if 'verify' in self.dataset and self.dataset.verify:
            paths = [path for table in self.task.tables.values() for path in table.paths]
            checksums.forget(paths, data_dir)
        self._release = self.release_of(next(iter(self.task.tables.values())))
        if self._release:
            by_part = self._by_file({part: table.paths for part, table in self.task.tables.items()})
            recognise(self._release, by_part, data_dir, self.dataset.allow_modified)
        runner = self.dataset.beam_runner
        self._beam: dict[str, Any] = {}
        self._cluster: cluster_options.Options | None = None
        if runner == cluster_options.RUNNER:
            self._cluster = cluster_options.Options.parse(self.dataset.beam_options)
            connection.require()
        elif runner:
            self._beam = beam.options(runner, self.dataset.beam_options)
        self._blocks: dict[str, RecordBlocks] = {}
        self._staging = Path()
        self._made_from = self._fingerprint(data_dir)
        fingerprint = tfds.core.BuilderConfig(name=self._made_from.name)
        with writing(f'prepared data in {data_dir}'), without_chatter():
            super().__init__(data_dir=data_dir, config=fingerprint, file_format='array_record')

    # To be overridden by datasets.

    @classmethod
    def open_files(cls, config: ConfigDict, paths: tuple[str, ...]) -> Table:
        """Opens files in the dataset's format, for training (with labels) or prediction (perhaps without).

        Args:
          config: `config.dataset`.
          paths: existing files.
        """
        return open_table(paths, separator=config.separator)

    @classmethod
    def with_derived(cls, config: ConfigDict, table: Table) -> Table:
        """The table with the columns that the dataset makes of others; here, the table itself.

        Args:
          config: `config.dataset`.
          table: opened files, or a frame.
        """
        del config
        return table

    def open_tables(self) -> dict[str, Table]:
        """Opens the tables of all parts, by part; or the one that is to be split, under `WHOLE`.

        Raises:
          UserError: no training files, or test files without validation files.
        """
        config = self.dataset
        if not config.train:
            raise UserError(f'dataset {self.name}: no files given. {self.INSTRUCTIONS}')
        tables = {
            part: self.with_derived(
                config, self.open_files(config, expand(config[part], f'config.dataset.{part}'))
            )
            for part in PARTS
            if config[part]
        }
        if 'valid' in tables:
            return tables
        if 'test' in tables:
            raise UserError('config.dataset.valid: not given, but config.dataset.test is')
        return {WHOLE: tables['train']}

    @abc.abstractmethod
    def make_schema(self, table: Table) -> Schema:
        """The features, their fields without sizes, and the label's column.

        Args:
          table: the opened training table.
        """

    def release_of(self, table: Table) -> Published | None:
        """The published dataset that the files claim to be by their form, or None.

        Args:
          table: the opened training table.
        """
        del table
        return self.RELEASE

    def write_extras(self, folder: Path) -> None:
        """Writes further files of the prepared data.

        Args:
          folder: the unfinished folder of the prepared data, which is renamed at the end.
        """

    def true_probabilities(self, part: str) -> np.ndarray | None:
        """True click probabilities of a prepared part, float64 [rows]; None where they are unknown."""
        del part
        return None

    # For datasets to use.

    def categorical(self, name: str) -> Field:
        """Categorical field of a text column, with the vocabulary that the config asks for."""
        return text_field(name, **self._vocabulary())

    def multi_valued(
        self,
        name: str,
        length: int,
        separator: str = '',
        pooling: str = 'mean',
        shares: str = '',
        ordered: bool = False,
        beside: str = '',
    ) -> Field:
        """Multi-valued field of a text column, with the vocabulary that the config asks for.

        Args:
          name: name of the column.
          length: maximum number of values in a row; later values are dropped, of an ordered field
            earlier ones.
          separator: character between the values; '' for columns of lists.
          pooling: pooling of the embeddings, 'sum', 'mean' or 'max'.
          shares: name of the field whose vocabulary and embeddings this one uses; '' for its own.
          ordered: whether the values are in order, the oldest first.
          beside: name of the history whose values are of the same events; '' for none.
        """
        vocabulary = self._vocabulary()
        if shares:
            vocabulary = {k: v for k, v in vocabulary.items() if k in SHARED_OPTIONS}
        return Field(
            name,
            MULTI_VALUED,
            separator=separator,
            pooling=pooling,
            length=length,
            ordered=ordered,
            beside=beside,
            shares=shares,
            **vocabulary,
        )

    def _vocabulary(self) -> dict[str, Any]:
        """Attributes of a text field's vocabulary."""
        options, missing = self.dataset, {'missing': tuple(self.dataset.missing)}
        if options.hash_buckets:
            return {'hash_buckets': options.hash_buckets, **missing}
        return {'min_count': options.min_count, 'max_size': options.max_vocabulary, **missing}

    def number(self, name: str, treatment: str) -> Field:
        """Field of a column of numbers.

        Args:
          name: name of the column.
          treatment: treatment under `dataset.treatment='auto'`.
        """
        options = self.dataset
        if options.treatment != 'auto':
            treatment = options.treatment
        vocabulary = {'min_count': options.min_count, 'max_size': options.max_vocabulary}
        values = {'missing': tuple(options.missing), 'out_of_range': options.out_of_range}
        numbers = {key: options[key] for key in ('buckets', 'frequencies', 'fill')}
        return number_field(name, treatment, numbers, vocabulary, **values)

    # For users of datasets.

    @classmethod
    def keys(cls) -> frozenset[str]:
        """Keys of `config.dataset` that the dataset reads."""
        return frozenset(cls._neutral_values())

    @classmethod
    def _neutral_values(cls) -> dict[str, Any]:
        """Neutral values by key that the dataset reads."""
        return {**COMMON_KEYS, **(RELEASE_KEYS if cls.RELEASE else {}), **cls.KEYS}

    def prepare(self) -> None:
        """Writes the records, unless they exist; `reused` says whether they did.

        A process that is killed leaves nothing that looks finished, and a second process waits for the first.

        Raises:
          UserError: rows that cannot be read, a part without rows, a file that changes meanwhile, or no room
            or permission to write.
        """
        folder = Path(self.data_dir)
        self.reused = self.is_prepared()
        if self.reused:
            _log.info('reusing %s%s', folder, self._made_from.grounds())
            data_folder.publish(folder)
            return
        allocator.keep_freed_memory()
        with writing(f'prepared data in {folder}'):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(folder.parent / '.lock', wait=True):
                if folder.exists():
                    # Another process has prepared it meanwhile.
                    self.reused = True
                    self.info.read_from_directory(str(folder))
                    return
                for left in folder.parent.glob('incomplete.*'):
                    shutil.rmtree(left)
                _log.info('preparing %s in %s', self.name, folder)
                tfds.disable_progress_bar()
                self._staging = folder.parent / 'incomplete.staging'
                try:
                    with beam.explained():
                        self.download_and_prepare(download_config=tfds.download.DownloadConfig(**self._beam))
                finally:
                    shutil.rmtree(self._staging, ignore_errors=True)
                # Files in which TFDS's Beam workers report.
                for left in folder.glob('*.shard_infos.json'):
                    left.unlink()
                data_folder.publish(folder)

    def is_prepared(self) -> bool:
        """Whether the records are there; fetches them from a store that they are kept in."""
        folder = Path(self.data_dir)
        if data_folder.fetch(folder):
            self.info.read_from_directory(str(folder))
        return folder.exists()

    def encoder(self) -> encoder.Encoder:
        """Reads the fitted encoder of prepared data."""
        return encoder.Encoder.load(Path(self.data_dir) / 'encoder')

    def schema(self) -> Schema:
        """Reads the schema of prepared data, with the fields' sizes; the vocabularies are not read."""
        return encoder.load_schema(Path(self.data_dir) / 'encoder')

    def expected_unknown(self) -> dict[str, float]:
        """Reads the shares of unknown values that further rows like the training rows have, by field."""
        return encoder.load_expected_unknown(Path(self.data_dir) / 'encoder')

    def parts(self) -> tuple[str, ...]:
        """Names of the prepared parts, in the order train, valid, test."""
        return tuple(part for part in PARTS if part in self.info.splits)

    def blocks(self, part: str) -> RecordBlocks:
        """Block records of a prepared part; its shards are opened once.

        Raises:
          UserError: a shard is missing or damaged.
        """
        if part not in self._blocks:
            rows, block_rows = self.info.metadata['rows'][part], self.info.metadata['block_rows']
            self._blocks[part] = RecordBlocks(self, part, rows, block_rows)
        return self._blocks[part]

    def shared_rows(self) -> dict[str, int]:
        """Number of rows of each later part that the training part has, too, features and label alike."""
        return shared_rows(self._all_blocks())

    def out_of_vocabulary(self) -> dict[str, dict[str, float]]:
        """Shares of unknown values by field, by part other than training; counted once and remembered."""
        return part_counts.unknown(Path(self.data_dir), self._all_blocks(), self.schema())

    def label_counts(self) -> dict[str, LabelCounts]:
        """Labels in numbers by part; counted while preparing, or else once, and remembered."""
        return part_counts.labels(Path(self.data_dir), self._all_blocks())

    def _all_blocks(self) -> dict[str, RecordBlocks]:
        return {part: self.blocks(part) for part in self.parts()}

    def _task(self, ancestor: Ancestor | None) -> Task:
        config, tables = self.dataset, self.open_tables()
        split = None
        if WHOLE in tables:
            split = Split(config.split, tuple(config.fractions), config.split_seed)
        schema = self.make_schema(next(iter(tables.values())))
        texts = [name for name in (*schema.text_columns(), schema.group) if name]
        known: dict[str, str] = {}
        if ancestor:
            ancestor = dataclasses.replace(ancestor, **{key: config[key] for key in _GROWTH_KEYS})
            known = growing.known_families(ancestor, schema)
        return Task(
            name=self.name,
            schema=schema,
            tables=tables,
            families=families(tuple(tables.values()), texts, known),
            split=split,
            time=config.time if split and split.kind == 'time' else '',
            block_rows=config.block_rows,
            ancestor=ancestor,
        )

    def _check_columns(self, table: Table) -> None:
        """Raises UserError where the table lacks a column that the task needs."""
        schema = self.task.schema
        check_columns(table, [schema.label], 'the label')
        check_columns(table, [f.name for f in schema.fields], 'a feature')
        others = {'the weight': schema.weight, 'the group': schema.group, 'the time': self.task.time}
        for why, name in others.items():
            check_columns(table, [name] if name else [], why)

    def _by_file(self, by_table: Mapping[str, Any]) -> dict[str, Any]:
        """Values by part instead of by table; a table that is split counts as the training file."""
        return {'train' if table == WHOLE else table: value for table, value in by_table.items()}

    def _fingerprint(self, data_dir: str) -> Fingerprint:
        unread = {*_WORK_KEYS, *(() if self.task.split else SPLIT_KEYS)}
        unread.update(() if self.task.ancestor else _GROWTH_KEYS)
        keys = {
            key: self.dataset[key]
            for key, neutral in self._neutral_values().items()
            if key not in unread and self.dataset[key] != neutral
        }

        def is_prepared(name: str) -> bool:
            return Path(data_dir, self.name, name, str(self.VERSION)).exists()

        return Fingerprint(self.task, keys, str(self.VERSION), data_dir, is_prepared)

    @property
    def made_of(self) -> dict[str, Any]:
        """What the records are made of, in words: files, keys, schema, versions."""
        return self._made_from.made_of

    def _check_rows(self, rows: dict[str, int]) -> None:
        """Compares the number of rows of every table, once it is read, with the published numbers."""
        if self._release:
            check_rows(self._release, self._by_file(rows), self.dataset.allow_modified)

    # For TFDS.

    def _info(self) -> tfds.core.DatasetInfo:
        return _Info(
            builder=self,
            description=type(self).__doc__,
            features=features(self.task.schema),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _download_and_prepare(self, *arguments: Any, **options: Any) -> None:
        if self._cluster is None:
            super()._download_and_prepare(*arguments, **options)
        else:
            self._prepare_on_cluster(self._cluster)
        # Before TFDS gives the unfinished folder its final name.
        self._made_from.check_unchanged()

    def _log_download_bytes(self) -> None:
        """TFDS prints sizes that it does not know here; the log says what is prepared, and where."""

    def _log_download_done(self) -> None:
        """The same at the end."""

    def _example_writer(self) -> BlockWriter:
        return BlockWriter()

    def _unfinished_folder(self) -> Path:
        """The folder of what is being prepared, with the further files."""
        # TFDS's data_dir, while it prepares.
        folder = Path(self.data_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.write_extras(folder)
        return folder

    def _prepare_on_cluster(self, options: cluster_options.Options) -> None:
        folder = self._unfinished_folder()
        done = cluster.prepare(self.task, folder, self._staging, self._check_rows, options)
        taken = [
            cluster_shards.take(part, self._get_filename_template(split_name=part), shards)
            for part, shards in done.shards.items()
        ]
        self.info.set_splits(tfds.core.splits.SplitDict(taken))
        self._note(folder, done.rows, done.labels)

    def _note(self, folder: Path, rows: Mapping[str, int], labels: Mapping[str, LabelCounts]) -> None:
        """Writes what is known of the parts."""
        if labels:
            part_counts.write_labels(folder, labels)
        self.info.metadata['rows'] = rows
        self.info.metadata['block_rows'] = self.dataset.block_rows

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list[ShardWriter]]:
        del dl_manager
        folder = self._unfinished_folder()
        if self._beam:
            shards = beam.prepare(self.task, folder, self._staging, self._check_rows, self._beam)
        else:
            shards = local.prepare(self.task, folder, self._staging, self._check_rows)
        self._note(folder, shards.rows, shards.labels)
        return shards.writers


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Does nothing: these datasets are in no bucket.

        TFDS's own method leaves an empty folder in the system's temporary one for every builder.
        """
