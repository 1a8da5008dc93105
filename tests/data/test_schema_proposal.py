"""The proposal of a schema for a table, through the command that people use."""

import datetime
import decimal
import functools
import tomllib

import numpy as np
import polars as pl
import pytest

from dlf_jax.data import schema_files, schema_proposal
from dlf_jax.data.readers import tables
from dlf_jax.data.schema_proposal import numbers
from dlf_jax.errors import UserError
from tests.conftest import SMALL_FLAGS, fail, run

DEFAULTS = {
    'min_count': 2, 'max_size': 0, 'hash_buckets': 0, 'buckets': 10, 'missing': (), 'out_of_range': 'error',
    'treatment': 'standard',
}  # fmt: skip
ROWS = 3000


class Proposed:
    """A proposal: what the command told, and the file that it wrote."""

    def __init__(self, path, told):
        self.path, self.told, self.text = path, told, path.read_text()
        self.found = tomllib.loads(self.text)
        self.columns = self.found['columns']

    def kinds(self, *names):
        return {name: self.columns[name]['kind'] for name in names or self.columns}

    def comment(self, name):
        """What stands beside the kind of a column."""
        lines = self.text.splitlines()
        key = f'[columns.{name}]'
        at = next(i for i, line in enumerate(lines) if line.startswith(key))
        return lines[at + 1].partition('#')[2]


def propose(folder, frame, form='csv', missing=()):
    """The proposal for a frame that is written to a file, made in this process."""
    path, output = folder / f't.{form}', folder / f'{form}.toml'
    frame.write_csv(path) if form == 'csv' else frame.write_parquet(path)
    return Proposed(output, schema_proposal.propose(tables.open_table((str(path),)), str(output), missing))


def infer(folder, table, *flags):
    """The proposal for a file, made by the command."""
    output = folder / f'{table.suffix[1:]}-schema.toml'
    told = run(
        '--dataset=table', '--mode=prepare', '--config.dataset.infer=True', f'--output={output}',
        f'--config.dataset.train={table}', *flags,
    )  # fmt: skip
    return Proposed(output, told)


def train(folder, table, proposed, *flags):
    """The result of one epoch with a proposal as it stands."""
    return run(
        *SMALL_FLAGS, '--dataset=table', f'--config.dataset.train={table}', '--config.training.epochs=1',
        f'--config.dataset.schema={proposed.path}', f'--workdir={folder / table.suffix[1:]}',
        f'--data_dir={folder / "data"}', *flags,
    )  # fmt: skip


def draw(seed=0):
    return np.random.default_rng(seed)


def choice(r, rows, values):
    return np.asarray(values)[r.integers(0, len(values), rows)]


def labelled(rows=ROWS, **columns):
    """A frame with a label and some columns."""
    return pl.DataFrame({'click': draw(99).integers(0, 2, rows), **columns})


