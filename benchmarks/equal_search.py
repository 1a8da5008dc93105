"""Models under equal search, the best of each with several seeds, and their differences on the same rows.

    python -m benchmarks.equal_search --files=FOLDER --workdir=/tmp/equal --config.dataset.allow_modified=True

For each model `dlf_jax.tune` makes the same number of trials within the same ranges: embedding penalty,
learning rate, width of embeddings, dropout (all keys that a model has for it). All else is the model's config
file's. The best trial's settings are then trained with each seed, and each model's scores of the validation
part are compared with DLF's, seed by seed, on the same rows (`dlf_jax.compare_runs`). What is finished is
kept in the workdir: the same command goes on, and with more `--trials` or models adds them. Other flags go to
every command.

FOLDER has `equal.md`, written anew after each model; the last line on standard output is a JSON object with
the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import dlf_jax
from benchmarks import processes
from dlf_jax.file_writing import to_json, write_atomically

MODELS = 'dlf,finalmlp,finalnet,dcnv2,mlp,qnn,fcn,masknet,fibinet,eulernet,dlrm,dlrm_dcnv2,onn,rankmixer'
# What every model is searched in. Trial 0 is the config file's own.
PENALTY = '{ low = 0.01, high = 0.5, log = true }'
LEARNING_RATE = '[0.0005, 0.001, 0.002]'
WIDTHS = '[10, 16, 24, 40, 64]'
DROPOUT = '{ low = 0.0, high = 0.7, step = 0.1 }'
# Keys of dropout rates; others, such as that of a gate, stay the config file's.
DROPOUTS = ('dropout', 'dropout_1', 'dropout_2')


def space(model: str, dataset: str) -> str:
    """The space of a model, TOML."""
    keys = dlf_jax.load_config(f'configs/{dataset}.py', model).model
    own = [key for key in DROPOUTS if key in keys and not (key == 'dropout_2' and 'dropout' in keys)]
    lines = [
        f'[embedding]\npenalty = {PENALTY}', f'[optimizer]\nlearning_rate = {LEARNING_RATE}',
        f'[model]\nembedding_size = {WIDTHS}', *(f'{key} = {DROPOUT}' for key in own),
    ]  # fmt: skip
    return '\n'.join(lines) + '\n'


def searched(model: str, options: argparse.Namespace, flags: list[str]) -> dict[str, Any]:
    """The result of the search for a model."""
    path = options.workdir / f'space-{model}.toml'
    write_atomically(path, space(model, options.dataset))
    command = (
        '-m', 'dlf_jax.tune', f'--dataset={options.dataset}', f'--model={model}', f'--space={path}',
        f'--files={options.files}', f'--trials={options.trials}', f'--workdir={options.workdir}', *flags,
    )  # fmt: skip
    return processes.run(sys.executable, *command).result


def trained(model: str, best: list[str], options: argparse.Namespace, flags: list[str]) -> list[Path]:
    """Workdirs of the runs of the best settings, one for each seed."""
    folder = options.workdir / 'best' / model
    command = (
        '-m', 'dlf_jax.compare', f'--dataset={options.dataset}', f'--models={model}',
        f'--seeds={options.seeds}', f'--files={options.files}', f'--workdir={folder}', *flags, *best,
    )  # fmt: skip
    processes.run(sys.executable, *command)
    runs = sorted(folder.glob('runs/**/result.json'), key=lambda path: path.parent.name)
    return [path.parent for path in runs]


def compared(name: str, flags: list[str], runs: list[Path], dlf: list[Path]) -> dict[str, Any]:
    """A model's line: metrics over the seeds, and its differences from DLF."""
    valid = [json.loads((run / 'result.json').read_text())['valid'] for run in runs]
    line: dict[str, Any] = {'model': name, 'flags': flags, 'seeds': len(runs)}
    for metric in ('auc', 'logloss'):
        values = [part[metric] for part in valid]
        line[metric] = statistics.mean(values)
        line[f'{metric}_std'] = statistics.stdev(values) if len(values) > 1 else None
    if runs != dlf:
        pairs = [dlf_jax.compare_runs(a, b, 'valid') for a, b in zip(runs, dlf, strict=True)]
        line['differences'] = [{m: pair[m] for m in ('auc', 'logloss')} for pair in pairs]
    return line


def page(found: list[dict[str, Any]]) -> str:
    """The table in Markdown, the best AUC first."""
    head = "| model | settings found | AUC | Logloss | AUC - DLF's, seed by seed (95 %) |"
    lines = [head, '|---|---|---|---|---|']
    for line in sorted(found, key=lambda line: -line['auc']):
        cells = [
            f'{line[m]:.5f}' + (f' ± {line[f"{m}_std"]:.5f}' if line[f'{m}_std'] is not None else '')
            for m in ('auc', 'logloss')
        ]
        flags = ' '.join(f'`{flag.removeprefix("--config.")}`' for flag in line['flags'])
        auc = (pair['auc'] for pair in line.get('differences', []))
        others = '; '.join(
            f'{1e4 * d["difference"]:+.1f} ({1e4 * d["low"]:+.1f} to {1e4 * d["high"]:+.1f})' for d in auc
        )
        lines.append(f'| `{line["model"]}` | {flags} | {" | ".join(cells)} | {others} |')
    return '\n'.join([*lines, '', 'Differences are in units of 0.0001.', ''])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--dataset', default='frappe')
    parser.add_argument('--files', type=Path, required=True, help='FOLDER with DATASET/train.csv, valid.csv')
    parser.add_argument('--workdir', type=Path, required=True)
    parser.add_argument('--models', default=MODELS, help='by commas, DLF first')
    parser.add_argument('--trials', type=int, default=8, help='of each model')
    parser.add_argument('--seeds', type=int, default=3)
    options, flags = parser.parse_known_args()
    options.files, options.workdir = options.files.resolve(), options.workdir.resolve()
    options.workdir.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    dlf: list[Path] = []
    for model in options.models.split(','):
        best = searched(model, options, flags)['flags']
        runs = trained(model, best, options, flags)
        dlf = dlf or runs
        found.append(compared(model, best, runs, dlf))
        write_atomically(options.workdir / 'equal.md', page(found))
        print(f'{model}: AUC {found[-1]["auc"]:.5f}, Logloss {found[-1]["logloss"]:.5f}', file=sys.stderr)
    print(to_json({'dataset': options.dataset, 'trials': options.trials, 'models': found}))


if __name__ == '__main__':
    main()
