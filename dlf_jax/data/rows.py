"""Rows in memory: arrays by name with the same number of rows, and streams of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

# By name, arrays of [rows, ...]; `label` is always there.
Rows = dict[str, np.ndarray]


def reblock(stream: Iterable[Rows], size: int) -> Iterator[Rows]:
    """Cuts a stream of rows, in pieces of any length, into blocks of `size` rows; the last one is shorter."""
    waiting: list[Rows] = []
    count = 0
    for rows in stream:
        length = len(rows['label'])
        start = 0
        while count + length - start >= size:
            stop = start + size - count
            waiting.append({k: v[start:stop] for k, v in rows.items()})
            yield _join(waiting)
            waiting, count, start = [], 0, stop
        if start < length:
            waiting.append({k: v[start:] for k, v in rows.items()})
            count += length - start
    if count:
        yield _join(waiting)


def _join(pieces: list[Rows]) -> Rows:
    if len(pieces) == 1:
        return pieces[0]
    return {k: np.concatenate([p[k] for p in pieces]) for k in pieces[0]}