def zoo(rows=ROWS):
    """A frame with a column of every sort that text files can hold, and the kinds to be proposed for them."""
    r = draw()
    one_of = functools.partial(choice, r, rows)
    start = datetime.datetime(2025, 3, 1)
    seconds = np.sort(r.integers(0, 10**6, rows))
    verdicts = one_of(['liked it', 'sent it back'])
    columns = {
        'row_number': ('ignored', np.arange(rows)),
        'request': ('ignored', [f'{i:016x}' for i in r.integers(0, 2**62, rows)]),
        'serial': ('ignored', [f'{i:08d}' for i in r.permutation(rows)]),
        'user': ('categorical', r.integers(0, 300, rows)),
        'item': ('categorical', one_of(r.integers(10**5, 10**6, 200))),
        'x_dense': ('categorical', r.integers(0, 200, rows)),
        'x_sparse': ('categorical', one_of(r.integers(0, 10**9, 150))),
        'x_long': ('categorical', [f'{10**18 + i}' for i in r.integers(0, 100, rows)]),
        'zip': (
            'categorical',
            one_of([f'{z:05d}' for z in r.integers(1000, 99999, 80)]),
        ),
        'x_code': ('categorical', one_of(['00123', '04711', '98765'])),
        'device_hash': (
            'categorical',
            one_of([f'{i:08x}' for i in r.integers(0, 2**32, 50)]),
        ),
        'app_version': ('categorical', one_of(['1.1', '1.10', '2.0'])),
        'disease': ('categorical', one_of(['003.1', '250.0', '250.00', 'V12'])),
        'city': ('categorical', one_of(['Rome', 'Bonn', 'Graz'])),
        'rating': ('categorical', r.integers(1, 6, rows)),
        'stars': ('categorical', r.integers(1, 11, rows) / 2),
        'weekday': ('categorical', r.integers(0, 7, rows)),
        'hour_of_day': ('categorical', r.integers(0, 24, rows)),
        'on_sale': ('categorical', one_of(['True', 'False'])),
        'seen_before': ('categorical', np.where(r.random(rows) < 0.3, '1', '')),
        'age': ('numeric', np.clip(r.normal(40, 12, rows), 18, 90).astype(int)),
        'quantity': ('numeric', r.geometric(0.3, rows)),
        'x_counts': ('numeric', r.lognormal(3, 1.2, rows).astype(int)),
        'x_measured': ('numeric', r.normal(10_000, 1500, rows).astype(int)),
        'price': ('numeric', np.round(r.lognormal(3, 1, rows)) + 0.99),
        'x_fraction': ('numeric', r.normal(size=rows)),
        'latitude': ('numeric', r.uniform(45, 55, rows)),
        'birth_year': ('numeric', r.integers(1940, 2005, rows)),
        'ts': ('ignored', 1_700_000_000 + seconds),
        'sent_ms': ('ignored', (1_700_000_000 + seconds) * 1000),
        'day_number': ('ignored', one_of([20250301, 20250302, 20250303])),
        'signup_date': (
            'ignored',
            [str((start - datetime.timedelta(days=int(d))).date()) for d in r.integers(0, 900, rows)],
        ),
        'event_time': ('ignored', [str(start + datetime.timedelta(seconds=int(s))) for s in seconds]),
        'constant': ('ignored', ['same'] * rows),
        'empty': ('ignored', [None] * rows),
        'tags': (
            'multi-valued',
            ['|'.join(f'w{j}' for j in r.integers(0, 30, 1 + i % 5)) for i in range(rows)],
        ),
        'colours': (
            'multi-valued',
            [', '.join(r.permutation(['red', 'blue', 'green', 'grey'])[: 1 + i % 4]) for i in range(rows)],
        ),
        'history': (
            'multi-valued',
            [' '.join(f'i{j}' for j in r.integers(0, 30, 1 + i % 7)) for i in range(rows)],
        ),
        'place': (
            'categorical',
            one_of(['Portland, OR', 'Austin, TX', 'Boston, MA']),
        ),
        'review': ('ignored', [f'It came on day {i}, and I {w}, as ever.' for i, w in enumerate(verdicts)]),
        'euros': ('ignored', [f'{v:.4f}'.replace('.', ',') for v in r.lognormal(3, 1, rows)]),
    }
    kinds = {name: kind for name, (kind, _) in columns.items()}
    return labelled(rows, **{name: values for name, (_, values) in columns.items()}), kinds


