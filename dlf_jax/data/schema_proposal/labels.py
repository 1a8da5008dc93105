"""The label of a table: which column it is, and which of its values is a click."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from dlf_jax.data.readers.columns import LABELS
from dlf_jax.data.schema_proposal import names
from dlf_jax.data.schema_proposal.column import Column, Nature
from dlf_jax.data.values import canonical
from dlf_jax.errors import UserError

# What turns a word into its opposite.
_NEGATIONS = ('no', 'non', 'not', 'un', 'in', 'dis')


@dataclasses.dataclass(frozen=True)
class Label:
    """The proposed label.

    Attributes:
      name: name of the column; '' where none was found.
      why: what is to be said about it, for people.
      doubt: whether people should look at it.
      positive: the value that is a click; '' where labels are 0 and 1, or words for them.
      soft: whether labels are numbers from 0 to 1.
      others: other columns that become known with the label or after it.
      among: all columns that could be the label by their names.
    """

    name: str = ''
    why: str = ''
    doubt: bool = False
    positive: str = ''
    soft: bool = False
    others: tuple[str, ...] = ()
    among: tuple[str, ...] = ()


def named_label(columns: Mapping[str, Column], name: str, positive: str = '') -> Label:
    """The label that people have named, with the other columns that become known with it or after it.

    Args:
      columns: all columns, by name.
      name: of the label.
      positive: the value that is a click, where it is known.

    Raises:
      UserError: the column's values are no labels.
    """
    column = columns[name]
    found = Label(name, positive=positive) if positive else _label(column)
    if isinstance(found, Label):
        others = tuple(other for other in find_label(columns).among if other != name)
        return dataclasses.replace(found, doubt=False, others=tuple(filter(names.event, others)))
    raise UserError(
        found
        or f'column {name!r} cannot be the label: expected two values, or numbers from 0 to 1; found '
        f'{column.distinct:,} values, such as {", ".join(map(repr, column.examples[:3]))}'
    )


def find_label(columns: Mapping[str, Column]) -> Label:
    """Finds the label among the columns, by name."""
    ranks = {name: rank for name in columns if name and (rank := names.label_rank(name)) is not None}
    complaints = []
    found = []
    for name in sorted(ranks, key=lambda name: ranks[name]):
        label = _named(columns[name])
        if isinstance(label, Label):
            found.append(label)
        elif label:
            complaints.append(label)
    if found:
        return _first(found)
    if complaints:
        return Label(why='; '.join(complaints), doubt=True)
    binary = [name for name, column in columns.items() if name and not column.missing and _binary(column)]
    if not binary:
        return Label(
            why='no column of 0 and 1 was found: name the label, and what is a click: positive = "..."'
        )
    ends = [name for name in (next(iter(columns)), list(columns)[-1]) if name in binary]
    plain = [name for name in binary if set(_texts(columns[name])) & {'0', '1', 'true'}]
    chosen = (ends or plain or binary)[0]
    others = [name for name in binary if name != chosen]
    why = 'the only column of 0 and 1' if not others else f'{", ".join(others)} could be the label too'
    return Label(chosen, why, doubt=True)


def _first(found: Sequence[Label]) -> Label:
    """The likeliest label, with what the others mean beside it."""
    label, others = found[0], [other.name for other in found[1:]]
    why = [label.why] if label.why else []
    if others:
        why.append(f'{", ".join(others)} could be the label too')
    later = tuple(filter(names.event, others))
    return dataclasses.replace(
        label,
        why='; '.join(why),
        doubt=label.doubt or bool(others),
        others=later,
        among=tuple(other.name for other in found),
    )


def _texts(column: Column) -> list[str]:
    """The distinct values of a column that has few, as the reader tells them apart."""
    if len(column.values) != column.distinct or column.distinct > 3:
        return []
    return canonical(column.values).drop_nulls().unique(maintain_order=True).to_list()


def _binary(column: Column) -> bool:
    """Whether a column's values are labels as they are."""
    texts = _texts(column)
    words = {text.lower() for text in texts}
    if column.nature is Nature.LISTS or not words or not words <= LABELS.keys() or {'0', '-1'} <= words:
        return False
    return {LABELS[word] for word in words} == {0.0, 1.0}


def _named(column: Column) -> Label | str:
    """The label that a column with the name of one is; or the complaint, '' where it is none."""
    return _label(column) if _binary(column) or names.label_exactly(column.name) else ''


def _label(column: Column) -> Label | str:
    """The label that a column is by its values; or the complaint, '' where it is none."""
    name, texts = column.name, _texts(column)
    if column.nature in (Nature.UNUSABLE, Nature.LISTS, Nature.MOMENTS):
        return ''
    binary = _binary(column)
    soft = (
        column.nature is Nature.NUMBERS
        and column.distinct > 2
        and len(column.numbers) > 2
        and column.numbers[0] >= 0
        and column.numbers[-1] <= 1
    )
    if not (binary or soft or len(texts) == 2 or (len(texts) == 1 and texts[0].lower() in LABELS)):
        return ''
    if column.missing:
        return f'{name} looks like the label, but {column.missing:,} rows have none: remove those rows'
    if soft:
        return Label(name, 'shares from 0 to 1', soft=True)
    if binary:
        return Label(name)
    if len(texts) == 1:
        return Label(name, f'{texts[0]} in every row that was read', doubt=True)
    positive, why = _positive(column, texts)
    return Label(name, why, True, positive)


def _positive(column: Column, texts: Sequence[str]) -> tuple[str, str]:
    """Which of two values is a click, and why."""
    if column.nature is Nature.NUMBERS:
        larger = max(texts, key=float)
        return larger, f'{" or ".join(texts)}: the larger one is taken for a click'
    for one, other in (texts, texts[::-1]):
        if _plain(other) in {negation + _plain(one) for negation in _NEGATIONS}:
            return one, f'{other!r} is taken for the opposite'
    known = [text for text in texts if names.positive(text)]
    if len(known) == 1:
        return known[0], f'{known[0]!r} or {(set(texts) - set(known)).pop()!r}'
    more = [text for text in texts if text.strip().startswith('>')]
    if len(more) == 1:
        return more[0], f'{" or ".join(map(repr, texts))}: the larger one is taken for a click'
    counts = {text: int(n) for text, n in zip(column.values.to_list(), column.counts, strict=True)}
    rarer = min(texts, key=lambda text: (counts.get(text, 0), text))
    shares = ' or '.join(
        f'{text!r} ({100 * counts.get(text, 0) / np.sum(column.counts):.1f} %)' for text in texts
    )
    return rarer, f'{shares}: the rarer one is taken for a click'


def _plain(text: str) -> str:
    return ''.join(names.words(text))
