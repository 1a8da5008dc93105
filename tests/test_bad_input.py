"""Each mistake a person makes: one line, exit code 1, nothing lost."""

import fcntl
import os
import resource
import shutil
import subprocess

import pytest

from dlf_jax.file_writing import write_atomically
from tests.conftest import SMALL_FLAGS, TINY, fail, run, shared_file, table_flags, write_table


def edited(tmp_path, line, text):
    """A table with line `line` (counted from 1) replaced."""
    path = write_table(tmp_path / 't.csv', 300)
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text('\n'.join(lines) + '\n')
    return path


def train_fails(path, tmp_path, *flags):
    arguments = (*table_flags(path), *flags)
    return fail(*arguments, f'--workdir={tmp_path / "run"}', f'--data_dir={tmp_path / "data"}')


def test_missing_file(tmp_path):
    message = train_fails(tmp_path / 'none.csv', tmp_path)
    assert f'config.dataset.train: no such file: {tmp_path}/none.csv' in message


def test_empty_file(tmp_path):
    (tmp_path / 't.csv').touch()
    assert 't.csv: the file is empty' in train_fails(tmp_path / 't.csv', tmp_path)


def test_ragged_row(tmp_path):
    path = edited(tmp_path, 57, '1,u3,a1')
    assert 't.csv, line 57: expected 4 fields' in train_fails(path, tmp_path)
    # Nothing half-done is taken for prepared data: mended, the same command works.
    edited(tmp_path, 57, '1,u3,a1,0.5')
    run(*table_flags(path), f'--workdir={tmp_path / "run"}', f'--data_dir={tmp_path / "data"}')


def test_wrong_separator(tmp_path):
    path = write_table(tmp_path / 't.csv', 300)
    path.write_text(path.read_text().replace(',', ' '))
    message = train_fails(path, tmp_path)
    assert "no column 'click'" in message
    assert "--config.dataset.separator=' '" in message


def test_label_that_is_not_0_or_1(tmp_path):
    path = edited(tmp_path, 212, '2,u3,a1,0.5')
    message = train_fails(path, tmp_path)
    assert "t.csv, line 212: label 'click': expected 0 or 1, found 2" in message


def test_text_in_a_numeric_column(tmp_path):
    path = edited(tmp_path, 3, '1,u3,a1,cheap')
    assert "line 3: column 'price': expected a number, found 'cheap'" in train_fails(path, tmp_path)


def test_labels_of_one_kind(tmp_path):
    path = write_table(tmp_path / 't.csv', 300)
    lines = path.read_text().splitlines()
    path.write_text('\n'.join([*lines[:211], *('0' + line[1:] for line in lines[211:])]) + '\n')
    assert 'labels of one kind only' in train_fails(path, tmp_path)


def test_no_files_says_what_to_put_where(tmp_path):
    message = fail('--config=configs/criteo.py', f'--workdir={tmp_path / "run"}', f'--data_dir={tmp_path}')
    assert 'reczoo/Criteo_x1' in message
    assert 'train.txt' in message
    assert '--dataset=synthetic' in message


def test_column_missing_at_prediction(trained, tmp_path):
    (tmp_path / 't.csv').write_text('user,price\nu1,0.5\n')
    message = fail(
        '--mode=predict', f'--workdir={trained}', f'--input={tmp_path / "t.csv"}',
        f'--output={tmp_path / "o.csv"}',
    )  # fmt: skip
    assert "t.csv: no column 'ad' (a feature that the model was trained with)" in message
    assert not (tmp_path / 'o.csv').exists()


def test_bad_row_at_prediction_leaves_no_output(trained, tmp_path):
    (tmp_path / 't.csv').write_text('user,ad,price\nu1,a1,0.5\nu1,a1\n')
    message = fail(
        '--mode=predict', f'--workdir={trained}', f'--input={tmp_path / "t.csv"}',
        f'--output={tmp_path / "o.csv"}',
    )  # fmt: skip
    assert 't.csv, line 3: expected 3 fields' in message
    assert [p.name for p in tmp_path.iterdir()] == ['t.csv']


def test_workdir_of_another_config(trained, data_dir):
    flags = (*table_flags(trained.parent / 'train.csv'), f'--data_dir={data_dir}')
    before = (trained / 'config.json').read_bytes()
    message = fail(*flags, f'--workdir={trained}', '--config.model.hidden=(16,)')
    assert 'model.hidden: [8] there, [8, 16] now' in message
    assert (trained / 'config.json').read_bytes() == before


@pytest.mark.slow
def test_a_mistake_before_the_first_step_does_not_take_the_workdir(tmp_path):
    path = write_table(tmp_path / 't.csv', 300)
    assert "no column 'clik'" in train_fails(path, tmp_path, '--config.dataset.label=clik')
    run(*table_flags(path), f'--workdir={tmp_path / "run"}', f'--data_dir={tmp_path / "data"}')


def test_workdir_of_other_data(tmp_path):
    path = write_table(tmp_path / 't.csv', 300)
    flags = (*table_flags(path), f'--workdir={tmp_path / "run"}', f'--data_dir={tmp_path / "d"}')
    run(*flags)
    write_table(path, 300, seed=1)
    assert f'train: {path} has other content now' in fail(*flags, '--config.training.epochs=3')


