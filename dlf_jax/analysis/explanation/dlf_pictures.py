"""Pictures of what DLF does inside: gates by field, pathways by layer, attention between blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlf_jax.analysis.explanation import drawing

# Tokens of a picture; all are in the tables.
_TOKENS = 40
_LAYERS = 8


def gates(dlf: dict[str, Any]) -> tuple[str, str, Any] | None:
    """Share of the gates at their floor by layer and, in the first layer, by field; None without gates."""
    layers = [layer for layer in dlf['layers'] if layer['gate'] and 'by_token' in layer['gate']]
    if not layers:
        return None
    tokens = layers[0]['gate']['by_token'][:_TOKENS]
    figure = drawing.figure(9, max(2.6, 0.9 + 0.2 * len(tokens)))
    left, right = figure.subplots(1, 2)
    shares = [100 * layer['gate']['share_at_floor'] for layer in layers]
    drawing.bars(left, [f'layer {layer["layer"]}' for layer in layers], shares)
    left.set_xlabel('gates at their floor, % (all that is let through is the floor)')
    left.set_xlim(0, 100)
    drawing.bars(right, [t['token'] for t in tokens], [100 * t['share_at_floor'] for t in tokens])
    right.set_xlim(0, 100)
    right.set_xlabel('gates at their floor in the first layer, by field, %')
    told = ', '.join(f'layer {layer["layer"]}: {s:.0f} %' for layer, s in zip(layers, shares, strict=True))
    return 'Gates of the residual connections', f'Share of gates at their floor: {told}.', figure


def pathways(dlf: dict[str, Any]) -> tuple[str, str, Any]:
    """By layer, the pathways' shares of the output's variance and what the model loses without each."""
    layers = dlf['layers']
    rows = [(layer['layer'], pathway) for layer in layers for pathway in layer['pathways']]
    names = [f'layer {number} {pathway["pathway"]}' for number, pathway in rows]
    figure = drawing.figure(9, 1.0 + 0.24 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True)
    drawing.bars(left, names, [100 * pathway['share_of_variance'] for _, pathway in rows])
    left.set_xlabel("share of the layer's variance, %")
    losses = [pathway['logloss'] for _, pathway in rows]
    intervals = [drawing.interval(loss) for loss in losses]
    drawing.bars(right, names, [loss['mean'] for loss in losses], intervals, drawing.ORANGE)
    right.set_xlabel('gain of Logloss without it, with its 95 % interval')
    worst = max(rows, key=lambda row: row[1]['logloss']['mean'])
    alt = f'Pathways by layer; the model loses most without {worst[1]["pathway"]} of layer {worst[0]}.'
    return "DLF's pathways", alt, figure


def attention(dlf: dict[str, Any], lines: list[dict[str, Any]]) -> tuple[str, str, Any] | None:
    """Mean attention over the heads, tokens of all blocks by tokens of all blocks; None without attention."""
    found: dict[tuple[int, int], dict[tuple[str, str], Any]] = {}
    heads: dict[tuple[int, int], int] = {}
    for line in lines:
        key = line['layer'], line['attention_layer']
        n = dlf['tokens']
        maps = found.setdefault(key, {})
        one = maps.setdefault((line['block'], line['attends_to']), np.zeros((n, n)))
        one[line['query'] - 1, line['key'] - 1] += line['mean']
        heads[key] = max(heads.get(key, 1), line['head'])
    shown = list(found)[:_LAYERS]
    if not shown:
        return None
    columns = min(3, len(shown))
    lines_of = -(-len(shown) // columns)
    figure = drawing.figure(3.3 * columns + 0.6, 3.2 * lines_of)
    panels = figure.subplots(lines_of, columns, squeeze=False).ravel()
    image = None
    for axes, key in zip(panels, shown, strict=False):
        blocks = list(dict.fromkeys(block for block, _ in found[key]))
        n = dlf['tokens']
        whole = np.full((len(blocks) * n,) * 2, np.nan)
        for (block, other), one in found[key].items():
            i, j = blocks.index(block) * n, blocks.index(other) * n
            whole[i : i + n, j : j + n] = one / heads[key]
        image = axes.imshow(whole, cmap=drawing.LOW_TO_HIGH, vmin=0, vmax=1)
        middles = [(k + 0.5) * n - 0.5 for k in range(len(blocks))]
        axes.set_xticks(middles, blocks)
        axes.set_yticks(middles, blocks, rotation=90, va='center')
        for edge in range(1, len(blocks)):
            axes.axhline(edge * n - 0.5, color='white', linewidth=1)
            axes.axvline(edge * n - 0.5, color='white', linewidth=1)
        axes.set_title(f'layer {key[0]}, attention {key[1]}')
        axes.set_ylabel('queries')
        axes.set_xlabel('attend to the tokens of')
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    figure.colorbar(image, ax=panels.tolist(), shrink=0.6, label='mean weight')
    return (
        'Attention between and within blocks',
        'Mean attention weights of the tokens of each block (rows) to those of each block (columns).',
        figure,
    )
