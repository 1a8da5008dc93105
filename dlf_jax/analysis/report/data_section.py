"""The section on the data: rows and clicks by part, the fields, and how the parts differ."""

from __future__ import annotations

from collections.abc import Mapping

from dlf_jax.analysis import drift, prepared
from dlf_jax.analysis.drift import FieldShares
from dlf_jax.analysis.report import charts, commands, formatting
from dlf_jax.analysis.report.charts import Bar
from dlf_jax.analysis.report.elements import Cell, Content, Element, element, paragraph, table
from dlf_jax.analysis.report.facts import Run
from dlf_jax.analysis.report.section import Section, note, section
from dlf_jax.data.loading.label_counts import LabelCounts
from dlf_jax.data.schema import Field

KEY, TITLE = 'data', 'The data'
# Rows of a part that missing, unknown and shifted values are counted in: whole blocks at even distances.
SAMPLED = 200_000
# Fields that the chart of shifts shows.
_MOST_BARS = 15


def draw(run: Run) -> Section:
    """The section of a run."""
    records = run.records
    if records is None:
        without = note(
            'Clicks by part, missing and unknown values and drift are counted in the prepared records, which '
            'are not in the folder of prepared data; --data_dir names another, and this prepares them:',
            commands.prepare(run),
        )
        return section(KEY, TITLE, _about(run), without, _fields(run, {}))
    samples = {part: prepared.sample(blocks, SAMPLED) for part, blocks in records.blocks.items()}
    compared = []
    if 'train' in samples:
        missing = drift.missing_numbers(run.config, run.encoder, records.blocks['train'].rows)
        compared = drift.compare(records.schema, samples, missing)
    read = {part: len(s.numbers) for part, s in samples.items() if len(s.numbers) < s.of}
    return section(
        KEY,
        TITLE,
        _about(run),
        _parts(records.labels(), {part: blocks.rows for part, blocks in records.blocks.items()}),
        element('h3', 'Fields'),
        _bounded(read),
        _fields(run, {shares.field.name: shares for shares in compared}),
        _shifts(compared),
    )


def _about(run: Run) -> Element:
    schema = run.schema
    kinds = (('categorical', schema.categorical), ('numeric', schema.numeric), ('multi-valued', schema.bags))
    told = ', '.join(f'{len(fields)} {kind}' for kind, fields in kinds if fields)
    found = (
        f'{run.dataset}: {formatting.plural(len(schema.fields), "field")} ({told}), '
        f'{formatting.count(schema.vocabulary)} ids in all; the label is '
    )
    more: list[Content] = [element('code', schema.label)]
    for what, name in (('rows are weighted by', schema.weight), ('and grouped by', schema.group)):
        if name:
            more += [f', {what} ', element('code', name)]
    return paragraph(found, more, '.', class_='about')


def _parts(labels: Mapping[str, LabelCounts], rows: Mapping[str, int]) -> Element:
    total = sum(rows.values())
    found: list[list[Cell | Content]] = [
        [
            part,
            Cell(formatting.count(rows[part]), rows[part]),
            Cell([formatting.percent(rows[part] / total), charts.share_bar(rows[part] / total)], rows[part]),
            Cell(formatting.count(counts.clicks), counts.clicks),
            Cell(formatting.percent(counts.rate), counts.rate),
        ]
        for part, counts in labels.items()
    ]
    head = ['part', 'rows', 'share of rows', 'clicks', 'click rate']
    return table('Rows and clicks by part', head, found, numeric=(1, 2, 3, 4))


def _bounded(read: Mapping[str, int]) -> Element | None:
    if not read:
        return None
    told = ', '.join(f'{formatting.count(rows)} of {part}' for part, rows in read.items())
    return paragraph(
        f'Missing, unknown and shifted values are of a sample, whole blocks at even distances: {told}.',
        class_='small',
    )


def _fields(run: Run, compared: Mapping[str, FieldShares]) -> Element:
    parts = list(next(iter(compared.values())).missing) if compared else []
    later = [part for part in parts if part != 'train']
    head = [
        'field',
        'kind',
        'vocabulary',
        *(f'missing, {p}' for p in parts),
        *(f'unknown, {p}' for p in later),
    ]
    head += [f'PSI, {p}' for p in later]
    rows: list[list[Cell | Content]] = []
    for field in run.schema.fields:
        cells: list[Cell | Content] = [field.name, _kind(field), Cell(_vocabulary(field), field.size or None)]
        shares = compared.get(field.name)
        if shares:
            cells += [_share(shares.missing[p]) for p in parts]
            cells += [_share(shares.unknown[p]) for p in later]
            cells += [Cell(formatting.fixed(shares.psi[p], 3), shares.psi[p]) for p in later]
        rows.append(cells)
    caption = (
        'Fields, with what they lack and how far they shift from the training part' if compared else 'Fields'
    )
    return table(caption, head, rows, sortable=True, numeric=range(2, len(head)))


def _share(share: float | None) -> Cell:
    return Cell(formatting.percent(share), share)


def _kind(field: Field) -> str:
    more = [field.treatment, _pooled(field) if field.bag else '']
    told = ', '.join(filter(None, more))
    return f'{field.kind} ({told})' if told else field.kind


def _pooled(field: Field) -> str:
    return f'{field.pooling} of {"the latest" if field.ordered else "up to"} {field.length}'


def _vocabulary(field: Field) -> Content:
    if field.shares:
        return element('small', f'that of {field.shares}')
    if not field.size:
        return formatting.NONE
    return formatting.count(field.size)


def _shifts(compared: list[FieldShares]) -> Content:
    parts = list(compared[0].psi) if compared else []
    if not parts:
        return None
    drawn = []
    for part in parts:
        worst = sorted(compared, key=lambda shares: -shares.psi[part])[:_MOST_BARS]
        bars = [Bar(s.field.name, s.psi[part], tip=f'{s.field.name}: {s.psi[part]:.4f}') for s in worst]
        told = ', '.join(f'{s.field.name} {formatting.fixed(s.psi[part], 3)}' for s in worst[:5])
        title = f'Drift from train to {part}'
        drawn.append(charts.bars(title, f'The largest: {told}.', bars, 'population stability index'))
    return [
        element('h3', 'Drift between the parts'),
        paragraph(
            'The population stability index compares the shares of the most frequent values (of a number: of '
            f'tenths of the training rows) with the training part. Below {drift.SMALL} a shift is called '
            f'small, above {drift.LARGE} large.',
            class_='about',
        ),
        element('div', drawn, class_='charts'),
    ]
