"""Parts on which a metric is undefined: what works without it, and what is refused before training."""

import json

import numpy as np
import pytest

from tests.conftest import command, fail, finish, table_flags, write_table


def folders(tmp_path):
    return f'--workdir={tmp_path / "run"}', f'--data_dir={tmp_path / "data"}'


def of_one_kind(tmp_path):
    """A table whose last three tenths, which become valid and test, have no click."""
    table = write_table(tmp_path / 't.csv', 1000)
    lines = table.read_text().splitlines()
    table.write_text('\n'.join([*lines[:701], *('0' + line[1:] for line in lines[701:])]) + '\n')
    return table


def weighted(tmp_path, weights):
    """A table of 1000 rows with weights, and its flags."""
    table = write_table(tmp_path / 'w.csv', 1000)
    head, *lines = table.read_text().splitlines()
    rows = [f'{line},{weight:g}' for line, weight in zip(lines, weights, strict=True)]
    table.write_text('\n'.join([f'{head},times', *rows]) + '\n')
    return (*table_flags(table), '--config.dataset.weight=times')


def test_logloss_needs_no_labels_of_both_kinds(tmp_path):
    flags = (*table_flags(of_one_kind(tmp_path)), *folders(tmp_path))
    done = finish(command(*flags, '--config.training.monitor=logloss'))
    assert done.returncode == 0, done.stderr
    assert 'the valid part has labels of one kind only: auc is undefined there' in done.stderr
    result = json.loads(done.stdout)
    assert (result['valid']['auc'], result['test']['auc']) == (None, None)
    assert result['valid']['logloss'] > 0
    assert result['best_step'] > 0


@pytest.mark.parametrize('monitor', ['auc', 'gauc', 'auc-logloss', 'normalized_entropy'])
def test_other_monitors_are_refused_before_training(tmp_path, monitor):
    flags = (*table_flags(of_one_kind(tmp_path)), *folders(tmp_path), '--config.dataset.group=user')
    message = fail(*flags, f'--config.training.monitor={monitor}')
    assert 'the valid part has labels of one kind only' in message
    assert f'config.training.monitor={monitor!r}' in message
    assert '--config.training.monitor=logloss' in message
    assert '--config.dataset.split=random' in message
    assert not (tmp_path / 'run' / 'checkpoints').exists()


def test_files_of_their_own_are_not_split_at_random(tmp_path):
    train, valid = write_table(tmp_path / 'train.csv', 300), of_one_kind(tmp_path)
    valid.write_text('\n'.join(['click,user,ad,price', *valid.read_text().splitlines()[701:]]) + '\n')
    message = fail(*table_flags(train), f'--config.dataset.valid={valid}', *folders(tmp_path))
    assert 'give other rows in --config.dataset.valid' in message
    assert 'split=random' not in message


def test_groups_of_one_kind_each(tmp_path):
    table = write_table(tmp_path / 't.csv', 300)
    lines = table.read_text().splitlines()
    # Every user either always clicks or never.
    table.write_text(
        '\n'.join([lines[0], *(f'{int(line.split(",")[1][1:]) % 2}{line[1:]}' for line in lines[1:])]) + '\n'
    )
    flags = (*table_flags(table), *folders(tmp_path), '--config.dataset.group=user')
    message = fail(*flags, '--config.training.monitor=gauc')
    assert "no group (column 'user') of the valid part has labels of both kinds" in message


@pytest.mark.parametrize(
    ('part', 'rows'), [('train', slice(700)), ('valid', slice(700, 900)), ('test', slice(900, 1000))]
)
def test_a_part_that_weighs_nothing(tmp_path, part, rows):
    weights = np.ones(1000)
    weights[rows] = 0
    message = fail(*weighted(tmp_path, weights), *folders(tmp_path))
    assert f"the {part} part: the weights (column 'times') of all its rows are 0" in message
    assert not (tmp_path / 'run' / 'checkpoints').exists()


def test_files_that_weigh_nothing(tmp_path):
    done = finish(command(*weighted(tmp_path, np.arange(1000) % 3), *folders(tmp_path)))
    assert done.returncode == 0, done.stderr
    evaluate = ('--mode=evaluate', folders(tmp_path)[0], f'--input={tmp_path / "e.csv"}')
    (tmp_path / 'e.csv').write_text('click,user,ad,price,times\n' + '1,u1,a1,0.5,0\n0,u1,a1,0.5,0\n')
    assert f'the weights of {tmp_path / "e.csv"} are all 0' in fail(*evaluate)


def test_a_training_part_of_one_kind_is_allowed_and_told(tmp_path):
    train = of_one_kind(tmp_path)
    train.write_text('\n'.join(['click,user,ad,price', *train.read_text().splitlines()[701:]]) + '\n')
    valid = write_table(tmp_path / 'valid.csv', 300)
    done = finish(command(*table_flags(train), f'--config.dataset.valid={valid}', *folders(tmp_path)))
    assert done.returncode == 0, done.stderr
    assert 'the train part has labels of one kind only' in done.stderr
