"""Lists become valid runs; mistakes are named before anything runs."""

import pytest

from dlf_jax import config_checks, models
from dlf_jax.compare import parse
from dlf_jax.comparison import report, run_list, settings
from dlf_jax.comparison.published_scores import LEADERBOARD, PAPER
from dlf_jax.errors import UsageError, UserError
from tests.comparison.conftest import make


@pytest.mark.parametrize(
    ('name', 'rows', 'runs'),
    # Figure 4's points where the config is anyway are one run with it: L = 2 and A = 1.
    [('table2', 64, 320), ('table3', 10, 50), ('figure3', 10, 50), ('figure4', 22, 90)],
)
def test_experiments_are_valid(name, rows, runs, tmp_path):
    options = parse(['compare', f'--experiment={name}', '--list', f'--workdir={tmp_path}'])
    found = report.make_run_list(options)
    assert len(found.rows) == rows
    listed = report.listing(options)
    assert listed['runs'] == len(found.runs) == len({run.workdir.path for run in found.runs})
    assert listed['runs'] == runs
    assert {entry['state'] for entry in listed['list']} == {'new'}
    for run in found.runs:
        config_checks.validate(run.config)
    # Every row has a published value beside it where the paper prints one.
    if name in ('table2', 'table3'):
        assert all(r.setting.name in PAPER[r.dataset] or r.setting.model == 'afn' for r in found.rows)


def test_experiments_share_runs(tmp_path):
    """Figure 3's full module, Table 3's and Table 2's DLF are trained once."""
    places = []
    for name in ('table2', 'table3', 'figure3', 'figure4'):
        options = report.Options(
            experiment=name, dataset='criteo', workdir=str(tmp_path), list=True, seeds='1'
        )
        dlf = next(row for row in report.make_run_list(options).rows if row.setting.name == 'dlf')
        places.append(dlf.runs[0].workdir.path)
    assert len(set(places)) == 1


def test_a_sweep_s_point_where_the_config_is_anyway_is_the_same_run(tmp_path):
    found = make(tmp_path, 'dlf', ['model.layers=1,02,3'], seeds='1')
    base = found.rows[0].runs[0].config.model.layers
    assert base == 1  # of configs/synthetic.py
    assert [row.folder for row in found.rows] == ['dlf', 'dlf,layers=2', 'dlf,layers=3']
    assert [row.runs[0].config.model.layers for row in found.rows] == [1, 2, 3]


def test_settings_reach_the_config_and_the_command(tmp_path):
    found = make(
        tmp_path,
        'dlf:fusion=gate',
        ['model.head=(8,4),()', 'optimizer.learning_rate=0.1'],
        seeds='4,2',
        overrides={'training.epochs': '3', 'model.head': '(5,)'},
        datasets=('movielens',),
        files={'movielens': {'train': 'a.csv'}},
    )
    run = found.rows[0].runs[1]
    config = run.config
    assert (config.model.fusion, config.model.head, config.optimizer.learning_rate) == ('gate', (8, 4), 0.1)
    assert (config.training.epochs, config.seed, config.dataset.train) == (3, 2, 'a.csv')
    assert '--config.model.head=(8,4)' in run.arguments
    assert '--variant=fusion=gate' in run.arguments
    assert not any(argument == '--config.model.head=(5,)' for argument in run.arguments)
    assert [row.runs[0].config.model.head for row in found.rows] == [(8, 4), ()]
    assert len({row.folder for row in found.rows}) == 2


def test_model_keys_reach_the_models_that_have_them(tmp_path):
    found = make(tmp_path, 'lr,mlp', overrides={'model.embedding_size': '6'})
    assert 'embedding_size' not in found.rows[0].runs[0].config.model
    assert found.rows[1].runs[0].config.model.embedding_size == 6


def test_all(tmp_path):
    assert [s.model for s in settings.parse_models('all')] == models.of_any_data()
    assert [s.variant for s in settings.parse_models('dlf:all')] == list(models.MODELS['dlf'].variants)
    assert [s.name for s in settings.parse_models('mlp,mlp, fm')] == ['mlp', 'fm']
    assert set(LEADERBOARD['frappe']) <= {
        s.name for name in models.MODELS for s in settings.parse_models(f'{name}:all')
    }


