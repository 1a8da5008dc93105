"""Training in plain PyTorch, as `step.py` asks for it; run by the peer's Python (`peer_environment.sh`).

    PEER/bin/python benchmarks/peer_torch.py serve SPEC.json
    PEER/bin/python benchmarks/peer_torch.py logits SPEC.json WEIGHTS.npz

`serve` answers the orders of `step_side.serve`; `logits` computes them with dlf_jax's weights. Imports
nothing of dlf_jax.
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np
import torch
from peer_torch_models import TABLES, DLFLayer, build
from step_side import clocks, gflops, since
from step_side import serve as answer
from torch import nn
from torch.nn import functional


class Trainer:
    """dlf_jax's recipe: cross-entropy and the embedding penalty over the whole table, clip, Adam."""

    def __init__(self, spec: dict):
        self.spec = spec
        torch.manual_seed(0)
        self.model = build(spec['model'], spec['fields'], spec['shape'])
        widths = {'embedding': spec['shape']['embedding_size'], 'linear': 1}
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
            self.ids, self.labels = arrays['categorical'], arrays['label']
        self.taken = 0
        self.model.train()

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(*(table(ids) for table in self.tables.values()))

    def next_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        at = self.taken % len(self.ids)
        self.taken += 1
        return torch.from_numpy(self.ids[at]), torch.from_numpy(self.labels[at])

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
        # The loss of every step is nobody's business; that of the last one shows that it trains.
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


def load(trainer: Trainer, weights: dict[str, np.ndarray]) -> None:
    """Takes dlf_jax's parameters, by path: 'model/tower/hidden_0/kernel', 'tables/embedding/categorical'."""
    left = {path: torch.from_numpy(np.array(values)) for path, values in weights.items()}

    def take(parameter: torch.Tensor, path: str, transposed: bool = False) -> None:
        values = left.pop(path)
        with torch.no_grad():
            parameter.copy_(values.T if transposed else values)

    def take_linear(module: nn.Module, path: str) -> None:
        take(module.weight, f'{path}/kernel', transposed=True)
        take(module.bias, f'{path}/bias')

    def take_norm(module: nn.Module, path: str) -> None:
        take(module.weight, f'{path}/scale')
        take(module.bias, f'{path}/bias')

    def take_mlp(module: nn.Module, path: str) -> None:
        linears = [layer for layer in module.layers if isinstance(layer, nn.Linear)]
        norms = [layer for layer in module.layers if isinstance(layer, nn.BatchNorm1d)]
        for i, layer in enumerate(linears):
            named = f'{path}/hidden_{i}' in {p.rsplit('/', 1)[0] for p in left}
            take_linear(layer, f'{path}/hidden_{i}' if named else f'{path}/out')
        for i, layer in enumerate(norms):
            take_norm(layer, f'{path}/norm_{i}')

    def take_dlf_layer(module: DLFLayer, path: str) -> None:
        for name in ('high_rank', 'low_rank'):
            block = getattr(module, name)
            take(block.in_kernel, f'{path}/{name}/in_kernel')
            if block.first_kernel is not None:
                take(block.first_kernel, f'{path}/{name}/first_kernel')
            take_norm(block.norm, f'{path}/{name}/norm')
            take_mlp(block.mlp, f'{path}/{name}/mlp')
        take(module.implicit, f'{path}/implicit/kernel')
        if module.token_kernel is not None:
            take(module.token_kernel, f'{path}/residual/token_kernel')
        take_norm(module.norm, f'{path}/residual/norm')

    for name, table in trainer.tables.items():
        take(table.weight, f'tables/{name}/categorical')
    model, name = trainer.model, trainer.spec['model']
    if name == 'dlf':
        for i, layer in enumerate(model.layers):
            take_dlf_layer(layer, f'model/layer_{i}')
        take_mlp(model.head, 'model/head')
    else:
        take_mlp(model.tower, 'model/tower')
    if name == 'dcnv2':
        for i, layer in enumerate(model.cross):
            take_linear(layer, f'model/cross/layer_{i}')
        take_linear(model.head, 'model/head')
    if name == 'deepfm':
        take(model.bias, 'model/bias')
    assert not left, f'weights that the model here has no place for: {sorted(left)}'


def logits(spec: dict, weights: str) -> dict:
    """Of the first batch, in evaluation and in training: with fresh running statistics."""
    trainer = Trainer(spec)
    with np.load(weights) as arrays:
        load(trainer, dict(arrays))
    ids, _ = trainer.next_batch()
    found = {}
    with torch.no_grad():
        for mode in ('evaluation', 'training'):
            trainer.model.train(mode == 'training')
            found[mode] = trainer.logits(ids).tolist()
    return found


if __name__ == '__main__':
    with open(sys.argv[2]) as file:
        given = json.load(file)
    if sys.argv[1] == 'serve':
        serve(given)
    else:
        print(json.dumps(logits(given, sys.argv[3])))
