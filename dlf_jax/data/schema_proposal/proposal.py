"""Reads the first rows of a table and writes the schema file that is proposed for it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dlf_jax.data.readers.chunk import Columns
from dlf_jax.data.readers.tables import Table, check_columns, families, open_table
from dlf_jax.data.schema import KINDS
from dlf_jax.data.schema_files import IGNORED
from dlf_jax.data.schema_proposal import names
from dlf_jax.data.schema_proposal.column import Column, Nature, measure
from dlf_jax.data.schema_proposal.kinds import Proposal, propose_kind, toml_text
from dlf_jax.data.schema_proposal.labels import Label, find_label, named_label
from dlf_jax.errors import UserError
from dlf_jax.file_writing import writing

# Maximum number of rows that are read, and of their bytes in memory.
ROWS = 1_000_000
BYTES = 2 << 30
# A day, and a time of day as the split by time reads them everywhere alike.
_ISO = r'^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}.*)?$'


def propose(
    table: Table,
    path: str,
    missing: Sequence[str] = (),
    label: str = '',
    positive: str = '',
    weight: str = '',
    group: str = '',
) -> dict[str, Any]:
    """Writes a schema file for a table, with the statistics of each column as a comment.

    The file can be used as it is: a column that is no feature is `ignored`, with the reason.

    Args:
      table: the table; its first `ROWS` rows are read, or so many as `BYTES` hold.
      path: the file to write, which must not exist.
      missing: texts that are known to stand for a missing value.
      label: column of the label, where it is known; '': found by its name and values.
      positive: value of that column which is a click, where it is known.
      weight: column of the rows' weights; '': none.
      group: column of users or sessions that AUC is averaged over too; '': none.

    Returns:
      `schema` (the path), `rows` that were read, `label`, `positive` (its value that is a click, '' where
      labels are 0 and 1), the number of columns of each kind, `in_doubt`, the columns, in order, whose entry
      people should look at, and `left_out`, those that are ignored.

    Raises:
      UserError: the file exists or cannot be written, a row cannot be read, or there is no such column.
    """
    for what, name in (('label', label), ('weight', weight), ('group', group)):
        check_columns(table, [name] if name else [], f'config.dataset.{what}')
    if os.path.exists(path):
        raise UserError(f'{path}: is there already; name another file with --output, or remove it')
    columns, rows, whole = _columns(table, missing)
    target = named_label(columns, label, positive) if label else find_label(columns)
    others = columns.keys() - {target.name, *([weight] if weight else [])}
    proposals = {name: propose_kind(column) for name, column in columns.items() if name in others}
    for name in target.others:
        proposals[name] = Proposal(IGNORED, f'known only once {target.name} is', doubt=True)
    lines = [
        _comment(
            f'Proposed from {rows:,} rows{"" if whole else " (the first ones)"} of {table.name}; '
            'look through it, then'
        ),
        _comment(f'  python -m dlf_jax.main --config=configs/table.py --config.dataset.schema={path} ...'),
        *_split(columns, proposals),
        '',
        *_label(target),
        f'weight = {toml_text(weight)}' if weight else '# weight = "..."  # column of the rows\' weights',
        f'group = {toml_text(group)}'
        if group
        else f'# group = {toml_text(_group(proposals))}  # users or sessions that AUC is averaged over too',
    ]
    for name, proposal in proposals.items():
        key = name if re.fullmatch(r'[A-Za-z0-9_-]+', name) else toml_text(name)
        kind = f'kind = {toml_text(proposal.kind)}'
        if proposal.why:
            kind += '  ' + _comment(('in doubt: ' if proposal.doubt else '') + proposal.why)
        lines += ['', f'[columns.{key}]  {_comment(_statistics(columns[name]))}', kind, *proposal.options]
    with writing(path):
        temporary = Path(f'{path}.tmp')
        temporary.write_text('\n'.join(lines) + '\n', 'utf-8')
        os.replace(temporary, path)
    kinds = dict.fromkeys((*KINDS, IGNORED), 0)
    for proposal in proposals.values():
        kinds[proposal.kind] += 1
    doubtful = {name for name, proposal in proposals.items() if proposal.doubt}
    doubtful |= {target.name} if target.doubt and target.name else set()
    in_doubt = [name for name in columns if name in doubtful]
    left_out = [name for name, proposal in proposals.items() if proposal.kind == IGNORED]
    found = {'schema': path, 'rows': rows, 'label': target.name, 'positive': target.positive}
    return {**found, **kinds, 'in_doubt': in_doubt, 'left_out': left_out}


def _columns(table: Table, missing: Sequence[str]) -> tuple[dict[str, Column], int, bool]:
    """The measured columns, the number of rows that were read, and whether those are all."""
    pieces: list[pl.DataFrame] = []
    rows, size, whole = 0, 0.0, True
    for chunk in table.chunks(Columns(keep=table.columns)):
        assert chunk.kept is not None
        if rows >= ROWS or size >= BYTES:
            whole = False
            break
        piece = chunk.kept.head(ROWS - rows)
        whole = whole and piece.height == chunk.kept.height
        pieces.append(piece)
        rows += piece.height
        size += piece.estimated_size()
    found, unlike = {}, _unlike(table)
    for name in table.columns:
        # One column at a time, so that no second copy of all of them is held.
        parts = [piece[name] for piece in pieces]
        values = None if name in unlike else _joined(parts)
        if values is None:
            reason = (
                unlike.get(name)
                or f'{" and ".join(sorted({str(part.dtype) for part in parts}))} in one column'
            )
            found[name] = _unusable(name, rows, reason)
        else:
            try:
                found[name] = measure(values, missing)
            except pl.exceptions.PolarsError:
                # A type that other libraries have added, such as the periods of pandas.
                found[name] = _unusable(name, rows, f'values of {values.dtype}, which have no text')
    return found, rows, whole


def _joined(parts: Sequence[pl.Series]) -> pl.Series | None:
    """The rows of all pieces; None where their types have no values in common."""
    kinds = {part.dtype for part in parts}
    if len(kinds) > 1:
        several = [kind for kind in kinds if kind.is_nested()]
        if several and len(several) < len(kinds - {pl.Null()}):
            return None
        if not several and not all(kind.is_numeric() or kind == pl.Null for kind in kinds):
            try:
                parts = [part.cast(pl.String) for part in parts]
            except pl.exceptions.PolarsError:
                return None
    try:
        return pl.concat([part.to_frame() for part in parts], how='vertical_relaxed').to_series()
    except pl.exceptions.PolarsError:
        return None


def _unlike(table: Table) -> dict[str, str]:
    """Columns that are of types without a common value in files of the table, and the reason."""
    try:
        families([table], table.columns)
    except UserError:
        pass
    else:
        return {}
    found = {}
    files = [open_table([path]) for path in table.paths]
    for name in table.columns:
        try:
            families(files, [name])
        except UserError as error:
            found[name] = str(error)
    return found


def _unusable(name: str, rows: int, reason: str) -> Column:
    none = pl.Series('value', [], pl.String)
    return Column(name, Nature.UNUSABLE, rows, 0, none, none.cast(pl.Int64).to_numpy(), reason=reason)


def _label(label: Label) -> Iterable[str]:
    why = ('in doubt: ' if label.doubt and label.name else '') + label.why
    yield f'label = {toml_text(label.name)}' + (f'  {_comment(why)}' if why else '')
    if label.positive:
        yield f'positive = {toml_text(label.positive)}  # the value of {_named(label.name)} that is a click'
    if label.soft:
        yield 'soft_labels = true'


def _split(columns: Mapping[str, Column], proposals: Mapping[str, Proposal]) -> Iterable[str]:
    """The flags of a split by time, for the time that is likeliest that of the row."""
    found = [
        name
        for name, proposal in proposals.items()
        if proposal.moment
        and not columns[name].missing
        and names.time_of_row(name)
        and _readable(columns[name])
    ]
    # A time by its name before one by its values alone, then the one with more values.
    found.sort(key=lambda name: (not names.time(name), -columns[name].distinct))
    if found:
        flag = shlex.quote(f'--config.dataset.time={found[0]}')
        yield '#'
        yield _comment(f'A split by time: --config.dataset.split=time {flag}')
    if len(found) > 1:
        yield _comment(f'(other times: {", ".join(found[1:])})')


def _readable(column: Column) -> bool:
    return column.nature is Nature.NUMBERS or bool(column.values.str.contains(_ISO).all())


def _group(proposals: Mapping[str, Proposal]) -> str:
    people = (name for name, p in proposals.items() if p.kind not in (IGNORED,) and names.person(name))
    return next(people, '...')


def _statistics(column: Column) -> str:
    found = [f'{column.distinct:,} values', f'{100 * column.missing / max(column.rows, 1):.1f} % missing']
    if column.nature is Nature.NUMBERS and len(column.numbers):
        finite, counts = column.finite, column.number_counts[np.isfinite(column.numbers)]
        if len(finite):
            mean = float((finite * (counts / counts.sum())).sum())
            found.append(f'{finite[0]:g} to {finite[-1]:g}, mean {mean:.4g}')
    examples = ', '.join(toml_text(text[:24]) for text in column.examples)
    return ', '.join(found) + (f'; such as {examples}' if examples else '')


def _named(name: str) -> str:
    return re.sub(r'[\x00-\x1f\x7f]', '?', name)


def _comment(text: str) -> str:
    """A comment of TOML, which may hold no control characters."""
    return f'# {_named(text)}'
