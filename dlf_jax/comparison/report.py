"""From the options of `dlf_jax.compare` to runs, tables and plots."""

from __future__ import annotations

import dataclasses
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlf_jax.comparison import (
    command,
    devices,
    differences,
    page,
    plots,
    results_table,
    run_list,
    runner,
    settings,
)
from dlf_jax.comparison.resolve import parse_overrides
from dlf_jax.errors import UsageError
from dlf_jax.file_writing import write_atomically

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options(command.Options):
    """Values of the flags of `dlf_jax.compare`, as text; see there."""

    dataset: str = ''
    models: str = ''
    experiment: str = ''
    seeds: str = '5'
    sweep: tuple[str, ...] = ()
    list: bool = False

    @property
    def title(self) -> str:
        """Title of the table, and name of its folder."""
        return self.name or self.experiment or 'comparison'


def make_run_list(options: Options) -> run_list.RunList:
    """The runs that the options ask for; every config among them is valid.

    Raises:
      UserError: the options name no runs, or runs that cannot be.
    """
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
        raise UsageError(f'no models: --models=all, --models=dlf,mlp or --experiment ({known}) names them')
    if not datasets:
        raise UsageError('no dataset: --dataset=frappe names one, or several by commas')
    datasets = tuple(map(run_list.find_dataset, datasets))
    overrides = parse_overrides(options.overrides)
    files = run_list.find_files(options.files, datasets) if options.files else {}
    found = run_list.make(
        datasets,
        rows,
        settings.parse_seeds(options.seeds),
        workdir=options.workdir,
        data_dir=options.data_dir,
        configs_folder=options.configs,
        files=files,
        overrides=overrides,
    )
    for row in found.rows:
        seeds = row.runs[0].config.seeds
        if seeds != 1:
            raise UsageError(f'{row.setting.name}: config.seeds={seeds}: a run has one seed; use --seeds')
        if not options.list:
            run_list.check_files(row.runs[0])
    return found


def listing(options: Options) -> dict[str, Any]:
    """Lists the runs, the state of each and the command that carries it out; runs nothing."""
    found = make_run_list(options)
    finished = runner.finished_results(found.runs)
    runs = []
    for run in found.runs:
        begun = run.workdir.path.exists()
        state = 'finished' if run in finished else 'begun' if begun else 'new'
        line = shlex.join(['python', '-m', 'dlf_jax.main', *run.arguments, f'--workdir={run.workdir.path}'])
        _log.info('%s (%s): %s', run.name, state, line)
        runs.append({'run': run.name, 'state': state, 'command': line})
    return {'name': options.title, 'runs': len(runs), 'finished': len(finished), 'list': runs}


def compare(options: Options) -> dict[str, Any]:
    """Trains the runs that are not finished, and writes the table, the plots and the page.

    Returns:
      The rows of the table and the files written. Errors of single runs are under `failed`.

    Raises:
      UserError: something about the list as a whole is wrong; nothing was begun.
    """
    found = make_run_list(options)
    with command.own_folder(options.workdir, options.title) as folder:
        outcome = runner.Outcome(runner.finished_results(found.runs))
        _log.info('%d runs, %d of them finished; %s', len(found.runs), len(outcome.results), folder)

        def write(more: Sequence[str] = ()) -> list[results_table.Line]:
            return results_table.write(folder, options.title, found, outcome, more)

        slots = devices.slots(options.jobs, devices.visible_gpus())
        runner.carry_out(found.runs, outcome, slots, write)
        apart = differences.summarise(found, outcome)
        if apart:
            write_atomically(folder / 'differences.csv', results_table.as_csv(apart))
        lines = write(differences.section(apart))
        images = _plots(folder, found, outcome, lines)
        written = page.write(folder, options.title, found, outcome, lines, apart)
    for run, error in outcome.errors.items():
        _log.info('failed: %s: %s', run.name, error)
    return {
        'name': options.title,
        'table': str(folder / 'table.md'),
        'csv': str(folder / 'table.csv'),
        'report': str(written),
        'plots': [str(path) for path in images],
        'runs': len(found.runs),
        'finished': len(outcome.results),
        'failed': [f'{run.name}: {error}' for run, error in outcome.errors.items()],
        'rows': lines,
        'differences': apart,
    }


def _plots(
    folder: Path, found: run_list.RunList, outcome: runner.Outcome, lines: list[results_table.Line]
) -> list[Path]:
    if not plots.available():
        _log.info("no plots: they need matplotlib; pip install 'dlf_jax[plots]' and run this again")
        return []
    return plots.write(folder, found, outcome, lines)
