"""The section on the scores: metrics of each part beside the base rate and the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dlf_jax.analysis.report import commands, formatting, uncertainty
from dlf_jax.analysis.report.elements import Cell, Content, Element, definitions, element, paragraph, table
from dlf_jax.analysis.report.facts import Run
from dlf_jax.analysis.report.section import SAVED, Section, missing, note, section, with_flags
from dlf_jax.analysis.report.training_course import name_of
from dlf_jax.training import metrics

KEY, TITLE = 'scores', 'Scores'
# Metrics in the order of the table; others that a config names come after.
ORDER = (
    'auc', 'gauc', 'pr_auc', 'logloss', 'normalized_entropy', 'rig', 'brier', 'calibration_ratio', 'ece',
)  # fmt: skip
_FIGURES = ('auc', 'logloss', 'normalized_entropy', 'calibration_ratio', 'ece')
_MEANING = {
    'auc': 'how often a click scores above a row without one',
    'gauc': 'AUC within groups, averaged',
    'pr_auc': 'area under precision and recall',
    'logloss': 'mean cross-entropy',
    'normalized_entropy': 'Logloss over that of the part’s own click rate',
    'rig': 'relative information gain, 1 − NE',
    'brier': 'mean squared error of the probability',
    'calibration_ratio': 'predicted over observed clicks; 1 is right',
    'ece': 'mean distance of promised and observed click rate',
}
_SHORTEST = {'normalized_entropy': 'NE', 'calibration_ratio': 'Calibration'}
_SHORT = {'normalized_entropy': 'Normalized entropy', 'rig': 'RIG', 'ece': 'ECE'}

# Intervals by part; None where there are none.
_Bounds = Mapping[str, Mapping[str, Any] | None]


def draw(run: Run) -> Section:
    """The section of a run."""
    found = evaluations(run)
    if not found and run.saved:
        return missing(KEY, TITLE, SAVED)
    if not found:
        return missing(
            KEY, TITLE, 'There is no result yet: training has not come to its end. It goes on with:',
            commands.again(run),
        )  # fmt: skip
    bounds = {part: uncertainty.of_metrics(run.scores[part]) for part in found if part in run.scores}
    return section(
        KEY,
        TITLE,
        _figures(run, found, bounds),
        _warnings(run),
        _by_part(run, found, bounds),
        _about_intervals(bounds),
        None if run.scores else _no_scores(run),
        _seeds(run),
        _baselines(run, found),
    )


def evaluations(run: Run) -> dict[str, dict[str, Any]]:
    """Metrics by part, of the seed that prediction uses.

    They are those of the result, as they were when training ended; what an older one lacks is computed from
    the stored scores.
    """
    best, found, selected = run.best or {}, {}, metrics.selected(run.config)
    for part in run.parts:
        known = {key: value for key, value in best[part].items() if key in selected}
        if part in run.scores:
            scores = run.scores[part]
            lacking = {key: metric for key, metric in selected.items() if key not in known}
            known |= {key: m(scores) for key, m in lacking.items() if 'group' in scores or not m.grouped}
        order = [*(key for key in ORDER if key in known), *(key for key in known if key not in ORDER)]
        found[part] = {key: known[key] for key in order}
    return found


def before(run: Run) -> str:
    """What titles of the model's own scores add where the folder has a calibrator."""
    return ', before calibration' if run.calibration else ''


def title_of(key: str) -> str:
    """Short title of a metric."""
    return _SHORT.get(key) or name_of(key)


def short_title(key: str) -> str:
    """Title of a metric for the head of a column among many."""
    return _SHORTEST.get(key) or title_of(key)


def _figures(run: Run, found: Mapping[str, Mapping[str, Any]], bounds: _Bounds) -> Element:
    part, values = next(iter(found.items()))
    pairs: list[tuple[str, Content]] = []
    for key in _FIGURES:
        if values.get(key) is None:
            continue
        ends = _ends(bounds, part, key)
        below = element('small', formatting.interval(ends)) if ends else None
        told: Content = [formatting.fixed(values[key]), below, element('small', _beside(run, part, key))]
        pairs.append((f'{title_of(key)}, {part}{before(run)}', told))
    return definitions(pairs, class_='figures')


def _ends(bounds: _Bounds, part: str, key: str) -> Sequence[float] | None:
    """Ends of the interval of a metric; None where there is none."""
    return ((bounds.get(part) or {}).get('metrics') or {}).get(key)


