"""Checks of a config, with errors that name the key; what of it differs from the defaults."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Callable, Iterable
from typing import Any

from ml_collections import ConfigDict

from dlf_jax import baselines, config_by_size, plugins
from dlf_jax import config as configs
from dlf_jax.data import builders
from dlf_jax.data.preprocess import splits
from dlf_jax.data.readers.tables import AUTO, FORMATS
from dlf_jax.data.schema import FILLS, OUT_OF_RANGE, RESERVED, TREATMENTS
from dlf_jax.errors import UsageError, suggest
from dlf_jax.storage import urls
from dlf_jax.training import metrics, optimizers

_log = logging.getLogger(__name__)

PRECISIONS = ('float32', 'bfloat16')
PARALLEL = ('jit', 'pmap')
TABLE_SHARDINGS = ('auto', 'replicated', 'rows')
MATMUL_PRECISIONS = ('default', 'high', 'highest')
EXPORT_FORMATS = ('onnx', 'stablehlo', 'saved_model')
EXPORT_INPUTS = ('auto', 'raw', 'ids')
BASELINES_OF_ROWS = ('mean', 'zeros')
# Keys that name an entry of an open list, beside those of models and metrics.
_ENTRIES = (('dataset', 'name'), ('optimizer', 'name'), ('optimizer', 'embedding_rows'))
# Key of `config.dataset` that only permits something, and so does no harm where nobody asks.
_PERMISSION = 'allow_modified'
# Keys that only some of the package's optimizers read, on top of those that Adam reads.
_READ_BY = {
    'optimizer.weight_decay': ('adamw', 'lion'),
    'optimizer.momentum': ('sgd',),
    'optimizer.nesterov': ('sgd',),
}


def validate(config: ConfigDict) -> None:
    """Checks every key; keys of earlier versions are renamed and paths in names made absolute, in place.

    Raises:
      UsageError: names the first key that there is not, or whose value cannot be.
    """
    _rename(config)
    for section, key in _ENTRIES:
        config[section][key] = plugins.absolute(config[section][key])
    known = defaults_of(config)
    # Values of the keys that are left to the size of the data are checked when that is known.
    whole = config_by_size.stand_in(config)
    values = dict(configs.flatten(whole))
    # A dataset of one's own may have keys of its own.
    read = builders.dataset_class(config.dataset.name).keys()
    for key in values.keys() - {f'dataset.{name}' for name in read}:
        if key not in known:
            near = [name for name in known if name.split('.')[0] == key.split('.')[0]]
            raise UsageError(f'config.{key}: there is no such key{suggest(key, near or known)}')

    def check(key: str, good: bool, expected: str) -> None:
        if not good:
            raise UsageError(f'config.{key}={values[key]!r}: expected {expected}')

    def one_of(key: str, choices: Iterable[str]) -> None:
        if values[key] not in choices:
            raise UsageError(f'config.{key}={values[key]!r}: no such choice{suggest(values[key], choices)}')

    for key, value in values.items():
        check(key, value is not None, f'a value, such as {known.get(key)!r}')
        if isinstance(value, float):
            check(key, math.isfinite(value), 'a finite number')
    for key, choices in _CHOICES.items():
        one_of(key, choices)
    for key in _POSITIVE:
        check(key, values[key] >= 1, 'at least 1')
    for key in _NOT_NEGATIVE:
        check(key, values[key] >= 0, '0 or more')
    for key in _DECAYS:
        check(key, 0 <= values[key] < 1, '0 or more and less than 1')
    _validate_dataset(config, check)
    _validate_optimizer(config, check)
    _validate_runs(whole, check)
    _validate_warm_start(config, check)
    metrics.validate(config)
    if config.model.name in configs.BASELINES:
        _validate_baseline(config, check)
    else:
        configs.build_model(whole)
    if config.baselines:
        baselines.check_installed('config.baselines=True')


def validate_prediction(config: ConfigDict) -> None:
    """Checks the keys that may be set for a trained model, `config.predict.*`; the others were when it was
    trained.

    Raises:
      UsageError: names the first key whose value cannot be.
    """
    options = config.predict
    if options.batch_size < 0:
        raise UsageError(f'config.predict.batch_size={options.batch_size}: expected 0 or more')
    if options.seed < -1:
        raise UsageError(
            f'config.predict.seed={options.seed}: expected a seed of the workdir, or -1 for the best'
        )


def validate_evaluation(config: ConfigDict) -> None:
    """Checks `config.evaluate.*`.

    Raises:
      UsageError: names the first key whose value cannot be.
    """
    options = config.evaluate
    if isinstance(options.by, str) or not all(isinstance(name, str) and name for name in options.by):
        raise UsageError(
            f"config.evaluate.by={options.by!r}: expected names of columns, such as ('hour','device')"
        )
    for key, least in (('top', 1), ('intervals', 0)):
        if options[key] < least:
            raise UsageError(f'config.evaluate.{key}={options[key]}: expected {least} or more')


def validate_calibration(config: ConfigDict) -> None:
    """Checks `config.calibration.*`.

    Raises:
      UsageError: names the first key whose value cannot be.
    """
    options, methods = config.calibration, configs.CALIBRATION_METHODS
    if options.method not in methods:
        raise UsageError(
            f'config.calibration.method={options.method!r}: no such choice{suggest(options.method, methods)}'
        )
    if not 0 < options.negatives_kept <= 1:
        raise UsageError(
            f'config.calibration.negatives_kept={options.negatives_kept!r}: expected more than 0, at most 1'
        )
    if options.downsampled and options.negatives_kept == 1:
        raise UsageError(
            'config.calibration.downsampled=True: expected config.calibration.negatives_kept beside it, less '
            'than 1'
        )
    if options.method == 'isotonic' and importlib.util.find_spec('sklearn') is None:
        raise UsageError(
            "config.calibration.method='isotonic' needs scikit-learn: pip install 'dlf_jax[sklearn]'"
        )


def validate_export(config: ConfigDict) -> None:
    """Checks `config.export.*`.

    Raises:
      UsageError: names the first key whose value cannot be.
    """
    options = config.export
    for key, choices in (('format', EXPORT_FORMATS), ('inputs', EXPORT_INPUTS)):
        if options[key] not in choices:
            raise UsageError(
                f'config.export.{key}={options[key]!r}: no such choice{suggest(options[key], choices)}'
            )
    if options.format != 'onnx' and options.inputs == 'raw':
        raise UsageError(
            f"config.export.inputs='raw': expected 'ids' or 'auto' with config.export.format="
            f'{options.format!r}; raw values are for onnx'
        )


def validate_explanation(config: ConfigDict) -> None:
    """Checks `config.explain.*`, but for the names of fields, which the data decides.

    Raises:
      UsageError: names the first key whose value cannot be.
    """
    options = config.explain
    for key, least in _LEAST_OF_EXPLANATION.items():
        if options[key] < least:
            raise UsageError(f'config.explain.{key}={options[key]}: expected {least} or more')
    if options.baseline not in BASELINES_OF_ROWS:
        raise UsageError(
            f'config.explain.baseline={options.baseline!r}: no such choice'
            f'{suggest(options.baseline, BASELINES_OF_ROWS)}'
        )
    for key, kind, example in (
        ('fields', str, "('user','ad')"),
        ('groups', str, "('user=user_id+age','ad=ad_id+brand')"),
        ('attributed_rows', int, '(3,17)'),
    ):
        value = options[key]
        if isinstance(value, str) or not all(isinstance(v, kind) and v != '' for v in value):
            raise UsageError(f'config.explain.{key}={value!r}: expected several by commas, such as {example}')
    for text in options.groups:
        name, equals, members = text.partition('=')
        if not (name and equals and all(members.split('+'))):
            raise UsageError(f'config.explain.groups: {text!r}: expected NAME=FIELD+FIELD')
    shown = len(set(options.attributed_rows))
    if shown > options.rows:
        raise UsageError(
            f'config.explain.attributed_rows: {shown:,} rows, more than '
            f'config.explain.rows={options.rows:,}, of which they are'
        )


_LEAST_OF_EXPLANATION = {
    'rows': 1, 'seed': 0, 'repeats': 1, 'pairs': 0, 'pair_rows': 1, 'dependence': 0, 'points': 2,
    'detail_rows': 1, 'attributed': 0,
}  # fmt: skip

# Accepts a key, whether its value is good, and what is expected of it.
_Check = Callable[[str, bool, str], None]
_CHOICES = {
    'dataset.format': FORMATS,
    'dataset.treatment': TREATMENTS,
    'dataset.fill': ('auto', *FILLS),
    'dataset.split': splits.KINDS,
    'dataset.hour': ('category', 'parts'),
    'dataset.out_of_range': OUT_OF_RANGE,
    'precision': PRECISIONS,
    'matmul_precision': MATMUL_PRECISIONS,
    'parallel': PARALLEL,
    'sharding.tables': TABLE_SHARDINGS,
    'optimizer.schedule': ('constant', 'cosine'),
    'training.new_rows': ('initial', 'out_of_vocabulary'),
}
_POSITIVE = (
    'dataset.min_count', 'dataset.block_rows', 'training.batch_size', 'training.epochs',
    'training.accumulate', 'training.checkpoint_every', 'training.log_every', 'training.keep_best', 'seeds',
    'distributed.heartbeat_timeout',
)  # fmt: skip
_NOT_NEGATIVE = (
    'dataset.max_vocabulary', 'dataset.hash_buckets', 'embedding.std', 'embedding.penalty', 'optimizer.eps',
    'optimizer.clip_norm', 'optimizer.warmup_steps', 'optimizer.weight_decay',
    'optimizer.initial_accumulator_value', 'plateau.patience', 'plateau.min_learning_rate',
    'plateau.min_gain', 'plateau.steps', 'training.evaluate_every', 'seed', 'sharding.device_memory',
    'distributed.processes', 'compile.vocabulary', 'dataset.forget_after',
)  # fmt: skip
_DECAYS = ('optimizer.b1', 'optimizer.b2', 'optimizer.momentum')


def _validate_dataset(config: ConfigDict, check: _Check) -> None:
    options, defaults = config.dataset, defaults_of(config)
    read = builders.dataset_class(options.name).keys() | {_PERMISSION}
    for key, value in configs.flatten(options):
        if key not in read and value != defaults[f'dataset.{key}']:
            raise UsageError(f'config.dataset.{key}={value!r}: the dataset {options.name} does not read it')
    check('dataset.buckets', options.buckets >= 2, 'at least 2')
    check('dataset.frequencies', options.frequencies >= 1, 'at least 1')
    largest = 2**31 - 1 - RESERVED
    check('dataset.hash_buckets', options.hash_buckets <= largest, f'at most {largest:,}, for ids of 32 bits')
    check(
        'dataset.missing',
        not isinstance(options.missing, str) and all(isinstance(text, str) for text in options.missing),
        "texts, such as ('NA','-')",
    )
    columns = options.columns
    check(
        'dataset.columns',
        not isinstance(columns, str)
        and all(isinstance(name, str) and name for name in columns)
        and len(set(columns)) == len(columns),
        "different names, such as ('label','user','ad')",
    )
    check(
        'dataset.columns',
        not columns or options.format in (AUTO, 'text'),
        f'none with config.dataset.format={options.format!r}, whose files name their columns',
    )
    check('dataset.rows', options.rows >= 10, 'at least 10')
    check('dataset.separator', len(options.separator) <= 1, 'one character')
    check(
        'dataset.time',
        bool(options.time) == (options.split == 'time'),
        "the time column, with config.dataset.split='time' and only then",
    )
    shares = options.fractions
    check(
        'dataset.fractions',
        2 <= len(shares) <= 3 and min(shares) >= 0 and min(shares[:2]) > 0 and math.isfinite(sum(shares)),
        'shares of train, valid and test, the first two above 0',
    )


def _validate_optimizer(config: ConfigDict, check: _Check) -> None:
    optimizers.make(config, 1)
    options, defaults = config.optimizer, defaults_of(config)
    for key, names in _READ_BY.items():
        value = options[key.partition('.')[2]]
        readers = f'read by config.optimizer.name={" and ".join(names)}, not by {options.name!r}'
        check(
            key, plugins.is_external(options.name) or options.name in names or value == defaults[key], readers
        )
    check('optimizer.learning_rate', options.learning_rate > 0, 'more than 0')
    check('plateau.factor', 0 < config.plateau.factor <= 1, 'more than 0, at most 1')


def _validate_runs(config: ConfigDict, check: _Check) -> None:
    check(
        'training.accumulate',
        config.training.batch_size % config.training.accumulate == 0,
        'a divisor of config.training.batch_size',
    )
    check('seed', config.seed < 2**31, 'less than 2^31')
    check('seeds', config.seed + config.seeds <= 2**31, 'seeds less than 2^31, counted up from config.seed')
    validate_prediction(config)
    validate_export(config)
    validate_explanation(config)
    validate_evaluation(config)
    validate_calibration(config)
    for key in ('processes', 'process'):
        default = {'processes': 0, 'process': -1}[key]
        given = config.distributed[key] != default
        check(
            f'distributed.{key}',
            not given or config.distributed.coordinator not in ('', 'auto'),
            'config.distributed.coordinator=HOST:PORT beside it',
        )


def _validate_warm_start(config: ConfigDict, check: _Check) -> None:
    """Checks the keys of a warm start, and makes its path absolute, in place. Links are followed, which may
    point elsewhere by the time that it is read again."""
    options = config.training
    if not options.warm_start:
        return
    options.warm_start = urls.whole(options.warm_start)
    check('seeds', config.seeds == 1, '1 with config.training.warm_start; start a run for each seed')
    check(
        'model.name',
        config.model.name not in configs.BASELINES,
        'a model with config.training.warm_start; a baseline keeps nothing to go on from',
    )
    check(
        'optimizer.schedule',
        config.optimizer.schedule == 'constant' or not options.keep_moments,
        'constant with config.training.warm_start, whose steps are counted on, or '
        'config.training.keep_moments=False',
    )


def _validate_baseline(config: ConfigDict, check: _Check) -> None:
    name = config.model.name
    baselines.check_installed(f'config.model.name={name!r}', (name,))
    check('seeds', config.seeds == 1, f'1 with the baseline {name!r}')
    check('baselines', not config.baselines, f'False with config.model.name={name!r}, which is one')
    for key in ('method', 'negatives_kept'):
        default = defaults_of(config)[f'calibration.{key}']
        check(
            f'calibration.{key}',
            config.calibration[key] == default,
            f'{default!r} with the baseline {name!r}, of which a run keeps no model',
        )


def _rename(config: ConfigDict) -> None:
    """Moves values of keys of earlier versions to the keys of today, with a warning."""
    for old, new in configs.RENAMED.items():
        section, _, name = old.rpartition('.')
        if section in config and name in config[section]:
            target, _, key = new.rpartition('.')
            config[target][key] = config[section][name]
            with config[section].unlocked():
                del config[section][name]
            _log.warning('config.%s is called config.%s now', old, new)


def defaults_of(config: ConfigDict) -> dict[str, Any]:
    """Values of every key by default, for the config's model."""
    return dict(configs.flatten(configs.get_config(config.model.name)))


def differences(config: ConfigDict) -> dict[str, Any]:
    """Dotted keys and values that are not the defaults for the config's model."""
    defaults = defaults_of(config)
    return {key: value for key, value in configs.flatten(config) if value != defaults.get(key)}
