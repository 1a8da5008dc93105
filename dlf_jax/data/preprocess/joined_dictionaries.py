"""Several dictionaries as one, so that the values of many columns are looked up in one operation."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dlf_jax.data.preprocess.dictionary import UNKNOWN, Dictionary


class JoinedDictionaries:
    """Finished dictionaries one after another in memory, each with its own slots: what one finds, this finds.

    Of a few rows most of the time goes into the calls themselves, which here do not grow with the columns.
    """

    def __init__(self, dictionaries: Iterable[Dictionary]):
        """Copies what is needed to look values up.

        Args:
          dictionaries: finished ones, taken one by one; called by their number from here on.
        """
        parts = [dictionary.parts for dictionary in dictionaries]
        slots, keys = [np.zeros(0, np.int32)], [np.zeros(0, np.uint64)]
        self._slots = np.concatenate([*slots, *(s for s, _ in parts)])
        self._keys = np.concatenate([*keys, *(k for _, k in parts)])
        self._shift = np.array([64 - (len(s).bit_length() - 1) for s, _ in parts], np.uint64)
        self._mask = np.array([len(s) - 1 for s, _ in parts], np.int64)
        self._first_slot = np.cumsum([0, *(len(s) for s, _ in parts)])[:-1].astype(np.int64)
        self._first_key = np.cumsum([0, *(len(k) for _, k in parts)])[:-1].astype(np.int64)

    def find(self, keys: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Codes of values, as `Dictionary.find` gives them, but for nulls.

        Args:
          keys: `dictionary.keys_of` the values, uint64 [...].
          which: number of the dictionary of each, int64, of a shape that broadcasts to that of `keys`.

        Returns:
          int32 [...]; `UNKNOWN` where the dictionary does not have the value.
        """
        within = (keys >> self._shift[which]).view(np.int64)
        held = self._slots.take(within + self._first_slot[which])
        there = held > 0
        hit = there & (self._keys.take(held + self._first_key[which]) == keys)
        codes = np.where(hit, held - 1, UNKNOWN).astype(np.int32)
        going = np.flatnonzero(there & ~hit)
        if going.size:
            dictionary = np.broadcast_to(which, keys.shape).reshape(-1)[going]
            self._probe(keys.reshape(-1)[going], within.reshape(-1)[going], dictionary, going, codes)
        return codes

    def _probe(
        self, keys: np.ndarray, within: np.ndarray, which: np.ndarray, places: np.ndarray, codes: np.ndarray
    ) -> None:
        """Sets the codes of values whose first slot is another's, in place."""
        flat = codes.reshape(-1)
        while places.size:
            within = (within + 1) & self._mask[which]
            held = self._slots.take(within + self._first_slot[which])
            there = held > 0
            hit = there & (self._keys.take(held + self._first_key[which]) == keys)
            flat[places[hit]] = held[hit] - 1
            on = there & ~hit
            keys, within, which, places = keys[on], within[on], which[on], places[on]
