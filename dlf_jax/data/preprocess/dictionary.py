"""Values to consecutive codes, a column at a time: open addressing, vectorised.

Polars and Arrow build a hash table per call or take a lock per value; preparing and serving need one
that stays, for vocabularies of many millions.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from dlf_jax.data.schema import PADDING

# Codes of what is no value.
UNKNOWN, NULL, PAD = -1, -2, -3

_FIRST_BITS = 10

# For the two words of a string view. The low half of the first decides where short values go.
_WORDS = (np.uint64(0xD6E8FEB89E3779B9), np.uint64(0xA0761D6478BD642F))
_INLINE = 12  # bytes of the longest value that is inside its view


class Dictionary:
    """Values with codes 0, 1, ... in the order in which they came; nulls have none.

    Values are told apart by 64-bit hashes: with 10^8 different values in one column the chance that
    any two are taken for one is below 3 in 10,000. Those of the same length up to 8 bytes never are.

    The table of slots holds only codes; the hashes lie in the order of the codes, so those of frequent
    values, which come early, lie together.
    """

    def __init__(self, values: pl.Series):
        """Takes the first values, all different; their dtype, String or Int64, is that of all."""
        self._dtype = values.dtype
        self._parts: list[pl.Series] = []
        self._size = 0
        self._keys = np.zeros(1 << _FIRST_BITS, np.uint64)  # by code + 1; the first is of no value
        self._allocate(_FIRST_BITS)
        if len(values):
            self.add(values)

    def __len__(self) -> int:
        return self._size

    @property
    def values(self) -> pl.Series:
        """The values in the order of their codes."""
        if len(self._parts) != 1:
            empty = pl.Series('value', [], self._dtype)
            self._parts = [pl.concat([empty, *self._parts])]
        return self._parts[0]

    def find(self, values: pl.Series) -> np.ndarray:
        """Codes, int32 [n]; `NULL` and `UNKNOWN` where there is none."""
        codes, _, _ = self._find(_keys(values))
        if values.null_count():
            codes[values.is_null().to_numpy()] = NULL
        return codes

    def add(self, values: pl.Series) -> np.ndarray:
        """Codes, int32 [n], after values not seen before have been given one; `NULL` for nulls."""
        keys = _keys(values)
        codes, missed, slots = self._find(keys)
        if values.null_count():
            nulls = values.is_null().to_numpy()
            codes[nulls] = NULL
            there = ~nulls[missed]
            missed, slots = missed[there], slots[there]
        if missed.size:
            new = keys[missed]
            if self._reserve(self._size + missed.size):
                slots = self._slots(new)
            fresh, codes[missed] = self._insert(new, slots)
            self._parts.append(values.gather(missed[fresh]).rename('value'))
        return codes

    def _allocate(self, bits: int) -> None:
        self._shift, self._mask = np.uint64(64 - bits), (1 << bits) - 1
        self._table = np.zeros(1 << bits, np.int32)  # code + 1; 0 where free

    def _reserve(self, size: int) -> bool:
        """Makes room for so many values, at most half of the slots taken; whether slots have changed."""
        if size >= len(self._keys):
            grown = np.empty(max(size + 1, len(self._keys) * 3 // 2), np.uint64)
            grown[: self._size + 1] = self._keys[: self._size + 1]
            self._keys = grown
        if 2 * size <= len(self._table):
            return False
        self._allocate((2 * size - 1).bit_length())
        held = self._keys[1 : self._size + 1]
        self._claim(held, self._slots(held), 1)
        return True

    def _slots(self, keys: np.ndarray) -> np.ndarray:
        return (keys >> self._shift).view(np.int64)

    def _find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Codes, int32 [n], `UNKNOWN` where there is none; the places of those, and the free slots at which
        their search ended, int64."""
        slots = self._slots(keys)
        held = self._table.take(slots)
        wrong = np.flatnonzero(self._keys.take(held) != keys)
        codes = held - 1
        codes[wrong] = UNKNOWN
        # A slot that is taken by another key sends the search on; a free one ends it.
        going = wrong[held.take(wrong) > 0]
        while going.size:
            at = (slots.take(going) + 1) & self._mask
            slots[going] = at
            held = self._table.take(at)
            hit = (self._keys.take(held) == keys.take(going)) & (held > 0)
            codes[going[hit]] = held[hit] - 1
            going = going[~hit & (held > 0)]
        # Not among `wrong` alone: the key 0 equals that of a free slot.
        missed = np.flatnonzero(codes == UNKNOWN)
        return codes, missed, slots.take(missed)

    def _insert(self, keys: np.ndarray, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gives codes to keys that have none, at slots from which their search goes on.

        Returns:
          The places where each key comes first, int64, and the codes of all, int32 [n].
        """
        first = self._size + 1
        self._keys[first : first + len(keys)] = keys
        slots = self._claim(keys, slots, first)
        holder = self._table.take(slots) - first
        fresh = np.flatnonzero(holder == np.arange(len(keys), dtype=np.int32))
        if fresh.size == len(keys):
            self._size += fresh.size
            return fresh, holder + np.int32(first - 1)
        # The codes have no gaps, so those behind a key that comes again move up.
        rank = np.empty(len(keys), np.int32)
        rank[fresh] = np.arange(first, first + fresh.size, dtype=np.int32)
        self._table[slots[fresh]] = rank[fresh]
        self._keys[first : first + fresh.size] = keys[fresh]
        self._size += fresh.size
        return fresh, rank.take(holder) - 1

    def _claim(self, keys: np.ndarray, slots: np.ndarray, first: int) -> np.ndarray:
        """Gives a slot to each key, as the keys from place `first` on; int64 [n], the same for the same key,
        and that holds the first of them.

        Args:
          keys: in no slot yet.
          slots: where each begins to look for a free one; int64.
          first: place of the first of them in `self._keys`.
        """
        slots = slots.copy()
        going = np.arange(len(keys))
        while going.size:
            at = slots.take(going)
            free = self._table.take(at) == 0
            # Of several that want one slot the last written has it, in reverse the first of them.
            self._table[at[free][::-1]] = (going[free] + first)[::-1]
            going = going[self._keys.take(self._table.take(at)) != keys.take(going)]
            slots[going] = (slots.take(going) + 1) & self._mask
        return slots


def _keys(values: pl.Series) -> np.ndarray:
    """64-bit hashes; the same within one version of Polars, so they are not kept.

    The high bits are good enough to be slots.
    """
    if values.dtype != pl.String:
        return values.hash(1).to_numpy()
    array = values.to_arrow(compat_level=pl.CompatLevel.newest())
    _, views, *longer = array.buffers()
    views = np.frombuffer(views, np.uint64).reshape(-1, 2)[array.offset : array.offset + len(array)]
    keys = views[:, 0] * _WORDS[0]
    keys += views[:, 1] * _WORDS[1]
    if longer:
        long = np.flatnonzero(views[:, 0].astype(np.uint32) > _INLINE)
        if long.size:
            keys[long] = values.gather(long).hash(1).to_numpy()
    return keys


def id_table(offset: int, known: np.ndarray, out_of_vocabulary: int, missing: int) -> tuple[np.ndarray, int]:
    """A table from codes to ids, int32 [size + 3], and the place of code 0: the negative codes come before.

    Args:
      offset: of the field in the fused table.
      known: id of each code, without the offset, int [size].
      out_of_vocabulary, missing: ids of `UNKNOWN` and `NULL`, without the offset.
    """
    zero = -PAD
    table = np.empty(zero + len(known), np.int32)
    table[zero:] = known
    table[zero + UNKNOWN], table[zero + NULL] = out_of_vocabulary, missing
    table += offset
    table[zero + PAD] = PADDING
    return table, zero
