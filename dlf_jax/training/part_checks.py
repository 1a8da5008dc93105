"""Checks of the prepared parts before training: what their labels, weights and groups make impossible."""

from __future__ import annotations

import logging

import numpy as np
from ml_collections import ConfigDict

from dlf_jax.data.builders.base import Builder
from dlf_jax.data.loading.batches import weighted
from dlf_jax.data.loading.records import Blocks
from dlf_jax.data.rows import Rows
from dlf_jax.data.schema import Schema
from dlf_jax.errors import UserError
from dlf_jax.training import metrics

_log = logging.getLogger(__name__)

# Undefined where no row has a weight above 0, and nowhere else.
_ANY_WEIGHT = 'logloss'
# Undefined where all labels are on the same side of 0.5, and where all are 0 or all are 1.
_BOTH_KINDS, _NOT_CONSTANT = 'auc', 'normalized_entropy'


def check(config: ConfigDict, builder: Builder) -> None:
    """Refuses parts on which a run cannot be trained or chosen, and warns of metrics that are undefined.

    Reads no more blocks of a part than it takes to see rows of both kinds.

    Args:
      config: the whole config.
      builder: its data is prepared.

    Raises:
      UserError: a part whose weights are all 0, or a validation part on which `config.training.monitor` is
        undefined.
    """
    schema, monitor = builder.schema(), config.training.monitor
    metrics.tell_soft_labels(schema)
    for part in builder.parts():
        wanted = [_ANY_WEIGHT, _NOT_CONSTANT if part == 'train' else _BOTH_KINDS]
        found = _undefined([*wanted, *([monitor] if part == 'valid' else [])], builder.blocks(part))
        if _ANY_WEIGHT in found:
            raise UserError(
                f'the {part} part: the weights (column {schema.weight!r}) of all its rows are 0, so there is '
                f'nothing to {"train" if part == "train" else "evaluate"} on; {_other_rows(builder, part)}'
            )
        if part == 'valid' and monitor in found:
            raise UserError(_no_monitor(config, builder, schema, _BOTH_KINDS in found))
        if _NOT_CONSTANT in found and part == 'train':
            _log.warning(
                'the train part has labels of one kind only; a model learns no more of them than that'
            )
        elif _BOTH_KINDS in found:
            _log.warning(
                'the %s part has labels of one kind only: auc is undefined there, and null in results', part
            )


def _undefined(monitors: list[str], blocks: Blocks) -> set[str]:
    """The monitors that are undefined on a part, whatever the model. One that is defined on a block is
    defined on the whole."""
    waiting, seen = set(monitors), list[Rows]()
    for block in range(len(blocks)):
        rows = weighted(blocks.read(block))
        # Copies, since what is read holds the memory of the whole block.
        seen.append({name: rows[name].copy() for name in ('label', 'weight', 'group') if name in rows})
        waiting = {monitor for monitor in waiting if metrics.undefined(monitor, seen[-1])}
        if not waiting:
            return waiting
    whole = {name: np.concatenate([rows[name] for rows in seen]) for name in seen[0]}
    return {monitor for monitor in waiting if metrics.undefined(monitor, whole)}


def _no_monitor(config: ConfigDict, builder: Builder, schema: Schema, one_kind: bool) -> str:
    """The error that the monitor is undefined on the validation part."""
    what = (
        'the valid part has labels of one kind only'
        if one_kind
        else f'no group (column {schema.group!r}) of the valid part has labels of both kinds'
    )
    return (
        f'{what}, so config.training.monitor={config.training.monitor!r} is undefined there; '
        f'--config.training.monitor=logloss needs no two kinds, or {_other_rows(builder, "valid")}'
    )


def _other_rows(builder: Builder, part: str) -> str:
    """How the part gets other rows, in words."""
    split = builder.task.split
    if split is None:
        return f'give other rows in --config.dataset.{part}'
    return 'give more rows' if split.kind == 'random' else 'split at random (--config.dataset.split=random)'
