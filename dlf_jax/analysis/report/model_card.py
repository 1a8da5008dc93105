"""The section with a model card's headings: what is known is filled in, what only people know is left open.

Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

from __future__ import annotations

from typing import Any

from dlf_jax.analysis.report import formatting
from dlf_jax.analysis.report.elements import Content, Element, definitions, element, paragraph
from dlf_jax.analysis.report.facts import Run
from dlf_jax.analysis.report.section import Section, section, with_flags

KEY, TITLE = 'card', 'Model card'


def draw(run: Run) -> Section:
    """The section of a run."""
    return section(
        KEY,
        TITLE,
        paragraph(
            'The headings of Mitchell et al. 2019. What the run itself knows is filled in; what is marked is '
            'for the people who use the model to write.',
            class_='about',
        ),
        element('h3', 'Model'),
        definitions(_model(run), class_='facts'),
        element('h3', 'Intended use'),
        _open('for which decisions its probabilities are used, by whom, and for what they must not be used'),
        element('h3', 'Factors'),
        paragraph(
            'Fields by which its scores may differ: ',
            ', '.join(field.name for field in run.schema.fields[:40]),
            ' and others.' if len(run.schema.fields) > 40 else '.',
            ' Which of them stand for groups of people is not in the data.',
        ),
        _open('groups whose scores are to be looked at, and whether the segments above serve all of them'),
        element('h3', 'Metrics'),
        paragraph(
            f'The step was chosen by {run.config.training.monitor} on the valid part. The tables above have '
            'the metrics of each part.'
        ),
        _open('which of them decides, and from which value on the model may be used'),
        element('h3', 'Training and evaluation data'),
        _data(run),
        _open('where the rows come from, over which time, what was left out, and under which terms'),
        element('h3', 'Ethical considerations'),
        _open('whether fields say something of a person, and what a wrong probability costs whom'),
        element('h3', 'Limits'),
        _limits(run),
        _open('what it was not tested on: other countries, seasons, surfaces, kinds of traffic'),
    )


def _open(what: str) -> Element:
    return element('p', element('em', f'To be written: {what}.', class_='open-point'))


def _model(run: Run) -> list[tuple[str, Content]]:
    best: dict[str, Any] = run.best or {}
    parameters = best.get('parameters') or (run.result or {}).get('parameters') or {}
    found: list[tuple[str, Content]] = [('Model', run.model)]
    if 'table' in parameters:
        tables, dense = (formatting.count(parameters[kind]) for kind in ('table', 'dense'))
        found.append(('Parameters', f'{tables} in tables, {dense} dense'))
    if run.day:
        found.append(('Trained', run.day))
    if 'dlf_jax' in run.versions:
        found.append(('Made with', f'dlf_jax {run.versions["dlf_jax"]}, jax {run.versions.get("jax", "")}'))
    found.append(('Gives', 'the probability of a click of a row, from 0 to 1'))
    return found


def _data(run: Run) -> Element:
    if run.records:
        rows = {part: blocks.rows for part, blocks in run.records.blocks.items()}
    else:
        rows = {part: (run.best or {})[part].get('rows') for part in reversed(run.parts)}
    told = ', '.join(f'{formatting.count(n)} rows in {part}' for part, n in rows.items() if n)
    dataset = f'{run.dataset}: {told}.' if told else f'{run.dataset}.'
    return paragraph(f'{dataset} The section on the data has its fields and how the parts differ.')


def _limits(run: Run) -> Element:
    known = []
    counted = [field.name for field in run.schema.fields if field.counted]
    if counted:
        known.append(
            'Values that the training part did not have share one id per field; the data section counts them.'
        )
    if not (run.best or {}).get('test'):
        known.append(
            'There is no test part: the scores are of the part that chose the step, which flatters them.'
        )
    if (run.best or {}).get('learnt') is False:
        known.append('The run learnt nothing that holds on the valid part.')
    known += list((run.best or {}).get('warnings', []))
    return (
        element('ul', [element('li', with_flags(text)) for text in known])
        if known
        else paragraph('None is known to the run.')
    )
