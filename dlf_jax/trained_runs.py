"""What is asked of a trained model, as plain functions of its workdir: scores, exports, explanations.

`api` has the way there, from files to a trained model. Like its functions, these set nothing process-wide.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dlf_jax import config as configs
from dlf_jax import config_checks
from dlf_jax.analysis import calibration, intervals
from dlf_jax.analysis.explanation.explain import check_output
from dlf_jax.data.builders import DATA_DIR
from dlf_jax.errors import UsageError, UserError, shown, suggest
from dlf_jax.serving.predict import Predictor
from dlf_jax.storage import outputs, working_copy
from dlf_jax.trained_model import TrainedModel
from dlf_jax.training import stored_scores
from dlf_jax.workdir import Workdir


def load(folder: str | os.PathLike, options: Mapping[str, Any] | None = None) -> TrainedModel:
    """Restores the best model of a run, or a saved model.

    Args:
      folder: workdir of a run with at least one evaluation, or a folder that `TrainedModel.save` has written;
        nothing else is needed.
      options: values of `config.predict` keys, such as `{'batch_size': 4096}`.

    Raises:
      UserError: there is no trained model.
      UsageError: there is no such option, or its value cannot be.
    """
    workdir = Workdir(folder)
    config = workdir.config()
    configs.set_options(config, 'predict', options or {})
    config_checks.validate_prediction(config)
    return TrainedModel(workdir, config)


def calibrate(
    workdir: str | os.PathLike, input: Any = None, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Fits a calibrator to the scores of a finished run, and keeps it in the workdir for all that scores.

    Args:
      workdir: folder of a finished run; or of a saved model, which has no scores and needs `input`.
      input: labelled rows to fit it to: files (a path, several by commas, or a glob), or a frame; None: the
        validation part, whose scores the run has kept.
      options: values of `config.calibration` and `config.predict` keys, such as
        `{'calibration.method': 'temperature'}`; others are as the run was trained with. Where none is asked
        for, `method` none and `negatives_kept` 1, the one that is there is removed; or replaced by one
        that changes nothing, where the run itself has a `negatives_kept` below 1.

    Returns:
      `method`, `negatives_kept`, `slope` and `intercept` or the number of `knots`, `fitted_to`, `mode`,
      `rows`, and the metrics of these rows `before` and `after`. `result.json` of the run tells them, too.

    Raises:
      UserError: there are no scores, or they do not determine a calibrator, or the run is of a baseline; what
        was there before stays.
      UsageError: there is no such option, or its value cannot be.
    """
    with working_copy.opened(workdir) as (path, keeper):
        return _calibrate(Workdir(path, keeper), input, options)


