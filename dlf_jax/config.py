"""The whole default config, a comment per key.

Used as a config file itself, it trains the defaults: `--config=dlf_jax/config.py:MODEL`. Where several say
something of a key, the command line wins over the variant, the variant over `config.paper`, that over the
config file, the file over the defaults.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from dlf_jax import models, plugins
from dlf_jax.errors import UsageError, suggest

_log = logging.getLogger(__name__)

# Keys of earlier versions, and their names today.
RENAMED = {'optimizer.tables': 'optimizer.embedding_rows'}
# Baselines, which take the place of a model where `config.model.name` names one; see `dlf_jax.baselines`.
BASELINES = ('logistic', 'lightgbm')
# What a calibrator may be; see `dlf_jax.serving.calibrator`.
CALIBRATION_METHODS = ('none', 'temperature', 'platt', 'isotonic')
# Models in a size that trains on a laptop, from which the config files start.
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
# What all models of DLF's paper have in common (section 5.1.4); fields that a model lacks are left out.
PAPER = {'training.batch_size': 10_000, 'model.embedding_size': 64}


def get_config(model: str = 'dlf') -> ConfigDict:
    """The defaults: the leaderboards' recipe for any model.

    Args:
      model: a name in `dlf_jax.models.MODELS`, or `module:Name` or `file.py:Name`; `config.model` holds
        exactly its fields. Or a name in `BASELINES`, which have none.
    """
    config = ConfigDict()
    # Seed of initial weights, shuffling and dropout.
    config.seed = 0
    # Number of runs that one program trains together, with the seeds seed, seed + 1, ...
    config.seeds = 1
    # Whether logistic regression (scikit-learn) and LightGBM are fitted and scored, too, on the same encoded
    # rows, splits and weights: a yardstick. pip install 'dlf_jax[baselines]'
    config.baselines = False
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
    # Whether the common setting of DLF's paper goes before the config file: embeddings of width 64 and
    # batches of 10,000 rows; and `dlf` in its full size, which are the model's defaults: 8 layers, 2
    # attention layers, 16 tokens a block. What the paper searched and does not print (learning rate,
    # penalty, dropout) and the other models' layers stay the config file's.
    config.paper = False

    config.dataset = ConfigDict()
    # criteo, avazu, movielens, frappe, table (your own files), synthetic or synthetic_histories.
    config.dataset.name = 'synthetic'
    # Training files: a path, a folder, a glob, or several by commas.
    config.dataset.train = ''
    # Validation files; '': the training files are split.
    config.dataset.valid = ''
    # Test files; '': none, or a part of the split.
    config.dataset.test = ''
    # Separator of text files; '': a comma for .csv, a tab for .tsv and .txt. Where the first line has none of
    # it, the one that it has.
    config.dataset.separator = ''
    # Read the files again to see whether they are those of the prepared data, whatever their sizes and times.
    config.dataset.verify = False
    # For `table`: names of the columns of text files without a header line, in file order.
    config.dataset.columns = ()
    # For `table`: format of the files: auto (by their first bytes and lines), text, parquet, libsvm, libffm.
    config.dataset.format = 'auto'
    # Fetch the published files where none are given.
    config.dataset.download = False
    # Go on although the files are not the published ones.
    config.dataset.allow_modified = False
    # For `table`: a schema file (TOML) that describes the columns, in place of `label`, `positive`,
    # `soft_labels`, `weight`, `group`, `categorical` and `numeric`.
    config.dataset.schema = ''
    # For `table`: whether `--mode=prepare` proposes a schema file instead of preparing.
    config.dataset.infer = False
    # For `table`: column of the label.
    config.dataset.label = ''
    # For `table`: value of the label that is a click, every other being none; '': labels are 1 (true, yes, y,
    # t) or 0 (-1, false, no, n, f).
    config.dataset.positive = ''
    # For `table`: whether labels are numbers from 0 to 1, such as shares of clicks; AUC then counts those
    # above 0.5 as clicks.
    config.dataset.soft_labels = False
    # For `table`: column of the rows' weights; '': every row weighs 1.
    config.dataset.weight = ''
    # For `table`: column of the groups that AUC is also averaged over; '': none.
    config.dataset.group = ''
    # For `table`: columns of the categorical features.
    config.dataset.categorical = ()
    # For `table`: columns of the numeric features.
    config.dataset.numeric = ()
    # Treatment of number columns: none, standard, minmax; quantile, piecewise and periodic, which follow the
    # training part's quantiles; log2 and bucket, which make categories; auto: the dataset's own, of tables
    # quantile or piecewise by the training rows.
    config.dataset.treatment = 'auto'
    # What a missing number becomes: mean (of the training part), own (a value of its own), or auto: own under
    # quantile, piecewise and periodic, and else mean.
    config.dataset.fill = 'auto'
    # Texts that stand for a missing value, beside the empty one: ('NA', '-').
    config.dataset.missing = ()
    # What becomes of a number that is infinite or beyond float32 once treated: error, or missing.
    config.dataset.out_of_range = 'error'
    # Number of ranges of the treatments `bucket` and `piecewise`, with about as many training rows each.
    config.dataset.buckets = 50
    # Number of waves of the treatment `periodic`.
    config.dataset.frequencies = 16
    # Values seen less often in the training part share the out-of-vocabulary id.
    config.dataset.min_count = 1
    # Maximum number of values per field with ids of their own; 0: no limit.
    config.dataset.max_vocabulary = 0
    # Above 0: no vocabularies; a value's id is a hash of it, one of so many per field.
    config.dataset.hash_buckets = 0
    # Avazu's raw `hour`: category, or parts (hour of the day, weekday, whether it is a weekend).
    config.dataset.hour = 'category'
    # Split of the training files, where no others are given: chronological (file order), time (by a column)
    # or random (by a hash of the row's number).
    config.dataset.split = 'chronological'
    # Column of the time, for the split by time.
    config.dataset.time = ''
    # Shares of train, valid and test.
    config.dataset.fractions = (7.0, 2.0, 1.0)
    # Seed of the random split.
    config.dataset.split_seed = 0
    # Count the rows of valid and test that are also in train.
    config.dataset.check_overlap = False
    # With `training.warm_start`: a value that was in none of so many training parts in a row, this one the
    # last, loses its id and row; 0: never.
    config.dataset.forget_after = 0
    # With `training.warm_start`: whether means, ranges and curves of numbers are fitted to these files; else
    # they stay as the model has learnt them.
    config.dataset.refit_numbers = False
    # What prepares in several processes or on several machines: dask, or a runner of Apache Beam; '': this
    # process alone.
    config.dataset.beam_runner = ''
    # Its flags; of dask: --address, --workers, --memory, --timeout.
    config.dataset.beam_options = ()
    # Rows per record.
    config.dataset.block_rows = 8192
    # For `synthetic` and `synthetic_histories`: number of rows.
    config.dataset.rows = 600_000
    # For these: seed that the rows are drawn from.
    config.dataset.seed = 0

    config.model = ConfigDict({'name': plugins.absolute(model), **_model_fields(model)})

    config.sharding = ConfigDict()
    # Sharding of embedding tables: replicated (every device holds all rows), rows (cut over the devices by
    # rows), or auto: cut where the tables would fill more than a quarter of a device.
    config.sharding.tables = 'auto'
    # Bytes that a device may hold; 0: what it has.
    config.sharding.device_memory = 0

    config.distributed = ConfigDict()
    # Address of the first of several processes, one or more a machine: host:port, or `auto` where the
    # scheduler (SLURM, TPU pods) tells it; '': one process.
    config.distributed.coordinator = ''
    # Number of processes.
    config.distributed.processes = 0
    # Number of this process, from 0.
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
    # lazy_adam, adagrad, rowwise_adagrad and sgd update the batch's rows alone, so that a step's time does
    # not depend on the vocabulary; dense: the optimizer of the dense parameters, on every row. Or one of your
    # own, as above (see training/row_optimizers.py).
    config.optimizer.embedding_rows = 'adam'
    # Learning rate, at the peak of the schedule.
    config.optimizer.learning_rate = 1e-3
    # Decay of the first moment: adam, adamw, lion, lazy_adam.
    config.optimizer.b1 = 0.9
    # Decay of the second moment: adam, adamw, lazy_adam; of the momentum: lion, whose authors take 0.99.
    config.optimizer.b2 = 0.999
    # Added to the denominator: adam, adamw, adagrad, lazy_adam, rowwise_adagrad.
    config.optimizer.eps = 1e-8
    # Decoupled weight decay: adamw, lion. On dense parameters; on embeddings with embedding_rows=dense.
    config.optimizer.weight_decay = 0.0
    # Decay of the trace of gradients: sgd.
    config.optimizer.momentum = 0.0
    # Whether the trace looks ahead (Nesterov): sgd.
    config.optimizer.nesterov = False
    # Initial sum of squares: adagrad.
    config.optimizer.initial_accumulator_value = 0.1
    # Gradients are scaled to this global norm where theirs is larger; 0: never.
    config.optimizer.clip_norm = 10.0
    # Schedule of the learning rate after the warm-up: constant, or cosine (to 0 over `training.epochs`).
    config.optimizer.schedule = 'constant'
    # Number of steps of a linear warm-up; 0: none.
    config.optimizer.warmup_steps = 0

    # On top of the schedule: what happens after evaluations without gain.
    config.plateau = ConfigDict()
    # The learning rate times this after every evaluation without gain; 1: never.
    config.plateau.factor = 0.1
    # Minimum of the learning rate.
    config.plateau.min_learning_rate = 1e-6
    # Stop after this many evaluations without gain in a row; 0: never.
    config.plateau.patience = 2
    # An evaluation without gain counts if so many steps have passed since the last gain, and since the last
    # one that counted.
    config.plateau.steps = 0
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
    # Workdir of a run, or a saved model, whose weights training begins with; its vocabularies grow by the
    # values of the new files. '': from scratch.
    config.training.warm_start = ''
    # Rows of values that are new to the model of `warm_start`: initial (as they are drawn from scratch), or
    # out_of_vocabulary (what the model has learnt of rare values of the field).
    config.training.new_rows = 'initial'
    # Whether the optimizer goes on with the moments and the number of steps of the run of `warm_start`; new
    # rows have none.
    config.training.keep_moments = True
    # Metrics that log lines and tables show beside AUC, GAUC and Logloss: names in
    # `dlf_jax.training.metrics.METRICS`, which every evaluation computes, or your own, as `module:Name` or
    # `file.py:Name`.
    config.training.metrics = ()
    # Metric of the validation part that decides which step is the best and when to stop: a name as above, or
    # auc-logloss, the difference of the two.
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

    config.evaluate = ConfigDict()
    # For `--mode=evaluate`: columns of the evaluated files, features or not, whose values get metrics of
    # their own, the worst first: ('hour','device').
    config.evaluate.by = ()
    # Number of values of such a column, those with the most rows, that are told apart; the rest is one.
    config.evaluate.top = 20
    # Number of bootstrap samples for confidence intervals of metrics, 1000 for instance; 0: no intervals.
    config.evaluate.intervals = 0

    config.calibration = ConfigDict()
    # What turns logits into probabilities that are right on average: none, temperature, platt (a line of the
    # logit), or isotonic (a curve that never falls; needs scikit-learn). Fitted to the validation part when
    # training ends, or by `--mode=calibrate`; prediction, export and the server apply it.
    config.calibration.method = 'none'
    # Share of the rows without a click that the training files have kept, where the others were left out at
    # random: probabilities are put right for all rows. 1: all.
    config.calibration.negatives_kept = 1.0
    # Whether rows were left out in the same way of those that the calibrator is fitted to; the ones that are
    # there then weigh as all of them.
    config.calibration.downsampled = False

    config.export = ConfigDict()
    # Format that `--mode=export` writes: onnx (ONNX Runtime), stablehlo (JAX, without this package), or
    # saved_model (TensorFlow, TensorFlow Serving).
    config.export.format = 'onnx'
    # Inputs of the exported model: raw (values as in the files, with the vocabulary inside; onnx alone), ids
    # (the encoder's arrays), or auto: raw for onnx, ids for the others.
    config.export.inputs = 'auto'

    config.explain = ConfigDict()
    # Number of rows of the sample that `--mode=explain` works on.
    config.explain.rows = 100_000
    # Seed of the sample and of the permutations.
    config.explain.seed = 0
    # Number of permutations of each field.
    config.explain.repeats = 2
    # Fields whose importance is told; (): all.
    config.explain.fields = ()
    # Groups of fields that are permuted together: ('user=user_id+age','ad=ad_id+brand').
    config.explain.groups = ()
    # Number of the most important fields whose pairs are told; 0: none.
    config.explain.pairs = 10
    # Number of the sampled rows that pairs are told on.
    config.explain.pair_rows = 20_000
    # Number of the most important fields whose partial dependence is told; 0: none.
    config.explain.dependence = 20
    # Maximum number of values of a field's partial dependence.
    config.explain.points = 15
    # Number of the sampled rows that partial dependence and DLF's tensors are averaged over.
    config.explain.detail_rows = 5_000
    # Number of rows whose logits are divided among their fields, spread over the predicted probabilities.
    config.explain.attributed = 8
    # Or numbers of these rows, counted from 0 in the input: (3,17).
    config.explain.attributed_rows = ()
    # What a row is compared with for that: mean (the fields' mean embeddings) or zeros.
    config.explain.baseline = 'mean'

    config.compile = ConfigDict()
    # Devices that `--mode=compile` compiles for, which need not be there: a TPU and its topology (v5e:4x4,
    # v5p:2x2x2, v6e:2x4), or a GPU and how many (a100, l4, h100:8, h200, b200); '': the devices here.
    config.compile.target = ''
    # Number of embedding rows to compile for; 0: those of the prepared data, or else of the published one.
    config.compile.vocabulary = 0
    # File that the text of the training step's program is written to; '': none.
    config.compile.text = ''
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
    """Default values of a model's hyperparameters, by name."""
    if model in BASELINES:
        return {}
    found = models.model_class(model)
    return {name: getattr(found, name) for name in models.field_names(model)}