def typed(rows=ROWS):
    """A frame with columns of types that only Parquet has, and the kinds to be proposed for them."""
    r = draw(1)
    one_of = functools.partial(choice, r, rows)
    columns = {
        'flag': ('categorical', pl.Series(r.integers(0, 2, rows)).cast(pl.Boolean)),
        'small': ('categorical', pl.Series(r.integers(0, 9, rows)).cast(pl.Int8)),
        'colour': (
            'categorical',
            pl.Series(one_of(['red', 'blue'])).cast(pl.Categorical),
        ),
        'amount': ('numeric', pl.Series([decimal.Decimal(int(v)) / 100 for v in r.integers(0, 9999, rows)])),
        'float_id': ('categorical', pl.Series(r.integers(0, 100, rows)).cast(pl.Float64)),
        'rounded_id': (
            'ignored',
            pl.Series(one_of(r.integers(10**17, 10**18, 50))).cast(pl.Float64),
        ),
        'ratio': ('numeric', pl.Series(np.where(r.random(rows) < 0.1, np.nan, r.random(rows)))),
        'wild': ('numeric', pl.Series(np.where(r.random(rows) < 0.01, np.inf, r.normal(size=rows)))),
        'endless': ('ignored', pl.Series(one_of([np.inf, -np.inf]))),
        'day': ('ignored', pl.Series([datetime.date(2025, 1, 1 + i % 28) for i in range(rows)])),
        'moment': (
            'ignored',
            pl.Series([datetime.datetime(2025, 1, 1) + datetime.timedelta(hours=i) for i in range(rows)]),
        ),
        'clock': ('categorical', pl.Series([datetime.time(i % 24) for i in range(rows)])),
        'wait': ('ignored', pl.Series([datetime.timedelta(seconds=i) for i in range(rows)])),
        'bytes': ('ignored', pl.Series([bytes([255, i % 7]) for i in range(rows)])),
        'text_bytes': ('categorical', pl.Series([b'%d' % (i % 7) for i in range(rows)])),
        'record': ('ignored', pl.Series([{'a': i, 'b': 'x'} for i in range(rows)])),
        'map': ('ignored', pl.Series([[{'key': 'a', 'value': i}] for i in range(rows)])),
        'nested': ('ignored', pl.Series([[[i], [2]] for i in range(rows)])),
        'vector': ('ignored', pl.Series([list(r.normal(size=3)) for _ in range(rows)])),
        'items': ('multi-valued', pl.Series([list(r.integers(0, 40, i % 4)) for i in range(rows)])),
        'words': (
            'multi-valued',
            pl.Series([[f'w{j}' for j in r.integers(0, 9, 2)] for _ in range(rows)]).cast(
                pl.Array(pl.String, 2)
            ),
        ),
        'nothing': ('ignored', pl.Series([None] * rows, dtype=pl.Null)),
    }
    kinds = {name: kind for name, (kind, _) in columns.items()}
    return labelled(rows, **{name: values for name, (_, values) in columns.items()}), kinds


@pytest.mark.parametrize('form', ['csv', pytest.param('parquet', marks=pytest.mark.slow)])
def test_a_proposal_trains_as_it_stands(tmp_path, form):
    frame, kinds = zoo()
    if form == 'csv':
        # As pandas writes its index: a column without a name.
        frame.insert_column(0, pl.Series('', np.arange(ROWS)))
        kinds[''] = 'ignored'
        frame.write_csv(tmp_path / 't.csv')
    else:
        more, more_kinds = typed()
        kinds.update(more_kinds)
        frame.hstack(more.drop('click')).write_parquet(tmp_path / 't.parquet')
    table = tmp_path / f't.{form}'
    proposed = infer(tmp_path, table)
    found = proposed.kinds()
    assert {name: kind for name, kind in found.items() if kind != kinds[name]} == {}
    assert found.keys() == kinds.keys()
    assert {name for name, column in proposed.columns.items() if column.get('verbatim')} == {
        'app_version',
        'disease',
    }
    told = proposed.told
    assert told['label'] == 'click'
    assert told['rows'] == ROWS
    assert {kind: told[kind] for kind in set(kinds.values())} == {
        kind: list(kinds.values()).count(kind) for kind in set(kinds.values())
    }
    # Whatever is ignored has its reason.
    assert all(proposed.comment(name or '""') for name, kind in found.items() if kind == 'ignored')
    assert '--config.dataset.split=time --config.dataset.time=' in proposed.text
    flags = f'--config.dataset.schema={proposed.path}', f'--config.dataset.train={table}'
    prepared = run('--dataset=table', '--mode=prepare', *flags, f'--data_dir={tmp_path / "data"}')
    assert prepared['rows']['train'] == ROWS * 7 // 10
    result = train(tmp_path, table, proposed)
    assert np.isfinite(result['test']['logloss'])


