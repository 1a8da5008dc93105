"""The command, end to end: real processes on small data."""

import json
import os
import re
import runpy
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from dlf_jax import config as configs
from dlf_jax import config_arguments, config_checks, models
from dlf_jax.errors import UsageError
from tests.conftest import ROOT, TINY, command, fail, finish, run, table_flags, write_table


def test_the_command_starts_without_what_few_modes_need():
    heavy = [
        'scipy.optimize',
        'scipy.stats',
        'sklearn',
        'matplotlib',
        'lightgbm',
        'onnx',
        'tensorflow',
        'starlette',
        'fsspec',
        'boto3',
        'google.cloud.storage',
        'aiohttp',
    ]
    code = f'import sys, dlf_jax.main; print([name for name in {heavy} if name in sys.modules])'
    line = [sys.executable, '-c', code]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == '[]\n'


def test_result_line_and_file(trained):
    result = json.loads((trained / 'result.json').read_text())
    assert list(result) == [
        'model', 'variant', 'dataset', 'seed', 'steps', 'best_step', 'parameters', 'training_rows',
        'seconds', 'samples_per_second', 'valid', 'test', 'base_rate_logloss', 'learnt', 'warnings',
    ]  # fmt: skip
    assert result['model'] == 'mlp'
    assert result['steps'] == 2 * -(-1400 // 256)
    # 20 users, 10 ads and two reserved ids each, and one number; four wide.
    assert result['parameters']['table'] == (22 + 12 + 1) * 4
    assert set(result['valid']) == set(result['test']) == {
        'auc', 'logloss', 'normalized_entropy', 'rig', 'calibration_ratio', 'ece', 'brier', 'pr_auc', 'rows',
    }  # fmt: skip
    assert result['valid']['rows'] == 400
    assert result['test']['rows'] == 200
    # Of the training part's click rate, on the rows of the other parts.
    clicks = pl.read_csv(trained.parent / 'train.csv')['click'].to_numpy()
    rate = clicks[:1400].mean()
    for part, rows in {'valid': clicks[1400:1800], 'test': clicks[1800:]}.items():
        expected = -np.mean(np.log(np.where(rows == 1, rate, 1 - rate)))
        assert result['base_rate_logloss'][part] == pytest.approx(expected, rel=1e-12)


def test_workdir_holds_config_versions_metrics_and_events(trained):
    config = json.loads((trained / 'config.json').read_text())
    assert config['model']['hidden'] == [8]
    versions = json.loads((trained / 'versions.json').read_text())
    assert {'jax', 'flax', 'numpy', 'python'} <= set(versions)
    lines = [json.loads(line) for line in (trained / 'metrics.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines if line['kind'] == 'valid'] == [6, 12]
    assert list((trained / 'tensorboard').glob('events.out.tfevents.*'))


def test_again_on_a_finished_workdir(trained, data_dir):
    table = trained.parent / 'train.csv'
    done = finish(command(*table_flags(table), f'--workdir={trained}', f'--data_dir={data_dir}'))
    assert done.returncode == 0
    assert 'is finished' in done.stderr
    assert done.stdout == (trained / 'result.json').read_text()


@pytest.mark.slow
def test_more_epochs_go_on(tmp_path, data_dir):
    flags = (*TINY, f'--workdir={tmp_path}', f'--data_dir={data_dir}')
    first = run(*flags)
    longer = run(*flags, '--config.training.epochs=3')
    assert longer['steps'] == first['steps'] * 3 // 2
    alone = run(*flags, '--config.training.epochs=3', f'--workdir={tmp_path / "alone"}')
    assert longer['valid'] == alone['valid']


def test_evaluate_gives_what_training_found(trained, data_dir, tmp_path):
    table = pl.read_csv(trained.parent / 'train.csv')
    table[1400:1800].write_csv(tmp_path / 'valid.csv')
    found = run('--mode=evaluate', f'--workdir={trained}', f'--input={tmp_path / "valid.csv"}')
    shares = found.pop('out_of_vocabulary')
    assert set(shares) == {'user', 'ad'}
    assert found == json.loads((trained / 'result.json').read_text())['valid']


@pytest.mark.parametrize('output', ['scores.csv', 'scores.parquet'])
def test_predict_keeps_order_with_and_without_label(trained, tmp_path, output):
    table = pl.read_csv(trained.parent / 'train.csv').with_row_index('row')
    table.write_csv(tmp_path / 'with.csv')
    table.drop('click').write_parquet(tmp_path / 'without.parquet')
    found = []
    for name in ('with.csv', 'without.parquet'):
        told = run(
            '--mode=predict', f'--workdir={trained}', f'--input={tmp_path / name}',
            f'--output={tmp_path / output}', "--config.predict.keep=('row','user')",
        )  # fmt: skip
        assert told.pop('out_of_vocabulary') == pytest.approx({'user': 0, 'ad': 0}, abs=0.1)
        assert told == {'rows': 2000, 'output': str(tmp_path / output)}
        read = pl.read_csv if output.endswith('csv') else pl.read_parquet
        scores = read(tmp_path / output)
        assert scores.columns == ['row', 'user', 'probability']
        assert scores['row'].cast(pl.Int64).to_list() == list(range(2000))
        assert scores['user'].to_list() == table['user'].to_list()
        found.append(scores['probability'].to_numpy())
    assert np.array_equal(*found)
    label = table['click'].to_numpy()
    assert found[0][label == 1].mean() > found[0][label == 0].mean()
    assert not list(tmp_path.glob('.scores*'))


def test_predict_needs_only_the_workdir(tmp_path, data_dir):
    table = write_table(tmp_path / 'train.csv', 500)
    run(*table_flags(table), f'--workdir={tmp_path / "run"}', f'--data_dir={tmp_path / "data"}')
    (tmp_path / 'run').rename(tmp_path / 'moved')
    table.rename(tmp_path / 'elsewhere.csv')
    for path in sorted((tmp_path / 'data').rglob('*'), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    told = run(
        '--mode=predict', f'--workdir={tmp_path / "moved"}', f'--input={tmp_path / "elsewhere.csv"}',
        f'--output={tmp_path / "o.csv"}',
    )  # fmt: skip
    assert told['rows'] == 500


def test_synthetic_result_tells_the_best_possible_auc(tmp_path, data_dir):
    done = finish(command(*TINY, f'--workdir={tmp_path}', f'--data_dir={data_dir}'))
    result = json.loads(done.stdout)
    assert 0.7 < result['valid']['best_possible_auc'] < 0.9
    assert 'the best possible on this data' in done.stderr


@pytest.mark.slow
def test_the_quickstart_comes_close_to_the_best_possible_auc(tmp_path):
    folders = (f'--workdir={tmp_path / "run"}', f'--data_dir={tmp_path / "data"}')
    result = run('--config=configs/synthetic.py', *folders)
    assert result['model'] == 'dlf'
    for part in ('valid', 'test'):
        found, best = result[part]['auc'], result[part]['best_possible_auc']
        assert (found - 0.5) / (best - 0.5) > 0.95


def test_prepare_tells_what_it_made(tmp_path):
    told = run(*TINY, '--mode=prepare', f'--data_dir={tmp_path}')
    assert told['rows'] == {'train': 2100, 'valid': 600, 'test': 300}
    assert told['fields']['I1'] == 'standard'
    assert told['vocabulary'] == sum(v for v in told['fields'].values() if v != 'standard')


USAGE = {
    'unknown key': (['--config.model.hiden=(1,)'], 'there is no such key', "'hidden'"),
    'unknown model': (['--config.model.name=dfl'], 'no such entry', 'dlf'),
    'unknown variant': (['--variant=wo_gates'], 'no such variant', 'wo_gate'),
    'unknown mode': (['--mode=training'], '--mode=training', 'train'),
    'unknown dataset': (['--dataset=frape'], 'there is no such entry', 'frappe'),
    'unknown flag': (['--work=x'], 'work', 'workdir'),
    'wrong type': (['--config.seed=many'], 'seed', ''),
    'impossible value': (['--config.training.batch_size=0'], 'batch_size=0', 'at least 1'),
    'no workdir': ([], '--workdir', ''),
    'no config file': (['--config=none.py'], 'none.py', ''),
    'no input': (['--mode=evaluate', '--workdir=x'], '--input', ''),
    'config at prediction': (
        ['--mode=evaluate', '--workdir={trained}', '--input=x', '--config.seed=1'],
        'predict.*',
        '',
    ),
}


# One of each place that finds mistakes: flags, keys, values, modes, a trained model's keys.
QUICK = ('unknown key', 'unknown flag', 'impossible value', 'no input', 'config at prediction')


@pytest.mark.parametrize(
    'case', [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in USAGE]
)
def test_usage_errors_have_exit_code_2(case, trained):
    arguments, *parts = USAGE[case]
    message = fail(*[a.replace('{trained}', str(trained)) for a in arguments], code=2)
    for part in parts:
        assert part in message


def test_the_model_decides_the_keys():
    file = ROOT / 'configs' / 'frappe.py'
    rewritten = config_arguments.select_model(
        ['main', f'--config={file}', '--config.model.name', 'mlp', '--x=1']
    )
    assert rewritten == ['main', f'--config={file}:mlp', '--x=1']
    assert config_arguments.select_model(['main', f'--config={file}:mlp'])[1] == f'--config={file}:mlp'


def test_keys_of_earlier_versions_are_read_and_told(capsys):
    rewritten = config_arguments.select_model(['main', '--config.optimizer.tables=sgd'])
    assert rewritten[-1] == '--config.optimizer.embedding_rows=sgd'
    assert (
        '--config.optimizer.tables is called --config.optimizer.embedding_rows now' in capsys.readouterr().err
    )


def test_variant_sets_fields_but_those_given():
    config = configs.get_config('dlf')
    config.variant = 'released'
    config.model.layers = 7
    configs.apply_choices(config, {'model.layers': 7})
    assert config.model.layers == 7
    assert config.model != configs.get_config('dlf').model


@pytest.mark.parametrize('file', sorted((ROOT / 'configs').glob('*.py')), ids=lambda file: file.stem)
def test_every_config_file_has_every_model(file):
    get_config = runpy.run_path(str(file))['get_config']
    for model in models.MODELS:
        config = get_config(model)
        config_checks.validate(config)
        assert config.model.name == model
        assert config.dataset.name == file.stem


def test_validation_names_the_key():
    bad = configs.get_config()
    bad.plateau.factor = 0.0
    with pytest.raises(UsageError, match=r'config.plateau.factor=0.0: expected more than 0'):
        config_checks.validate(bad)


# A line of the log, or of the bar of training.
OWN_LINE = re.compile(r'\d\d:\d\d:\d\d |epoch \d|$')


def test_the_second_start_compiles_nothing_and_no_library_speaks(tmp_path):
    """Programs are kept beside the data; not where JAX's own setting names a folder."""
    unset = {'JAX_COMPILATION_CACHE_DIR': '', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '1'}
    kept, told = [], []
    for name in ('one', 'other'):
        flags = (*TINY, f'--workdir={tmp_path / name}', f'--data_dir={tmp_path}')
        done = finish(command(*flags, env=unset))
        assert done.returncode == 0, done.stderr
        foreign = [line for line in done.stderr.splitlines() if not OWN_LINE.match(line)]
        assert not foreign
        told.append(re.findall(r'(\w+) (compiled|compiled by an earlier run, read) in', done.stderr))
        found = (tmp_path / 'compiled').rglob('*-cache')
        kept.append({path.name: path.stat().st_mtime_ns for path in found})
    assert sorted(told[0]) == [('evaluation', 'compiled'), ('training', 'compiled')]
    taken = 'compiled by an earlier run, read'
    assert sorted(told[1]) == [('evaluation', taken), ('training', taken)]
    assert any('train_step' in name for name in kept[0])
    # Whatever was compiled would be here, however small.
    assert kept[0] == kept[1]


def test_a_program_that_cannot_be_kept_is_no_news(tmp_path):
    """Of temporary arrays in several pieces, which XLA cannot write down."""
    code = (
        'import runpy; from dlf_jax import allocator\n'
        'allocator.LARGEST = 1 << 20\n'
        "runpy.run_module('dlf_jax.main', run_name='__main__', alter_sys=True)"
    )
    unset = {'JAX_COMPILATION_CACHE_DIR': '', 'JAX_PLATFORMS': 'cpu'}
    # Its own: others' programs are kept in the shared one.
    data_dir = tmp_path / 'data'
    flags = (*TINY, '--config.training.batch_size=1000', f'--workdir={tmp_path}', f'--data_dir={data_dir}')
    done = subprocess.run(
        [sys.executable, '-c', code, *flags], capture_output=True, text=True, timeout=120, check=True,
        env={**os.environ, **unset},
    )  # fmt: skip
    assert not [line for line in done.stderr.splitlines() if not OWN_LINE.match(line)]
    kept = {path.name.split('-')[0] for path in (data_dir / 'compiled').rglob('*-cache')}
    assert 'jit_predict_step' in kept
    assert 'jit_train_step' not in kept


def test_profile_tells_where_the_time_goes(tmp_path, data_dir):
    found = run(*TINY, '--mode=profile', f'--workdir={tmp_path}', f'--data_dir={data_dir}')
    spent = found['milliseconds']
    assert set(spent) == {'input', 'transfer', 'lookup', 'forward', 'backward', 'update', 'step'}
    inside = sum(spent[name] for name in ('lookup', 'forward', 'backward', 'update'))
    assert inside == pytest.approx(spent['step'], abs=0.01)
    assert spent['lookup'] > 0
    assert found['samples_per_second'] > 0
    assert list((tmp_path / 'profile').rglob('*.xplane.pb'))
