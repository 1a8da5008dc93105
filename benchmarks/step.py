"""Training steps a second, beside the same model in plain PyTorch.

    python -m benchmarks.step --preset=dcnv2-frappe
    python -m benchmarks.step --preset=dlf-criteo
    python -m benchmarks.step --preset=dlf-paper-criteo --batch_size=1000
    python -m benchmarks.step --preset=dlrm-mlperf --cap=100000
    python -m benchmarks.step --model=mlp --peer=none --fields=39 --vocabulary=100000 --batch_size=4096 \
        --penalty=0.1 --shape='{"embedding_size": 16, "hidden": [400, 400]}'

Both train on the same made-up batches with one recipe: cross-entropy, the embedding penalty over the whole
table, the gradients clipped at norm 10, dense Adam; of `dlrm-mlperf` (`benchmarks.mlperf`) cross-entropy
alone, Adagrad, and tables of which a step changes the batch's rows. Each has a process and an environment of
its own (`peer_environment.sh` makes the peer's); they take short rounds by turns, one working while the other
waits, so that noise of the machine falls on both. A round hands batches over from host memory, as training
does. The last line is a JSON object: samples/s (medians over the rounds) and their ratio (the median of the
rounds' own), seconds of a step by part, processor time, peak memory, the rate of a large matrix product on
this machine and the share of it that the step's products reach.

Where other work runs on the machine, `taskset -c 0` before the command, and `processor_ratio`, tell the
most: threads that share a core with others' wait for each other, the peer's (OpenMP's) spinning.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import mlperf
from benchmarks.processes import ROOT, machine
from dlf_jax import models

# Seconds for one answer of a side: a round, or its start with compiling.
_DEADLINE = 1800
PEER = Path(os.environ.get('PEER', Path.home() / '.cache' / 'dlf_jax' / 'peer')) / 'bin' / 'python'
PRESETS: dict[str, dict[str, Any]] = {
    # The leaderboards' DCN-V2 on Frappe_x1.
    'dcnv2-frappe': {
        'model': 'dcnv2',
        'fields': 10,
        'vocabulary': 5382,
        'batch_size': 4096,
        'penalty': 0.05,
        'shape': {
            'embedding_size': 10,
            'cross_layers': 4,
            'hidden': [400, 400, 400],
            'batch_norm': True,
            'dropout': 0.4,
        },
    },
    # DLF as its authors' repository has it, on Criteo_x1 (its 13 numbers as categories).
    'dlf-criteo': {
        'model': 'dlf',
        'variant': 'released',
        'fields': 39,
        'vocabulary': 1_086_810,
        'batch_size': 2000,
        'penalty': 1e-5,
        'shape': {
            'embedding_size': 64,
            'layers': 3,
            'tokens': 16,
            'rank': 24,
            'hidden': [512],
            'head': [512],
            'batch_norm': True,
            'dropout': 0.0,
        },
    },
    # DLF as in its paper, at the paper's batch size.
    'dlf-paper-criteo': {
        'model': 'dlf',
        'variant': 'full',
        'fields': 39,
        'vocabulary': 1_086_810,
        'batch_size': 10_000,
        'penalty': 1e-5,
        'shape': {
            'embedding_size': 64,
            'layers': 8,
            'attention_layers': 2,
            'tokens': 16,
            'rank': 24,
            'heads': 2,
            'hidden': [512],
            'head': [],
            'batch_norm': True,
            'dropout': 0.0,
        },
    },
    'dcnv2-criteo': {
        'model': 'dcnv2',
        'fields': 39,
        'vocabulary': 1_086_810,
        'batch_size': 10_000,
        'penalty': 1e-5,
        'shape': {
            'embedding_size': 16,
            'cross_layers': 3,
            'hidden': [400, 400, 400],
            'batch_norm': True,
            'dropout': 0.0,
        },
    },
    'deepfm-criteo': {
        'model': 'deepfm',
        'fields': 39,
        'vocabulary': 1_086_810,
        'batch_size': 4096,
        'penalty': 1e-5,
        'shape': {
            'embedding_size': 10,
            'hidden': [400, 400, 400],
            'batch_norm': True,
            'dropout': 0.2,
        },
    },
    'dlrm-mlperf': {
        'model': 'dlrm_dcnv2',
        'fields': len(mlperf.TABLES),
        'lengths': mlperf.LENGTHS,
        'numbers': mlperf.NUMBERS,
        'vocabulary': sum(mlperf.sizes(100_000)),
        'batch_size': 2048,
        'clip_norm': 0.0,
        'learning_rate': 0.005,
        'optimizer': 'adagrad',
        'tables': 'adagrad',
        'shape': mlperf.SHAPE,
    },
}

# What a preset does not say.
DEFAULTS: dict[str, Any] = {
    'variant': 'full', 'numbers': 0, 'batch_size': 4096, 'penalty': 0.0, 'optimizer': 'adam',
    'tables': 'adam', 'learning_rate': 1e-3, 'clip_norm': 10.0,
}  # fmt: skip


def main() -> None:
    options = flags()
    with tempfile.TemporaryDirectory() as folder:
        spec = specification(options, Path(folder))
        path = Path(folder) / 'spec.json'
        path.write_text(json.dumps(spec))
        sides = {'ours': Side([sys.executable, '-m', 'benchmarks.step_ours', path])}
        if options.peer == 'torch':
            sides['peer'] = Side([PEER, 'benchmarks/peer_torch.py', path])
        print(json.dumps(measure(sides, spec, options)))


def measure(sides: dict[str, Side], spec: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Rounds by turns, then the parts; the result line."""
    parameters = {side.started['parameters'] for side in sides.values()}
    assert len(parameters) == 1, f'the two sides have different models: {parameters}'
    for side in sides.values():
        # The first step compiles.
        side.ask('steps 2')
    rates: dict[str, list[float]] = {name: [] for name in sides}
    processor: dict[str, list[float]] = {name: [] for name in sides}
    products = []
    for i in range(options.rounds):
        for name, side in sides.items():
            done = side.ask(f'steps {options.steps}')
            rates[name].append(options.steps * spec['batch_size'] / done['seconds'])
            processor[name].append(done['processor_seconds'] / options.steps)
            told = f'{rates[name][-1]:,.0f} samples/s, loss {done["loss"]:.4f}'
            print(f'round {i}: {name} {told}', file=sys.stderr)
        products += [side.ask('product')['gflops'] for side in sides.values()]
    parts = {name: side.ask(f'parts {options.steps}') for name, side in sides.items()}
    ends = {name: side.end() for name, side in sides.items()}
    rate = {name: median(found) for name, found in rates.items()}
    flops, gflops = sides['ours'].started['flops'], max(products)
    result = {
        'preset': options.preset,
        **{name: spec[name] for name in ('model', 'variant', 'batch_size', 'vocabulary', 'penalty', 'shape')},
        'machine': machine(),
        'parameters': parameters.pop(),
        'samples_per_second': round(rate['ours']),
        'step_ms_by_part': {part: round(1e3 * seconds, 1) for part, seconds in parts['ours'].items()},
        'step_processor_ms': round(1e3 * median(processor['ours']), 1),
        'peak_bytes': ends['ours']['peak_bytes'],
        'jax': ends['ours']['version'],
        'product_gflops': round(gflops, 1),
        'step_gflop': round(flops / 1e9, 2),
        'share_of_product_rate': round(flops / spec['batch_size'] * rate['ours'] / 1e9 / gflops, 3),
    }
    if 'peer' in sides:
        ratios = [a / b for a, b in zip(rates['ours'], rates['peer'], strict=True)]
        result |= {
            'peer': f'torch {ends["peer"]["version"]}, {spec["optimizer"]} {options.peer_adam}',
            'peer_samples_per_second': round(rate['peer']),
            'peer_step_ms_by_part': {part: round(1e3 * s, 1) for part, s in parts['peer'].items()},
            'peer_step_processor_ms': round(1e3 * median(processor['peer']), 1),
            'peer_peak_bytes': ends['peer']['peak_bytes'],
            'ratio': round(median(ratios), 2),
            'ratio_of_fastest': round(max(rates['ours']) / max(rates['peer']), 2),
            'processor_ratio': round(median(processor['peer']) / median(processor['ours']), 2),
            'ratio_range': [round(min(ratios), 2), round(max(ratios), 2)],
        }
    return result


