"""The numbers of an explanation as tables, one row a value, for frames and spreadsheets."""

from __future__ import annotations

from typing import Any

import polars as pl


def tables(found: dict[str, Any], attention: list[dict[str, Any]]) -> dict[str, tuple[str, pl.DataFrame]]:
    """Title and frame of each table that has rows, by name.

    Args:
      found: see `explain.Explanation`.
      attention: lines of the table of DLF's attention.
    """
    layers = (found['dlf'] or {'layers': []})['layers']
    made: dict[str, tuple[str, list[dict[str, Any]]]] = {
        'fields': ('Importance of fields', [_costs(f, field=f['field']) for f in found['fields']]),
        'repeats': (
            'Importance of fields in each permutation',
            [
                {'field': f['field'], 'permutation': i, **costs}
                for f in found['fields']
                for i, costs in enumerate(f['repeats'])
            ],
        ),
        'groups': (
            'Importance of groups of fields',
            [_costs(g, group=g['group'], fields=g['fields']) for g in found['groups']],
        ),
        'pairs': (
            'Interactions of pairs of fields',
            [
                _costs(p, first=p['fields'][0], second=p['fields'][1], interaction=p['interaction'])
                for p in found['pairs']
            ],
        ),
        'partial_dependence': (
            'Partial dependence',
            [
                {
                    'field': curve['field'],
                    'number': point['value'] if curve['kind'] == 'number' else None,
                    'category': point['value'] if curve['kind'] == 'category' else None,
                    'probability': point['probability'],
                    'rows': point['rows'],
                }
                for curve in found['partial_dependence']
                for point in curve['points']
            ],
        ),
        'embeddings': ('Health of embeddings', found['embeddings']),
        'attributions': (
            'Attributions of rows',
            [
                {
                    **{key: row[key] for key in ('row', 'label', 'probability', 'baseline_probability')},
                    **field,
                    'value': None if field['value'] is None else str(field['value']),
                }
                for row in found['attributions']
                for field in row['fields']
            ],
        ),
        'pathways': (
            "DLF's pathways by layer",
            [
                _costs(
                    p, layer=layer['layer'], pathway=p['pathway'], share_of_variance=p['share_of_variance']
                )
                for layer in layers
                for p in layer['pathways']
            ],
        ),
        'gates': (
            "DLF's gates by layer and token",
            [
                {'layer': layer['layer'], 'pathway': pathway, **token}
                for layer in layers
                for pathway, gate in _gates(layer['gate'])
                for token in gate['by_token']
            ],
        ),
        'attention': ("DLF's attention, the mean and that of one row", attention),
    }
    return {
        name: (title, pl.DataFrame(rows, infer_schema_length=None))
        for name, (title, rows) in made.items()
        if rows
    }


def _gates(gate: dict[str, Any] | None) -> list[tuple[str, dict[str, Any]]]:
    """Gates of a layer by pathway; one pathway, without a name, where the blocks share their state."""
    if gate is None:
        return []
    return list(gate['by_pathway'].items()) if 'by_pathway' in gate else [('', gate)]


def _costs(entry: dict[str, Any], **first: Any) -> dict[str, Any]:
    """A row of what an entry costs: `auc`, `auc_low`, `auc_high`, and the same of `logloss`."""
    row = dict(first)
    for key in ('auc', 'logloss'):
        row |= {key: entry[key]['mean'], f'{key}_low': entry[key]['low'], f'{key}_high': entry[key]['high']}
    return row | ({'variance': entry['variance']} if 'variance' in entry else {})
