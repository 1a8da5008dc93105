"""What is asked of a model, by URL, is what is asked of the same by paths."""

import json
import logging
import shutil
import signal
from pathlib import Path

import polars as pl
import pytest

import dlf_jax
from dlf_jax import compare
from dlf_jax.errors import UserError
from dlf_jax.server import model_source
from dlf_jax.storage import data_folder, manifest
from dlf_jax.storage.store import Store
from tests.conftest import command, config_of, fail, finish, run, table_flags, write_table
from tests.processes import wait_until
from tests.storage.object_store import Faults
from tests.test_resume import BUSY, assert_same, undisturbed  # noqa: F401


@pytest.fixture
def stored(memory, trained):
    """A store with the run, as somebody copied it there, and its table."""
    store = Store.of(memory)
    for path in trained.rglob('*'):
        if path.is_file() and not path.name.startswith('.'):
            store.write(path, f'{memory}/run/{path.relative_to(trained).as_posix()}')
    store.write(trained.parent / 'train.csv', f'{memory}/day=1/train.csv')
    return memory


def test_a_model_in_a_store(stored, trained, tmp_path, caplog):
    path = trained.parent / 'train.csv'
    here, there = dlf_jax.load(trained), dlf_jax.load(f'{stored}/run')
    expected = here.evaluate(str(path))
    assert there.evaluate(f'{stored}/day=*') == expected
    here.write_predictions(str(path), tmp_path / 'scores.parquet')
    told = there.write_predictions(f'{stored}/day=1/train.csv', f'{stored}/out/scores.parquet')
    assert told['output'] == f'{stored}/out/scores.parquet'
    content = Store.of(stored).read(f'{stored}/out/scores.parquet')[0]
    assert pl.read_parquet(content).equals(pl.read_parquet(tmp_path / 'scores.parquet'))
    there.save(f'{stored}/saved')
    assert 'weights.npz' in manifest.objects_below(f'{stored}/saved')
    assert dlf_jax.load(f'{stored}/saved').evaluate(str(path)) == expected
    with pytest.raises(UserError, match='no run has written it'):
        dlf_jax.train(config_of(*table_flags(str(path))), f'{stored}/day=1', tmp_path)


def test_a_server_takes_a_model_in_a_store(stored, trained):
    assert model_source.read(f'{stored}/run', -1, 8).version == model_source.read(trained, -1, 8).version


def test_what_takes_no_url_says_so(memory, capsys):
    assert compare.main(['compare', '--dataset=synthetic', '--models=lr', f'--workdir={memory}']) == 2
    assert f'--workdir={memory}: takes a folder of a file system' in capsys.readouterr().err


def test_errors_name_the_url_the_line_and_the_column(stored, trained, tmp_path, caplog):
    (tmp_path / 'bad.csv').write_text('click,user,ad,price\n1,u1,a1,0.5\n1,u1,a1,much\n')
    Store.of(stored).write(tmp_path / 'bad.csv', f'{stored}/bad.csv')
    model = dlf_jax.load(trained)
    with pytest.raises(UserError) as expected:
        model.evaluate(str(tmp_path / 'bad.csv'))
    with pytest.raises(UserError) as caught, caplog.at_level(logging.INFO, 'dlf_jax'):
        model.evaluate(f'{stored}/bad.csv')
    assert str(caught.value) == str(expected.value).replace(str(tmp_path), stored)
    assert f'{stored}/bad.csv: fetched' in caplog.text


def test_prepared_data_is_fetched_and_put_back(memory, trained, cache):
    config = config_of(*table_flags(str(trained.parent / 'train.csv')))
    first = dlf_jax.prepare(config, memory)
    assert (first['reused'], first['folder'].startswith(f'{memory}/table/')) == (False, True)
    there = manifest.read(first['folder'])
    # On a fresh machine.
    shutil.rmtree(cache)
    again = dlf_jax.prepare(config, memory)
    assert again['reused']
    assert {key: again[key] for key in ('rows', 'folder', 'fields')} == {
        key: first[key] for key in ('rows', 'folder', 'fields')
    }
    # It was lost in the store, or the store did not answer when it was to be put there.
    Store.of(memory).delete([f'{first["folder"]}/{manifest.NAME}'])
    assert dlf_jax.prepare(config, memory)['reused']
    files = manifest.read(first['folder']).files
    assert {name: files[name].sha256 for name in there.files} == {n: f.sha256 for n, f in there.files.items()}
    assert len(manifest.objects_below(first['folder'])) == len(files) + 1