@pytest.mark.slow
def test_numbers_of_users_and_items_are_categories_that_training_learns(tmp_path):
    r, rows = draw(), 20_000
    user, item = r.integers(0, 300, rows), r.integers(0, 200, rows)
    liking, worth = r.normal(0, 2, 300), r.normal(0, 2, 200)
    click = r.random(rows) < 1 / (1 + np.exp(-(liking[user] + worth[item])))
    frame = pl.DataFrame({'click': click.astype(int), 'user': user, 'item': item})
    frame = frame.with_columns(pl.Series('zip', [f'{z:05d}' for z in 2000 + user * 7]))
    # The same numbers without a name that tells anything.
    for names in ({}, {'user': 'a', 'item': 'b', 'zip': 'c'}):
        folder = tmp_path / str(len(names))
        folder.mkdir()
        proposed = propose(folder, frame.rename(names))
        assert set(proposed.kinds().values()) == {'categorical'}
    table = folder / 't.csv'
    flags = ('--config.training.epochs=3', '--config.training.batch_size=512')
    common = ('--config=configs/table.py:mlp', f'--data_dir={tmp_path / "data"}', *flags)
    inferred = run(
        *common, f'--config.dataset.schema={proposed.path}', f'--config.dataset.train={table}',
        f'--workdir={tmp_path / "inferred"}',
    )  # fmt: skip
    expected = run(
        *common, '--config.dataset.label=click', "--config.dataset.categorical=('a','b','c')",
        f'--config.dataset.train={table}', f'--workdir={tmp_path / "by_hand"}',
    )  # fmt: skip
    assert inferred['test']['auc'] > 0.85
    assert inferred['test']['auc'] == pytest.approx(expected['test']['auc'], abs=0.01)


@pytest.mark.parametrize('form', ['csv', 'parquet'])
@pytest.mark.parametrize(
    'marker',
    ['NA', 'N/A', 'NULL', 'null', 'None', '\\N', '-', '?', '#N/A', '(missing)', ' ?', 'nan', 'NaN', 'NAN'],
)
def test_markers_of_missing_values(tmp_path, marker, form):
    r = draw()
    there = r.random(ROWS) < 0.9
    frame = labelled(
        number=np.where(there, r.normal(size=ROWS).round(3).astype(str), marker),
        city=np.where(there, np.array(['Rome', 'Bonn', 'Vienna'])[r.integers(0, 3, ROWS)], marker),
        words=['|'.join(f'w{j}' for j in r.integers(0, 9, 2)) if t else marker for t in there],
    )
    proposed = propose(tmp_path, frame, form)
    assert proposed.kinds() == {'number': 'numeric', 'city': 'categorical', 'words': 'multi-valued'}
    # The last ones are missing anyway.
    expected = [] if marker in ('nan', 'NaN') else [marker]
    for name in proposed.columns:
        assert proposed.columns[name].get('missing', []) == expected
        assert f'{100 * (1 - there.mean()):.1f} % missing' in proposed.text
    assert proposed.told['in_doubt'] == []


def test_markers_reach_the_training(tmp_path):
    r = draw()
    there = r.random(ROWS) < 0.8
    number = np.where(there, r.normal(size=ROWS).round(3).astype(str), 'NA')
    proposed = propose(tmp_path, labelled(number=number, city=np.where(there, 'Rome', '?')))
    assert set(proposed.kinds().values()) == {'numeric', 'categorical'}
    result = train(tmp_path, tmp_path / 't.csv', proposed)
    assert np.isfinite(result['test']['logloss'])


def test_a_marker_that_is_written_as_the_other_values_are_is_kept(tmp_path):
    r = draw()
    frame = labelled(
        country=np.array(['DE', 'FR', 'NA', 'US'])[r.integers(0, 4, ROWS)],
        sign=np.array(['+', '-'])[r.integers(0, 2, ROWS)],
        answer=np.array(['Y', 'N', 'NA'])[r.integers(0, 3, ROWS)],
    )
    proposed = propose(tmp_path, frame)
    assert set(proposed.kinds().values()) == {'categorical'}
    assert 'missing' not in proposed.columns['country']
    assert 'missing' not in proposed.columns['sign']
    assert proposed.columns['answer']['missing'] == ['NA']
    assert proposed.told['in_doubt'] == ['country', 'sign']
    assert "in doubt: 'NA'" in proposed.comment('country')


