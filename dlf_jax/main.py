"""The command: `python -m dlf_jax.main --config=configs/criteo.py --workdir=/tmp/run`.

The last line on standard output is the result as one JSON object; all else goes to standard error.
Exit codes: 0 done, 1 an error that its one line explains, 2 a wrong command.
"""

from __future__ import annotations

if __name__ == '__main__':
    # The process is the command's own: before what is imported below starts threads.
    import gc
    import os

    from dlf_jax import allocator

    allocator.take_over()
    # XLA's own lines are no news: what fails in it comes back as an exception. 1 is what JAX sets, in this
    # process's parent.
    if os.environ.get('TF_CPP_MIN_LOG_LEVEL', '1') == '1':
        os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
    # Nothing of what is imported is garbage, and looking for some takes a sixth of the time.
    gc.disable()

import contextlib
import gc
import logging
import os
import platform
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import tqdm
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from dlf_jax import api, config_arguments, config_checks, program_cache, trained_runs
from dlf_jax import config as configs
from dlf_jax.baselines import fitting
from dlf_jax.compiling import targets
from dlf_jax.data import builders
from dlf_jax.errors import UsageError, UserError, shown, suggest
from dlf_jax.file_writing import to_json
from dlf_jax.storage import data_folder, urls
from dlf_jax.storage import settings as storage_settings
from dlf_jax.training import metrics, multihost, runtime_errors, warm_start
from dlf_jax.training import profile as profiling
from dlf_jax.training.preemption import EXIT_CODE, Preempted, Preemption
from dlf_jax.workdir import Workdir

_log = logging.getLogger('dlf_jax.main')

# Timed, and traced, by `profile`.
_PROFILE_STEPS = 20
MODES = (
    'train', 'prepare', 'evaluate', 'predict', 'profile', 'compile', 'export', 'calibrate', 'explain',
    'report',
)  # fmt: skip

_CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'Config file, FILE.py or FILE.py:MODEL; --config.KEY=VALUE sets a key.'
)
_MODE = flags.DEFINE_string('mode', 'train', f'One of {", ".join(MODES)}.')
_WORKDIR = flags.DEFINE_string(
    'workdir', '', 'Folder of the run: checkpoints, metrics, result. For report also several by commas.'
)
_DATASET = flags.DEFINE_string('dataset', '', 'Sets config.dataset.name.')
_VARIANT = flags.DEFINE_string('variant', '', 'Sets config.variant, such as wo_gate.')
_INPUT = flags.DEFINE_string(
    'input', '', 'Files to evaluate, predict, explain or calibrate by: path, glob, or several.'
)
_OUTPUT = flags.DEFINE_string(
    'output',
    '',
    'Where predict writes (.csv or .parquet), export and explain (a folder), report (.html; default: in the '
    'workdir), or prepare a proposed schema (.toml).',
)
_DATA_DIR = flags.DEFINE_string('data_dir', builders.DATA_DIR, 'Where prepared data is kept, for all runs.')
_CACHE = flags.DEFINE_string('cache', '', 'Folder of local copies of what is named by URL.')
_CACHE_GB = flags.DEFINE_float('cache_gb', None, 'Size of that folder at most, in 1e9 bytes; default: 100.')


def train() -> dict[str, Any]:
    """Prepares where needed, trains, evaluates; or tells the result of a finished run."""
    config, workdir = _config(), _required(_WORKDIR)
    _keep_compiled()
    multihost.start(config, exit_on_loss=True)
    result = api.train(config, workdir, _DATA_DIR.value, Preemption(listen=True))
    _tell(config, result)
    return result


def _keep_compiled() -> None:
    """Keeps what is compiled beside the data; by machine, because programs for CPUs are made for the one that
    compiles them."""
    program_cache.keep_programs(Path(data_folder.local(_DATA_DIR.value)) / 'compiled' / platform.node())


def _tell(config: ConfigDict, result: dict[str, Any]) -> None:
    """Puts what is beside the result's numbers into words: the best possible, the spread, the baselines."""
    runs, shown = result.get('runs', [result]), metrics.shown(config)
    for run in runs:
        for part in ('valid', 'test'):
            found, best = ((run[part] or {}).get(key) for key in ('auc', 'best_possible_auc'))
            if found is not None and best is not None and best > 0.5:
                share = 100 * (found - 0.5) / (best - 0.5)
                _log.info(
                    '%s%s auc %.4f; the best possible on this data: %.4f (%.1f %% of the way from 0.5)',
                    f'seed {run["seed"]}, ' if len(runs) > 1 else '', part, found, best, share,
                )  # fmt: skip
    if len(runs) > 1:
        for part, mean in result['mean'].items():
            for name, value in (mean or {}).items():
                if value is not None and name in shown:
                    spread = result['std'][part][name]
                    _log.info('%d seeds: %s %s %.6f +- %.6f', len(runs), part, name, value, spread)
    for line in fitting.table(result) if 'baselines' in result else ():
        _log.info('%s', line)


