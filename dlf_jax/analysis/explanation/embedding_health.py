"""Health of embedding tables, field by field: norms, singular values, and rows that are of no use.

Guo et al. 2023, "On the Embedding Collapse when Scaling up Recommendation Models" (arXiv 2310.04400), found
that the embeddings of many fields lie in few dimensions, so that wider ones bring nothing. Two numbers tell
of it, with the singular values s of the field's rows:

- the effective rank, `exp(-sum p log p)` with `p = s / sum s` (Roy & Vetterli 2007, "The effective rank");
- the information abundance, `sum s / max s` (Guo et al., definition 1).

Both are between 1 and the width; near 1, the field's embeddings are one line.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from dlf_jax.data.schema import MISSING, OUT_OF_VOCABULARY, RESERVED, Field, Schema
from dlf_jax.models import embedding
from dlf_jax.training.model_setup import ModelSetup
from dlf_jax.training.train_state import TrainState

# Shares of the median norm, and of what was drawn.
_FAINT, _SAME = 0.1, 1e-4


def embedding_health(setup: ModelSetup, state: TrainState) -> list[dict[str, Any]]:
    """Health of every field that owns rows, in every table of the model, as JSON.

    Numeric fields have one vector and no rows. The fields of a shared vocabulary are told once, by its owner,
    with `shared_by`. An entry has:

    - `field`, `table`, `rows` (of values: the ids of unknown and missing ones are told apart), `width`;
    - `mean_norm`, `singular_values` (falling), `effective_rank`, `information_abundance`; None without rows;
    - `dead`: rows that are as they were drawn from the run's seed, or, wider than 1, whose norm is at most a
      tenth of the field's median, to which a penalty takes those that are hardly ever seen;
    - `duplicated`: rows beside these that are equal to one before;
    - `unknown_trained`, `missing_trained`: whether the rows of unknown and of missing values are not dead.

    Args:
      setup: the model on its devices.
      state: its weights; the tables may be sharded.
    """
    schema, tables = setup.schema, state.params['tables']
    shardings = jax.tree.map(lambda x: x.sharding, tables)
    create = jax.jit(lambda seed: setup.create(seed).params['tables'], out_shardings=shardings)
    drawn = create(state.seed)
    found = []
    for field in schema.owners:
        part, first = embedding.part_of(field), schema.offsets[field.name]
        for table, values in tables[part].items():
            with jax.transfer_guard('allow'):  # asked for
                rows, before = (
                    np.asarray(x[first : first + field.size]) for x in (values, drawn[part][table])
                )
            found.append(
                {'field': field.name, 'table': table, **_shared_by(field, schema), **health(rows, before)}
            )
    return found


def _shared_by(field: Field, schema: Schema) -> dict[str, list[str]]:
    names = [other.name for other in schema.fields if other.shares == field.name]
    return {'shared_by': names} if names else {}


def health(rows: np.ndarray, drawn: np.ndarray) -> dict[str, Any]:
    """Health of one field's rows in one table; see `embedding_health`.

    Args:
      rows: float32 [size, width], of the reserved ids first.
      drawn: the same rows before training.
    """
    norm = np.sqrt(np.square(rows, dtype=np.float64).sum(1))
    median = np.median(norm[RESERVED:]) if len(rows) > RESERVED else 0.0
    untouched = (np.abs(rows - drawn) <= _SAME * np.abs(drawn)).all(1)
    # A weight of its own may well be near 0 and right; a vector is so only by decay.
    dead = untouched | (norm <= _FAINT * median) if rows.shape[1] > 1 else untouched
    values, living = rows[RESERVED:], ~dead[RESERVED:]
    wide = values.astype(np.float64)
    # Of the products: a table of millions of rows has but a few columns.
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(wide.T @ wide)[::-1], 0.0))
    return {
        'rows': len(values),
        'width': rows.shape[1],
        'mean_norm': float(norm[RESERVED:].mean()) if len(values) else None,
        **spectrum(singular),
        'dead': int((~living).sum()),
        'duplicated': int(living.sum() - len(np.unique(_keys(values[living])))),
        'unknown_trained': bool(not dead[OUT_OF_VOCABULARY]),
        'missing_trained': bool(not dead[MISSING]),
    }


def _keys(rows: np.ndarray) -> np.ndarray:
    """A hash of each row's bits, uint64 [n]: equal for equal rows."""
    keys = np.zeros(len(rows), np.uint64)
    for column in np.ascontiguousarray(rows.T).view(np.uint32):
        keys = (keys ^ column) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(32)
    return keys


def spectrum(singular: np.ndarray) -> dict[str, Any]:
    """Effective rank and information abundance of falling singular values, float64 [width]; None where all
    are 0."""
    total = float(singular.sum())
    values = [float(value) for value in singular]
    if not total:
        return {'singular_values': values, 'effective_rank': None, 'information_abundance': None}
    shares = singular[singular > 0] / total
    return {
        'singular_values': values,
        'effective_rank': float(np.exp(-(shares * np.log(shares)).sum())),
        'information_abundance': total / float(singular[0]),
    }
