"""Dictionary from values to consecutive codes: a vectorised hash table with open addressing.

Polars and Arrow build a hash table per call or take a lock per value; preparation and serving need one
that persists, for vocabularies of many millions.
"""

from __future__ import annotations

import numpy as np
import polars as pl

# Codes of a value outside the dictionary, of a missing one, and of a filler after a list's last value.
UNKNOWN, NULL, PAD = -1, -2, -3

_FIRST_BITS = 10

# Multipliers of the two words of a string view; the low half of the first decides the slot of short values.
_WORDS = (np.uint64(0xD6E8FEB89E3779B9), np.uint64(0xA0761D6478BD642F))
_INLINE = 12  # bytes of the longest value that its view contains


class Dictionary:
    """Values with the codes 0, 1, ... in the order in which they were added; nulls have none.

    Values are distinguished by 64-bit hashes: among 10^8 different values the probability of any
    collision is below 3 in 10,000. Values of the same length of up to 8 bytes never collide.

    The slots hold codes alone. The hashes are stored in the order of the codes, so those of frequent
    values, which are added early, are close together in memory.
    """

    def __init__(self, values: pl.Series):
        """Adds the first values, all different, whose dtype (String or Int64) is that of the dictionary."""
        self._dtype = values.dtype
        self._pieces: list[pl.Series] = []
        self._size = 0
        self._keys = np.zeros(1 << _FIRST_BITS, np.uint64)  # by code + 1; the first belongs to no value
        self._allocate(_FIRST_BITS)
        if len(values):
            self.add(values)

    def __len__(self) -> int:
        return self._size

    @property
    def values(self) -> pl.Series:
        """All values in the order of their codes."""
        if len(self._pieces) != 1:
            empty = pl.Series('value', [], self._dtype)
            self._pieces = [pl.concat([empty, *self._pieces])]
        return self._pieces[0]

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """The slots, int32 [2^bits]: the code + 1 of the value whose search ends there, 0 where free; and the
        keys by code + 1, uint64, the first of which belongs to no value."""
        return self._table, self._keys[: self._size + 1]

    def find(self, values: pl.Series) -> np.ndarray:
        """Codes of values, int32 [n]: `NULL` for nulls, `UNKNOWN` for values that were not added."""
        codes, _, _ = self._find(keys_of(values))
        if values.null_count():
            codes[values.is_null().to_numpy()] = NULL
        return codes

    def add(self, values: pl.Series) -> np.ndarray:
        """Adds the new ones among some values and returns the codes of all, int32 [n]; `NULL` for nulls."""
        keys = keys_of(values)
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
            self._pieces.append(values.gather(missed[fresh]).rename('value'))
        return codes

    def _allocate(self, bits: int) -> None:
        self._shift, self._mask = np.uint64(64 - bits), (1 << bits) - 1
        self._table = np.zeros(1 << bits, np.int32)  # code + 1; 0 where free

    def _reserve(self, size: int) -> bool:
        """Makes room for `size` values in at most half of the slots; returns whether slots have changed."""
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
        """Looks keys up.

        Returns:
          Codes, int32 [n], `UNKNOWN` where there is none; the positions of the unknown keys, int64; and
          the free slots at which their searches ended, int64.
        """
        slots = self._slots(keys)
        held = self._table.take(slots)
        wrong = np.flatnonzero(self._keys.take(held) != keys)
        codes = held - 1
        codes[wrong] = UNKNOWN
        # Linear probing: a slot of another key leads to the next slot, a free one ends the search.
        going = wrong[held.take(wrong) > 0]
        while going.size:
            at = (slots.take(going) + 1) & self._mask
            slots[going] = at
            held = self._table.take(at)
            hit = (self._keys.take(held) == keys.take(going)) & (held > 0)
            codes[going[hit]] = held[hit] - 1
            going = going[~hit & (held > 0)]
        # Not only those in `wrong`: the key 0 equals that of a free slot.
        missed = np.flatnonzero(codes == UNKNOWN)
        return codes, missed, slots.take(missed)

    def _insert(self, keys: np.ndarray, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Assigns codes to keys that have none, with searches that begin at the given slots.

        Returns:
          The positions of the first occurrence of each key, int64, and the codes of all, int32 [n].
        """
        first = self._size + 1
        self._keys[first : first + len(keys)] = keys
        slots = self._claim(keys, slots, first)
        holder = self._table.take(slots) - first
        fresh = np.flatnonzero(holder == np.arange(len(keys), dtype=np.int32))
        if fresh.size == len(keys):
            self._size += fresh.size
            return fresh, holder + np.int32(first - 1)
        # Codes have no gaps: those after a repeated key move up.
        rank = np.empty(len(keys), np.int32)
        rank[fresh] = np.arange(first, first + fresh.size, dtype=np.int32)
        self._table[slots[fresh]] = rank[fresh]
        self._keys[first : first + fresh.size] = keys[fresh]
        self._size += fresh.size
        return fresh, rank.take(holder) - 1

    def _claim(self, keys: np.ndarray, slots: np.ndarray, first: int) -> np.ndarray:
        """Claims a slot for each distinct key, which then holds the code of its first occurrence.

        Args:
          keys: keys without a slot, stored in `self._keys` from position `first` on.
          slots: slots at which the searches for a free one begin, int64 [n].
          first: position of the first key in `self._keys`.

        Returns:
          The slots, int64 [n]; the same for the same key.
        """
        slots = slots.copy()
        going = np.arange(len(keys))
        while going.size:
            at = slots.take(going)
            free = self._table.take(at) == 0
            # Of several keys for one slot the last write wins; in reverse that is the first key.
            self._table[at[free][::-1]] = (going[free] + first)[::-1]
            going = going[self._keys.take(self._table.take(at)) != keys.take(going)]
            slots[going] = (slots.take(going) + 1) & self._mask
        return slots


def keys_of(values: pl.Series) -> np.ndarray:
    """Hashes of values, uint64 [n], whose high bits serve as slots.

    They may differ between versions of Polars, so they are never stored.
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
