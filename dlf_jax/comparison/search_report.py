"""From options to a search, its trials as CSV and its page in Markdown."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dlf_jax import config as configs
from dlf_jax.comparison import command, devices, plan, search, settings, space
from dlf_jax.comparison.resolve import TAKEN, flags_of, parse_overrides
from dlf_jax.comparison.runner import duration
from dlf_jax.comparison.table import as_csv, markdown_row
from dlf_jax.errors import UsageError, suggest, write_atomically
from dlf_jax.workdir import FREE

_SHOWN = 10
# Keys that have flags of their own.
_TAKEN = {**TAKEN, 'seed': '--seed', 'variant': '--model=MODEL:VARIANT', 'model.name': '--model'}


@dataclasses.dataclass(frozen=True)
class Options(command.Options):
    """What the flags of `dlf_jax.tune` say; see there."""

    dataset: str = ''
    model: str = ''
    space: str = ''
    trials: int = 50
    seed: int = 0
    logloss_weight: float = 0.0


def tune(options: Options) -> dict[str, Any]:
    """Carries the search out and writes its folder; returns the result line.

    Raises:
      UserError: nothing was begun: something about the search as a whole is wrong. A trial that fails is
        told, and does not stop the rest.
    """
    if not options.dataset or not options.model:
        raise UsageError('say what to search: --dataset=frappe --model=dlf')
    [setting, *more] = settings.parse_models(options.model, flag='--model')
    if more:
        raise UsageError(f'--model={options.model}: expected one model')
    file = Path(options.space or f'{options.configs}/spaces/{setting.model}.toml').expanduser()
    if not file.is_file():
        raise UsageError(f'{file}: there is no such search space; --space=FILE names one')
    found = space.read(file)
    name = options.name or f'tune-{options.dataset}-{plan.folder_name(setting.name)}'
    overrides = parse_overrides(options.overrides, _TAKEN)
    both = sorted(found.keys() & overrides.keys())
    if both:
        raise UsageError(f'--config.{both[0]}: {file} searches it')
    files = plan.find_files(options.files, [options.dataset]) if options.files else {}

    def make_run(values: dict[str, str]) -> plan.Run:
        swept = dataclasses.replace(setting, swept=tuple(values.items()))
        made = plan.make(
            [options.dataset], [swept], [options.seed], workdir=options.workdir, data_dir=options.data_dir,
            configs_folder=options.configs, files=files, overrides=overrides,
        )  # fmt: skip
        return made.runs[0]

    plain = make_run({})
    if plain.config.seeds != 1:
        raise UsageError(f'--config.seeds={plain.config.seeds}: a trial is one run; --seed=N says which')
    plan.check_files(plain)
    first = _values(found, plain.config, file)
    with command.own_folder(options.workdir, name) as folder:
        searched = search.Search(
            found,
            first,
            make_run,
            folder / 'trials.jsonl',
            _about(plain.config, found),
            options.seed,
            options.logloss_weight,
        )
        trials = searched.carry_out(options.trials, devices.slots(options.jobs, devices.visible_gpus()))
        best, shares = search.best_of(trials), search.importance(searched, trials)
    errors = [f'trial {trial.number}: {trial.error}' for trial in trials if trial.state == search.FAILED]
    write_atomically(folder / 'trials.csv', as_csv([_line(trial, found) for trial in trials]))
    write_atomically(folder / 'search.md', _page(name, options, found, trials, shares, errors))
    states = [trial.state for trial in trials]
    return {
        'name': name,
        'page': str(folder / 'search.md'),
        'csv': str(folder / 'trials.csv'),
        'runs': len(trials),
        'finished': states.count(search.COMPLETE),
        'stopped': states.count(search.PRUNED),
        'errors': errors,
        # Some trials may fail; a search of which none is finished has.
        'failed': [] if best else errors,
        'best': best and dataclasses.asdict(best),
        'flags': flags_of(best.values) if best else [],
        'importance': shares,
    }


def _values(found: space.Space, config: ConfigDict, file: Path) -> dict[str, str]:
    """What the config has for the keys of a space. Raises UsageError for keys that it has not."""
    known = dict(configs.flatten(config))
    for key in found:
        if key in _TAKEN or key == 'seeds':
            raise UsageError(f'{file}: config.{key} cannot be searched')
        if key not in known:
            raise UsageError(f'{file}: there is no key config.{key}{suggest(key, known)}')
    return {key: space.as_text(known[key]) for key in found}


def _about(config: ConfigDict, found: space.Space) -> dict[str, Any]:
    """What else the runs depend on: the config without what is searched and what changes nothing."""
    known = configs.flatten(config)
    return {key: value for key, value in known if key not in found and not key.startswith(FREE)}


def _line(trial: search.Ended, found: space.Space) -> dict[str, Any]:
    """A trial as a line of trials.csv."""
    columns = ('number', 'state', 'score', 'auc', 'logloss', 'seconds', 'error')
    own = {column: getattr(trial, column) for column in columns}
    return {**own, 'evaluations': len(trial.scores), **{key: trial.values[key] for key in found}}


def _page(
    name: str,
    options: Options,
    found: space.Space,
    trials: list[search.Ended],
    shares: dict[str, float],
    errors: list[str],
) -> str:
    finished = [trial for trial in trials if trial.state == search.COMPLETE]
    stopped = sum(trial.state == search.PRUNED for trial in trials)
    # Trials of the same values share a run.
    seconds = {trial.workdir: trial.seconds for trial in finished}
    aim = 'AUC' if not options.logloss_weight else f'AUC - {options.logloss_weight:g} * Logloss'
    text = [
        f'# {name}', '',
        f'{options.model} on {options.dataset}, seed {options.seed}: {len(trials)} trials, '
        f'{len(finished)} of them finished, {stopped} stopped early, '
        f'{len(errors)} failed; {duration(sum(seconds.values()))} in finished '
        f'runs. Made large: {aim} of the validation part, which selects and is not scored anew.', '',
        '## Searched', '',
        '| key | values | share |', '| --- | --- | ---: |',
    ]  # fmt: skip
    for key in sorted(found, key=lambda key: -shares.get(key, 0)):
        share = f'{shares[key]:.2f}' if key in shares else ''
        text.append(markdown_row([f'`{key}`', str(found[key]), share]))
    if shares:
        text += ['', 'Share: of what separates the better half of the finished trials (PED-ANOVA).']
    text += [
        '',
        '## Best trials',
        '',
        '| trial | AUC | Logloss | seconds | flags |',
        '| ---: ' * 4 + '| --- |',
    ]
    for trial in sorted(finished, key=lambda trial: -trial.score)[:_SHOWN]:
        scores = f'{trial.auc:.5f}', f'{trial.logloss:.4f}', f'{trial.seconds:.0f}'
        text.append(markdown_row([str(trial.number), *scores, f'`{shlex.join(flags_of(trial.values))}`']))
    if errors:
        text += ['', '## Failed', '', *(f'- {error}' for error in errors)]
    return '\n'.join(text) + '\n'
