"""Ids of texts as ONNX can look them up: a vocabulary with the other spellings of its values.

The encoder brings the spellings of a value together by rules (`data.values`), which ONNX cannot follow
whole. Trailing zeros of a decimal are taken away by nodes of the graph (`onnx_text`); of the others, those
that programs write are looked up as values of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import polars as pl

from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.data.schema import MISSING, OUT_OF_VOCABULARY, RESERVED, Field
from dlf_jax.data.values import canonical

# Decimals that are spelled otherwise once their trailing zeros are gone: 7.0, 7.50, 7. and -0.0.
TRAILING = r'-?(?:0|[1-9][0-9]*)\.(?:[0-9]*0)?'
_NUMBER = r'^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?$'
# Numbers that programs may write with an exponent.
_LONG = r'^-?(?:[0-9]{16,}(?:\.|$)|0\.0000)'
_DAY = r'^[0-9]{4}-[0-9]{2}-[0-9]{2}$'
_MOMENT = r'^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?$'
# What programs write after a moment in UTC: JavaScript .000Z, Python +00:00 or nothing.
_ENDS = ('', 'Z', '+00:00', '.000', '.000Z', '.000000')
# Texts that stand for a missing value, where they are not values themselves.
_MARKERS = ('', 'NaN', 'nan')


@dataclasses.dataclass(frozen=True)
class Spellings:
    """Texts of a field with their ids.

    Attributes:
      ids: by text, each once; offset into the fused table.
      missing: id of a missing value, which texts such as the empty one have.
      unknown: id of every other text.
      numbers: whether there are numbers among the values, so that trailing zeros matter.
      markers: texts that are missing although without their trailing zeros they are not.
    """

    ids: dict[str, int]
    missing: int
    unknown: int
    numbers: bool
    markers: tuple[str, ...]


def of_field(encoder: Encoder, field: Field) -> Spellings:
    """Texts of a text field with a vocabulary, its own or another's, and their ids."""
    values, first = encoder.typed_values(field.owner), encoder.schema.offsets[field.owner]
    ids = {text: first + RESERVED + i for i, text in enumerate(values)}
    unknown, missing = first + OUT_OF_VOCABULARY, first + MISSING
    markers = tuple(dict.fromkeys((*_MARKERS, *field.missing)))
    candidates = [*markers, *([] if field.verbatim else _others(values))]
    for text, found in zip(candidates, _canonical(candidates, field), strict=True):
        identity = missing if found is None else ids.get(found)
        if identity is not None:
            ids.setdefault(text, identity)
    numbers = not field.verbatim and bool(values.str.contains(_NUMBER).any())
    lost = [
        text for text in field.missing if numbers and pl.Series([text]).str.contains(f'^{TRAILING}$').item()
    ]
    return Spellings(ids, missing, unknown, numbers, tuple(lost))


def _canonical(texts: list[str], field: Field) -> list[str | None]:
    return canonical(pl.Series(texts, dtype=pl.String), field.missing, field.verbatim).to_list()


def _others(values: pl.Series) -> Iterator[str]:
    """Texts that may be other spellings of some values."""
    there = set(values.filter(values.is_in(['true', 'false', '0'])))
    for text in sorted(there):
        yield from {'0': ['-0']}.get(text, [text.capitalize(), text.upper()])
    for text in values.filter(values.str.contains(_LONG) & values.str.contains(_NUMBER)):
        written = repr(float(text))
        yield from (written, written.upper())
    for text in values.filter(values.str.contains(_DAY)):
        yield from (f'{text}{between}00:00:00{end}' for between in ' T' for end in _ENDS)
    for text in values.filter(values.str.contains(_MOMENT)):
        day, time = text.split(' ')
        yield from (f'{day}{between}{time}{end}' for between in ' T' for end in _ENDS)


def moments(encoder: Encoder, field: Field) -> bool:
    """Whether there are days or moments among a field's values, of whose spellings ONNX knows few."""
    values = encoder.typed_values(field.owner)
    return not field.verbatim and bool((values.str.contains(_DAY) | values.str.contains(_MOMENT)).any())