def test_markers_that_the_config_names_are_known(tmp_path):
    r = draw()
    table = tmp_path / 't.csv'
    labelled(x=np.where(r.random(ROWS) < 0.9, r.normal(size=ROWS).round(3).astype(str), 'fehlt')).write_csv(
        table
    )
    proposed = infer(tmp_path, table, "--config.dataset.missing=('fehlt',)")
    assert proposed.columns['x'] == {'kind': 'numeric', 'treatment': 'auto', 'missing': ['fehlt']}
    assert proposed.told['in_doubt'] == []


def test_texts_beside_numbers(tmp_path):
    r = draw()
    there = r.random(ROWS) < 0.95
    zips = r.integers(10_000, 99_999, 60)[r.integers(0, 60, ROWS)].astype(str)
    frame = labelled(
        number=np.where(there, r.normal(size=ROWS).round(3).astype(str), 'too low'),
        zip=np.where(there, zips, 'L1V3W'),
        mixed=np.where(r.random(ROWS) < 0.6, zips, choice(r, ROWS, [f'v{i}' for i in range(90)])),
    )
    proposed = propose(tmp_path, frame)
    assert proposed.kinds() == {'number': 'numeric', 'zip': 'categorical', 'mixed': 'categorical'}
    assert proposed.columns['number']['missing'] == ['too low']
    # Another code is one.
    assert 'missing' not in proposed.columns['zip']
    assert proposed.told['in_doubt'] == ['number', 'mixed']
    assert '% are numbers' in proposed.comment('mixed')


@pytest.mark.parametrize('form', ['csv', 'parquet'])
def test_numbers_that_stand_for_missing_ones(tmp_path, form):
    r = draw()
    gone = r.random(ROWS) < 0.05
    temperature = r.normal(15, 8, ROWS).round(1)
    frame = labelled(
        temperature=np.where(gone, -999, temperature),
        rarely=np.where(np.arange(ROWS) == 7, -999, temperature),
        debt=np.where(gone, -999, r.normal(0, 2000, ROWS).round(1)),
        income=np.where(gone, -999, r.lognormal(9, 1, ROWS).round(2)),
    )
    proposed = propose(tmp_path, frame, form)
    assert set(proposed.kinds().values()) == {'numeric'}
    assert {name for name, column in proposed.columns.items() if 'missing' in column} == {'temperature'}
    assert proposed.columns['temperature']['missing'] == ['-999']
    assert 'far from the others' in proposed.comment('temperature')
    # Not far from the others, but alone below 0: people are to say.
    assert '-999' in proposed.comment('income')
    assert proposed.told['in_doubt'] == ['temperature', 'income']


def label_of(folder, values, name='label', **more):
    frame = pl.DataFrame({name: values, 'x': draw(5).normal(size=len(values)), **more})
    return propose(folder, frame, 'parquet')


@pytest.mark.parametrize(
    'values',
    [
        [0, 1], [False, True], ['False', 'True'], ['no', 'yes'], ['N', 'Y'], ['f', 't'], [-1, 1],
        ['0.0', '1.0'], [0.0, 1.0], ['0', '1'], [b'0', b'1'],
    ],
)  # fmt: skip
def test_labels_of_two_values(tmp_path, values):
    proposed = label_of(tmp_path, [values[i] for i in draw().integers(0, 2, 300)])
    assert proposed.told['label'] == 'label'
    assert proposed.told['in_doubt'] == []
    assert 'positive' not in proposed.found


@pytest.mark.parametrize(
    ('values', 'positive', 'why'),
    [
        ([1, 2], '2', 'the larger one'),
        (['click', 'no_click'], 'click', 'opposite'),
        (['not clicked', 'clicked'], 'clicked', 'opposite'),
        (['<=50K', '>50K'], '>50K', 'the larger one'),
        (['good', 'bad'], 'good', 'bad'),
        (['a', 'b'], 'b', "'b' (25.0 %): the rarer one"),
    ],
)
def test_labels_that_need_to_be_told_which_value_is_a_click(tmp_path, values, positive, why):
    # The second value in a quarter of the rows.
    proposed = label_of(tmp_path, [values[i % 4 == 0] for i in range(400)], 'target')
    assert proposed.found['label'] == 'target'
    assert proposed.found['positive'] == positive
    assert proposed.told['in_doubt'] == ['target']
    assert why in proposed.text


