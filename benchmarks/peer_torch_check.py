"""What the peer computes with dlf_jax's parameters, for the test that it is the same function.

    PEER/bin/python benchmarks/peer_torch_check.py SPEC.json WEIGHTS.npz

WEIGHTS.npz holds them by path: 'dense/model/tower/hidden_0/kernel', 'tables/categorical/embedding'. The last
line is a JSON object: by mode the logits of the first batch and, by table, the gradient of half the sum of
their squares with respect to the rows that were looked up.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from peer_torch import BagTrainer, Trainer, trainer_of
from peer_torch_models import MLP
from torch import nn

# What dlf_jax calls the members of a list of modules, before their number.
MEMBERS = {'layers': 'layer_', 'cross': 'cross/layer_', 'attention': 'attention_'}
# Modules that lie deeper there.
PATHS = {'bottom': 'numbers/bottom'}


class Weights:
    """Parameters of dlf_jax by path, each to be taken once."""

    def __init__(self, path: str):
        with np.load(path) as arrays:
            self.left = {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()}

    def take(self, parameter: torch.Tensor, path: str) -> None:
        values = self.left.pop(path)
        assert parameter.shape == values.shape, f'{path}: {tuple(values.shape)}, not {tuple(parameter.shape)}'
        with torch.no_grad():
            parameter.copy_(values)

    def take_module(self, module: nn.Module, path: str) -> None:
        """Fills a module and all in it, which are called as in dlf_jax."""
        if isinstance(module, nn.Linear):
            self.take(module.weight.T, f'{path}/kernel')
            self.take(module.bias, f'{path}/bias')
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm1d):
            self.take(module.weight, f'{path}/scale')
            self.take(module.bias, f'{path}/bias')
        elif isinstance(module, MLP):
            self.take_mlp(module, path)
        else:
            for name, parameter in module.named_parameters(recurse=False):
                self.take(parameter, f'{path}/{name}')
            for name, child in module.named_children():
                if isinstance(child, nn.ModuleList):
                    for i, member in enumerate(child):
                        self.take_module(member, f'{path}/{MEMBERS[name]}{i}')
                elif isinstance(child, nn.ParameterList):
                    for i, parameter in enumerate(child):
                        self.take(parameter, f'{path}/{name}_{i}')
                else:
                    self.take_module(child, f'{path}/{PATHS.get(name, name)}')

    def take_mlp(self, module: MLP, path: str) -> None:
        linears = [layer for layer in module.layers if isinstance(layer, nn.Linear)]
        norms = [layer for layer in module.layers if isinstance(layer, nn.BatchNorm1d)]
        for i, layer in enumerate(linears):
            name = f'hidden_{i}' if f'{path}/hidden_{i}/kernel' in self.left else 'out'
            self.take_module(layer, f'{path}/{name}')
        for i, layer in enumerate(norms):
            self.take_module(layer, f'{path}/norm_{i}')


def load(trainer: Trainer, path: str) -> None:
    weights = Weights(path)
    if isinstance(trainer, BagTrainer):
        # Vectors of numbers, which the model takes as they are.
        del weights.left['dense/embedding/numeric/embedding']
        fused = weights.left.pop('tables/categorical/embedding')
        with torch.no_grad():
            for table, rows in zip(trainer.tables, fused.split(trainer.spec['sizes']), strict=True):
                table.weight.copy_(rows)
    else:
        for name, table in trainer.tables.items():
            weights.take(table.weight, f'tables/categorical/{name}')
    weights.take_module(trainer.model, 'dense/model')
    assert not weights.left, f'weights that the model here has no place for: {sorted(weights.left)}'


def outputs(trainer: Trainer) -> dict:
    """Of the first batch, in evaluation and in training: with fresh running statistics."""
    inputs, _ = trainer.next_batch()
    found = {}
    for mode in ('evaluation', 'training'):
        trainer.model.train(mode == 'training')
        embeddings = trainer.embeddings(inputs)
        rows = {name: values.detach().requires_grad_() for name, values in embeddings.items()}
        logits = trainer.of_embeddings(inputs, rows)
        (0.5 * logits.square().sum()).backward()
        gradients = {name: values.grad.tolist() for name, values in rows.items()}
        found[mode] = {'logits': logits.tolist(), 'gradients': gradients}
    return found


def main() -> None:
    with open(sys.argv[1]) as file:
        trainer = trainer_of(json.load(file))
    load(trainer, sys.argv[2])
    print(json.dumps(outputs(trainer)))


if __name__ == '__main__':
    main()
