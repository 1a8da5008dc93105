"""Evaluation by segment and with intervals: columns of the files, features or not, of every kind."""

import numpy as np
import polars as pl
import pytest

import dlf_jax
from dlf_jax.analysis.number_ranges import RANGES
from dlf_jax.analysis.segments import MISSING, UNKNOWN
from dlf_jax.errors import UsageError, UserError
from dlf_jax.training.metrics import METRICS
from tests.conftest import SMALL_RUN, run

SCHEMA = """
label = "click"
weight = "weight"
[columns.user]
kind = "categorical"
missing = ["NA"]
[columns.tags]
kind = "multi-valued"
separator = "|"
pooling = "mean"
length = 2
[columns.price]
kind = "numeric"
treatment = "standard"
"""


def table(rows, seed):
    draw = np.random.default_rng(seed)
    user = draw.integers(0, 8, rows)
    tags = [
        '|'.join(f't{i}' for i in draw.choice(5, draw.integers(0, 4), replace=False)) for _ in range(rows)
    ]
    return pl.DataFrame({
        'click': (draw.random(rows) < (user + 1) / 10).astype(int),
        'user': [None if i == 7 else f'u{i}' for i in user],
        'tags': tags,
        'price': draw.normal(size=rows).round(3),
        'weight': draw.integers(0, 3, rows),
        'hour': draw.integers(0, 24, rows),
        'salt': draw.random(rows),
        'site': draw.choice(['a', 'b', 'c', ''], rows),
    })  # fmt: skip


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    schema = tmp_path_factory.mktemp('schema') / 'schema.toml'
    schema.write_text(SCHEMA)
    frame = table(1500, 0)
    keys = {**SMALL_RUN, 'optimizer.learning_rate': 0.05}
    return dlf_jax.fit(frame, schema=schema, model='mlp', **keys)


@pytest.fixture(scope='module')
def frame():
    found = table(1200, 1)
    users = found['user'].to_list()
    users[:40] = ['new'] * 20 + ['NA'] * 20
    tags = found['tags'].to_list()
    tags[:3] = ['strange', 't1|strange', 't1|t1']
    return found.with_columns(user=pl.Series(users), tags=pl.Series(tags))


def test_segments_of_every_kind_of_column(model, frame, tmp_path):
    by = ('user', 'tags', 'price', 'hour', 'salt', 'site')
    found = model.evaluate(frame, by=by, top=30)
    counted = frame.filter(pl.col('weight') > 0)
    assert found['rows'] == counted.height
    assert list(found['segments']) == list(by)
    rows = {name: {one['value']: one['rows'] for one in found['segments'][name]} for name in by}
    users = counted['user'].fill_null(MISSING).replace({'new': UNKNOWN, 'NA': MISSING})
    assert rows['user'] == dict(users.value_counts().iter_rows())
    hours = counted['hour'].cast(pl.String)
    assert rows['hour'] == dict(hours.value_counts().iter_rows())
    sites = counted['site'].replace({'': MISSING})
    assert rows['site'] == dict(sites.value_counts().iter_rows())
    # A row counts once for each of its values.
    sets = [set(text.split('|')) - {''} or {MISSING} for text in counted['tags']]
    expected = {}
    for own in sets:
        for value in own:
            name = UNKNOWN if value == 'strange' else value
            expected[name] = expected.get(name, 0) + 1
    assert rows['tags'] == expected
    for name in ('price', 'salt'):
        assert len(rows[name]) == RANGES
        assert max(rows[name].values()) - min(rows[name].values()) < 0.1 * counted.height / RANGES + 5
        assert sum(one.startswith('up to ') for one in rows[name]) == 1
    # The numbers are those of the rows of a segment alone.
    (one,) = (one for one in found['segments']['site'] if one['value'] == 'b')
    alone = model.evaluate(counted.filter(pl.col('site') == 'b'))
    assert {name: one[name] for name in ('auc', 'logloss', 'normalized_entropy', 'rows')} == pytest.approx(
        {name: alone[name] for name in ('auc', 'logloss', 'normalized_entropy', 'rows')}, abs=1e-9
    )
    # Files, whose numbers are read as text, as frames.
    frame.write_csv(tmp_path / 'rows.csv')
    from_file = model.evaluate(tmp_path / 'rows.csv', by=by, top=30)['segments']
    for name in by:
        assert {one['value']: one['rows'] for one in from_file[name]} == rows[name]


