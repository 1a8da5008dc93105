"""Two days of a table with fields of every kind, and what a warm start must do to the rows of its tables.

`python -m tests.training.growth FOLDER` checks it for tables that are cut over the devices there are.
"""

import sys
from pathlib import Path

import jax
import numpy as np

import dlf_jax
from dlf_jax.data import builders
from dlf_jax.data.schema import RESERVED
from dlf_jax.training import warm_start
from dlf_jax.training.model_setup import TrainingSetup

SCHEMA = """
label = "click"
[columns.user]
kind = "categorical"
embedding_size = 2
[columns.ad]
kind = "categorical"
[columns.site]
kind = "categorical"
hash_buckets = 5
[columns.age]
kind = "categorical"
treatment = "bucket"
buckets = 4
[columns.price]
kind = "numeric"
treatment = "standard"
[columns.seen]
kind = "multi-valued"
separator = "|"
length = 3
pooling = "mean"
shares = "ad"
"""


def write(folder: Path) -> None:
    """Writes the schema, day 0, day 1 with users and ads that day 0 lacks, and `again` with those it has."""
    (folder / 'schema.toml').write_text(SCHEMA)
    for name, seed, users, ads in ((0, 0, 30, 12), (1, 1, 41, 15), ('again', 2, 30, 12)):
        draw = np.random.default_rng(seed)
        user, ad = draw.integers(0, users, 1500), draw.integers(0, ads, (1500, 3))
        price = draw.normal(size=1500).round(3)
        click = draw.random(1500) < 1 / (1 + np.exp(-(user % 5 - ad[:, 0] % 3 + price)))
        lines = [
            f'{int(c)},u{u},a{a[0]},s{u % 9},{u % 7},{p},a{a[1]}|a{a[2]}'
            for c, u, a, p in zip(click, user, ad, price, strict=True)
        ]
        text = 'click,user,ad,site,age,price,seen\n' + '\n'.join(lines) + '\n'
        (folder / f'{name}.csv').write_text(text)


def check_moved(old, was, new, now) -> int:
    """Checks that every row of before, with its moments, is where its value is now, and that rows of new
    values are small and have no moments.

    Args:
      old: state of before, on the host.
      was: its encoder.
      new: state of now, before a step.
      now: its encoder.

    Returns:
      The number of rows of tables and moments that were compared.
    """
    compared = 0
    for field in now.schema.owners:
        part = f'categorical_{field.embedding_size}' if field.embedding_size else 'categorical'
        start, first = was.schema.offsets[field.name], now.schema.offsets[field.name]
        there = {
            RESERVED + i: v for i, v in enumerate(was.vocabularies.get(field.name, {'value': []})['value'])
        }
        here = {
            v: RESERVED + i for i, v in enumerate(now.vocabularies.get(field.name, {'value': []})['value'])
        }
        pairs = [(row, row) for row in range(RESERVED if field.counted else field.size)]
        pairs += [(row, here[value]) for row, value in there.items()]
        fresh = set(range(field.size)) - {row for _, row in pairs}
        for table in new.params['tables'][part]:
            leaves = [
                (s.params['tables'][part][table], *s.opt_state['tables'][part][table].values())
                for s in (old, new)
            ]
            for i, (before, after) in enumerate(zip(*leaves, strict=True)):
                for row, moved in pairs:
                    assert np.array_equal(before[start + row], after[first + moved]), (field.name, row)
                    compared += 1
                for row in fresh:
                    value = np.abs(after[first + row])
                    assert value.max() < 1e-3 if i == 0 else not value.any()
                    assert i > 0 or value.any()
    return compared


def check_sharded(folder: Path) -> None:
    """Rows of tables that are cut over all devices move as those of one device do."""
    write(folder)
    values = {
        'dataset.name': 'table', 'dataset.schema': str(folder / 'schema.toml'), 'dataset.block_rows': 256,
        'model.hidden': (8,), 'model.embedding_size': 4, 'training.batch_size': 256, 'training.epochs': 1,
        'optimizer.embedding_rows': 'lazy_adam', 'sharding.tables': 'rows',
    }  # fmt: skip
    first = {**values, 'dataset.train': str(folder / '0.csv')}
    dlf_jax.train(dlf_jax.load_config(model='mlp', overrides=first), folder / 'before', folder / 'data')
    second = {**values, 'dataset.train': str(folder / '1.csv'), 'training.warm_start': str(folder / 'before')}
    config = dlf_jax.load_config(model='mlp', overrides=second)
    builder = builders.build(config.dataset, str(folder / 'data'), warm_start.ancestor(config))
    builder.prepare()
    origin, found = warm_start.Origin.of(str(folder / 'before')), []
    for devices in (jax.devices(), jax.devices()[:1]):
        config.sharding.tables = 'rows' if len(devices) > 1 else 'replicated'
        setup = TrainingSetup(config, builder.schema(), 100, 256, devices)
        state = warm_start.initial_state(config, setup, builder.encoder(), origin)
        table = state.params['tables']['categorical']['embedding']
        assert table.addressable_shards[0].data.shape[0] == table.shape[0] // len(devices)
        found.append(jax.device_get(state))
    assert len(jax.devices()) > 1
    for part, by_table in found[1].params['tables'].items():
        rows = by_table['embedding'].shape[0]
        assert found[0].params['tables'][part]['embedding'].shape[0] % len(jax.devices()) == 0
        for of in (lambda s: s.params['tables'], lambda s: s.opt_state['tables']):
            pairs = zip(*(jax.tree.leaves(of(s)[part]) for s in found), strict=True)
            assert all(np.array_equal(one[:rows], other) and not one[rows:].any() for one, other in pairs)


if __name__ == '__main__':
    check_sharded(Path(sys.argv[1]))
