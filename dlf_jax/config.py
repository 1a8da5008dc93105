"""The whole default config, a comment per key; and its validation, with errors that name the key.

Used as a config file itself, it trains the defaults: `--config=dlf_jax/config.py:MODEL`. Where several say
something of a key, the command line wins over the variant, the variant over the config file, the file over
the defaults.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from dlf_jax import models, plugins
from dlf_jax.data import builders
from dlf_jax.data.preprocess import splits
from dlf_jax.data.schema import TREATMENTS
from dlf_jax.errors import UsageError, suggest

_log = logging.getLogger(__name__)

# Models in a size that trains on a laptop: where the config files start from.
SMALL = {
    'dlf': {
        'layers': 2,
        'attention_layers': 1,
        'tokens': 8,
        'rank': 8,
        'hidden': (),
        'head': (400,),
    },
    'mlp': {'hidden': (400, 400, 400)},
}
MONITORS = ('auc', 'auc-logloss', 'logloss')
PRECISIONS = ('float32', 'bfloat16')
PARALLEL = ('jit', 'pmap')
TABLE_SHARDINGS = ('auto', 'replicated', 'rows')
MATMUL_PRECISIONS = ('default', 'high', 'highest')
# Keys of earlier versions, and what they are called now.
RENAMED = {'optimizer.tables': 'optimizer.embedding_rows'}
# Keys that only some of the package's optimizers read, on top of those that Adam reads.
_READ_BY = {
    'optimizer.weight_decay': ('adamw', 'lion'),
    'optimizer.momentum': ('sgd',),
    'optimizer.nesterov': ('sgd',),
}


def get_config(model: str = 'dlf') -> ConfigDict:
    """The defaults: the leaderboards' recipe for any model.

    Args:
      model: a name in `dlf_jax.models.MODELS`; `config.model` holds exactly its fields.
    """
    config = ConfigDict()
    # Seed of initial weights, shuffling and dropout.
    config.seed = 0
    # Number of runs that one program trains together, with the seeds seed, seed + 1, ...
    config.seeds = 1
    # Dtype of the model's computations: float32 or bfloat16. Parameters, losses, norms and softmax are
    # float32.
    config.precision = 'float32'
    # Precision of float32 products on accelerators: default (JAX's: TF32 passes on GPUs, bfloat16 passes on
    # TPUs), high or highest. CPUs always compute in float32.
    config.matmul_precision = 'default'
    # Whether a step gives the same bits each time it runs on a GPU, where some sums otherwise come in any
    # order. Resuming a run is bit-identical on CPUs and TPUs anyway, and on GPUs with this, which costs
    # speed.
    config.deterministic = False
    # How several devices share a step: jit, or pmap (the same step, the older way).
    config.parallel = 'jit'
    # One of the model's variants; it sets model fields that are not set on the command line.
    config.variant = 'full'

    config.dataset = ConfigDict()
    # criteo, avazu, movielens, frappe, table (your own files) or synthetic.
    config.dataset.name = 'synthetic'
    # Files: a path, several by commas, or a glob. Without valid, train is split.
    config.dataset.train = ''
    config.dataset.valid = ''
    config.dataset.test = ''
    # Separator of text files; '': a comma for .csv, a tab for .tsv and .txt.
    config.dataset.separator = ''
    # Fetch the published files where none are given.
    config.dataset.download = False
    # Go on although the files are not the published ones.
    config.dataset.allow_modified = False
    # For `table`: a schema file (TOML), such as `--mode=prepare` with `infer` proposes; or the columns
    # here: the label, perhaps a weight and a group that AUC is also averaged over, the features.
    config.dataset.schema = ''
    config.dataset.infer = False
    config.dataset.label = ''
    config.dataset.weight = ''
    config.dataset.group = ''
    config.dataset.categorical = ()
    config.dataset.numeric = ()
    # Treatment of number columns: none, standard, minmax, and log2 and bucket, which make categories; auto:
    # the dataset's own.
    config.dataset.treatment = 'auto'
    # Number of ranges of the treatment `bucket`, with about as many training rows each.
    config.dataset.buckets = 50
    # Values seen less often in the training part share the out-of-vocabulary id.
    config.dataset.min_count = 1
    # Maximum number of values per field with ids of their own; 0: no limit.
    config.dataset.max_vocabulary = 0
    # Above 0: no vocabularies; a value's id is a hash of it, one of so many per field.
    config.dataset.hash_buckets = 0
    # Avazu's raw `hour`: category, or parts (hour of the day, weekday, whether it is a weekend).
    config.dataset.hour = 'category'
    # How one table is split: chronological (file order), time (by the column `time`) or random;
    # shares of train, valid, test.
    config.dataset.split = 'chronological'
    config.dataset.time = ''
    config.dataset.fractions = (7.0, 2.0, 1.0)
    config.dataset.split_seed = 0
    # Count the rows of valid and test that are also in train.
    config.dataset.check_overlap = False
    # An Apache Beam runner that prepares on several machines, and its flags; '': this machine alone.
    config.dataset.beam_runner = ''
    config.dataset.beam_options = ()
    # Rows per record.
    config.dataset.block_rows = 8192
    # For `synthetic`: number of rows, and the seed that they are drawn from.
    config.dataset.rows = 600_000
    config.dataset.seed = 0

    config.model = ConfigDict({'name': model, **_model_fields(model)})

    config.sharding = ConfigDict()
    # Sharding of embedding tables: replicated (every device holds all rows), rows (cut over the devices by
    # rows), or auto: cut where the tables would fill more than a quarter of a device.
    config.sharding.tables = 'auto'
    # Bytes that a device may hold; 0: what it has.
    config.sharding.device_memory = 0

    # Several processes, one or more a machine: host:port of the first, how many there are, which
    # this is; or `auto` where the scheduler (SLURM, TPU pods, Kubernetes JobSet) tells.
    config.distributed = ConfigDict()
    config.distributed.coordinator = ''
    config.distributed.processes = 0
    config.distributed.process = -1
    # Seconds without a sign of life after which a process counts as lost, and the others stop.
    config.distributed.heartbeat_timeout = 60

    config.embedding = ConfigDict()
    # Standard deviation of initial embeddings.
    config.embedding.std = 1e-4
    # lambda in lambda / 2 * sum E^2 over the whole table, added to the loss.
    config.embedding.penalty = 0.0

    config.optimizer = ConfigDict()
    # Optimizer of the dense parameters: adam (Kingma & Ba 2015), adamw, adagrad, sgd, lion, or one of your
    # own (module:function or file.py:function, see training/optimizers.py).
    config.optimizer.name = 'adam'
    # Optimizer of the embedding rows. adam updates every row at each step, as published results have it;
    # lazy_adam, rowwise_adagrad and sgd update the batch's rows alone, so that a step's time does not depend
    # on the vocabulary; dense: the optimizer of the dense parameters, on every row. Or one of your own, as
    # above (see training/row_optimizers.py).
    config.optimizer.embedding_rows = 'adam'
    config.optimizer.learning_rate = 1e-3
    # Decay of the first moment: adam, adamw, lion, lazy_adam.
    config.optimizer.b1 = 0.9
    # Decay of the second moment: adam, adamw, lazy_adam; of the momentum: lion, whose authors take 0.99.
    config.optimizer.b2 = 0.999
    # Added to the denominator: adam, adamw, adagrad, lazy_adam, rowwise_adagrad.
    config.optimizer.eps = 1e-8
    # Decoupled weight decay: adamw, lion. On dense parameters; on embeddings with embedding_rows=dense.
    config.optimizer.weight_decay = 0.0
    # Decay of the trace of gradients, and whether it looks ahead (Nesterov): sgd.
    config.optimizer.momentum = 0.0
    config.optimizer.nesterov = False
    # Initial sum of squares: adagrad.
    config.optimizer.initial_accumulator_value = 0.1
    # Gradients are scaled to this global norm where theirs is larger; 0: never.
    config.optimizer.clip_norm = 10.0
    # constant or cosine (to 0 over `training.epochs`), after a linear warm-up.
    config.optimizer.schedule = 'constant'
    config.optimizer.warmup_steps = 0

    # On top of the schedule: what happens after evaluations without gain.
    config.plateau = ConfigDict()
    # The learning rate times this after every evaluation without gain; 1: never.
    config.plateau.factor = 0.1
    # Minimum of the learning rate.
    config.plateau.min_learning_rate = 1e-6
    # Stop after this many evaluations without gain in a row; 0: never.
    config.plateau.patience = 2
    # Minimum rise of the monitored metric that counts as gain.
    config.plateau.min_gain = 1e-6

    config.training = ConfigDict()
    # Number of rows of a global batch, over all devices.
    config.training.batch_size = 4096
    # Number of parts that a batch is taken in, one after another: less memory, the same step.
    config.training.accumulate = 1
    # Maximum number of epochs.
    config.training.epochs = 100
    # Steps between evaluations; 0: one an epoch.
    config.training.evaluate_every = 0
    # auc, auc-logloss or logloss, on the validation part.
    config.training.monitor = 'auc'
    # Steps between checkpoints, beside those at evaluations.
    config.training.checkpoint_every = 1000
    # Number of best evaluations whose checkpoints are kept beside the latest.
    config.training.keep_best = 1
    # Steps between lines in metrics.jsonl.
    config.training.log_every = 50

    config.predict = ConfigDict()
    # Columns of the input that are copied to the output, before `probability`.
    config.predict.keep = ()
    # Number of rows of a batch in evaluation and prediction; 0: training.batch_size.
    config.predict.batch_size = 0
    # Seed of the run to use, where several were trained together; -1: the best by `training.monitor`.
    config.predict.seed = -1
    return config


def set_model(config: ConfigDict, by_model: Mapping[str, Mapping[str, Any]], **shared: Any) -> None:
    """Sets the model fields of a config file.

    Args:
      config: its `model.name` decides.
      by_model: fields by model name, on top of `SMALL`.
      shared: fields of every model that has them.
    """
    config.model.update(SMALL.get(config.model.name, {}))
    config.model.update({key: value for key, value in shared.items() if key in config.model})
    config.model.update(by_model.get(config.model.name, {}))


def _model_fields(model: str) -> dict[str, Any]:
    try:
        names = models.field_names(model)
    except ValueError as error:
        raise UsageError(f'config.{error}') from error
    return {name: getattr(models.MODELS[model], name) for name in names}


def build_model(config: ConfigDict) -> nn.Module:
    """The model that `config.model` describes. Raises UsageError naming a key that cannot be."""
    fields = config.model.to_dict()
    try:
        return models.build(fields.pop('name'), **fields)
    except ValueError as error:
        raise UsageError(f'config.{error}') from error


def apply_variant(config: ConfigDict, overridden: Mapping[str, Any]) -> None:
    """Sets the model fields that `config.variant` stands for, but for those in `overridden`.

    Args:
      config: changed in place.
      overridden: the dotted keys that the command line sets; they win over the variant.
    """
    variants = models.MODELS[config.model.name].variants
    if config.variant not in variants:
        raise UsageError(
            f'--variant={config.variant}: {config.model.name} has no such variant'
            f'{suggest(config.variant, variants)}'
        )
    for key, value in variants[config.variant].items():
        if f'model.{key}' not in overridden:
            config.model[key] = value


def validate(config: ConfigDict) -> None:
    """Checks every key; keys of earlier versions are renamed in place.

    Raises:
      UsageError: names the first key that there is not, or whose value cannot be.
    """
    _rename(config)
    known = _defaults(config)
    values = dict(flatten(config))
    for key in values:
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
    _validate_runs(config, check)
    build_model(config)


# Accepts a key, whether its value is good, and what is expected of it.
_Check = Callable[[str, bool, str], None]
_CHOICES = {
    'dataset.treatment': ('auto', *TREATMENTS),
    'dataset.split': splits.KINDS,
    'dataset.hour': ('category', 'parts'),
    'training.monitor': MONITORS,
    'precision': PRECISIONS,
    'matmul_precision': MATMUL_PRECISIONS,
    'parallel': PARALLEL,
    'sharding.tables': TABLE_SHARDINGS,
    'optimizer.schedule': ('constant', 'cosine'),
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
    'plateau.min_gain', 'training.evaluate_every', 'predict.batch_size', 'seed', 'sharding.device_memory',
    'distributed.processes',
)  # fmt: skip
_DECAYS = ('optimizer.b1', 'optimizer.b2', 'optimizer.momentum')


def _validate_dataset(config: ConfigDict, check: _Check) -> None:
    options = config.dataset
    read, defaults = builders.dataset_class(options.name).keys(), _defaults(config)
    for key, value in flatten(options):
        if key not in read and value != defaults[f'dataset.{key}']:
            raise UsageError(f'config.dataset.{key}={value!r}: the dataset {options.name} does not read it')
    check('dataset.buckets', options.buckets >= 2, 'at least 2')
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
    options, defaults = config.optimizer, _defaults(config)
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
    check('predict.seed', config.predict.seed >= -1, 'a seed of the workdir, or -1 for the best')
    for key in ('processes', 'process'):
        default = {'processes': 0, 'process': -1}[key]
        given = config.distributed[key] != default
        check(
            f'distributed.{key}',
            not given or config.distributed.coordinator not in ('', 'auto'),
            'config.distributed.coordinator=HOST:PORT beside it',
        )


def _rename(config: ConfigDict) -> None:
    """Moves values of keys of earlier versions to the keys of today, with a warning."""
    for old, new in RENAMED.items():
        section, _, name = old.rpartition('.')
        if section in config and name in config[section]:
            target, _, key = new.rpartition('.')
            config[target][key] = config[section][name]
            with config[section].unlocked():
                del config[section][name]
            _log.warning('config.%s is called config.%s now', old, new)


def _defaults(config: ConfigDict) -> dict[str, Any]:
    """Values of every key by default, for the config's model."""
    return dict(flatten(get_config(config.model.name)))


def differences(config: ConfigDict) -> dict[str, Any]:
    """Dotted keys and values that are not the defaults for the config's model."""
    defaults = _defaults(config)
    return {key: value for key, value in flatten(config) if value != defaults.get(key)}


def flatten(config: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yields (dotted key, value) of a nested config."""
    for key, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            yield from flatten(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value