def test_of_two_that_put_the_same_there_one_is_first(memory, tmp_path, monkeypatch):
    folder = Path(data_folder.local(memory)) / 'table' / 'name' / '1.0.0'
    folder.mkdir(parents=True)
    (folder / 'records').write_text('the same')
    url = f'{memory}/table/name/1.0.0'
    send = Store.write

    def overtaken(self, source, place):
        monkeypatch.undo()
        data_folder.publish(folder)
        send(self, source, place)

    monkeypatch.setattr(Store, 'write', overtaken)
    data_folder.publish(folder)
    (file,) = manifest.read(url).files.values()
    assert sorted(manifest.objects_below(url)) == sorted([manifest.NAME, file.object])
    assert Store.of(memory).read(f'{url}/{file.object}')[0] == b'the same'


@pytest.mark.slow
def test_a_warm_start_from_a_store(stored, trained, tmp_path):
    table = write_table(tmp_path / 'new.csv', 2000, seed=1)
    found = []
    for name, start in (('a', str(trained)), ('b', f'{stored}/run')):
        config = config_of(*table_flags(str(table)), f'--config.training.warm_start={start}')
        found.append(dlf_jax.train(config, tmp_path / name, tmp_path / 'data'))
    assert found[1]['began_from']['path'] == f'{stored}/run'
    for key in ('valid', 'test', 'steps', 'progressive'):
        assert found[0][key] == found[1][key]


@pytest.mark.slow
def test_sigterm_and_two_at_once_in_a_bucket(s3, bucket, tmp_path, data_dir, undisturbed):  # noqa: F811
    flags = (*BUSY, f'--workdir={bucket}', f'--data_dir={data_dir}')
    process = command(*flags, env={'DLF_JAX_CACHE': str(tmp_path / 'first')})
    wait_until(lambda: (found := manifest.read(bucket)) is not None and found.number > 1, process)
    # Of another cache and so, but for the lock in the bucket, of another machine.
    second = fail(*flags, env={'DLF_JAX_CACHE': str(tmp_path / 'second')})
    assert f'{bucket}: another process is working here' in second
    process.send_signal(signal.SIGTERM)
    assert finish(process).returncode == 143
    assert json.loads(Store.of(bucket).read(f'{bucket}/{manifest.LOCK}')[0])['released']
    run(*flags, env={'DLF_JAX_CACHE': str(tmp_path / 'third')})
    manifest.pull(bucket, manifest.read(bucket), tmp_path / 'found')
    assert_same(tmp_path / 'found', undisturbed)


@pytest.mark.slow
def test_the_command_from_a_bucket_that_fails_now_and_then(s3, bucket, tmp_path, trained):
    """Every mode by URL, each on a fresh machine, against S3 with faults; the same as by paths."""
    table = write_table(tmp_path / 'train.csv', 2000)
    Store.of(bucket).write(table, f'{bucket}/in/dt=1/train.csv')
    s3.faults = Faults(0.03, seed=3)
    expected = run(*table_flags(table), f'--workdir={tmp_path / "run"}', f'--data_dir={tmp_path / "data"}')
    model, data = f'--workdir={bucket}/run', f'--data_dir={bucket}/data'

    def fresh(*flags):
        shutil.rmtree(tmp_path / 'cache', ignore_errors=True)
        return run(*flags, env={'DLF_JAX_CACHE': str(tmp_path / 'cache')})

    result = fresh(*table_flags(f'{bucket}/in/dt=1/train.csv'), model, data)
    assert {key: result[key] for key in ('valid', 'test', 'steps')} == {
        key: expected[key] for key in ('valid', 'test', 'steps')
    }
    assert fresh(*table_flags(f'{bucket}/in/dt=1/train.csv'), model, data) == result
    local = run('--mode=evaluate', f'--workdir={tmp_path / "run"}', f'--input={table}')
    assert fresh('--mode=evaluate', model, f'--input={bucket}/in/dt=*') == local
    fresh('--mode=predict', model, f'--input={bucket}/in', f'--output={bucket}/scores.parquet')
    here = f'--workdir={tmp_path / "run"}', f'--input={table}'
    run('--mode=predict', *here, f'--output={tmp_path / "s.parquet"}')
    scores = pl.read_parquet(Store.of(bucket).read(f'{bucket}/scores.parquet')[0])
    assert scores.equals(pl.read_parquet(tmp_path / 's.parquet'))
    told = fresh('--mode=calibrate', model, '--config.calibration.method=temperature')
    assert told['method'] == 'temperature'
    fresh('--mode=export', model, f'--output={bucket}/export')
    assert {'model.onnx', manifest.NAME} <= set(manifest.objects_below(f'{bucket}/export'))
    fresh('--mode=report', model, data)
    fresh('--mode=explain', model, data, '--config.explain.rows=100')
    files = manifest.read(f'{bucket}/run').files
    assert {'report.html', 'explain/explain.json', 'calibration.json', 'result.json'} <= set(files)
    again = command(*table_flags(f'{bucket}/in'), f'--workdir={bucket}/in', data)
    done = finish(again)
    assert done.returncode == 1
    assert 'no run has written it' in done.stderr
    assert sum(s3.faults.counts.values()) > 10
