"""The table of the days: what each model was worth on rows that it had not seen, and how it grew."""

from __future__ import annotations

import csv
import io
from typing import Any

from dlf_jax.data.preprocess.encoder import load_schema
from dlf_jax.days.chain import Chain
from dlf_jax.workdir import Workdir

# Metrics of the day before's model on the day's training rows.
_PROGRESSIVE = ('auc', 'normalized_entropy', 'logloss', 'calibration_ratio')


def lines(chain: Chain) -> list[dict[str, Any]]:
    """A line for each finished day, in their order.

    Returns:
      `day`; `rows` that were trained on; `auc`, `normalized_entropy`, `logloss` and `calibration_ratio` of
      the model of the day before on them, before training, None where there was none; `valid_auc` and
      `valid_logloss` after training; `vocabulary`, the number of embedding rows; `new_values` and
      `forgotten_values`; and `seconds` of training and evaluation.
    """
    return [_line(chain, day) for day in chain.finished()]


def _line(chain: Chain, day: str) -> dict[str, Any]:
    folder = chain.read(day)
    result = Workdir(folder).result() or {}
    before, after = result.get('progressive') or {}, result['valid'] or {}
    growth = result.get('growth', {}).values()
    return {
        'day': day,
        'rows': result['training_rows'],
        **{name: before.get(name) for name in _PROGRESSIVE},
        'valid_auc': after.get('auc'),
        'valid_logloss': after.get('logloss'),
        'vocabulary': load_schema(folder / 'encoder').vocabulary,
        'new_values': sum(field['new'] for field in growth) if growth else None,
        'forgotten_values': sum(field['forgotten'] for field in growth) if growth else None,
        'seconds': result['seconds'],
    }


def as_csv(found: list[dict[str, Any]]) -> str:
    """The table of lines, of which there is at least one."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(found[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()
