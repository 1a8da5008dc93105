"""The flow from raw files to a trained model as plain functions; `trained_runs` has what comes after.

The command `python -m dlf_jax.main` calls these. They set nothing process-wide: no flags, no signal or
logging handlers, no allocator settings, no compilation cache; those are the command's. Progress goes to the
logger `dlf_jax` and, as bars, to standard error.
"""

from __future__ import annotations

import contextlib
import logging
import os
import runpy
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dlf_jax import config as configs
from dlf_jax import config_by_size, config_checks
from dlf_jax.analysis import calibration, drift
from dlf_jax.baselines import fitting
from dlf_jax.compiling.compile_run import compile_run
from dlf_jax.config_files import find_config_file
from dlf_jax.data import builders, schema_proposal
from dlf_jax.data.builders import DATA_DIR
from dlf_jax.data.builders.base import Builder
from dlf_jax.data.loading import unknown_values
from dlf_jax.data.readers.tables import expand
from dlf_jax.errors import UsageError, shown, suggest
from dlf_jax.lock import locked
from dlf_jax.models import model_class
from dlf_jax.serving import calibrator
from dlf_jax.storage import data_folder, urls, working_copy
from dlf_jax.training import multihost, runtime_errors, trainer, warm_start
from dlf_jax.training.preemption import Preemption
from dlf_jax.training.train_state import TrainState
from dlf_jax.workdir import Workdir

_log = logging.getLogger('dlf_jax')


def load_config(
    file: str | os.PathLike = '',
    model: str = '',
    variant: str = 'full',
    overrides: Mapping[str, Any] | None = None,
) -> ConfigDict:
    """Reads a config as the command line does: a file, a variant of its model, and keys that are set.

    Args:
      file: a config file such as `configs/frappe.py`, which defines `get_config(model)`; '': the defaults.
      model: name in `MODELS`, or `module:Name` or `file.py:Name`; '': the file's own.
      variant: one of the model's variants; sets model fields.
      overrides: values by dotted key, such as `{'training.epochs': 3}`; they win over the variant.

    Returns:
      The validated config.

    Raises:
      UsageError: there is no such file, model, variant or key, or a value cannot be.
    """
    get_config: Callable[..., ConfigDict] = configs.get_config
    if file:
        path = find_config_file(str(file))
        defined = runpy.run_path(str(path))
        if 'get_config' not in defined:
            raise UsageError(f'{path}: defines no get_config(model)')
        get_config = defined['get_config']
    config = get_config(model) if model else get_config()
    values = dict(overrides or {})
    known = dict(configs.flatten(config))
    for key in values:
        if key not in known:
            raise UsageError(f'config.{key}: there is no such key{suggest(key, known)}')
    config.variant = variant
    try:
        config.update_from_flattened_dict(values)
    except TypeError as error:
        what = ' '.join(str(error).split())
        raise UsageError(f'overrides: a value of another type than the default: {what}') from error
    configs.apply_choices(config, values)
    config_checks.validate(config)
    return config


def prepare(config: ConfigDict, data_dir: str | os.PathLike = DATA_DIR) -> dict[str, Any]:
    """Writes the records of a config's dataset, where they are not there yet.

    Args:
      config: `config.dataset` says which files, and what becomes of their columns.
      data_dir: folder of prepared data, shared by all runs; a path or a URL.

    Returns:
      What the records hold: `rows` by part, `vocabulary`, `fields` with their sizes, the `folder`, whether it
      was there before (`reused`), and more.

    Raises:
      UserError: a file, a line or a key that the user can mend.
    """
    start = time.monotonic()
    config_checks.validate(config)
    builder = builders.build(config.dataset, data_folder.local(data_dir), warm_start.ancestor(config))
    builder.prepare()
    seconds = time.monotonic() - start
    unknown = _tell_unknown(builder)
    encoder, rows = builder.encoder(), dict(builder.info.metadata['rows'])
    schema = encoder.schema
    missing = drift.missing_numbers(config, encoder, rows['train'])
    shared = {'rows_also_in_train': builder.shared_rows()} if config.dataset.check_overlap else {}
    return {
        **shared,
        'dataset': config.dataset.name,
        'folder': shown(str(builder.data_dir)),
        'reused': builder.reused,
        'rows': rows,
        'seconds': round(seconds, 2),
        'rows_per_second': None if builder.reused else round(sum(rows.values()) / seconds),
        'vocabulary': schema.vocabulary,
        'out_of_vocabulary': unknown,
        'missing_numbers': {name: round(share, 6) for name, share in missing.items()},
        **({'growth': encoder.growth} if encoder.growth else {}),
        'fields': {f.name: f.size if f.size else f.treatment or f.owner for f in schema.fields},
    }


