"""From workdirs to the page."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dlf_jax.analysis.report import (
    calibration_section,
    configuration,
    data_section,
    explanation_section,
    facts,
    formatting,
    model_card,
    scores_section,
    segments_section,
    side_by_side,
    training_course,
)
from dlf_jax.analysis.report import section as sections
from dlf_jax.analysis.report.elements import Content, element, paragraph
from dlf_jax.analysis.report.facts import Run
from dlf_jax.analysis.report.page import page
from dlf_jax.analysis.report.section import Section
from dlf_jax.errors import UsageError, UserError, shown
from dlf_jax.file_writing import write_atomically

# Name of the page in the folder of a run.
NAME = 'report.html'
_SECTIONS: tuple[Callable[[Run], Section], ...] = (
    scores_section.draw,
    calibration_section.draw,
    segments_section.draw,
    explanation_section.draw,
    training_course.draw,
    data_section.draw,
    configuration.draw,
    model_card.draw,
)


def write_report(
    workdirs: Sequence[str | os.PathLike],
    output: str | os.PathLike = '',
    data_dir: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Writes the page of one run, or of several side by side.

    Args:
      workdirs: folders of runs.
      output: the file to write; '': `report.html` in the folder of the one run.
      data_dir: folder of prepared data, in which the records of the runs are looked for.

    Returns:
      `output`, `bytes`, `seconds`, `runs`, `sections` (those that show something) and `left_out` (those that
      say what is missing).

    Raises:
      UsageError: no folder, the same one twice, or several without `output`.
      UserError: a folder holds no run, or the file cannot be written.
    """
    start = time.monotonic()
    target = _target(workdirs, output)
    runs = facts.read(workdirs, data_dir)
    drawn = [[draw(run) for draw in _SECTIONS] for run in runs]
    shared = [] if len(runs) == 1 else side_by_side.draw(runs)
    text = _single(runs[0], drawn[0]) if len(runs) == 1 else _several(runs, shared, drawn)
    write_atomically(target, text)
    found = [*shared, *(one for those in drawn for one in those)]
    return {
        'output': shown(str(target)),
        'bytes': len(text.encode()),
        'seconds': round(time.monotonic() - start, 2),
        'runs': [shown(str(run.path)) for run in runs],
        'sections': list(dict.fromkeys(one.key for one in found if one.there)),
        'left_out': list(dict.fromkeys(one.key for one in found if not one.there)),
    }


def _target(workdirs: Sequence[str | os.PathLike], output: str | os.PathLike) -> Path:
    if not workdirs:
        raise UsageError('--mode=report needs --workdir=FOLDER, or several by commas')
    places = [Path(folder).expanduser().resolve() for folder in workdirs]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice:
        raise UsageError(f'--workdir: {twice} is named twice; a run is on the page once')
    if not os.fspath(output):
        if len(places) > 1:
            raise UsageError('--mode=report of several runs needs --output=FILE.html')
        return Path(workdirs[0]).expanduser() / NAME
    target = Path(output).expanduser()
    if target.suffix.lower() not in ('.html', '.htm'):
        raise UsageError(f'--output={target}: expected the name of a page, such as report.html')
    if not target.absolute().parent.is_dir():
        raise UserError(f'--output={target}: there is no folder {target.parent}')
    return target


def _single(run: Run, drawn: Sequence[Section]) -> str:
    return page(
        f'{run.model} on {run.dataset}',
        _lead(run),
        shown(str(run.path)),
        [(one.key, one.title, ()) for one in drawn],
        [sections.draw(one) for one in drawn],
    )


def _several(runs: Sequence[Run], shared: Sequence[Section], drawn: Sequence[Sequence[Section]]) -> str:
    datasets = list(dict.fromkeys(run.dataset for run in runs))
    main: list[Content] = [sections.draw(one) for one in shared]
    links = [(one.key, one.title, ()) for one in shared]
    own = []
    for i, (run, those) in enumerate(zip(runs, drawn, strict=True), 1):
        prefix = f'r{i}-'
        own.append((f'r{i}', run.name, [(prefix + one.key, one.title) for one in those]))
        over = paragraph(shown(str(run.path)), class_='over')
        header = element('header', over, element('h2', run.name), _lead(run))
        parts = [sections.draw(one, 3, prefix, run.name) for one in those]
        main.append(element('article', header, parts, class_='run', id=f'r{i}', aria_label=run.name))
    title = f'{_listed([run.name for run in runs])} on {_listed(datasets)}'
    lead = paragraph(f'{formatting.plural(len(runs), "run")} side by side, then each by itself.')
    return page(title, lead, 'Comparison', [*links, *own], main)


def _listed(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f'{", ".join(names[:3])} and {len(names) - 3} more'
    return ' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))


def _lead(run: Run) -> Content:
    if run.result is None:
        return paragraph('Training has not come to its end; the page shows what there is.')
    told = []
    if run.day:
        told.append(f'Finished on {run.day}')
    seconds = run.result.get('seconds')
    if seconds is not None:
        told.append(f'after {formatting.duration(seconds)} of training and evaluation')
    seeds = len(run.results)
    found = ' '.join(told) or 'Trained'
    return paragraph(found, f', {seeds} seeds together' if seeds > 1 else '', '.')