def _about_intervals(bounds: _Bounds) -> Content:
    known = [found for found in bounds.values() if found]
    if not known:
        return None
    level = formatting.round_percent(known[0]['level'])
    resampled = next((found for found in known if found['samples']), None)
    if resampled is None:
        told = 'DeLong’s for AUC, of the error of the mean for Logloss; for resampling the rows are too many'
        return paragraph(f'Intervals of {level}: {told}.', class_='small')
    samples = f'{resampled["samples"]:,} bootstrap samples of {resampled["unit"]}'
    auc = '; those of AUC are DeLong’s' if resampled['unit'] == 'rows' else ''
    return paragraph(f'Intervals of {level}, from {samples}{auc}.', class_='small')


def _beside(run: Run, part: str, key: str) -> str:
    base = ((run.best or {}).get('base_rate_logloss') or {}).get(part)
    if key == 'logloss' and base is not None:
        return f'base rate alone: {formatting.fixed(base)}'
    return _MEANING.get(key, '')


def _warnings(run: Run) -> Content:
    return [
        element('div', paragraph(with_flags(text)), class_='note warning')
        for text in (run.best or {}).get('warnings', [])
    ]


def _by_part(run: Run, found: Mapping[str, Mapping[str, Any]], bounds: _Bounds) -> Element:
    keys = list(dict.fromkeys(key for values in found.values() for key in values))
    rows: list[list[Cell | Content]] = []
    bounded = [part for part in found if bounds.get(part)]
    for key in keys:
        name: Content = [title_of(key), element('small', f' {_MEANING[key]}') if key in _MEANING else None]
        cells: list[Cell | Content] = [name]
        for part, values in found.items():
            cells.append(Cell(formatting.fixed(values.get(key), 5), values.get(key)))
            if part in bounded:
                cells.append(element('small', formatting.interval(_ends(bounds, part, key), 5)))
        rows.append(cells)
    base = (run.best or {}).get('base_rate_logloss') or {}
    if base:
        cells = [['Logloss of the base rate', element('small', ' the training part’s for all rows')]]
        for part in found:
            cells += [formatting.fixed(base.get(part), 5), *([''] if part in bounded else [])]
        rows.append(cells)
    seed = f', seed {run.best["seed"]}' if run.best and len(run.results) > 1 else ''
    head = ['metric']
    for part in found:
        head += [part, *([f'{part}, interval'] if part in bounded else [])]
    return table(f'Metrics by part{seed}{before(run)}', head, rows, numeric=range(1, len(head)))


def _no_scores(run: Run) -> Element:
    if run.saved:
        return note(SAVED)
    return note(
        'The reliability diagram, intervals, histograms and segments need the scores of the rows, which '
        'an earlier version did not store. Without its result.json, this scores the best step again and '
        'trains no more:',
        f'rm {run.path / "result.json"}\n{commands.again(run)}',
    )


def _seeds(run: Run) -> Content:
    if len(run.results) < 2 or not run.result:
        return None
    parts = run.parts
    keys = [(part, key) for part in parts for key in ('auc', 'logloss')]
    rows = [
        [f'seed {result["seed"]}', *(formatting.fixed(result[part].get(key), 5) for part, key in keys)]
        for result in run.results
    ]
    for name, told in (('mean', 'mean'), ('std', 'standard deviation')):
        rows.append([told, *(formatting.fixed((run.result[name][p] or {}).get(k), 5) for p, k in keys)])
    head = ['run', *(f'{part} {title_of(key)}' for part, key in keys)]
    return [
        element('h3', 'Seeds'),
        table('The runs of all seeds', head, rows, numeric=range(1, len(head)), hidden_caption=True),
    ]


def _baselines(run: Run, found: Mapping[str, Mapping[str, Any]]) -> Content:
    baselines = (run.result or {}).get('baselines')
    if not baselines and run.saved:
        return None
    heading = element('h3', 'Beside the baselines')
    if not baselines:
        return [
            heading,
            note(
                'Logistic regression and LightGBM on the same rows were not fitted; this adds them to the '
                "finished run (pip install 'dlf_jax[baselines]'):",
                commands.again(run, '--config.baselines=True'),
            ),
        ]
    keys = [(part, key) for part in found for key in ('auc', 'logloss')]
    own = [Cell(formatting.fixed(found[part].get(key), 5), found[part].get(key)) for part, key in keys]
    rows: list[list[Cell | Content]] = [[run.model, *own]]
    for name, result in baselines.items():
        values = [(result.get(part) or {}).get(key) for part, key in keys]
        rows.append([name, *(Cell(formatting.fixed(value, 5), value) for value in values)])
    head = ['model', *(f'{part} {title_of(key)}' for part, key in keys)]
    caption = 'The run beside baselines on the same rows'
    return [
        heading,
        table(caption, head, rows, sortable=True, numeric=range(1, len(head)), hidden_caption=True),
    ]