def variants_of(model: str) -> Mapping[str, Mapping[str, Any]]:
    """Variants of a model or baseline by name, each with the model fields that it stands for."""
    return {'full': {}} if model in BASELINES else models.model_class(model).variants


def build_model(config: ConfigDict) -> models.CTRModel:
    """The model that `config.model` describes. Raises UsageError naming a key that cannot be."""
    if config.model.name in BASELINES:
        raise UsageError(
            f'config.model.name={config.model.name!r}: a baseline can be trained and compared, and nothing '
            'else; its run keeps scores, not the fitted baseline'
        )
    fields = config.model.to_dict()
    try:
        return models.build(fields.pop('name'), **fields)
    except ValueError as error:
        raise UsageError(f'config.{error}') from error


def set_options(config: ConfigDict, section: str, options: Mapping[str, Any]) -> None:
    """Sets keys of one section, such as those that a trained model takes.

    Args:
      config: changed in place.
      section: such as 'predict'.
      options: values by key, without the section.

    Raises:
      UsageError: there is no such key, or its value is of another type.
    """
    for key, value in options.items():
        if key not in config[section]:
            raise UsageError(f'config.{section}.{key}: there is no such key{suggest(key, config[section])}')
        try:
            config[section][key] = value
        except TypeError as error:
            raise UsageError(f'config.{section}.{key}={value!r}: {error}') from error