def propose_schema(config: ConfigDict, output: str | os.PathLike) -> dict[str, Any]:
    """Writes a schema file for the training files of a table of one's own, from their first rows.

    Args:
      config: `config.dataset` has the files, and what is known: label, positive, weight, group, missing.
      output: the file to write (.toml), which must not exist.

    Returns:
      See `data.schema_proposal.propose`; and `columns`, the names of all.

    Raises:
      UserError: a file or a column is missing, or a row cannot be read.
    """
    options = config.dataset
    paths = expand(options.train, 'config.dataset.train')
    table = builders.dataset_class(options.name).open_files(options, paths)
    told = schema_proposal.propose(
        table,
        str(output),
        tuple(options.missing),
        options.label,
        options.positive,
        options.weight,
        options.group,
    )
    return {**told, 'columns': list(table.columns)}


def train(
    config: ConfigDict,
    workdir: str | os.PathLike,
    data_dir: str | os.PathLike = DATA_DIR,
    preemption: Preemption | None = None,
) -> dict[str, Any]:
    """Prepares the data where needed, trains, evaluates; or tells the result of a finished run.

    Where `config.baselines` asks for them, the baselines come after the model: a finished run of before gets
    them, too, and those that a run which was killed has finished are kept.

    Called again with the same arguments it goes on from the latest checkpoint, and ends with the same bits.
    What is refused, another config or other data than the run began with, changes nothing in the workdir.

    Args:
      config: the whole config.
      workdir: folder of the run: checkpoints, metrics, result; a path or a URL.
      data_dir: folder of prepared data, shared by all runs; a path or a URL.
      preemption: says when to save and stop; None: never.

    Returns:
      The result: metrics of the validation and test part at the best step, steps, parameters, time; with
      several seeds, the result of each and their mean; with `config.calibration`, the calibrator with the
      metrics before and after; with `config.baselines`, those of the baselines.

    Raises:
      UserError: something that the user can mend, in one line; Preempted: saved and stopped.
    """
    if urls.is_url(workdir) and config.distributed.coordinator:
        raise UsageError(
            f'--workdir={workdir}: several processes train in a folder that all of them see (a shared file '
            'system, or a bucket mounted as one); a URL is for one process'
        )
    with working_copy.opened(workdir) as (path, keeper):
        return _train(config, Workdir(path, keeper), data_folder.local(data_dir), preemption)


def _train(
    config: ConfigDict, folder: Workdir, data_dir: str, preemption: Preemption | None
) -> dict[str, Any]:
    """`train` in local folders."""
    with _of_all_processes(config), contextlib.ExitStack() as stack:

        def enter() -> dict[str, Any] | None:
            folder.create()
            stack.enter_context(locked(folder.lock, wait=False))
            return folder.finished(config)

        # Another config is refused before the files are read.
        finished = multihost.run_on_first(enter)
        ancestor = warm_start.ancestor(config, folder)
        builder = builders.build(config.dataset, data_dir, ancestor)
        multihost.run_on_first(lambda: folder.check_data(builder))
        if finished is not None:
            _log.info('%s is finished; this is its result', folder.path)
            if config.baselines:
                builder.prepare()
            finished = _with_calibration(config, folder, finished, preemption)
            return _with_baselines(config, builder, folder, finished, preemption)
        _tell_differences(config)
        if config.model.name not in configs.BASELINES:
            model_class(config.model.name).check_histories(builder.task.schema.histories)
        # The first process prepares what is missing, the others wait for its lock.
        builder.prepare()
        if multihost.is_first():
            _tell_unknown(builder)
        config = sized(config, builder, folder)
        if config.model.name in configs.BASELINES:
            result = _fit_baseline(config, builder, folder, preemption)
        else:
            result = trainer.train(config, builder, folder, preemption, _calibrated)
        multihost.run_on_first(lambda: folder.finish(result))
        result = _with_calibration(config, folder, result, preemption)
        return _with_baselines(config, builder, folder, result, preemption)


