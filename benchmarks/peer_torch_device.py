"""The training step of `step.py` in PyTorch on an accelerator, one way of several, in one process.

    PEER/bin/python benchmarks/peer_torch_device.py SPEC.json --way=compile-bfloat16 --steps=10

SPEC.json is what `step.specification` returns. The recipe is that of `peer_torch.py`, with the fused Adam;
the batches are on the device before the first step; products of float32 may be TF32. A way in bfloat16 is
under `torch.autocast`; a compiled one compiles the forward pass and the loss, penalty included, and so their
gradients.

The last line is a JSON object: `way`, `torch`, `device`, `parameters`, seconds from the start of the process
to the end of the first and of the third step, `milliseconds` of a step (the median over groups of `--steps`,
each waited for), the last `loss`, and `peak_gb` of the device's memory (on a CPU, of the process). A way that
fails is `way` and `error`, and exit code 0: a row of a table, not its end. Imports nothing of dlf_jax.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
from statistics import median

import torch
from peer_torch import Trainer
from step_side import age

WAYS = ('eager', 'eager-bfloat16', 'compile', 'compile-bfloat16')
GROUPS = 5


class DeviceTrainer(Trainer):
    """The recipe on a device, compiled or not, in float32 or bfloat16."""

    def __init__(self, spec: dict, way: str, device: str):
        super().__init__({**spec, 'peer_adam': 'fused'}, device)
        self.device, self.narrow = device, way.endswith('bfloat16')
        # The shapes never change: nothing is to be compiled for others.
        self.compiled_loss = torch.compile(super().loss, dynamic=False) if 'compile' in way else super().loss

    def loss(self, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.narrow):
            return self.compiled_loss(ids, labels)


def measure(spec: dict, way: str, steps: int) -> dict:
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.set_float32_matmul_precision('high')
    trainer = DeviceTrainer(spec, way, device)
    trainer.steps(1)
    first = age()
    trainer.steps(2)
    third = age()
    groups = [trainer.steps(steps) for _ in range(GROUPS)]
    loss = groups[-1]['loss']
    if not math.isfinite(loss):
        raise ValueError(f'the loss is {loss}')
    return {
        'torch': torch.__version__,
        'device': torch.cuda.get_device_name() if device == 'cuda' else device,
        'parameters': sum(p.numel() for p in trainer.parameters),
        'first_step_seconds': round(first, 2),
        'third_step_seconds': round(third, 2),
        'milliseconds': round(1e3 * median(group['seconds'] for group in groups) / steps, 3),
        'loss': loss,
        'peak_gb': round(peak_bytes(device) / 1e9, 3),
    }


def peak_bytes(device: str) -> int:
    if device == 'cuda':
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('spec', type=argparse.FileType())
    parser.add_argument('--way', choices=WAYS, required=True)
    parser.add_argument('--steps', type=int, default=10, help=f'of a group; there are {GROUPS}')
    options = parser.parse_args()
    spec = json.load(options.spec)
    try:
        result = measure(spec, options.way, options.steps)
    except Exception as error:
        # A compiler's message is pages; its beginning says what it is.
        result = {'error': ' '.join(f'{type(error).__name__}: {error}'.split())[:400]}
    print(json.dumps({'way': options.way, **result}))


if __name__ == '__main__':
    main()
