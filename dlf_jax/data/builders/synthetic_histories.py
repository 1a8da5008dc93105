"""Synthetic data of histories, generated from a seed, with clicks drawn from known probabilities.

Every item has a genre, which no column tells. A visitor likes a few genres now, and liked others before. What
decides a click is how many of the `RECENT` latest events of the history are of the offered item's genre:

    logit = BIAS + MATCH min(matches, ENOUGH) + a weight of the place + a weight of the genre

Earlier events are in the lists, too, and decide nothing. So a model has to keep the latest ones, and to hold
each against the item: the mean of a history tells little of the one genre that is asked for, among many. The
best AUC that any model can reach is known.
"""

from __future__ import annotations

import functools

import numpy as np
import polars as pl

from dlf_jax.data.builders.generated import CHUNK_ROWS, Generated, GeneratedTable
from dlf_jax.data.readers.tables import Table
from dlf_jax.data.schema import Schema

ITEMS, GENRES, PLACES = 90, 30, 6
# Events that decide, and the most events before them; share of visitors without any.
RECENT, EARLIER, NEW = 8, 8, 0.05
# Genres that a visitor likes at a time; how often an event, and how often the item, is of one of them.
LIKED, EVENT_LIKED, ITEM_LIKED = 4, 0.8, 0.5
# The law.
BIAS, MATCH, ENOUGH, PLACE, GENRE = -2.2, 2.0, 2, 0.3, 0.3


class HistoriesTable(GeneratedTable):
    """Rows of offered items with the visitors' histories, and their law."""

    columns = ('label', 'item', 'place', 'history')

    @functools.cached_property
    def _weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights of places and of genres in the logit."""
        draw = np.random.Generator(np.random.PCG64([self.seed, 0]))
        return PLACE * draw.normal(size=PLACES), GENRE * draw.normal(size=GENRES)

    def logits(
        self, item: np.ndarray, place: np.ndarray, events: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """The law: logits of rows, float64 [rows].

        Args:
          item: int64 [rows].
          place: int64 [rows].
          events: items of the histories, the latest last, int64 [rows, EARLIER + RECENT].
          lengths: how many of the latest there are, int64 [rows].
        """
        places, genres = self._weights
        recent = events[:, -RECENT:] % GENRES == item[:, None] % GENRES
        there = np.arange(RECENT) >= RECENT - lengths[:, None]
        matches = np.count_nonzero(recent & there, axis=1)
        logit: np.ndarray = BIAS + MATCH * np.minimum(matches, ENOUGH) + places[place] + genres[item % GENRES]
        return logit

    def frame(self, start: int) -> pl.DataFrame:
        draw = np.random.Generator(np.random.PCG64([self.seed, 1, start]))
        rows = min(CHUNK_ROWS, self.rows - start)

        def of_genres(liked: np.ndarray, share: float, count: int) -> np.ndarray:
            """Items [rows, count], a share of them of one of the genres [rows, LIKED]."""
            genre = np.take_along_axis(liked, draw.integers(0, LIKED, (rows, count)), axis=1)
            other = draw.integers(0, GENRES, (rows, count))
            genre = np.where(draw.random((rows, count)) < share, genre, other)
            return genre + GENRES * draw.integers(0, ITEMS // GENRES, (rows, count))

        now, before = draw.integers(0, GENRES, (2, rows, LIKED))
        events = np.concatenate(
            [of_genres(before, EVENT_LIKED, EARLIER), of_genres(now, EVENT_LIKED, RECENT)], axis=1
        )
        lengths = np.where(draw.random(rows) < NEW, 0, draw.integers(1, EARLIER + RECENT + 1, rows))
        item = of_genres(now, ITEM_LIKED, 1)[:, 0]
        place = draw.integers(0, PLACES, rows)
        probability = 1 / (1 + np.exp(-self.logits(item, place, events, lengths)))
        label = (draw.random(rows) < probability).astype(np.int8)
        names = pl.Series([f'i{number}' for number in range(ITEMS)])
        there = np.arange(EARLIER + RECENT) >= EARLIER + RECENT - lengths[:, None]
        flat = names.gather(events[there].astype(np.uint32))
        row = pl.Series('row', np.repeat(np.arange(rows), lengths))
        lists = pl.DataFrame({'row': row, 'history': flat}).group_by('row', maintain_order=True).all()
        found = pl.DataFrame({'row': np.arange(rows)}).join(
            lists, on='row', how='left', maintain_order='left'
        )
        return pl.DataFrame(
            {
                'label': label,
                'item': names.gather(item.astype(np.uint32)),
                'place': pl.Series([f'p{number}' for number in range(PLACES)]).gather(
                    place.astype(np.uint32)
                ),
                'history': found['history'],
                'probability': probability,
            }
        )


class SyntheticHistories(Generated):
    """Synthetic data of histories: `dataset.rows` rows from the seed `dataset.seed`, split 7:2:1."""

    name = 'synthetic_histories'
    TABLE = HistoriesTable

    def make_schema(self, table: Table) -> Schema:
        del table
        history = self.multi_valued('history', RECENT, shares='item', ordered=True)
        return Schema((self.categorical('item'), self.categorical('place'), history), 'label')
