"""From options to runs, tables and plots."""

from __future__ import annotations

import dataclasses
import logging
import shlex
from pathlib import Path
from typing import Any

from dlf_jax.comparison import command, devices, plan, plots, runner, settings, table
from dlf_jax.comparison.resolve import parse_overrides
from dlf_jax.errors import UsageError

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options(command.Options):
    """What the flags of `dlf_jax.compare` say, as text; see there."""

    dataset: str = ''
    models: str = ''
    experiment: str = ''
    seeds: str = '5'
    sweep: tuple[str, ...] = ()
    list: bool = False

    @property
    def title(self) -> str:
        return self.name or self.experiment or 'comparison'


def make_plan(options: Options) -> plan.Plan:
    """The runs that the options ask for. Raises UserError; every config in the plan is valid."""
    datasets: tuple[str, ...] = ()
    if options.dataset:
        datasets = settings.split_list(options.dataset, '--dataset')
    if options.experiment:
        if options.models or options.sweep:
            raise UsageError('--experiment is a list of its own: leave out --models and --sweep')
        chosen = settings.experiment(options.experiment)
        datasets, rows = datasets or chosen.datasets, chosen.settings
    elif options.models or options.sweep:
        rows = settings.parse_models(options.models or settings.REFERENCE, options.sweep)
    else:
        known = ', '.join(settings.EXPERIMENTS)
        raise UsageError(f'say what to compare: --models=all, --models=dlf,mlp or --experiment ({known})')
    if not datasets:
        raise UsageError('on which data? --dataset=frappe, or several by commas')
    overrides = parse_overrides(options.overrides)
    files = plan.find_files(options.files, datasets) if options.files else {}
    found = plan.make(
        datasets,
        rows,
        settings.parse_seeds(options.seeds),
        workdir=options.workdir,
        data_dir=options.data_dir,
        configs_folder=options.configs,
        files=files,
        overrides=overrides,
    )
    if not options.list:
        for row in found.rows:
            plan.check_files(row.runs[0])
    return found


def listing(options: Options) -> dict[str, Any]:
    """Says which runs there are and how each stands; runs nothing."""
    found = make_plan(options)
    finished = runner.standing(found.runs)
    runs = []
    for run in found.runs:
        begun = run.workdir.path.exists()
        state = 'finished' if run in finished else 'begun' if begun else 'new'
        command = shlex.join(
            ['python', '-m', 'dlf_jax.main', *run.arguments, f'--workdir={run.workdir.path}']
        )
        _log.info('%s (%s): %s', run.name, state, command)
        runs.append({'run': run.name, 'state': state, 'command': command})
    return {'name': options.title, 'runs': len(runs), 'finished': len(finished), 'list': runs}


def compare(options: Options) -> dict[str, Any]:
    """Trains what is not finished, and writes the table and the plots.

    Raises:
      UserError: nothing was begun: something about the list as a whole is wrong. What fails in a
        single run is in the result, under `failed`.
    """
    found = make_plan(options)
    with command.own_folder(options.workdir, options.title) as folder:
        outcome = runner.Outcome(runner.standing(found.runs))
        _log.info('%d runs, %d of them finished; %s', len(found.runs), len(outcome.results), folder)

        def write() -> list[table.Line]:
            return table.write(folder, options.title, found, outcome)

        slots = devices.slots(options.jobs, devices.visible_gpus())
        runner.carry_out(found.runs, outcome, slots, write)
        lines = write()
        images = _plots(folder, found, outcome, lines)
    for run, error in outcome.errors.items():
        _log.info('failed: %s: %s', run.name, error)
    return {
        'name': options.title,
        'table': str(folder / 'table.md'),
        'csv': str(folder / 'table.csv'),
        'plots': [str(path) for path in images],
        'runs': len(found.runs),
        'finished': len(outcome.results),
        'failed': [f'{run.name}: {error}' for run, error in outcome.errors.items()],
        'rows': lines,
    }


def _plots(folder: Path, found: plan.Plan, outcome: runner.Outcome, lines: list[table.Line]) -> list[Path]:
    if not plots.available():
        _log.info("no plots: they need matplotlib; pip install 'dlf_jax[plots]' and run this again")
        return []
    return plots.write(folder, found, outcome, lines)
