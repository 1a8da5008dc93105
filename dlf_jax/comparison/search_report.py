"""From the options of `dlf_jax.tune` to a search, its trials as CSV and its page in Markdown."""

from __future__ import annotations

import dataclasses
import logging
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dlf_jax import config as configs
from dlf_jax import config_by_size
from dlf_jax.comparison import command, devices, run_list, search, settings, space
from dlf_jax.comparison.resolve import RESERVED, flags_of, parse_overrides
from dlf_jax.comparison.results_table import Metrics, as_csv, markdown_row
from dlf_jax.comparison.runner import duration
from dlf_jax.data import builders
from dlf_jax.errors import UsageError, suggest
from dlf_jax.file_writing import write_atomically
from dlf_jax.storage import data_folder
from dlf_jax.training import metrics, warm_start
from dlf_jax.workdir import FREE

_log = logging.getLogger(__name__)

# Number of trials on the page.
_SHOWN = 10
# Config keys that have flags of their own in `dlf_jax.tune`, and those flags.
_RESERVED = {**RESERVED, 'seed': '--seed', 'variant': '--model=MODEL:VARIANT', 'model.name': '--model'}


@dataclasses.dataclass(frozen=True)
class Options(command.Options):
    """Values of the flags of `dlf_jax.tune`; see there."""

    dataset: str = ''
    model: str = ''
    space: str = ''
    trials: int = 50
    minutes: float = 0.0
    seed: int = 0
    logloss_weight: float = 0.0


def tune(options: Options) -> dict[str, Any]:
    """Carries the search out and writes its folder.

    Returns:
      The best trial, the shares of keys and the files written. Errors of single trials are under `errors`.

    Raises:
      UserError: something about the search as a whole is wrong; nothing was begun.
    """
    if not options.dataset or not options.model:
        raise UsageError('a search needs a dataset and a model: --dataset=frappe --model=dlf')
    [setting, *more] = settings.parse_models(options.model, flag='--model')
    if more:
        raise UsageError(f'--model={options.model}: expected one model')
    if setting.model in configs.BASELINES:
        raise UsageError(f'--model={options.model}: a baseline has no settings to search; expected a model')
    dataset = run_list.find_dataset(options.dataset)
    place = settings.folder_name(dataset, settings.short_name(dataset))
    name = options.name or f'tune-{place}-{setting.folder}'
    overrides = parse_overrides(options.overrides, _RESERVED)
    files = run_list.find_files(options.files, [dataset]) if options.files else {}

    def make_run(values: dict[str, str]) -> run_list.Run:
        swept = dataclasses.replace(setting, swept=tuple(values.items()))
        made = run_list.make(
            [dataset], [swept], [options.seed], workdir=options.workdir, data_dir=options.data_dir,
            configs_folder=options.configs, files=files, overrides=overrides,
        )  # fmt: skip
        return made.runs[0]

    plain = make_run({})
    if plain.config.seeds != 1:
        raise UsageError(f'--config.seeds={plain.config.seeds}: a trial is one run; --seed=N says which')
    run_list.check_files(plain)
    found, first = _space(options, dataset, plain, overrides)
    with command.own_folder(options.workdir, name) as folder:
        searched = search.Search(
            found,
            first,
            make_run,
            folder / 'trials.jsonl',
            _context(plain.config, found),
            options.seed,
            plain.config.training.monitor,
            options.logloss_weight,
        )
        slots = devices.slots(options.jobs, devices.visible_gpus())
        trials = searched.carry_out(options.trials, slots, options.minutes or math.inf)
        best, shares = search.best_of(trials), search.importance(searched, trials)
    errors = [f'trial {trial.number}: {trial.error}' for trial in trials if trial.state == search.FAILED]
    shown, aim = _shown_metrics(plain.config, trials), _aim(plain.config, options.logloss_weight)
    write_atomically(folder / 'trials.csv', as_csv([_line(trial, found, shown) for trial in trials]))
    write_atomically(folder / 'search.md', _page(name, options, aim, found, shown, trials, shares, errors))
    states = [trial.state for trial in trials]
    return {
        'name': name,
        'page': str(folder / 'search.md'),
        'csv': str(folder / 'trials.csv'),
        'runs': len(trials),
        'finished': states.count(search.COMPLETE),
        'stopped': states.count(search.PRUNED),
        'errors': errors,
        # Some trials may fail; a search without a finished trial has failed.
        'failed': [] if best else errors,
        'best': best and dataclasses.asdict(best),
        'flags': flags_of(best.values) if best else [],
        'importance': shares,
    }