def prepare() -> dict[str, Any]:
    """Writes the records and tells what they hold; or proposes a schema for files not seen before."""
    config = _config()
    if config.dataset.infer:
        return _propose_schema(config)
    return api.prepare(config, _DATA_DIR.value)


def _propose_schema(config: ConfigDict) -> dict[str, Any]:
    if config.dataset.name != 'table':
        raise UsageError(f'config.dataset.infer: for --dataset=table; {config.dataset.name} has its schema')
    output = urls.local(_OUTPUT.value or 'schema.toml', '--output')
    if not output.absolute().parent.is_dir():
        raise UserError(f'--output={output}: there is no folder {output.parent}')
    return api.propose_schema(config, output)


def profile() -> dict[str, Any]:
    """Tells where the time of a training step goes, and writes a trace into the workdir."""
    config, workdir = _config(), Workdir(urls.local(_required(_WORKDIR), '--workdir'))
    _keep_compiled()
    ancestor = warm_start.ancestor(config)
    builder = builders.build(config.dataset, data_folder.local(_DATA_DIR.value), ancestor)
    builder.prepare()
    workdir.create()
    config = api.sized(config, builder, workdir)
    return profiling.profile(config, builder, workdir.path / 'profile', _PROFILE_STEPS)


def compile_programs() -> dict[str, Any]:
    """Tells what a run would take on devices that need not be there."""
    config = _config()
    if config.compile.target:
        targets.leave_devices_alone()
    return api.compile_programs(config, _DATA_DIR.value)


def evaluate() -> dict[str, Any]:
    """Scores labelled files with a trained model."""
    spec, options = _required(_INPUT), _trained_options('predict.', 'evaluate.')
    how: dict[str, dict[str, Any]] = {'predict': {}, 'evaluate': {}}
    for key, value in options.items():
        section, _, name = key.partition('.')
        how[section][name] = value
    return trained_runs.evaluate(_required(_WORKDIR), spec, how['predict'], **how['evaluate'])


def predict() -> dict[str, Any]:
    """Writes the probabilities of files of rows."""
    spec, output = _required(_INPUT), _required(_OUTPUT)
    return trained_runs.predict(_required(_WORKDIR), spec, output, _predict_options())


def calibrate() -> dict[str, Any]:
    """Fits a calibrator to a finished run's scores, or to those of labelled files."""
    options = _trained_options('calibration.', 'predict.')
    return trained_runs.calibrate(_required(_WORKDIR), _INPUT.value or None, options)


def export() -> dict[str, Any]:
    """Writes the model for services that have nothing of this package."""
    workdir, output = _required(_WORKDIR), _required(_OUTPUT)
    return trained_runs.export(workdir, output, _trained_options('export.', 'predict.'))


def report() -> dict[str, Any]:
    """Writes the page of a run, or of several side by side."""
    named = _required(_WORKDIR)
    _trained_options()
    # A folder may have a comma in its name.
    folders = [named] if Path(urls.plain(named)).is_dir() else [part for part in named.split(',') if part]
    return trained_runs.report(folders, _OUTPUT.value, _DATA_DIR.value)


def explain() -> dict[str, Any]:
    """Writes what the model looks at, and tells the most important fields and pairs."""
    workdir = _required(_WORKDIR)
    _keep_compiled()
    found = trained_runs.explain(
        workdir,
        _INPUT.value or None,
        _OUTPUT.value or None,
        _trained_options('explain.', 'predict.'),
        _DATA_DIR.value,
    )
    told = ', '.join(entry['field'] for entry in found['fields'][:5])
    _log.info('most important fields: %s; all of it is in %s', told, found['output'])
    return {key: found[key] for key in ('output', 'model', 'variant', 'rows', 'seed', 'metrics')} | {
        'fields': [{'field': f['field'], 'auc': f['auc'], 'logloss': f['logloss']} for f in found['fields']],
        'pairs': [{'fields': p['fields'], 'interaction': p['interaction']} for p in found['pairs']],
    }


def _required(flag: flags.FlagHolder) -> str:
    if not flag.value:
        raise UsageError(f'--mode={_MODE.value} needs --{flag.name}: {flag._flagvalues[flag.name].help}')
    return flag.value