def compile_programs(config: ConfigDict, data_dir: str | os.PathLike = DATA_DIR) -> dict[str, Any]:
    """Compiles the programs of a run for devices that need not be there, and tells what they take.

    Compilers for absent devices look for these unless told not to, which is a setting of the process:
    `dlf_jax.compiling.targets.leave_devices_alone`.

    Args:
      config: the whole config; `config.compile` says for which devices.
      data_dir: folder of prepared data; none need be there.

    Returns:
      See `dlf_jax.compiling.compile_run.compile_run`.

    Raises:
      UserError: a compiler or the sizes of the data are missing, or the devices cannot hold the state.
    """
    config_checks.validate(config)
    return compile_run(config, data_folder.local(data_dir))


def _with_baselines(
    config: ConfigDict,
    builder: Builder,
    folder: Workdir,
    result: dict[str, Any],
    preemption: Preemption | None,
) -> dict[str, Any]:
    """The result of a finished run with those of the baselines, where the config asks for them."""
    if not config.baselines:
        return result

    def add() -> dict[str, Any]:
        found = {**result, 'baselines': fitting.fit_missing(config, builder, folder.baselines)}
        if found != result:
            folder.finish(found)
        return found

    return _on_first(add, folder, preemption)


def _with_calibration(
    config: ConfigDict, folder: Workdir, result: dict[str, Any], preemption: Preemption | None
) -> dict[str, Any]:
    """The result of a finished run with its calibrator, which is fitted where the config asks for one."""
    if config.model.name in configs.BASELINES:
        return result

    return _on_first(lambda: calibration.of_run(folder, config, result), folder, preemption)


def _calibrated(workdir: Workdir, state: TrainState) -> Callable[[np.ndarray], np.ndarray] | None:
    """The calibrator of a model, as a function of logits."""
    found = calibrator.load(workdir, state, workdir.config())
    return found.logits if found else None


def _fit_baseline(
    config: ConfigDict, builder: Builder, folder: Workdir, preemption: Preemption | None
) -> dict[str, Any]:
    """The result of a run whose model is a baseline."""

    def fit() -> dict[str, Any]:
        folder.begin(config, builder)
        return fitting.train(config, builder, folder)

    return _on_first(fit, folder, preemption)


def _on_first(
    work: Callable[[], dict[str, Any]], folder: Workdir, preemption: Preemption | None
) -> dict[str, Any]:
    """Does work in the first process, which SIGTERM ends at once: all that was trained is saved."""
    preemption = preemption or Preemption()
    with preemption.watched(), preemption.interruptible(folder.keeper.close):
        return multihost.run_long_on_first(work)


@contextlib.contextmanager
def _of_all_processes(config: ConfigDict) -> Iterator[None]:
    """Joins the other processes, where the config says that there are any, and explains their loss."""
    config_checks.validate(config)
    multihost.start(config)
    with runtime_errors.explained(config):
        yield


def _tell_unknown(builder: Builder) -> dict[str, dict[str, float]]:
    """Logs and returns the shares of values of the later parts that the training part did not have."""
    found, expected = builder.out_of_vocabulary(), builder.expected_unknown()
    for part, shares in found.items():
        unknown_values.tell(part, shares, expected)
    return found


def sized(config: ConfigDict, builder: Builder, folder: Workdir) -> ConfigDict:
    """Chooses the values of the keys that are left to the size of the data, and logs them.

    Args:
      config: the whole config.
      builder: its data is prepared.
      folder: of the run; where one has begun to train, its values are taken, and else those of the run of
        `config.training.warm_start`.

    Returns:
      The config with a value for every key.
    """
    keys = config_by_size.open_keys(config)
    if not keys:
        return config
    size = config_by_size.size_of(builder)
    known = multihost.run_on_first(lambda: folder.values(keys) or warm_start.known_values(config, keys))
    config = config_by_size.filled(config, size, known)
    config_checks.validate(config)
    values = dict(configs.flatten(config))
    told = ', '.join(f'{key}={values[key]!r}' for key in keys)
    of = f'{size.rows:,} training rows of {size.fields:,} fields'
    _log.info('for %s%s: %s', of, ', as the run began' if known else '', told)
    return config


def _tell_differences(config: ConfigDict) -> None:
    """Logs what of the config differs from the defaults."""
    found = config_checks.differences(config)
    told = ', '.join(f'{key}={value!r}' for key, value in found.items() if value is not None)
    _log.info('model %s; beside the defaults: %s', config.model.name, told or 'nothing')