class Side:
    """A process that trains when asked to."""

    def __init__(self, command: list[str | Path]):
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started = self._answer()

    def ask(self, command: str) -> dict[str, Any]:
        print(command, file=self.process.stdin, flush=True)
        return self._answer()

    def end(self) -> dict[str, Any]:
        answer = self.ask('end')
        self.process.wait(timeout=60)
        return answer

    def _answer(self) -> dict[str, Any]:
        # A side that hangs is ended, so that reading its line ends too.
        deadline = threading.Timer(_DEADLINE, self.process.kill)
        deadline.start()
        line = self.process.stdout.readline()
        deadline.cancel()
        if not line:
            sys.exit(f'{self.process.args}: ended with exit code {self.process.wait(timeout=60)}')
        return json.loads(line)


def specification(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What both sides are to train, JSON, with the file of their batches."""
    spec = dict(PRESETS.get(options.preset, {}))
    given = ('model', 'variant', 'fields', 'vocabulary', 'batch_size', 'penalty', 'shape')
    spec |= {name: getattr(options, name) for name in given if getattr(options, name) is not None}
    spec = {**DEFAULTS, **spec}
    spec |= {'std': 1e-4, 'peer_adam': options.peer_adam}
    if 'lengths' in spec:
        sizes = mlperf.sizes(options.cap)
        spec['vocabulary'] = sum(sizes)
    else:
        sizes = field_sizes(spec['fields'], spec['vocabulary'])
        spec['lengths'] = [1] * len(sizes)
    batches = made_up(sizes, options.batches, spec['batch_size'], spec['lengths'], spec['numbers'])
    np.savez(folder / 'batches.npz', **batches)
    variant = models.MODELS[spec['model']].variants[spec['variant']]
    return {**spec, 'sizes': sizes, 'variant_fields': variant, 'batches': str(folder / 'batches.npz')}


def field_sizes(fields: int, vocabulary: int) -> list[int]:
    """Sizes of fields from a few ids to much of the vocabulary, as in click logs; they sum to it."""
    shares = np.geomspace(1, max(vocabulary / fields / 4, 1), fields)
    sizes = np.maximum(np.floor(shares / shares.sum() * vocabulary), min(4, vocabulary // fields)).astype(int)
    sizes[-1] += vocabulary - sizes.sum()
    return sizes.tolist()


def made_up(
    sizes: list[int], count: int, rows: int, lengths: list[int] | None = None, numbers: int = 0
) -> dict[str, np.ndarray]:
    """`count` batches of `rows` rows, stacked; few ids of a field are frequent, most are rare.

    Args:
      sizes: number of ids of each field.
      count: of batches.
      rows: of a batch.
      lengths: number of values of each field, of one value first; one each without.
      numbers: number of numeric fields.
    """
    draw = np.random.default_rng(0)
    lengths = lengths or [1] * len(sizes)
    uniform = draw.random((count, rows, len(sizes)))
    ids = np.floor(np.array(sizes) * uniform**3).astype(np.int64).reshape(-1, len(sizes))
    ids = mlperf.bags(ids, sizes, lengths) + np.repeat(np.cumsum([0, *sizes[:-1]]), lengths)
    ids = ids.astype(np.int32).reshape(count, rows, -1)
    single = lengths.count(1)
    batches = {
        'categorical': ids[..., :single],
        'numeric': draw.random((count, rows, numbers), np.float32),
        'label': draw.integers(0, 2, (count, rows)).astype(np.float32),
        'weight': np.ones((count, rows), np.float32),
    }
    return batches | ({'bags': ids[..., single:]} if single < len(lengths) else {})


def flags(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--preset', choices=PRESETS)
    parser.add_argument('--model', choices=models.of_any_data())
    parser.add_argument('--variant', help='one of the model')
    parser.add_argument('--fields', type=int, help='categorical ones')
    parser.add_argument('--vocabulary', type=int, help='rows of the table, all fields together')
    parser.add_argument('--cap', type=int, default=100_000, help='of the rows of a table of dlrm-mlperf')
    parser.add_argument('--batch_size', type=int)
    parser.add_argument('--penalty', type=float, help='of the embeddings')
    parser.add_argument('--shape', type=json.loads, help="the model's fields, a JSON object")
    parser.add_argument('--peer', choices=('torch', 'none'), default='torch')
    parser.add_argument('--peer_adam', choices=('default', 'fused'), default='default')
    parser.add_argument('--steps', type=int, default=5, help='of a round')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--batches', type=int, default=8, help='that are taken in turn')
    options = parser.parse_args(arguments)
    if not options.preset and not (options.model and options.fields and options.vocabulary and options.shape):
        parser.error('either --preset or --model, --fields, --vocabulary and --shape')
    if min(options.steps, options.rounds, options.batches) < 1:
        parser.error('at least 1 step, 1 round and 1 batch')
    if options.peer == 'torch' and not PEER.exists():
        parser.error(f'no {PEER}: run benchmarks/peer_environment.sh, or add --peer=none')
    return options


if __name__ == '__main__':
    main()
