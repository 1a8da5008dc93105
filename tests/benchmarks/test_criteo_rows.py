import polars as pl
import pytest

from benchmarks import criteo_rows
from dlf_jax.config import get_config
from dlf_jax.data import builders
from tests.conftest import shared_file


@pytest.fixture(scope='module')
def rows():
    return pl.concat(criteo_rows.frames(10_000))


def test_rows_do_not_depend_on_how_many_there_are(rows):
    more = pl.concat(criteo_rows.frames(criteo_rows.CHUNK_ROWS + 5))
    assert more.height == criteo_rows.CHUNK_ROWS + 5
    assert more.head(10_000).equals(rows)
    assert not pl.concat(criteo_rows.frames(10_000, seed=1)).equals(rows)


def test_written_in_the_form_of_the_raw_file(tmp_path):
    path = criteo_rows.write(tmp_path / 'train.txt', 1500)
    lines = path.read_text().splitlines()
    assert len(lines) == 1500
    assert {line.count('\t') for line in lines} == {39}
    table = criteo_rows.write(tmp_path / 'train.csv', 1500, separator=',', header=True)
    lines = [line.replace('\t', ',') for line in lines]
    assert table.read_text().splitlines() == [','.join(criteo_rows.COLUMNS), *lines]


def test_the_builder_reads_them(tmp_path):
    config = get_config('mlp').dataset
    config.name, config.train = 'criteo', str(criteo_rows.write(tmp_path / 'train.txt', 2000))
    config.allow_modified = True
    made = builders.build(config, str(tmp_path / 'data'))
    made.prepare()
    assert sum(made.info.metadata['rows'].values()) == 2000


def test_they_are_like_the_real_ones(rows):
    columns = list(criteo_rows.COLUMNS)
    real = pl.read_csv(
        shared_file('criteo/train_head.txt'),
        separator='\t',
        has_header=False,
        new_columns=columns,
        schema={name: pl.String if name.startswith('C') else pl.Int64 for name in columns},
    )
    assert real.height == rows.height
    for name in criteo_rows.CATEGORIES:
        found, expected = (frame[name].drop_nulls() for frame in (rows, real))
        # Distinct values within a fifth, or a few where there are few.
        assert found.n_unique() == pytest.approx(expected.n_unique(), rel=0.2, abs=3), name
        top = [values.value_counts(sort=True)['count'][0] / len(values) for values in (found, expected)]
        assert top[0] == pytest.approx(top[1], rel=0.6, abs=0.02), name
    for name in columns[1:]:
        shares = [frame[name].null_count() / frame.height for frame in (rows, real)]
        assert shares[0] == pytest.approx(shares[1], abs=0.03), name
        if name.startswith('I'):
            medians = [frame[name].median() for frame in (rows, real)]
            assert medians[0] == pytest.approx(medians[1], rel=1.5, abs=5), name
    assert rows['I2'].min() < 0
    assert rows['label'].mean() == pytest.approx(0.25, abs=0.03)