def _overrides() -> dict[str, Any]:
    return config_flags.get_override_values(flags.FLAGS['config'])


def _config() -> ConfigDict:
    config = _CONFIG.value
    if _DATASET.value:
        config.dataset.name = _DATASET.value
    if _VARIANT.value:
        config.variant = _VARIANT.value
    configs.apply_choices(config, _overrides())
    config_checks.validate(config)
    return config


def _predict_options() -> dict[str, Any]:
    """Keys of `config.predict` that the command line sets, without the section."""
    return {key.removeprefix('predict.'): value for key, value in _trained_options('predict.').items()}


def _trained_options(*sections: str) -> dict[str, Any]:
    """Dotted keys of some sections that the command line sets for a trained model; it may set no others."""
    options = _overrides()
    for key in options:
        if not key.startswith(sections):
            taken = ' and '.join(f'--config.{section}*' for section in sections)
            raise UsageError(
                f'--config.{key}: the config of a trained model is in its workdir; '
                f'--mode={_MODE.value} takes {f"only {taken}" if taken else "no such"} keys'
            )
    return options


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; a mistake is one line and exit code 2.

    `--config.model.name=NAME` selects the model as `--config=FILE.py:NAME` does, since the model
    decides which other keys there are.
    """
    try:
        argv = config_arguments.select_model(argv)
        # ml_collections reads the overrides from there.
        sys.argv = argv
        rest = flags.FLAGS(argv)
        if len(rest) > 1:
            raise UsageError(f'unexpected argument {rest[1]!r}; flags begin with --')
        if not isinstance(_CONFIG.value, ConfigDict):
            raise UsageError(f'{argv[1]}: get_config() must return a ConfigDict')
        if _MODE.value not in MODES:
            raise UsageError(f'--mode={_MODE.value}{suggest(_MODE.value, MODES)}')
        return rest
    except (
        flags.Error,
        UsageError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OSError,
    ) as error:
        print(f'error: {config_arguments.explain(argv, error)}', file=sys.stderr)
        sys.exit(2)


class _Handler(logging.Handler):
    """Log lines that do not tear a progress bar apart."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.tqdm.write(shown(self.format(record)), file=sys.stderr)


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    """A failed save leaves callbacks behind for an event loop that is closed; that is no news."""
    if str(found.exc_value) != 'Event loop is closed':
        sys.__unraisablehook__(found)


def _quiet_logs() -> None:
    """Our own lines to standard error; the libraries' chatter nowhere."""
    # What fails inside them comes back as an exception, and is told once.
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger('asyncio').setLevel(logging.CRITICAL)
    if not sys.warnoptions:
        warnings.simplefilter('ignore')
    sys.unraisablehook = _unraisable
    handler = _Handler()
    handler.setFormatter(logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S'))
    log = logging.getLogger('dlf_jax')
    log.setLevel(logging.INFO)
    log.handlers = [handler]
    log.propagate = False


def _say(line: str) -> None:
    """A line of standard error of its own, whatever a thread or a bar is writing there."""
    tqdm.tqdm.write(line, file=sys.stderr)


def main(argv: list[str]) -> int:
    """Runs the mode and prints its result."""
    del argv
    _quiet_logs()
    modes: dict[str, Callable[[], dict[str, Any]]] = {
        'train': train,
        'prepare': prepare,
        'evaluate': evaluate,
        'predict': predict,
        'profile': profile,
        'compile': compile_programs,
        'export': export,
        'report': report,
        'explain': explain,
        'calibrate': calibrate,
    }
    try:
        storage_settings.choose(cache=_CACHE.value or None, cache_gb=_CACHE_GB.value)
        # Libraries print to standard output; that is for the result alone.
        with contextlib.redirect_stdout(sys.stderr), runtime_errors.explained():
            result = modes[_MODE.value]()
    except UserError as error:
        _say(f'error: {error}')
        if isinstance(error, Preempted):
            multihost.leave()
            return EXIT_CODE
        multihost.leave(error=str(error))
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        on = '; the same command goes on from the last checkpoint' if _MODE.value == 'train' else ''
        _say(f'interrupted{on}')
        return 130
    except Exception as error:
        # A mistake of ours: the other processes are told, so that none waits for this one.
        if jax.process_count() > 1:
            traceback.print_exc()
            multihost.leave(error=f'{type(error).__name__}: {error}')
        raise
    multihost.leave()
    if multihost.is_first():
        print(to_json(result, undefined_as_null=True), flush=True)
    return 0


if __name__ == '__main__':
    gc.freeze()
    gc.enable()
    app.run(main, flags_parser=parse)