def test_values_are_those_of_the_model_however_they_are_written(tmp_path):
    """Lists of floats and joined texts, empty lists, categories that are floats with NaN."""
    draw, rows = np.random.default_rng(2), 600
    lists = [
        [float(value) for value in draw.choice(3, draw.integers(0, 3), replace=False)] for _ in range(rows)
    ]
    known = pl.DataFrame({
        'click': (draw.random(rows) < 0.4).astype(int), 'user': draw.choice(['7', '8', '7.5'], rows),
        'tags': pl.Series(lists, dtype=pl.List(pl.Float64)), 'price': draw.normal(size=rows),
        'weight': 1,
    })  # fmt: skip
    (tmp_path / 'schema.toml').write_text(SCHEMA.replace('separator = "|"\n', ''))
    model = dlf_jax.fit(known, schema=tmp_path / 'schema.toml', model='mlp', **SMALL_RUN)
    users = draw.choice([7.0, 8.0, 7.5, np.nan], rows)
    frame = known.with_columns(user=users, other=pl.Series(np.where(users == 8, '7.0', '7')))
    found = model.evaluate(frame, by=['user', 'tags', 'other'])['segments']
    counted = {name: {one['value']: one['rows'] for one in segments} for name, segments in found.items()}
    expected = {'7': 7.0, '8': 8.0, '7.5': 7.5}
    assert counted['user'] == {
        **{name: (users == value).sum() for name, value in expected.items()},
        MISSING: np.isnan(users).sum(),
    }
    assert counted['tags'] == {
        **{f'{value}': sum(value in own for own in lists) for value in range(3)},
        MISSING: sum(not own for own in lists),
    }
    assert counted['other'] == {'7': rows}


def test_the_top_values_and_the_rest(model, frame):
    found = model.evaluate(frame, by=['hour'], top=3)['segments']['hour']
    assert len(found) == 4
    assert sum(one['value'].startswith('the rest (21') for one in found) == 1


def test_intervals_are_around_the_metrics(model, frame):
    found = model.evaluate(frame, intervals=100)
    assert found['intervals']['samples'] == 100
    for name, (low, high) in found['intervals']['metrics'].items():
        assert low < found[name] < high
        assert name in METRICS
    assert 'segments' not in found


def test_errors_name_the_key(model, frame):
    with pytest.raises(UserError, match=r"no column 'houre' \(config\.evaluate\.by\)"):
        model.evaluate(frame, by=['houre'])
    with pytest.raises(UsageError, match=r'config\.evaluate\.by=.*expected names of columns'):
        model.evaluate(frame, by=[''])
    with pytest.raises(UsageError, match=r'config\.evaluate\.top=0: expected 1 or more'):
        model.evaluate(frame, top=0)
    with pytest.raises(UsageError, match=r'config\.evaluate\.intervals=-1'):
        model.evaluate(frame, intervals=-1)


def test_the_command(model, frame, tmp_path):
    model.save(tmp_path / 'model')
    frame.write_parquet(tmp_path / 'rows.parquet')
    flags = [
        '--mode=evaluate', f'--workdir={tmp_path / "model"}', f'--input={tmp_path / "rows.parquet"}',
        "--config.evaluate.by=('hour',)", '--config.evaluate.top=2', '--config.evaluate.intervals=10',
    ]  # fmt: skip
    told = run(*flags)
    expected = model.evaluate(frame, by=['hour'], top=2, intervals=10)
    assert told['segments'] == expected['segments']
    assert told['intervals'] == expected['intervals']