@pytest.mark.parametrize('label', ['boolean', 'words', 'two texts', 'soft'])
def test_labels_are_read_as_they_are_proposed(tmp_path, label):
    r = draw()
    x = r.normal(size=ROWS).round(3)
    click = r.random(ROWS) < 1 / (1 + np.exp(-2 * x))
    values = {
        'boolean': click,
        'words': np.where(click, 'Yes', 'No'),
        'two texts': np.where(click, 'click', 'no_click'),
        'soft': np.where(click, 0.9, 0.1) + r.random(ROWS).round(2) / 20,
    }[label]
    table = tmp_path / 't.parquet'
    proposed = propose(tmp_path, pl.DataFrame({'x': x, 'clicked': values}), 'parquet')
    assert proposed.told['label'] == 'clicked'
    assert proposed.found.get('soft_labels', False) == (label == 'soft')
    # A wrong way round would have it below a half.
    assert train(tmp_path, table, proposed, '--config.training.epochs=10')['test']['auc'] > 0.7


def test_a_known_name_wins_over_other_columns_of_two_values(tmp_path):
    r = draw()
    frame = pl.DataFrame(
        {name: r.integers(0, 2, 500) for name in ('is_mobile', 'default', 'Clicked', 'conversion')}
    )
    proposed = propose(tmp_path, frame)
    assert proposed.told['label'] == 'Clicked'
    assert 'default' in proposed.text.split('[columns')[0]
    # What follows a click is no feature of it; a default may be.
    assert proposed.kinds() == {'is_mobile': 'categorical', 'default': 'categorical', 'conversion': 'ignored'}
    assert proposed.told['in_doubt'] == ['Clicked', 'conversion']


def test_a_label_that_is_not_known_by_its_name_is_in_doubt(tmp_path):
    r = draw()
    frame = pl.DataFrame({'x': r.normal(size=500), 'a': r.integers(0, 2, 500), 'b': r.integers(0, 2, 500)})
    proposed = propose(tmp_path, frame)
    assert proposed.told['label'] == 'b'
    assert 'in doubt: a could be the label too' in proposed.text
    assert proposed.told['in_doubt'] == ['b']


@pytest.mark.parametrize(
    ('values', 'why'),
    [
        ([0, 1, None], 'click looks like the label, but 100 rows have none'),
        (['0', '1', 'NA'], 'click looks like the label, but 100 rows have none'),
        ([3, 4, 5], 'no column of 0 and 1 was found'),
    ],
)
def test_a_table_without_a_usable_label_says_so(tmp_path, values, why):
    frame = pl.DataFrame({'click': values * 100, 'x': draw().normal(size=300)})
    proposed = propose(tmp_path, frame)
    assert proposed.told['label'] == ''
    assert why in proposed.text


