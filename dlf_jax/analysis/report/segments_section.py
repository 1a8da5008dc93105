"""The section on segments: for which values of which field the model is worst."""

from __future__ import annotations

from collections.abc import Sequence

from dlf_jax.analysis import field_segments
from dlf_jax.analysis.report import charts, commands, formatting
from dlf_jax.analysis.report.calibration_section import before_and_after
from dlf_jax.analysis.report.elements import Cell, Content, Element, details, element, paragraph, table
from dlf_jax.analysis.report.facts import Run
from dlf_jax.analysis.report.section import SAVED, Section, missing, section
from dlf_jax.analysis.segments import Segment

KEY, TITLE = 'segments', 'Segments'
# What bounds the time: rows of the part, all fields together, and values of a field.
MOST_ROWS, MOST_CELLS, TOP = 200_000, 2_000_000, 12
# The worst segments of all fields are told of those that have so many rows, this share of them, and so many
# rows with a click and without one: the normalized entropy of fewer is mostly chance.
_LEAST_ROWS, _LEAST_SHARE, _LEAST_OF_CLASS, _WORST = 100, 0.02, 30, 8
# A calibration ratio further from 1 than this stands out.
_OFF = 0.1
_HEAD = ('rows', 'share of rows', 'click rate', 'AUC', 'NE', 'calibration ratio', 'Logloss')


def draw(run: Run) -> Section:
    """The section of a run."""
    part = next(iter(run.scores), None)
    if part is None and run.saved:
        return missing(KEY, TITLE, SAVED)
    if part is None:
        return missing(
            KEY, TITLE, 'Segments need the scores of the rows, which training stores when it ends:',
            commands.again(run),
        )  # fmt: skip
    if run.records is None or part not in run.records.blocks:
        return missing(
            KEY,
            TITLE,
            'Segments need the prepared records, which are not in the folder of prepared data; --data_dir '
            'names another, and this prepares them:',
            commands.prepare(run),
        )
    fields = len(run.schema.fields)
    most = min(MOST_ROWS, MOST_CELLS // max(fields, 1))
    moments = before_and_after(run, part)
    moment, final = list(moments.items())[-1]
    found = field_segments.aligned(run.records.blocks[part], run.schema, final, most)
    if found is None:
        return missing(
            KEY, TITLE, 'The stored scores are of other rows than the prepared records; train again.'
        )
    rows, scores = found
    by_field = [(f.name, s) for f, s in field_segments.by_field(run.encoder, rows, scores, TOP)]
    number, of = len(scores['label']), run.records.blocks[part].rows
    sampled = f'{formatting.count(number)} of {formatting.count(of)} rows' if number < of else 'all rows'
    when = f', {moment}' if len(moments) > 1 else ''
    return section(
        KEY,
        TITLE,
        paragraph(
            f'Of the {part} part, {sampled}{when}. NE is normalized entropy, Logloss over that of the '
            'segment’s own click rate: 1 is no better than that rate. The calibration ratio is predicted '
            'over observed clicks: above 1 the model promises too much.',
            class_='about',
        ),
        _worst(by_field, number),
        element('h3', 'By field'),
        element(
            'div',
            [details(name, _table(name, those, number)) for name, those in by_field],
            class_='choose',
            data_label='Field',
        ),
    )


def _worst(by_field: Sequence[tuple[str, Sequence[Segment]]], number: int) -> Content:
    least = max(_LEAST_ROWS, _LEAST_SHARE * number)
    every = [
        s
        for _, those in by_field
        for s in those
        if least <= s.rows < number
        and min(s.clicks, s.rows - s.clicks) >= _LEAST_OF_CLASS
        and s.normalized_entropy
        and not s.rest
    ]
    worst = sorted(every, key=lambda s: -(s.normalized_entropy or 0.0))[:_WORST]
    if not worst:
        return None
    rows: list[list[Cell | Content]] = [[_named(s.column, s.value), *_cells(s, number)] for s in worst]
    caption = (
        f'The worst segments of all fields by NE, of those with at least {formatting.count(least)} rows, '
        f'{_LEAST_OF_CLASS} of them with a click and {_LEAST_OF_CLASS} without'
    )
    return table(caption, ['segment', *_HEAD], rows, sortable=True, numeric=range(1, len(_HEAD) + 1))


def _named(column: str, value: str) -> list[Content]:
    return [element('small', f'{column} '), value]


def _table(name: str, those: Sequence[Segment], number: int) -> Element:
    rows: list[list[Cell | Content]] = [[s.value, *_cells(s, number)] for s in those]
    caption = f'{name}: the values with the most rows, worst first'
    return table(caption, [name, *_HEAD], rows, sortable=True, numeric=range(1, len(_HEAD) + 1))


def _cells(segment: Segment, number: int) -> list[Cell]:
    share, ratio = segment.rows / number, segment.calibration_ratio
    off = ratio is not None and abs(ratio - 1) > _OFF
    return [
        Cell(formatting.count(segment.rows), segment.rows),
        Cell([formatting.percent(share), charts.share_bar(share)], share),
        Cell(formatting.percent(segment.rate), segment.rate),
        Cell(formatting.fixed(segment.auc), segment.auc),
        Cell(formatting.fixed(segment.normalized_entropy, 3), segment.normalized_entropy),
        Cell(formatting.fixed(ratio, 3), ratio, 'worse' if off else None),
        Cell(formatting.fixed(segment.logloss), segment.logloss),
    ]