def test_seeds():
    assert settings.parse_seeds('3') == (0, 1, 2)
    assert settings.parse_seeds('7,') == (7,)
    assert settings.parse_seeds('0,4,4') == (0, 4)
    for text in ('0', '', 'x', '-1', '1,-2'):
        with pytest.raises(UsageError, match='--seeds='):
            settings.parse_seeds(text)


def test_runs_go_seed_by_seed(tmp_path):
    found = make(tmp_path, 'dlf,mlp', datasets=('synthetic', 'frappe'), seeds='2')
    assert [run.name for run in found.runs][:5] == [
        'synthetic dlf seed 0', 'synthetic mlp seed 0', 'synthetic dlf seed 1', 'synthetic mlp seed 1',
        'frappe dlf seed 0',
    ]  # fmt: skip


def test_files(tmp_path):
    with pytest.raises(UserError, match=r'expected train\.csv'):
        run_list.find_files(str(tmp_path), ['frappe'])
    (tmp_path / 'frappe').mkdir()
    for name in ('train.csv', 'test.csv.gz'):
        (tmp_path / 'frappe' / name).touch()
    folder = tmp_path / 'frappe'
    expected = {'train': str(folder / 'train.csv'), 'test': str(folder / 'test.csv.gz')}
    assert run_list.find_files(str(tmp_path), ['frappe', 'synthetic']) == {'frappe': expected}
    (tmp_path / 'frappe' / 'train.tsv').touch()
    with pytest.raises(UserError, match='expected one file for the train part; move the others'):
        run_list.find_files(str(tmp_path), ['frappe'])


@pytest.mark.parametrize(
    ('flags', 'expected'),
    [
        ('', '--models=all'),
        ('--models=mlp', 'no dataset: --dataset=frappe'),
        ('--models=mlpp --dataset=frappe', "did you mean 'mlp'?"),
        ('--models=dlf:wo_gat --dataset=frappe', "did you mean 'wo_gate'?"),
        ('--models=mlp --dataset=frape', "did you mean 'frappe'?"),
        ('--models=mlp --dataset=frappe', '--files=FOLDER with FOLDER/frappe/train.csv'),
        ('--models=mlp --dataset=frappe --configs=/nowhere', 'no config files there'),
        ('--experiment=tabel2', "did you mean 'table2'?"),
        ('--experiment=table2 --models=mlp', 'leave out --models'),
        ('--models=mlp --dataset=synthetic --config.seed=1', 'use --seeds'),
        ('--models=mlp --dataset=synthetic --config.trainin.epochs=1', 'no key config.trainin.epochs'),
        ('--models=mlp --dataset=synthetic --config.model.layers=1', 'no key config.model.layers'),
        ('--models=mlp --dataset=synthetic --config.training.epochs=x', 'epochs'),
        ('--models=mlp --dataset=synthetic --config.training.epochs=0', 'at least 1'),
        ('--sweep=model.layer=1,2 --dataset=synthetic', "did you mean 'model.layers'?"),
        ('--sweep=model.layers --dataset=synthetic', 'KEY=VALUE'),
        ('--sweep=model.layers=1,0 --dataset=synthetic', 'dlf layers=0'),
        ('--sweep=seed=1,2 --dataset=synthetic', 'use --seeds'),
        ('--modles=mlp', 'Did you mean: models'),
        ('--jobs=-1', 'jobs'),
        ('frappe', "unexpected argument 'frappe'; flags begin with --"),
        ('--models=mlp --dataset=synthetic --config.seeds=2', 'mlp: config.seeds=2: a run has one seed'),
        ('--models=mlp --dataset=synthetic --sweep=seeds=1,2', 'mlp seeds=2: config.seeds=2: a run has one'),
    ],
)
def test_mistakes_are_named(flags, expected):
    with pytest.raises(UsageError) as error:
        report.make_run_list(parse(['compare', *flags.split()]))
    assert expected in str(error.value)
    assert '\n' not in str(error.value)


def test_long_names_make_folders():
    names = [f'dlf {" ".join(f"key{i}=value" for i in range(60))} last={last}' for last in (1, 2)]
    folders = [settings.folder_name(name) for name in names]
    assert len(set(folders)) == 2
    assert max(map(len, folders)) < 255