def apply_choices(config: ConfigDict, overridden: Collection[str]) -> None:
    """Sets the keys that `config.paper` and `config.variant` stand for, those of the variant last.

    Args:
      config: with the values of the command line; changed in place.
      overridden: dotted keys that the command line sets; they stay as they are.

    Raises:
      UsageError: there is no such variant, or it conflicts with a field that the command line sets.
    """
    if config.paper:
        _apply_paper(config, overridden)
    _apply_variant(config, overridden)


def _apply_paper(config: ConfigDict, overridden: Collection[str]) -> None:
    """Sets the keys of `PAPER`, and the fields of DLF, whose defaults are the paper's; see `config.paper`."""
    values: dict[str, Any] = dict(PAPER)
    if config.model.name == 'dlf':
        sizes = {key: value for key, value in _model_fields('dlf').items() if not key.endswith('dropout')}
        values.update({f'model.{key}': value for key, value in sizes.items()})
    known = dict(flatten(config))
    config.update_from_flattened_dict(
        {key: value for key, value in values.items() if key in known and key not in overridden}
    )


def _apply_variant(config: ConfigDict, overridden: Collection[str]) -> None:
    """Sets the model fields that `config.variant` stands for.

    The command line wins over the variant, the variant over the config file, the file over the model's
    defaults. So where the model refuses a setting of the file together with the variant, the field takes its
    default: as few fields as possible, of equally few the first in the model's order.

    Args:
      config: with the values of the command line; changed in place.
      overridden: dotted keys that the command line sets.

    Raises:
      UsageError: there is no such variant, or it conflicts with a field that the command line sets.
    """
    name, fields = config.model.name, config.model.to_dict()
    variants = variants_of(name)
    if config.variant not in variants:
        raise UsageError(
            f'--variant={config.variant}: {name} has no such variant{suggest(config.variant, variants)}'
        )
    own = [field for field in fields if f'model.{field}' in overridden]
    variant = {field: value for field, value in variants[config.variant].items() if field not in own}
    if not variant:
        return
    config.model.update(variant)
    problem = _problem(config.model)
    if problem is None:
        return
    defaults = {field: value for field, value in _model_fields(name).items() if field not in variant}
    from_file = [field for field in defaults if field not in own and fields[field] != defaults[field]]
    reset = _fewest_resets(config.model, from_file, defaults)
    if reset:
        for field in reset:
            _log_once(
                f'--variant={config.variant}: config.model.{field}={defaults[field]!r}, the default, '
                f"in place of the config file's {fields[field]!r}, which conflicts with it"
            )
            config.model[field] = defaults[field]
    elif _problem(fields) is None:
        conflicting = _fewest_resets(config.model, [*from_file, *own], defaults)
        told = [f'--config.model.{field}={fields[field]!r}' for field in conflicting if field in own]
        if told:
            raise UsageError(f'--variant={config.variant} conflicts with {" and ".join(told)}: {problem}')


def _fewest_resets(
    fields: Mapping[str, Any], candidates: Sequence[str], defaults: Mapping[str, Any]
) -> tuple[str, ...]:
    """The fewest fields that must take their defaults for the model to accept all fields.

    Args:
      fields: `config.model`.
      candidates: fields that may be reset, in order of preference.
      defaults: the model's defaults.

    Returns:
      Names of fields; none where no reset helps.
    """
    for count in range(1, len(candidates) + 1):
        for chosen in itertools.combinations(candidates, count):
            if _problem({**fields, **{field: defaults[field] for field in chosen}}) is None:
                return chosen
    return ()


def _problem(fields: Mapping[str, Any]) -> str | None:
    """The reason why the model called `name` refuses its fields; None where it accepts them.

    Args:
      fields: `config.model`, `name` among them.
    """
    try:
        # Fields that are left to the size of the data are good with the value that they get.
        models.build(**{name: value for name, value in fields.items() if value is not None})
    except ValueError as error:
        return f'config.{error}'
    return None


@functools.cache
def _log_once(message: str) -> None:
    """Logs a message the first time: a comparison resolves the same config many times."""
    _log.info(message)


def flatten(config: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yields (dotted key, value) of a nested config."""
    for key, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            yield from flatten(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value