def _calibrate(folder: Workdir, input: Any, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """`calibrate` in a local folder."""
    config = folder.config()
    if config.model.name in configs.BASELINES:
        raise UserError(
            f'{folder.path}: the baseline {config.model.name!r} has no calibrator: no model of it is kept'
        )
    sampled = config.calibration.negatives_kept < 1
    for section, values in _by_section(folder.path, options, 'calibration').items():
        configs.set_options(config, section, values)
    config_checks.validate_prediction(config)
    config_checks.validate_calibration(config)
    # What the run says of its rows is applied unless a calibrator for its weights says otherwise.
    if not calibration.asked(config.calibration) and not sampled:
        folder.calibration.unlink(missing_ok=True)
        _note(folder, config)
        return {'method': 'none', 'negatives_kept': 1.0}
    if input is None:
        seed = None if config.predict.seed == -1 else config.predict.seed
        scores, source = stored_scores.read(folder, 'valid', seed), calibration.VALID
        seed, step = stored_scores.weights_of(folder, seed)
    else:
        predictor = Predictor(folder, config, calibrated=False)
        table = predictor.open(input, labelled=True)
        scores, _ = predictor.scored(table)
        source, seed, step = table.name, int(predictor.state.seed), int(predictor.state.step)
    told = calibration.calibrate(folder, config, scores, source, seed, step, calibration.CALIBRATE)[1]
    _note(folder, config)
    return told


def _note(folder: Workdir, config: ConfigDict) -> None:
    """Lets the result of a finished run tell the calibrator that is there now."""
    result = folder.result()
    if result is not None:
        calibration.noted(folder, config, result)


def evaluate(
    workdir: str | os.PathLike,
    input: Any,
    options: Mapping[str, Any] | None = None,
    by: Sequence[str] = (),
    top: int = 20,
    intervals: int = 0,
) -> dict[str, Any]:
    """Scores labelled rows with the best model of a run: `load`, then `TrainedModel.evaluate`.

    Args:
      workdir: folder of the run.
      input: files: a path, several by commas, or a glob; or a frame.
      options: see `load`.
      by: see `config.evaluate.by`.
      top: see `config.evaluate.top`.
      intervals: see `config.evaluate.intervals`.

    Returns:
      Metrics, `rows`, `rows_without_group` where there are such, and `out_of_vocabulary`: the share of
      unknown values by field; and what else is asked for, see `TrainedModel.evaluate`.
    """
    return load(workdir, options).evaluate(input, by, top, intervals)


def predict(
    workdir: str | os.PathLike,
    input: Any,
    output: str | os.PathLike,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes the probabilities of rows, in their order: `load`, then `TrainedModel.write_predictions`.

    Args:
      workdir: folder of the run.
      input: files: a path, several by commas, or a glob; with or without the label; or a frame.
      output: file to write, `.csv` or `.parquet`.
      options: see `load`.

    Returns:
      `rows`, `output`, and `out_of_vocabulary`: the share of unknown values by field.
    """
    return load(workdir, options).write_predictions(input, output)


def compare_runs(
    workdir: str | os.PathLike,
    other: str | os.PathLike,
    part: str = 'test',
    samples: int = 1000,
    seeds: tuple[int | None, int | None] = (None, None),
) -> dict[str, Any]:
    """Differences of two finished runs on the same rows, by the scores that they have kept; with intervals.

    Args:
      workdir: folder of a run.
      other: folder of the run that its metrics are compared with.
      part: `valid` or `test`.
      samples: number of bootstrap samples.
      seeds: of both runs, where they have several; None: the one that prediction uses.

    Returns:
      `part`, `rows`, and for `auc`, `logloss` and `normalized_entropy` what `analysis.intervals.paired`
      tells: `difference`, `low`, `high`, and `p` for AUC without groups.

    Raises:
      UserError: a run has no stored scores, or the rows of both are not the same.
    """
    mine, theirs = (
        stored_scores.read(Workdir(folder), part, seed)
        for folder, seed in zip((workdir, other), seeds, strict=True)
    )
    return {'part': part, 'rows': len(mine['label']), **intervals.paired(mine, theirs, samples)}


def export(
    workdir: str | os.PathLike, output: str | os.PathLike, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Writes the best model of a run as a folder for services that have nothing of this package.

    Args:
      workdir: folder of the run.
      output: folder to write; not there, or an earlier export, which is replaced.
      options: values of `config.export` and `config.predict` keys, such as `{'export.format': 'onnx'}`.

    Returns:
      `output`, `format`, `inputs`, `files` with their bytes, and the `largest_difference` in probability from
      `predict` on `rows_compared` rows.

    Raises:
      UserError: there is no trained model, or it cannot be exported; says why.
      UsageError: there is no such option, or its value cannot be.
    """
    sections = _by_section(workdir, options, 'export')
    return load(workdir, sections['predict']).export(output, **sections['export'])


def explain(
    workdir: str | os.PathLike,
    input: Any = None,
    output: str | os.PathLike | None = None,
    options: Mapping[str, Any] | None = None,
    data_dir: str | os.PathLike = DATA_DIR,
) -> dict[str, Any]:
    """Writes what the best model of a run looks at: `load`, then `TrainedModel.explain`.

    Args:
      workdir: folder of the run.
      input: labelled files: a path, several by commas, or a glob; or a frame. None: the validation part of
        the run's prepared records.
      output: folder to write; not there, or an earlier explanation, which is replaced. None: `explain` in
        the workdir.
      options: values of `config.explain` and `config.predict` keys, such as `{'explain.rows': 10_000}`.
      data_dir: folder of prepared data.

    Returns:
      `explain.json`, see `analysis.explanation.explain`; and `output`, the folder.

    Raises:
      UserError: there is no trained model, or there are no rows to explain it on.
      UsageError: there is no such option, or its value cannot be.
    """
    if output is None:
        with working_copy.opened(workdir) as (path, _):
            return _explain(path, input, path / 'explain', options, data_dir)
    with outputs.folder(output) as folder:
        return _explain(workdir, input, folder, options, data_dir)


def _explain(
    workdir: str | os.PathLike,
    input: Any,
    folder: Path,
    options: Mapping[str, Any] | None,
    data_dir: str | os.PathLike,
) -> dict[str, Any]:
    """`explain` into a local folder."""
    sections = _by_section(workdir, options, 'explain')
    # Before minutes of scoring.
    check_output(folder)
    model = load(workdir, sections['predict'])
    explanation = model.explain(input, sections['explain'], data_dir)
    return {'output': shown(str(folder)), **explanation.write(folder)}


def report(
    workdirs: Sequence[str | os.PathLike],
    output: str | os.PathLike = '',
    data_dir: str | os.PathLike = DATA_DIR,
) -> dict[str, Any]:
    """Writes one page of a run, or of several side by side: a single HTML file that opens from disk.

    Args:
      workdirs: folders of runs.
      output: the file to write; '': `report.html` in the folder of the one run.
      data_dir: folder of prepared data, in which the records of the runs are looked for; what needs them is
        left out where they are not there.

    Returns:
      `output`, its `bytes`, the `seconds` that it took, `runs`, `sections` (those that show something) and
      `left_out` (those that say what is missing and which command brings it).

    Raises:
      UserError: a folder holds no run, or the file cannot be written.
      UsageError: no folder, the same one twice, or several without `output`.
    """
    # Here: what makes pages would make every command start later.
    from dlf_jax.analysis.report.write import write_report

    if output:
        with outputs.file(output) as file:
            return write_report([Workdir(folder).path for folder in workdirs], file, data_dir)
    if len(workdirs) != 1:
        return write_report(workdirs, output, data_dir)
    with working_copy.opened(workdirs[0]) as (path, _):
        return write_report([path], output, data_dir)


def _by_section(
    workdir: str | os.PathLike, options: Mapping[str, Any] | None, section: str
) -> dict[str, dict[str, Any]]:
    """Values of dotted keys by section, `predict` and another one, without the section's name."""
    sections: dict[str, dict[str, Any]] = {section: {}, 'predict': {}}
    near = [key for key, _ in configs.flatten(Workdir(workdir).config()) if key.partition('.')[0] in sections]
    for key, value in (options or {}).items():
        of, _, name = key.partition('.')
        if key not in near:
            raise UsageError(f'config.{key}: there is no such key{suggest(key, near)}')
        sections[of][name] = value
    return sections