def test_no_model_in_the_workdir(tmp_path):
    (tmp_path / 't.csv').write_text('a\n1\n')
    message = fail('--mode=evaluate', f'--workdir={tmp_path}', f'--input={tmp_path / "t.csv"}')
    assert 'no trained model here' in message


@pytest.mark.slow
def test_truncated_record_shard(tmp_path):
    flags = (*TINY, f'--workdir={tmp_path / "run"}', f'--data_dir={tmp_path / "data"}')
    run(*flags)
    (shard,) = (tmp_path / 'data').rglob('synthetic-train.array_record*')
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])
    longer = '--config.training.epochs=3'
    message = fail(*flags, longer)
    assert f'{shard}: record shard is damaged or cut short' in message
    # The way out that the message names.
    shutil.rmtree(shard.parent)
    assert run(*flags, longer)['steps'] == 27


def test_two_processes_in_one_workdir(tmp_path):
    (tmp_path / 'run').mkdir()
    with open(tmp_path / 'run' / '.lock', 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        message = fail(*TINY, f'--workdir={tmp_path / "run"}', f'--data_dir={tmp_path}')
    assert 'another process is working here' in message


def no_larger_files_than(size):
    """For a child process: writing past `size` bytes of a file fails, as on a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_no_room_for_prepared_data(tmp_path):
    flags = (*TINY, f'--workdir={tmp_path / "run"}', f'--data_dir={tmp_path / "data"}')
    message = fail(*flags, preexec_fn=no_larger_files_than(20_000))
    assert 'cannot write prepared data' in message
    assert run(*flags)['steps'] == 18


@pytest.mark.slow
def test_no_room_for_a_checkpoint_loses_nothing(tmp_path, data_dir):
    flags = (*TINY, '--config.model.hidden=(64,64)', f'--data_dir={data_dir}')
    undisturbed = run(*flags, f'--workdir={tmp_path / "whole"}')
    flags = (*flags, f'--workdir={tmp_path / "run"}')
    run(*flags, '--config.training.epochs=1')
    # The one file of a checkpoint whose size is always the same: arrays are cut into files as time has it.
    described = next((tmp_path / 'run' / 'checkpoints').rglob('_METADATA')).stat().st_size
    message = fail(*flags, preexec_fn=no_larger_files_than(described // 2))
    assert f'cannot write checkpoints in {tmp_path / "run"}' in message
    result = run(*flags)
    for key in ('steps', 'best_step', 'valid', 'test'):
        assert result[key] == undisturbed[key]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB, full but for a little; only root may make one."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False, timeout=60).returncode:
        pytest.skip('needs the right to mount a small file system')
    yield folder
    subprocess.run(['umount', str(folder)], check=True, timeout=60)


def test_full_disk(small_disk, tmp_path, data_dir):
    flags = (*TINY, f'--workdir={small_disk / "run"}', f'--data_dir={data_dir}')
    (small_disk / 'ballast').write_bytes(b'x' * 1_000_000)
    message = fail(*flags)
    assert 'no space left on the device' in message
    (small_disk / 'ballast').unlink()
    assert run(*flags)['steps'] == 18


def test_output_without_room(trained, tmp_path):
    table = write_table(tmp_path / 't.csv', 5000)
    arguments = ('--mode=predict', f'--workdir={trained}', f'--input={table}')
    message = fail(*arguments, f'--output={tmp_path / "o.csv"}', preexec_fn=no_larger_files_than(9000))
    assert f'cannot write {tmp_path / "o.csv"}' in message
    assert [p.name for p in tmp_path.iterdir()] == ['t.csv']


def test_loss_that_is_not_finite(tmp_path):
    table = write_table(tmp_path / 't.csv', 2000)
    lines = table.read_text().splitlines()
    lines[1000] = '1,u1,a1,3e38'
    table.write_text('\n'.join(lines) + '\n')
    flags = (
        *table_flags(table), '--config.dataset.treatment=none', '--config.embedding.std=100.0',
        f'--workdir={tmp_path / "run"}', f'--data_dir={tmp_path / "data"}',
    )  # fmt: skip
    message = fail(*flags)
    assert 'step ' in message
    assert 'the last finite loss was' in message or 'no step since the start' in message
    assert '--config.optimizer.learning_rate' in message


def test_criteo_head_with_a_broken_line(tmp_path):
    lines = shared_file('criteo/train_head.txt').read_text().splitlines()[:500]
    lines[99] = lines[99].replace('\t', ' ', 1)
    (tmp_path / 'train.txt').write_text('\n'.join(lines) + '\n')
    message = fail(
        *SMALL_FLAGS, '--dataset=criteo', f'--config.dataset.train={tmp_path / "train.txt"}',
        '--config.dataset.allow_modified=True',
        f'--workdir={tmp_path / "run"}', f'--data_dir={tmp_path / "data"}',
    )  # fmt: skip
    assert 'train.txt, line 100: expected 40 fields separated by a tab, found 39' in message


def test_a_crash_while_writing_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / 'result.json'
    path.write_text('old')

    def crash(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'fsync', crash)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, 'new')
    assert path.read_text() == 'old'