@pytest.mark.slow
def test_a_split_by_time_is_shown_where_it_can_be_made(tmp_path):
    r = draw()
    moments = [str(datetime.datetime(2025, 1, 1) + datetime.timedelta(minutes=int(m))) for m in range(ROWS)]
    table = tmp_path / 't.csv'
    # Not by the birthdays, nor by times that are missing.
    labelled(
        birth_date=['1990-01-01', '1980-02-03', '1985-05-05'] * (ROWS // 3),
        sold_at=[None, *moments[1:]],
        **{'event time': moments},
        x=r.normal(size=ROWS),
        user_id=r.integers(0, 50, ROWS),
    ).write_csv(table)
    proposed = infer(tmp_path, table)
    assert (
        "# A split by time: --config.dataset.split=time '--config.dataset.time=event time'" in proposed.text
    )
    assert '# group = "user_id"' in proposed.text
    result = train(
        tmp_path, table, proposed, '--config.dataset.split=time', '--config.dataset.time=event time'
    )
    assert result['test']['rows'] == pytest.approx(ROWS / 10, abs=2)


def test_columns_of_files_that_disagree_are_ignored(tmp_path):
    labelled(a=np.arange(ROWS) % 7, b=np.arange(ROWS) % 5).write_parquet(tmp_path / '1.parquet')
    days = [datetime.date(2025, 1, 1 + i % 28) for i in range(ROWS)]
    labelled(a=days, b=[f'{i % 5}' for i in range(ROWS)]).write_parquet(tmp_path / '2.parquet')
    table = tables.open_table((str(tmp_path / '1.parquet'), str(tmp_path / '2.parquet')))
    told = schema_proposal.propose(table, str(tmp_path / 'schema.toml'))
    proposed = Proposed(tmp_path / 'schema.toml', told)
    assert proposed.kinds() == {'a': 'ignored', 'b': 'categorical'}
    assert 'numbers in' in proposed.comment('a')


def test_names_and_values_of_any_characters(tmp_path):
    odd = ['a\nb', 'c"d\\', 'e\x7f', 'ü\u2028']
    frame = labelled(
        **{name: np.array(odd)[draw().integers(0, 4, ROWS)] for name in ('x\ny', 'p "q"', 'd\x7f', '#')}
    )
    proposed = propose(tmp_path, frame, 'parquet')
    assert set(proposed.kinds()) == {'x\ny', 'p "q"', 'd\x7f', '#'}
    assert {field.name for field in schema_files.load(str(proposed.path), DEFAULTS).fields} == set(
        proposed.kinds()
    )


def test_only_the_first_rows_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(schema_proposal.proposal, 'ROWS', 1000)
    proposed = propose(tmp_path, labelled(a=np.arange(ROWS) // 100))
    assert proposed.told['rows'] == 1000
    assert 'Proposed from 1,000 rows (the first ones) of' in proposed.text
    assert '[columns.a]  # 10 values' in proposed.text


def test_a_table_gives_the_same_proposal_each_time(tmp_path):
    frame, _ = zoo(500)
    first = propose(tmp_path, frame).text
    (tmp_path / 'csv.toml').unlink()
    assert propose(tmp_path, frame).text == first


def test_mistakes_are_one_line(tmp_path):
    table = tmp_path / 't.csv'
    labelled(a=np.arange(ROWS) % 7).write_csv(table)
    proposed = infer(tmp_path, table)
    flags = '--dataset=table', '--mode=prepare', '--config.dataset.infer=True', f'--output={proposed.path}'
    assert 'is there already' in fail(*flags, f'--config.dataset.train={table}')
    assert 'no such file' in fail(*flags, f'--config.dataset.train={table}.gone')
    (tmp_path / 'empty.csv').write_text('a,b\n')
    with pytest.raises(UserError, match='no rows'):
        schema_proposal.propose(tables.open_table((str(tmp_path / 'empty.csv'),)), str(tmp_path / 'e.toml'))


SHAPES = {
    'dense ids': (lambda r, n: r.integers(0, 300, n), {'EVEN'}),
    'sparse ids': (lambda r, n: r.integers(10**5, 10**6, 100)[r.integers(0, 100, n)], {'SPARSE'}),
    'popular ids': (lambda r, n: r.permutation(500)[r.zipf(1.3, n) % 500], {'UNEVEN'}),
    'ids by popularity': (lambda r, n: r.zipf(1.1, n) % 1000, {'RANKED'}),
    'ages': (lambda r, n: np.clip(r.normal(40, 12, n), 18, 90).astype(int), {'MEASURED'}),
    'counts': (lambda r, n: r.geometric(0.1, n), {'COUNTS'}),
    'skewed counts': (lambda r, n: r.lognormal(3, 1.2, n).astype(int), {'COUNTS'}),
    'counts, mostly 0': (
        lambda r, n: np.where(r.random(n) < 0.8, 0, r.lognormal(5, 1, n)).astype(int),
        {'COUNTS'},
    ),
    'weights in grams': (lambda r, n: r.normal(10_000, 1500, n).astype(int), {'MEASURED'}),
    'incomes in hundreds': (lambda r, n: r.lognormal(10.5, 0.6, n) // 100 * 100, {'COUNTS', 'MEASURED'}),
}


@pytest.mark.parametrize('name', SHAPES)
@pytest.mark.parametrize('rows', [10_000, 100_000])
def test_shapes_of_whole_numbers(name, rows):
    make, expected = SHAPES[name]
    found = {numbers.shape(*counted(make(draw(seed), rows))).name for seed in range(5)}
    assert found <= expected


def counted(values):
    found, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    return found, counts