def _space(
    options: Options, dataset: str, plain: run_list.Run, overrides: Mapping[str, str]
) -> tuple[space.Space, dict[str, str]]:
    """The space of a search, and the config's own values of its keys.

    Args:
      options: see there.
      dataset: name of the dataset.
      plain: the run of the config's own values.
      overrides: values from the command line by key; these keys are not searched.

    Raises:
      UserError: there is no such space, or something in it cannot be searched.
    """
    known = dict(configs.flatten(plain.config))
    if options.space:
        if not Path(options.space).expanduser().is_file():
            raise UsageError(f'{options.space}: there is no such search space; --space=FILE names one')
        where, found = options.space, space.read(options.space)
    else:
        # Of `file.py:Name`, the name.
        entry, model = (name.rpartition(':')[2] for name in (dataset, plain.config.model.name))
        where = f'the space of {model} in {options.configs}/spaces'
        found = space.of_model(options.configs, entry, model, known)
    for key in found:
        if key in _RESERVED or key == 'seeds':
            raise UsageError(f'{where}: config.{key} cannot be searched')
        if key not in known:
            raise UsageError(f'{where}: there is no key config.{key}{suggest(key, known)}')
    given = sorted(found.keys() & overrides.keys())
    if given:
        _log.info('given, and so not searched: %s', ', '.join(given))
    found = {key: entry for key, entry in found.items() if key not in given}
    if any(known[key] is None for key in found):
        known = dict(configs.flatten(_sized(plain)))
    searched = space.resolved(found, known, where)
    if not searched:
        raise UsageError(f'{where}: no keys to search')
    return searched, {key: space.as_text(known[key]) for key in searched}


def _sized(plain: run_list.Run) -> ConfigDict:
    """The run's config with the values that follow from the size of its data, which is prepared for it."""
    config = plain.config
    ancestor = warm_start.ancestor(config)
    builder = builders.build(config.dataset, data_folder.local(plain.data_dir), ancestor)
    builder.prepare()
    known = warm_start.known_values(config, config_by_size.open_keys(config))
    return config_by_size.filled(config, config_by_size.size_of(builder), known)


def _context(config: ConfigDict, found: space.Space) -> dict[str, Any]:
    """All else that runs depend on: the config without the keys that are searched and those that change
    nothing."""
    known = configs.flatten(config)
    return {key: value for key, value in known if key not in found and not key.startswith(FREE)}


def _shown_metrics(config: ConfigDict, trials: list[search.Trial]) -> dict[str, metrics.Metric]:
    """The metrics that any of the trials has, by key."""
    known = {key for trial in trials for key in trial.metrics}
    return {key: metric for key, metric in metrics.shown(config).items() if key in known}


def _line(trial: search.Trial, found: space.Space, shown: Metrics) -> dict[str, Any]:
    """A trial as a line of trials.csv."""
    return {
        'number': trial.number,
        'state': trial.state,
        'score': trial.score,
        **{key: trial.metrics.get(key) for key in shown},
        'seconds': trial.seconds,
        'error': trial.error,
        'evaluations': len(trial.scores),
        **{key: trial.values[key] for key in found},
    }


def _page(
    name: str,
    options: Options,
    aim: str,
    found: space.Space,
    shown: Metrics,
    trials: list[search.Trial],
    shares: dict[str, float],
    errors: list[str],
) -> str:
    """The page of a search: what was searched, the best trials, errors."""
    finished = [trial for trial in trials if trial.state == search.COMPLETE]
    stopped = sum(trial.state == search.PRUNED for trial in trials)
    # Trials of the same values share a run.
    seconds = {trial.workdir: trial.seconds or 0.0 for trial in finished}
    text = [
        f'# {name}', '',
        f'{options.model} on {options.dataset}, seed {options.seed}: {len(trials)} trials, '
        f'{len(finished)} of them finished, {stopped} stopped early, '
        f'{len(errors)} failed; {duration(sum(seconds.values()))} in finished '
        f'runs. Aim: {aim} on the validation part, which selects and is not scored anew.', '',
        '## Searched', '',
        '| key | values | share |', '| --- | --- | ---: |',
    ]  # fmt: skip
    for key in sorted(found, key=lambda key: -shares.get(key, 0)):
        share = f'{shares[key]:.2f}' if key in shares else ''
        text.append(markdown_row([f'`{key}`', str(found[key]), share]))
    if shares:
        text += ['', 'Share: of what separates the better half of the finished trials (PED-ANOVA).']
    head = ['trial', *(metric.label for metric in shown.values()), 'seconds', 'flags']
    text += ['', '## Best trials', '', markdown_row(head), markdown_row([*['---:'] * (len(head) - 1), '---'])]
    best = sorted(finished, key=lambda trial: -trial.sort_key)
    # The first, too, whose values are the config's own.
    for trial in [*best[:_SHOWN], *(trial for trial in best[_SHOWN:] if trial.number == 0)]:
        scores = (trial.metrics.get(key) for key in shown)
        cells = [str(trial.number), *('' if value is None else f'{value:.5f}' for value in scores)]
        flags = shlex.join(flags_of(trial.values))
        text.append(markdown_row([*cells, f'{trial.seconds:.0f}', f'`{flags}`']))
    text += ['', "Trial 0 has the config's own values, as far as the space holds them."]
    if errors:
        text += ['', '## Failed', '', *(f'- {error}' for error in errors)]
    return '\n'.join(text) + '\n'


def _aim(config: ConfigDict, logloss_weight: float) -> str:
    """The score that trials are ranked by, with an arrow towards better values."""
    monitor, selected = config.training.monitor, metrics.selected(config)
    if monitor == metrics.AUC_MINUS_LOGLOSS:
        text, higher_is_better = 'AUC - Logloss', True
    else:
        metric = selected[monitor.rpartition(':')[2]]
        text, higher_is_better = metric.title, bool(metric.higher_is_better)
    if logloss_weight:
        text += f' {"-" if higher_is_better else "+"} {logloss_weight:g} * Logloss'
    return f'{text} {"↑" if higher_is_better else "↓"}'
