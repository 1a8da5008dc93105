"""The section on the config, the versions and the command that repeats the run."""

from __future__ import annotations

from typing import Any

from dlf_jax import config as configs
from dlf_jax import config_checks
from dlf_jax.analysis.report import commands, facts, formatting
from dlf_jax.analysis.report.elements import Element, definitions, details, element, paragraph, table
from dlf_jax.analysis.report.facts import Run
from dlf_jax.analysis.report.section import Section, note, section

KEY, TITLE = 'config', 'Config'


def draw(run: Run) -> Section:
    """The section of a run."""
    different, defaults = facts.differences(run), config_checks.defaults_of(run.config)
    rows = [
        [element('code', key), element('code', _text(value)), _default(defaults, key)]
        for key, value in different.items()
    ]
    everything = [
        [element('code', key), element('code', _text(value))] for key, value in configs.flatten(run.config)
    ]
    count = formatting.plural(len(rows), 'key')
    return section(
        KEY,
        TITLE,
        paragraph(f'{count} differ from the defaults of {run.model}.', class_='about'),
        table('Keys that differ from the defaults', ['key', 'value', 'default'], rows) if rows else None,
        details(
            f'The whole config ({formatting.plural(len(everything), "key")})',
            table('The whole config', ['key', 'value'], everything, hidden_caption=True),
        ),
        element('h3', 'The command that repeats it'),
        paragraph(
            'It trains the same run, in a folder of its own, on the files that are named; with the same '
            'versions on the same kind of machine to the same bits.',
            class_='about',
        ),
        element('pre', element('code', commands.repeat(run))),
        element('h3', 'Versions'),
        _versions(run),
        _files(run),
    )


def _text(value: Any) -> str:
    return repr(value)


def _default(defaults: dict[str, Any], key: str) -> Element | str:
    return element('code', _text(defaults[key])) if key in defaults else formatting.NONE


def _versions(run: Run) -> Element:
    if not run.versions:
        return note('The folder has no versions.json; a run of this version of dlf_jax writes it.')
    return definitions([(name, version) for name, version in run.versions.items()], class_='facts short')


def _files(run: Run) -> list[Element]:
    files = run.made_of.get('made_of', {}).get('files', {})
    rows = [
        [part, element('code', str(file.get('path', ''))), element('code', str(file.get('sum', ''))[:16])]
        for part, those in files.items()
        for file in those
    ]
    if not rows:
        return []
    return [
        element('h3', 'Files that it was trained on'),
        table(
            'Files by part',
            ['part', 'file', 'beginning of its sum'],
            rows,
            hidden_caption=True,
        ),
    ]
