"""Training in plain PyTorch, as `step.py` asks for it; run by the peer's Python (`peer_environment.sh`).

    PEER/bin/python benchmarks/peer_torch.py SPEC.json

Answers the orders of `step_side.serve`. Imports nothing of dlf_jax.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

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

    def embeddings(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: table(ids) for name, table in self.tables.items()}

    def of_embeddings(self, inputs: Any, embeddings: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.model(*embeddings.values())

    def next_batch(self) -> tuple[Any, torch.Tensor]:
        self.taken += 1
        return self.batches[(self.taken - 1) % len(self.batches)]

    def loss(self, inputs: Any, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        loss = functional.binary_cross_entropy_with_logits(
            self.of_embeddings(inputs, self.embeddings(inputs)), labels
        )
        if not self.spec['penalty']:
            return loss, loss
        # As FuxiCTR computes it. A sum of squares makes another array of the table's size.
        squares = sum(torch.norm(table.weight) ** 2 for table in self.tables.values())
        return loss, loss + 0.5 * self.spec['penalty'] * squares

    def update(self) -> None:
        if self.spec['clip_norm']:
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
            inputs, labels = self.next_batch()
            with torch.no_grad():
                self.embeddings(inputs)
            marks.append(time.perf_counter())
            _, total = self.loss(inputs, labels)
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


class BagTrainer(Trainer):
    """DLRM-DCNv2 with a table of its own for each field, of which a row has several values, summed:
    cross-entropy, and Adagrad, of the tables that of the rows of the batch."""

    def __init__(self, spec: dict, device: str = 'cpu'):
        assert spec['optimizer'] == spec['tables'] == 'adagrad'
        assert spec['penalty'] == spec['clip_norm'] == 0, 'a penalty and a clip are of all rows'
        self.spec = spec
        torch.manual_seed(0)
        sizes, width = spec['sizes'], spec['shape']['embedding_size']
        with torch.device(device):
            shape = {**spec['shape'], 'numbers': spec['numbers']}
            self.model = build(spec['model'], spec['variant'], spec['fields'], shape)
            self.tables = nn.ModuleList(nn.EmbeddingBag(n, width, mode='sum', sparse=True) for n in sizes)
        for table in self.tables:
            nn.init.normal_(table.weight, std=spec['std'])
        self.parameters = [*self.tables.parameters(), *self.model.parameters()]
        self.optimizer = torch.optim.Adagrad(self.parameters, lr=spec['learning_rate'], eps=1e-8)
        with np.load(spec['batches']) as arrays:
            offsets = np.repeat(np.cumsum([0, *sizes[:-1]]), spec['lengths'])
            ids = np.concatenate([arrays['categorical'], arrays['bags']], -1) - offsets
            ids, numbers, labels = (
                torch.from_numpy(array).to(device) for array in (ids, arrays['numeric'], arrays['label'])
            )
        bags = [[bag.contiguous() for bag in part.split(spec['lengths'], 1)] for part in ids]
        self.batches = list(zip(zip(numbers, bags, strict=True), labels, strict=True))
        self.taken = 0
        self.model.train()

    def embeddings(self, inputs: Any) -> dict[str, torch.Tensor]:
        _, bags = inputs
        sums = [table(bag) for table, bag in zip(self.tables, bags, strict=True)]
        return {'embedding': torch.stack(sums, 1)}

    def of_embeddings(self, inputs: Any, embeddings: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.model(inputs[0], *embeddings.values())


def trainer_of(spec: dict, device: str = 'cpu') -> Trainer:
    """What trains a spec."""
    return (BagTrainer if max(spec['lengths']) > 1 else Trainer)(spec, device)


def product(size: int = 2048) -> dict[str, float]:
    a = torch.randn(size, size)
    return gflops(lambda: a @ a, size)


def serve(spec: dict) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    trainer = trainer_of(spec)
    does = {'steps': trainer.steps, 'parts': trainer.parts, 'product': product}
    answer({'parameters': sum(p.numel() for p in trainer.parameters)}, does, torch.__version__)


if __name__ == '__main__':
    with open(sys.argv[1]) as file:
        serve(json.load(file))
