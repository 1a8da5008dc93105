"""Training in plain PyTorch, as `step.py` asks for it; run by the peer's Python (`peer_environment.sh`).

    PEER/bin/python benchmarks/peer_torch.py SPEC.json

Answers the orders of `step_side.serve`. Imports nothing of dlf_jax.
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np
import torch
from peer_torch_models import TABLES, build
from step_side import clocks, gflops, since
from step_side import serve as answer
from torch import nn
from torch.nn import functional


class Trainer:
    """dlf_jax's recipe: cross-entropy and the embedding penalty over the whole table, clip, Adam."""

    def __init__(self, spec: dict, device: str = 'cpu'):
        self.spec = spec
        torch.manual_seed(0)
        widths = {'embedding': spec['shape']['embedding_size'], 'linear': 1}
        with torch.device(device):
            self.model = build(spec['model'], spec['variant'], spec['fields'], spec['shape'])
            self.tables = nn.ModuleDict(
                {name: nn.Embedding(spec['vocabulary'], widths[name]) for name in TABLES[spec['model']]}
            )
        for table in self.tables.values():
            nn.init.normal_(table.weight, std=spec['std'])
        self.parameters = [*self.tables.parameters(), *self.model.parameters()]
        # None: torch's own choice, which on a CPU is the loop over tensors.
        fused = {'default': None, 'fused': True}[spec['peer_adam']]
        self.optimizer = torch.optim.Adam(self.parameters, lr=spec['learning_rate'], fused=fused)
        with np.load(spec['batches']) as arrays:
            stacked = [torch.from_numpy(arrays[name]).to(device) for name in ('categorical', 'label')]
        self.batches = list(zip(*stacked, strict=True))
        self.taken = 0
        self.model.train()

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(*(table(ids) for table in self.tables.values()))

    def next_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        self.taken += 1
        return self.batches[(self.taken - 1) % len(self.batches)]

    def loss(self, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        loss = functional.binary_cross_entropy_with_logits(self.logits(ids), labels)
        if not self.spec['penalty']:
            return loss, loss
        # As FuxiCTR computes it. A sum of squares makes another array of the table's size.
        squares = sum(torch.norm(table.weight) ** 2 for table in self.tables.values())
        return loss, loss + 0.5 * self.spec['penalty'] * squares

    def update(self) -> None:
        nn.utils.clip_grad_norm_(self.parameters, self.spec['clip_norm'])
        self.optimizer.step()

    def steps(self, count: int) -> dict:
        start = clocks()
        for _ in range(count):
            self.optimizer.zero_grad()
            loss, total = self.loss(*self.next_batch())
            total.backward()
            self.update()
        # The loss of every step is nobody's business; that of the last one shows that it trains, and reading
        # it waits for all that was handed to the device.
        return {'loss': loss.item(), **since(start)}

    def parts(self, count: int) -> dict:
        """Seconds of one step's parts, medians."""
        found: dict[str, list[float]] = {}
        for _ in range(count):
            self.optimizer.zero_grad()
            marks = [time.perf_counter()]
            ids, labels = self.next_batch()
            with torch.no_grad():
                for table in self.tables.values():
                    table(ids)
            marks.append(time.perf_counter())
            _, total = self.loss(ids, labels)
            marks.append(time.perf_counter())
            total.backward()
            marks.append(time.perf_counter())
            self.update()
            marks.append(time.perf_counter())
            lookup = marks[1] - marks[0]
            spans = (lookup, marks[2] - marks[1] - lookup, marks[3] - marks[2], marks[4] - marks[3])
            for name, seconds in zip(('lookup', 'forward', 'backward', 'update'), spans, strict=True):
                found.setdefault(name, []).append(seconds)
        return {name: float(np.median(seconds)) for name, seconds in found.items()}


def product(size: int = 2048) -> dict[str, float]:
    a = torch.randn(size, size)
    return gflops(lambda: a @ a, size)


def serve(spec: dict) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    trainer = Trainer(spec)
    does = {'steps': trainer.steps, 'parts': trainer.parts, 'product': product}
    answer({'parameters': sum(p.numel() for p in trainer.parameters)}, does, torch.__version__)


if __name__ == '__main__':
    with open(sys.argv[1]) as file:
        serve(json.load(file))
