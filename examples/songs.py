"""A dataset of one's own: whether a listener plays a song to its end.

    python songs.py FILE.csv [ROWS [SEED]]

makes up a file of it. Each song has a genre, which no column tells: a song is played more often where its
genre is in the listener's history, whatever else is in there, and in the middle of the day.
"""

import sys

import numpy as np

from dlf_jax.data.builders.base import Builder
from dlf_jax.data.schema import Schema

SONGS, GENRES = 60, 6
# Maximum number of songs in a history, and share of listeners without one.
LENGTH, NEW = 8, 0.1


class Songs(Builder):
    """Songs offered to listeners: the song, songs that the listener played before, hour and minutes."""

    INSTRUCTIONS = 'Make up a file, `python songs.py songs.csv`, and give --config.dataset.train=songs.csv'

    def make_schema(self, table):
        fields = (
            self.categorical('song'),
            self.multi_valued('history', LENGTH, separator=' ', shares='song'),
            self.number('hour', 'standard'),
            self.number('minutes', 'standard'),
        )
        return Schema(fields, label='played')


def lines(rows=20_000, seed=0):
    """Yields the lines of a CSV file, always the same for a seed."""
    draw = np.random.default_rng(seed)
    yield 'played,song,history,hour,minutes'
    for _ in range(rows):
        # Song s is of genre s % GENRES; a listener likes two genres.
        song, liked = draw.integers(SONGS), draw.choice(GENRES, 2, replace=False)
        count = 0 if draw.random() < NEW else draw.integers(1, LENGTH + 1)
        history = draw.integers(SONGS // GENRES, size=count) * GENRES + draw.choice(liked, count)
        hour, minutes = draw.integers(24), round(draw.uniform(1.5, 8), 1)
        logit = -1.5 + 4 * (song % GENRES in history % GENRES) - np.cos(hour / 24 * 2 * np.pi)
        played = int(draw.random() < 1 / (1 + np.exp(-logit)))
        yield f'{played},s{song},{" ".join(f"s{s}" for s in history)},{hour},{minutes}'


if __name__ == '__main__':
    path, *numbers = sys.argv[1:]
    with open(path, 'w') as file:
        file.writelines(f'{line}\n' for line in lines(*map(int, numbers)))
