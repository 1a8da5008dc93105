"""What DLF does inside, as its paper speaks of it (https://arxiv.org/abs/2505.19182, sections 4.2 and 4.3).

For every layer: its gates, the pathways (low-rank, high-rank and implicit block, what the fusion adds, the
residual connection) with their shares of the output's variance and what the model loses without them, and
attention between blocks and within. For the whole: how much of what the head reads goes without the pathways
that carry signals of low order, the residual connection and the low-rank block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from dlf_jax.analysis.explanation.costs import Scored, both_changes
from dlf_jax.analysis.explanation.device_batches import batch_size_for
from dlf_jax.analysis.explanation.dlf_removal import RESIDUAL, Means, Removal
from dlf_jax.analysis.explanation.dlf_tensors import (
    AttentionMaps,
    Gates,
    Moments,
    Tensors,
    fused_pathway,
)
from dlf_jax.analysis.explanation.sample import Sample
from dlf_jax.models.dlf import DLF
from dlf_jax.serving.predict import Predictor


@dataclasses.dataclass
class _Layer:
    """Sums of one layer over rows.

    Attributes:
      gates: by residual connection; none where it is not gated.
      parts: of the output by pathway, [tokens, d] each.
      kept: what the residual connections carry, by their names.
      added: what the fusion adds.
      carried: ratio of the norms of the carried term and of the whole output, summed over rows.
      attention: by attention layer.
    """

    gates: dict[str, Gates]
    parts: dict[str, Moments]
    kept: dict[str, Moments]
    carried: float
    attention: list[AttentionMaps]


class Inside:
    """DLF's inner tensors and removals on some rows."""

    def __init__(self, predictor: Predictor, detail: Sample, advance: Callable[[int], None] = lambda _: None):
        """Reads the model; computes nothing.

        Args:
          predictor: its model is a DLF.
          detail: rows that are summed up over.
          advance: called with the number of rows that have been scored since.
        """
        model = predictor.setup.forward.model
        assert isinstance(model, DLF)
        self._predictor, self._model, self._detail, self._advance = predictor, model, detail, advance
        self._tensors = Tensors(predictor, len(detail))
        schema = predictor.encoder.schema
        self._fields = [f.name for f in (*schema.categorical, *schema.numeric, *schema.bags)]

    @staticmethod
    def scorings(model: DLF) -> int:
        """Number of times that the detailed rows are scored, about."""
        pathways = 4 + (fused_pathway(model) is not None)
        return 3 + (model.layers + 1) * pathways + 1

    def summary(self, row: Sample) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """All of it as JSON, and the mean attention with that of one row as lines of a table.

        Args:
          row: one row.
        """
        layers: list[_Layer] = []
        count = 0
        for sown in self._tensors.of(self._detail.rows):
            layers = layers or [self._empty(sown[f'layer_{i}'], i) for i in range(self._model.layers)]
            for i, layer in enumerate(layers):
                self._add(layer, sown[f'layer_{i}'])
            count += len(sown['final'])
            self._advance(len(sown['final']))
        pathways = list(layers[0].parts)
        costs, whole, low_order = self._removals(layers, pathways)
        (sown_row,) = self._tensors.of(row.rows)
        found = {
            'rows': count,
            'fusion': self._model.fusion,
            'tokens': self._model.tokens,
            'layers': [
                {
                    'layer': i + 1,
                    'gate': self._gate(layer, i),
                    'pathways': self._pathways(layer, costs[i]),
                    'carried': layer.carried / count,
                    'attention': [
                        {'attention_layer': j + 1, 'pairs': maps.summary()}
                        for j, maps in enumerate(layer.attention)
                    ]
                    or None,
                }
                for i, layer in enumerate(layers)
            ],
            'pathways': [{'pathway': name, **cost} for name, cost in zip(pathways, whole, strict=True)],
            'low_order': low_order,
        }
        lines = [
            line
            for i, layer in enumerate(layers)
            for line in _attention_lines(i, layer, sown_row[f'layer_{i}'])
        ]
        return found, lines

    def _empty(self, sown: dict[str, Any], number: int) -> _Layer:
        names = [name for name in sown if name.endswith(RESIDUAL)]
        blocks, added = list(self._model.block_names(number)), fused_pathway(self._model)
        parts = [*blocks, *([added] if added else []), RESIDUAL]
        attention = sown.get('fusion', {})
        within = self._model.fusion == 'naf'
        return _Layer(
            gates={n: Gates(self._model.gate_epsilon) for n in names if 'gate' in sown[n]},
            parts={part: Moments() for part in parts},
            kept={name: Moments() for name in names},
            carried=0.0,
            attention=[AttentionMaps(blocks, within) for n in attention if n.startswith('attention_')],
        )

    def _add(self, layer: _Layer, sown: dict[str, Any]) -> None:
        outputs = sown['outputs']
        for name, tokens in outputs.items():
            layer.parts[name].add(tokens)
        names = list(layer.kept)
        carried = np.concatenate([sown[name]['carried'] for name in names], 1)
        layer.parts[RESIDUAL].add(carried)
        fused = sown['fused'] if 'fused' in sown else np.concatenate(list(outputs.values()), 1)
        added = fused_pathway(self._model)
        if added:
            layer.parts[added].add(fused[:, len(outputs) * self._model.tokens :])
        norms = [np.sqrt(np.square(x, dtype=np.float64).sum((1, 2))) for x in (carried, fused + carried)]
        layer.carried += float((norms[0] / np.maximum(norms[1], 1e-30)).sum())
        for name in names:
            layer.kept[name].add(sown[name]['carried'])
        for name, gates in layer.gates.items():
            gates.add(sown[name]['gate'])
        for i, maps in enumerate(layer.attention):
            maps.add(sown['fusion'][f'attention_{i}'])

    def _removals(
        self, layers: list[_Layer], pathways: list[str]
    ) -> tuple[list[list[dict[str, Any]]], list[dict[str, Any]], list[dict[str, Any]]]:
        """What removing each pathway costs, in each layer and in all, and what low-order signal is worth."""
        added = fused_pathway(self._model)
        means: Means = {}
        for i, layer in enumerate(layers):
            blocks = {n: m.mean for n, m in layer.parts.items() if n not in (added, RESIDUAL)}
            own = {'fusion': layer.parts[added].mean} if added else {}
            means[f'layer_{i}'] = {**blocks, **own, **{n: m.mean for n, m in layer.kept.items()}}
        size = batch_size_for(len(self._detail), self._predictor.batch_size, self._predictor.setup)
        removal = Removal(self._predictor, pathways, means, size, self._advance)
        shape = len(layers), len(pathways)
        ones = [_removed(shape, [i], [p]) for i in range(shape[0]) for p in range(shape[1])]
        everywhere = [_removed(shape, range(shape[0]), [p]) for p in range(shape[1])]
        low = [[name] for name in (RESIDUAL, 'low_rank') if name in pathways]
        low += [low[0] + low[1]] if len(low) == 2 else []
        lows = [_removed(shape, range(shape[0]), [pathways.index(n) for n in names]) for names in low]
        rows, nothing = self._detail.rows, np.zeros(shape, bool)
        logits, moved = removal.without(rows, [nothing, *ones, *everywhere, *lows])
        labels, weights = (np.asarray(rows[name], np.float64) for name in ('label', 'weight'))
        base, *others = (Scored(labels, scores, weights) for scores in logits)
        costs = [
            both_changes(labels, s.losses - base.losses, base.placements - s.placements, weights)
            for s in others
        ]
        by_layer = [costs[i * shape[1] : (i + 1) * shape[1]] for i in range(shape[0])]
        rest = costs[len(ones) :]
        shifts = np.average(moved[-len(lows) :], axis=1, weights=weights)
        low_order = [
            {'removed': names, 'share_of_norm': float(shift), **cost}
            for names, shift, cost in zip(low, shifts, rest[shape[1] :], strict=True)
        ]
        return by_layer, rest[: shape[1]], low_order

    def _gate(self, layer: _Layer, number: int) -> dict[str, Any] | None:
        if not layer.gates:
            return None
        found = {name: gates.summary(self._tokens(name, number)) for name, gates in layer.gates.items()}
        if list(found) == [RESIDUAL]:
            return found[RESIDUAL]
        return {'by_pathway': {name.removesuffix(f'_{RESIDUAL}'): gate for name, gate in found.items()}}

    def _tokens(self, residual: str, number: int) -> list[str]:
        """Names of the tokens that a residual connection gates: fields, then the layer before's tokens."""
        if number == 0:
            return self._fields
        own = residual.removesuffix(RESIDUAL).removesuffix('_')
        added = fused_pathway(self._model)
        parts = [own] if own else [*self._model.block_names(number - 1), *([added] if added else [])]
        return [f'{part} {i + 1}' for part in parts for i in range(self._model.tokens)]

    def _pathways(self, layer: _Layer, costs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        variances = [moments.total_variance for moments in layer.parts.values()]
        total = max(sum(variances), 1e-300)
        return [
            {'pathway': name, 'share_of_variance': variance / total, **cost}
            for name, variance, cost in zip(layer.parts, variances, costs, strict=True)
        ]


def _removed(shape: tuple[int, int], layers: Any, pathways: Any) -> np.ndarray:
    removed = np.zeros(shape, bool)
    removed[np.ix_(list(layers), list(pathways))] = True
    return removed


def _attention_lines(number: int, layer: _Layer, sown_row: dict[str, Any]) -> list[dict[str, Any]]:
    """Lines of a table: a weight of the mean map, and of one row's."""
    lines = []
    for j, maps in enumerate(layer.attention):
        own = maps.split(sown_row['fusion'][f'attention_{j}'])
        for (block, other, head), mean in maps.means.items():
            for (query, key), weight in np.ndenumerate(mean):
                lines.append(
                    {
                        'layer': number + 1,
                        'attention_layer': j + 1,
                        'block': block,
                        'attends_to': other,
                        'head': head + 1,
                        'query': query + 1,
                        'key': key + 1,
                        'mean': float(weight),
                        'of_row': float(own[block, other, head][0, query, key]),
                    }
                )
    return lines
