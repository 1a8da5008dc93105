"""Training in one call, on frames in memory or on files."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from ml_collections import ConfigDict

from dlf_jax import api, plugins, trained_runs
from dlf_jax import config as configs
from dlf_jax.data import builders
from dlf_jax.data.preprocess.splits import PARTS
from dlf_jax.data.readers.frames import is_frame, names_of_files, to_arrow
from dlf_jax.errors import UsageError, UserError
from dlf_jax.file_writing import writing
from dlf_jax.models import MODELS, CTRModel
from dlf_jax.storage import urls
from dlf_jax.trained_model import TrainedModel

_log = logging.getLogger('dlf_jax')

# Keys of `config.dataset` that say what the columns are, as a schema file does.
_COLUMNS = ('dataset.categorical', 'dataset.numeric')


def fit(
    data: Any,
    *,
    label: str = '',
    model: str | type[CTRModel] = '',
    valid: Any = None,
    test: Any = None,
    schema: str | os.PathLike = '',
    weight: str = '',
    group: str = '',
    variant: str = 'full',
    config: str | os.PathLike = 'configs/table.py',
    workdir: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
    **keys: Any,
) -> TrainedModel:
    """Trains a model on a frame or on files and returns the best one: prepare, train, load.

    The functions and the config are those of the command with `--config=configs/table.py`, so the same rows,
    keys and seed give the same bits. Where neither a schema file nor `dataset.categorical` and
    `dataset.numeric` say what the columns are, their kinds are proposed from the rows, as
    `--config.dataset.infer=True` does.

    Args:
      data: training rows: a frame of polars, pandas or pyarrow, a dict of columns, or files (a path, several
        as a list, a folder, or a glob). Without `valid` they are split 7:2:1 in their order.
      label: column of the label; '': found by name, or said by the schema file.
      model: name in `MODELS`, `file.py:Name`, or a subclass of `CTRModel`; '': that of the config file.
      valid: validation rows, as `data`; the best step is chosen by them.
      test: test rows, as `data`; scored once, at the end.
      schema: a schema file (.toml).
      weight: column of the rows' weights, numbers of 0 or more.
      group: column of users or sessions for the metric `gauc`.
      variant: one of the model's variants.
      config: config file; another than the default one has its own dataset, schema and label.
      workdir: folder of the run, which the same call goes on with where it was interrupted; None: a temporary
        one, which is removed.
      data_dir: folder of prepared data; None: a temporary one for frames, for files the one of all runs.
      **keys: values of config keys, such as `**{'training.epochs': 3, 'model.layers': 2}`.

    Returns:
      The model of the best step, in memory.

    Raises:
      UsageError: a key or value that cannot be.
      UserError: a row, a column or a file that the user can mend.
    """
    name = _name_of(model) if isinstance(model, type) else model
    if name in configs.BASELINES:
        raise UsageError(
            f'model={name!r}: a baseline, which keeps scores and no model; the command trains it'
        )
    if taken := [key for part in PARTS if (key := f'dataset.{part}') in keys]:
        raise UsageError(f'{taken[0]}: give rows and files as data, valid= and test=')
    with (
        tempfile.TemporaryDirectory(prefix='dlf_jax-', ignore_cleanup_errors=True) as name_of_folder,
        _naming_frames(folder := Path(name_of_folder)),
    ):
        parts = {'train': data, 'valid': valid, 'test': test}
        given = {part: rows for part, rows in parts.items() if rows is not None or part == 'train'}
        files = {part: _files(rows, part, folder) for part, rows in given.items()}
        columns = {'label': label, 'weight': weight, 'group': group, 'schema': os.fspath(schema)}
        dataset = {**files, **{key: value for key, value in columns.items() if value}}
        overrides = {**{f'dataset.{key}': value for key, value in dataset.items()}, **keys}
        loaded = api.load_config(config, name, variant, overrides)
        if loaded.dataset.name == 'table' and not loaded.dataset.schema and not any(map(keys.get, _COLUMNS)):
            _propose_schema(loaded, folder / 'schema.toml')
        run = str(folder / 'run') if workdir is None else urls.plain(workdir)
        prepared = data_dir or (folder / 'data' if any(map(is_frame, parts.values())) else builders.DATA_DIR)
        try:
            api.train(loaded, run, prepared)
        except KeyboardInterrupt:
            _tell_where(run, is_temporary=workdir is None)
            raise
        return trained_runs.load(run)


def _name_of(model: type) -> str:
    """The name by which a class is found again: its own in `MODELS`, or where it is defined."""
    known = next((name for name, entry in MODELS.items() if entry is model), '')
    return known or plugins.name_of(model)


def _files(rows: Any, part: str, folder: Path) -> str:
    """Names of the files of some rows, as a config key takes them; a frame is written first."""
    if is_frame(rows):
        path = folder / f'{part}.parquet'
        with writing(str(path)):
            pq.write_table(to_arrow(rows, _told(part)), path)
        return str(path)
    names = names_of_files(rows, part)
    return names[0] if len(names) == 1 else ','.join(name.replace(',', '\\,') for name in names)


def _told(part: str) -> str:
    """What errors call the frame of a part."""
    return f'the {part} frame'


@contextlib.contextmanager
def _naming_frames(folder: Path) -> Iterator[None]:
    """Has errors name frames, not the temporary files that nobody knows."""
    try:
        yield
    except UserError as error:
        text = str(error)
        for part in PARTS:
            text = text.replace(str(folder / f'{part}.parquet'), _told(part))
        text = text.replace(str(folder / 'schema.toml'), 'the columns that were found')
        if text == str(error) or type(error) not in (UserError, UsageError):
            raise
        raise type(error)(text) from error


def _propose_schema(config: ConfigDict, path: Path) -> None:
    """Proposes the schema of the training rows, and has the config read it."""
    options = config.dataset
    told = api.propose_schema(config, path)
    if not options.label and (not told['label'] or told['label'] in told['in_doubt']):
        found = f'; {told["label"]!r} could be it' if told['label'] else ''
        raise UsageError(
            f'label: which column is it? Give label=..., one of {", ".join(told["columns"])}{found}'
        )
    if told['positive'] and not options.positive:
        _log.warning(
            'label %r: %r is taken for a click; dataset.positive says it otherwise',
            told['label'],
            told['positive'],
        )
    if told['left_out']:
        _log.warning(
            'left out: %s; name all features with dataset.categorical and dataset.numeric to have them',
            ', '.join(told['left_out'][:20]),
        )
    doubtful = [name for name in told['in_doubt'] if name not in (told['label'], *told['left_out'])]
    if doubtful:
        _log.warning('of kinds in doubt, see model.schema: %s', ', '.join(doubtful[:20]))
    for key in ('label', 'positive', 'weight', 'group'):
        options[key] = ''
    options.soft_labels = False
    options.schema = str(path)


def _tell_where(run: str, *, is_temporary: bool) -> None:
    """Logs how to go on with a run that was interrupted; a temporary workdir is kept for it."""
    if is_temporary and Path(run, 'checkpoints').is_dir():
        kept = Path(tempfile.mkdtemp(prefix='dlf_jax-interrupted-'))
        os.rename(run, kept / 'run')
        run = str(kept / 'run')
    elif is_temporary:
        return
    _log.warning('interrupted; the same call with workdir=%r goes on, dlf_jax.load(...) takes its best', run)
