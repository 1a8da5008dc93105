"""The section on what the model looks at: importance of fields and pairs, and the pictures of `explain`."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dlf_jax.analysis.report import charts, commands, elements, formatting
from dlf_jax.analysis.report.charts import Bar
from dlf_jax.analysis.report.elements import Cell, Content, Element, element, paragraph, table
from dlf_jax.analysis.report.facts import Run
from dlf_jax.analysis.report.section import Section, missing, note, section

KEY, TITLE = 'explanation', 'What the model looks at'
_FOLDER, _FILE = 'explain', 'explain.json'
# What is drawn here, with a value under the pointer, in place of its picture.
_DRAWN_HERE = 'fields.svg'
_MOST_BARS, _MOST_PAIRS = 25, 20
_KINDS = {'.svg': 'image/svg+xml', '.png': 'image/png'}


def draw(run: Run) -> Section:
    """The section of a run."""
    found = run.read_json(_FOLDER, _FILE)
    if found is None and run.is_baseline:
        return missing(KEY, TITLE, 'Baselines are not explained.')
    if found is None:
        return missing(
            KEY,
            TITLE,
            'There is no explanation in the folder; this makes one:',
            commands.mode(run, 'explain'),
        )
    fields = found.get('fields', [])
    rows = formatting.count(found.get('rows'))
    return section(
        KEY,
        TITLE,
        _stale(run, found.get('weights')),
        paragraph(f'From {rows} rows of {found.get("of", "the data")}.', class_='about'),
        _fields(fields),
        _pairs(found.get('pairs', [])),
        _pictures(run.path / _FOLDER, found.get('pictures', [])),
    )


def _stale(run: Run, weights: Mapping[str, int] | None) -> Element | None:
    """A warning where what was explained are other weights than those that prediction uses."""
    best = run.best
    if not weights or best is None or 'best_step' not in best:
        return None
    if (weights['seed'], weights['step']) == (best['seed'], best['best_step']):
        return None
    told = (
        f'This is of the weights of seed {weights["seed"]} at step {weights["step"]:,}. Prediction uses '
        f'those of seed {best["seed"]} at step {best["best_step"]:,} now; this explains them:'
    )
    found = note(told, commands.mode(run, 'explain'))
    found.set('class', 'note warning')
    return found


def _fields(fields: Sequence[Mapping[str, Any]]) -> Content:
    if not fields:
        return None
    titles = {'auc': 'What permuting a field costs in AUC', 'logloss': 'What it costs in Logloss'}
    drawn = []
    for i, (key, title) in enumerate(titles.items()):
        found = (_bar(entry['field'], entry[key]) for entry in fields[:_MOST_BARS])
        bars = [bar for bar in found if bar is not None]
        if bars:
            told = ', '.join(f'{bar.name} {formatting.fixed(bar.value)}' for bar in bars[:5])
            label = 'loss of AUC' if key == 'auc' else 'gain of Logloss'
            drawn.append(charts.bars(title, f'The first: {told}.', bars, label, i))
    rows = [[entry['field'], *_costs(entry), *_variance(entry)] for entry in fields]
    head = ['field', 'loss of AUC', 'gain of Logloss', 'total index']
    return [
        element('h3', 'Importance of fields'),
        paragraph(
            'The total index is the share of the logit’s variance that a field has a part in, alone or with '
            'others; such shares overlap, so they add up to more than 100 % where fields interact.',
            class_='about',
        ),
        element('div', drawn, class_='charts'),
        table(
            'Cost of permuting each field, with its 95 % interval',
            head,
            rows,
            sortable=True,
            numeric=(1, 2, 3),
        ),
    ]


def _bar(name: str, cost: Mapping[str, float | None]) -> Bar | None:
    mean, low, high = cost.get('mean'), cost.get('low'), cost.get('high')
    if mean is None:
        return None
    told = '' if low is None or high is None else f' ({formatting.interval((low, high))})'
    return Bar(name, mean, low, high, f'{name}: {formatting.fixed(mean)}{told}')


def _costs(entry: Mapping[str, Any]) -> list[Cell]:
    return [_estimate(entry[key]) for key in ('auc', 'logloss')]


def _estimate(cost: Mapping[str, float | None]) -> Cell:
    mean, low, high = cost.get('mean'), cost.get('low'), cost.get('high')
    bounds = None if low is None or high is None else (low, high)
    told: Content = element('small', f' {formatting.interval(bounds)}') if bounds else None
    return Cell([formatting.fixed(mean), told], mean)


def _variance(entry: Mapping[str, Any]) -> list[Cell]:
    share = entry.get('variance')
    return [Cell(formatting.percent(share), share)]


def _pairs(pairs: Sequence[Mapping[str, Any]]) -> Content:
    if not pairs:
        return None
    rows: list[list[Cell | Content]] = [
        [
            ' × '.join(pair['fields']),
            Cell(formatting.percent(pair['interaction']), pair['interaction']),
            *_costs(pair),
        ]
        for pair in pairs[:_MOST_PAIRS]
    ]
    head = ['pair', 'interaction', 'AUC beyond each alone', 'Logloss beyond each alone']
    return [
        element('h3', 'Pairs of fields'),
        paragraph(
            'The interaction is the share of the logit’s variance in which both fields have a part together: '
            '0 where the model adds up what it sees in each. AUC and Logloss are what permuting both costs '
            'less what each costs alone: below 0 where the two costs overlap.',
            class_='about',
        ),
        table(
            'The strongest interactions', head, rows, sortable=True, numeric=(1, 2, 3), hidden_caption=True
        ),
    ]


def _pictures(folder: Path, pictures: Sequence[Mapping[str, str]]) -> Content:
    drawn = [_picture(folder, one) for one in pictures if one['file'] != _DRAWN_HERE]
    drawn = [one for one in drawn if one is not None]
    if not drawn:
        return None
    return [element('h3', 'Pictures'), element('div', drawn, class_='pictures')]


def _picture(folder: Path, picture: Mapping[str, str]) -> Element | None:
    # Only files of the folder itself, whatever the list says.
    path = folder / Path(picture['file']).name
    kind = _KINDS.get(path.suffix)
    if kind is None or not path.is_file():
        return None
    data = base64.b64encode(path.read_bytes()).decode()
    image = element('img', src=f'data:{kind};base64,{data}', alt=picture.get('alt', picture['title']))
    # On a phone it keeps a width at which its texts can be read, and scrolls by itself.
    box = element('div', image, class_='scrolls', role='region', aria_label=picture['title'], tabindex='0')
    return elements.figure(picture['title'], box, class_='picture')
