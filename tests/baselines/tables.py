"""Encoded rows for the tests of baselines, without files."""

import numpy as np

from dlf_jax.data.schema import MULTI_VALUED, PADDING, Field, Schema, number_field, text_field

SCHEMA = Schema(
    (
        text_field('user', size=12),
        text_field('ad', size=22, embedding_size=4),
        number_field('price', 'standard'),
        Field('tags', MULTI_VALUED, pooling='mean', length=3, size=6),
    ),
    'click',
)


def rows(count, seed=0, soft=False):
    """Rows of `SCHEMA` whose clicks depend on all of their features."""
    draw = np.random.default_rng(seed)
    user, ad = draw.integers(2, 12, count), draw.integers(2, 22, count)
    price = draw.normal(size=count)
    tags = draw.integers(14, 18, (count, 3))
    tags[draw.random((count, 3)) < 0.4] = PADDING
    logit = (user % 3 - 1) + (ad % 2 - 0.5) + price + 2.0 * (tags == 15).any(1) - 1
    chance = 1 / (1 + np.exp(-1.5 * logit))
    label = chance if soft else draw.random(count) < chance
    return {
        'categorical': np.stack([user, ad], 1).astype(np.int32),
        'numeric': price[:, None].astype(np.float32),
        'bags': tags.astype(np.int32),
        'label': np.asarray(label, np.float32),
        'weight': np.ones(count, np.float32),
    }


def take(rows, index):
    return {name: values[index] for name, values in rows.items()}
