"""Searches: proposals that do not depend on interruptions, early stops, failures, and the command."""

import json
import os
import re
import subprocess
import sys

import pytest

from dlf_jax import compare, tune
from dlf_jax.comparison import run_list, runner, search, settings, space
from dlf_jax.errors import UserError
from tests.comparison.conftest import result
from tests.conftest import ROOT, write_table

SPACE = {
    'optimizer.learning_rate': space.Range(1e-4, 1e-1, log=True),
    'model.dropout': space.Choice(('0.0', '0.2', '0.7', '1.5')),
}


SMALL_DATA = (
    '--config.dataset.rows=3000', '--config.dataset.block_rows=256', '--config.training.batch_size=256',
    '--config.training.epochs=1',
)  # fmt: skip


class Interrupted(Exception):
    """Of a search that is killed."""


class Fake:
    """In place of the runner: a run's AUC is a function of its values; some are stopped early."""

    def __init__(self, monkeypatch, dies_at=None):
        self.begun, self.dies_at = [], dies_at
        monkeypatch.setattr(runner, 'carry_out', self)
        monkeypatch.setattr(runner, 'finished_results', lambda runs: {})

    def __call__(self, runs, outcome, slots, should_stop):
        for run in runs:
            self.begun.append(run)
            if len(self.begun) - 1 == self.dies_at:
                raise Interrupted
            run.workdir.create()
            final = 0.9 - abs(run.config.optimizer.learning_rate - 1e-2)
            lines = ''
            for i in range(8):
                auc = final - 0.01 * (7 - i)
                lines += json.dumps({'kind': 'train', 'step': i}) + '\n'
                lines += json.dumps({'kind': 'valid', 'step': i, 'auc': auc, 'logloss': 0.5}) + '\n'
                run.workdir.metrics.write_text(lines)
                if should_stop(run):
                    outcome.stopped.add(run)
                    break
            else:
                outcome.results[run] = result(final, 0.5)


def make_search(tmp_path, **changes):
    def make_run(values):
        setting = settings.Setting('mlp', swept=tuple(values.items()))
        [run] = run_list.make(
            ['synthetic'],
            [setting],
            [0],
            workdir=tmp_path,
            data_dir='data',
            configs_folder=str(ROOT / 'configs'),
        ).runs
        return run

    fields = {
        'space': SPACE,
        'first': {'optimizer.learning_rate': '0.001', 'model.dropout': '0.3'},
        'make_run': make_run,
        'journal': tmp_path / 'trials.jsonl',
        'context': {'model.name': 'mlp', 'dataset.fractions': (7.0, 2.0)},
        'seed': 3,
        'monitor': 'auc',
        'logloss_weight': 0.1,
    }
    return search.Search(**{**fields, **changes})


def test_search(tmp_path, monkeypatch, caplog):
    Fake(monkeypatch)
    searched = make_search(tmp_path)
    with caplog.at_level('WARNING', 'dlf_jax'):
        trials = searched.carry_out(30, [{}])
    # Before the first trial, and of the one value that cannot be.
    (warning,) = caplog.messages
    assert warning.startswith('model.dropout=1.5 cannot be with the other keys as they are: ')
    assert [trial.number for trial in trials] == list(range(30))
    # The config's own values as far as the space holds them.
    assert trials[0].values['optimizer.learning_rate'] == '0.001'
    states = [trial.state for trial in trials]
    assert set(states) == {search.COMPLETE, search.PRUNED, search.FAILED}
    # A value that fails is not proposed again and again.
    assert states.count(search.FAILED) < 10
    for trial in trials:
        if trial.values['model.dropout'] == '1.5':
            assert trial.state == search.FAILED
            assert 'model.dropout=1.5' in trial.error
        elif trial.state == search.PRUNED:
            # Not among the first five, nor before its fourth evaluation.
            assert trial.number >= 5
            assert 4 <= len(trial.scores) < 8
        else:
            rate = float(trial.values['optimizer.learning_rate'])
            assert trial.auc == pytest.approx(0.9 - abs(rate - 1e-2))
            assert trial.score == pytest.approx(trial.auc - 0.05)
            assert len(trial.scores) == 8
    best = search.best_of(trials)
    assert best.score == max(trial.score for trial in trials if trial.state == search.COMPLETE)
    # It has learned where to look: the best is nearer than the five at random come.
    random = [t.score for t in trials[:5] if t.state == search.COMPLETE]
    assert best.score > max(random)
    shares = search.importance(searched, trials)
    assert next(iter(shares)) == 'optimizer.learning_rate'


@pytest.mark.parametrize('jobs', [1, 2])
def test_a_killed_search_proposes_the_same(tmp_path, monkeypatch, jobs):
    slots = [{}] * jobs
    whole = Fake(monkeypatch)
    expected = make_search(tmp_path / 'a').carry_out(24, slots)
    for begun in (3, 5, 1, 4):
        Fake(monkeypatch, dies_at=begun)
        with pytest.raises(Interrupted):
            make_search(tmp_path / 'b').carry_out(24, slots)
    Fake(monkeypatch)
    trials = make_search(tmp_path / 'b').carry_out(24, slots)
    assert len(whole.begun) == sum(trial.workdir != '' for trial in trials)
    for one, other in zip(trials, expected, strict=True):
        assert (one.values, one.state, one.score) == (other.values, other.state, other.score)


def test_a_failed_run_is_told_and_does_not_stop_the_rest(tmp_path, monkeypatch):
    def fail(runs, outcome, slots, should_stop):
        for run in runs:
            outcome.errors[run] = 'step 7: the loss is nan'

    monkeypatch.setattr(runner, 'carry_out', fail)
    searched = make_search(tmp_path, space={'model.dropout': SPACE['model.dropout']}, first={})
    trials = searched.carry_out(3, [{}])
    assert {trial.state for trial in trials} == {search.FAILED}
    assert search.best_of(trials) is None
    assert search.importance(searched, trials) == {}


def test_a_failure_that_is_not_of_the_values_ends_the_search(tmp_path, monkeypatch):
    def fail(runs, outcome, slots, should_stop):
        for run in runs:
            outcome.errors[run] = 'cannot write: no space left on the device'

    searched = make_search(tmp_path, first={'model.dropout': '0.2'})
    monkeypatch.setattr(runner, 'carry_out', fail)
    with pytest.raises(UserError, match='no space left on the device; the same command goes on'):
        searched.carry_out(3, [{}])
    # Nothing is noted, so that the trial comes again.
    assert searched.ended() == []
    Fake(monkeypatch)
    assert searched.carry_out(1, [{}])[0].state == search.COMPLETE


def test_the_search_raises_what_training_monitors(tmp_path, monkeypatch):
    Fake(monkeypatch)
    trials = make_search(tmp_path, monitor='logloss', logloss_weight=0.0).carry_out(2, [{}])
    assert {trial.score for trial in trials if trial.state == search.COMPLETE} == {-0.5}
    assert trials[0].metrics == {'auc': trials[0].auc, 'logloss': 0.5}


def test_a_journal_from_before_there_were_other_metrics(tmp_path, monkeypatch):
    Fake(monkeypatch)
    expected = make_search(tmp_path).carry_out(2, [{}])
    header, *lines = (json.loads(line) for line in (tmp_path / 'trials.jsonl').read_text().splitlines())
    for line in lines:
        assert line.pop('others') == {}
    text = ''.join(json.dumps(line) + '\n' for line in (header, *lines))
    (tmp_path / 'trials.jsonl').write_text(text)
    assert make_search(tmp_path).ended() == expected


def test_equal_values_in_a_batch_are_one_run(tmp_path, monkeypatch):
    fake = Fake(monkeypatch)
    one = {'model.dropout': space.Choice(('0.2', '0.7'))}
    trials = make_search(tmp_path, space=one, first={}).carry_out(8, [{}] * 8)
    assert len(fake.begun) == 2
    assert {trial.state for trial in trials} == {search.COMPLETE}
    assert len({(trial.workdir, trial.score) for trial in trials}) == 2


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'space': {'model.dropout': SPACE['model.dropout']}, 'first': {}}, 'space optimizer.learning_rate'),
        ({'space': {**SPACE, 'model.dropout': space.Choice(('0.0',))}}, 'space model.dropout'),
        ({'seed': 4}, 'seed: 3 there, 4 now'),
        ({'logloss_weight': 0.0}, 'logloss_weight: 0.1 there, 0.0 now'),
        ({'context': {'model.name': 'dlf'}}, "model.name: 'mlp' there, 'dlf' now"),
    ],
)
def test_journal_of_another_search(tmp_path, monkeypatch, changes, message):
    Fake(monkeypatch)
    make_search(tmp_path).carry_out(1, [{}])
    with pytest.raises(UserError, match=f'another search .{message}.*take another --name'):
        make_search(tmp_path, **changes).carry_out(2, [{}])


def test_damaged_journal(tmp_path, monkeypatch):
    Fake(monkeypatch)
    make_search(tmp_path).carry_out(1, [{}])
    with open(tmp_path / 'trials.jsonl', 'a') as file:
        file.write('{"number": 1}\n')
    with pytest.raises(UserError, match=r'trials\.jsonl, line 3: not a trial'):
        make_search(tmp_path).ended()


def test_evaluations_seen_together_are_judged_one_by_one(tmp_path, monkeypatch):
    """However far a run has come when it is looked at, it is stopped at the same evaluation."""

    class Late(Fake):
        def __call__(self, runs, outcome, slots, should_stop):
            def late(run):
                return run.workdir.metrics.read_text().count('valid') >= 6 and should_stop(run)

            super().__call__(runs, outcome, slots, late)

    Fake(monkeypatch)
    expected = make_search(tmp_path / 'a').carry_out(16, [{}])
    Late(monkeypatch)
    trials = make_search(tmp_path / 'b').carry_out(16, [{}])
    assert [(t.values, t.state, t.scores) for t in trials] == [
        (t.values, t.state, t.scores) for t in expected
    ]
    assert any(trial.state == search.PRUNED for trial in trials)


def run_command(*flags):
    line = [sys.executable, '-m', 'dlf_jax.tune', *flags]
    env = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
    return subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, check=False)


def test_no_trial_begins_when_the_time_is_up(tmp_path, monkeypatch):
    Fake(monkeypatch)
    # The first does all the same, so that there is a result.
    assert len(make_search(tmp_path).carry_out(3, [{}], minutes=0)) == 1
    assert len(make_search(tmp_path).carry_out(3, [{}], minutes=0)) == 1
    assert len(make_search(tmp_path).carry_out(3, [{}], minutes=5)) == 3


def own_table_flags(tmp_path, data_dir):
    table = write_table(tmp_path / 'table.csv', 3000)
    schema = tmp_path / 'schema.toml'
    schema.write_text(
        'label = "click"\n[columns.user]\nkind = "categorical"\n[columns.price]\nkind = "numeric"\n'
    )
    return (
        '--dataset=table', f'--config.dataset.train={table}', f'--config.dataset.schema={schema}',
        f'--workdir={tmp_path}/runs', f'--data_dir={data_dir}',
    )  # fmt: skip


def test_a_search_on_an_own_table_begins_with_its_defaults(tmp_path, data_dir, monkeypatch, capsys):
    """What the config leaves to the size of the data has its value by the size, which the result tells."""
    fake = Fake(monkeypatch)
    flags = own_table_flags(tmp_path, data_dir)
    given = ('--config.model.hidden=(32,)', '--config.model.dropout=0.1')
    assert tune.main(['tune', *flags, '--model=mlp', '--trials=4', *given]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert 'given, and so not searched: model.dropout, model.hidden' in said.err
    assert len(fake.begun) == told['finished'] == 4
    first = dict(flag.removeprefix('--config.').split('=', 1) for flag in fake.begun[0].arguments)
    # 2,100 rows of two fields.
    assert first['training.batch_size'] == '32'
    assert first['embedding.penalty'] == '0.01'
    assert first['model.embedding_size'] == '16'
    assert first['model.batch_norm'] == 'True'
    assert first['optimizer.learning_rate'] == '0.001'
    # Given ones go to every trial; others stay open, and so follow the batch size of each.
    assert {run.config.model.hidden for run in fake.begun} == {(32,)}
    assert {run.config.training.evaluate_every for run in fake.begun} == {None}
    sizes = {run.config.training.batch_size for run in fake.begun}
    assert sizes <= {16, 32, 64, 128}
    head, line, *_ = (tmp_path / 'runs/tune-table-mlp/trials.csv').read_text().splitlines()
    values = dict(zip(head.split(','), line.split(','), strict=True))
    assert (values['training.batch_size'], values['embedding.penalty']) == ('32', '0.01')
    page = (tmp_path / 'runs/tune-table-mlp/search.md').read_text()
    assert '| `training.batch_size` | `16`, `32`, `64`, `128` |' in page


def test_the_page_has_the_first_trial_however_bad(tmp_path, monkeypatch):
    Fake(monkeypatch)
    # The config's own learning rate has the highest AUC, and so the lowest score.
    monkeypatch.setattr(search.Search, 'score', lambda self, evaluation: -evaluation['auc'])
    (tmp_path / 'space.toml').write_text('[optimizer]\nlearning_rate = { low = 5e-3, high = 1.0 }')
    flags = ('--dataset=synthetic', '--model=lr', f'--space={tmp_path}/space.toml', '--trials=30')
    assert tune.main(['tune', *flags, f'--workdir={tmp_path}/runs']) == 0
    lines = (tmp_path / 'runs/tune-synthetic-lr/search.md').read_text().splitlines()
    rows = [line for line in lines if '--config.optimizer.learning_rate=' in line]
    assert len(rows) == 11
    assert rows[-1].startswith('| 0 |')
    assert "Trial 0 has the config's own values, as far as the space holds them." in lines


def test_all_keys_of_the_space_are_given(tmp_path, data_dir, capsys):
    space_file = tmp_path / 'space.toml'
    space_file.write_text('[model]\ndropout = [0.1, 0.2]')
    flags = (*own_table_flags(tmp_path, data_dir), '--model=mlp', f'--space={space_file}')
    assert tune.main(['tune', *flags, '--config.model.dropout=0.3']) == 2
    assert f'{space_file}: no keys to search' in capsys.readouterr().err


def test_the_command(tmp_path, data_dir):
    (tmp_path / 'space.toml').write_text(
        '[optimizer]\nlearning_rate = [0.002, 0.2]\n[embedding]\nstd = [0.1, 0.2]'
    )
    flags = [
        '--dataset=synthetic', '--model=lr', f'--space={tmp_path}/space.toml', f'--workdir={tmp_path}/runs',
        f'--data_dir={data_dir}', *SMALL_DATA, "--config.training.metrics=('brier',)",
    ]  # fmt: skip
    done = run_command(*flags, '--trials=1')
    assert done.returncode == 0, done.stderr
    before = json.loads(done.stdout)
    assert (before['runs'], before['finished'], before['best']['number']) == (1, 1, 0)

    done = run_command(*flags, '--trials=2')
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert done.stderr.count('begins') == 1
    assert (told['finished'], told['errors'], told['failed']) == (2, [], [])
    best = told['best']
    assert set(told['flags']) == {f'--config.{key}={value}' for key, value in best['values'].items()}
    folder = tmp_path / 'runs/tune-synthetic-lr'
    head, *lines = (folder / 'trials.csv').read_text().splitlines()
    assert head.startswith('number,state,score,auc,logloss,brier,seconds,error,evaluations,')
    assert len(lines) == 2
    page = (folder / 'search.md').read_text()
    assert 'Aim: AUC ↑ on the validation part' in page
    assert '| trial | AUC ↑ | Logloss ↓ | Brier score ↓ | seconds | flags |' in page
    assert f'{best["others"]["brier"]:.5f}' in page
    assert f'{best["auc"]:.5f}' in page
    assert '| `optimizer.learning_rate` | `0.002`, `0.2` |' in page


@pytest.mark.parametrize(
    ('entry', 'says'),
    [
        ('[model]\nembedding_size = [0, -1]', 'model.embedding_size'),
        pytest.param('[embedding]\nstd = [1e38]', 'the loss is', marks=pytest.mark.slow),
    ],
)
def test_trials_that_fail(entry, says, tmp_path, data_dir):
    """A value that cannot be, or diverges, costs its trial alone; a search without any result says so."""
    (tmp_path / 'space.toml').write_text(entry)
    flags = [
        '--dataset=synthetic', '--model=mlp', f'--space={tmp_path}/space.toml', f'--workdir={tmp_path}/runs',
        f'--data_dir={data_dir}', '--trials=2', *SMALL_DATA,
    ]  # fmt: skip
    done = run_command(*flags)
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    assert done.stderr.splitlines()[-1].startswith('error: 2 of 2 runs failed: trial 0: ')
    told = json.loads(done.stdout)
    assert (told['finished'], told['best'], len(told['errors'])) == (0, None, 2)
    assert says in (tmp_path / 'runs/tune-synthetic-mlp/search.md').read_text()


@pytest.mark.parametrize('module', [compare, tune])
def test_help_goes_to_standard_output(module, capsys):
    with pytest.raises(SystemExit, match='0'):
        module.main(['command', '--help'])
    said = capsys.readouterr()
    assert module.__doc__.splitlines()[0] in said.out
    assert '--workdir' in said.out
    assert said.err == ''


@pytest.mark.parametrize(
    ('flags', 'code', 'message'),
    [
        ((), 2, 'a search needs a dataset and a model'),
        (
            ('--dataset=synthetic', '--model=lr', '--space=no.toml'),
            2,
            'no.toml: there is no such',
        ),
        (('--dataset=synthetic', '--model=lightgbm'), 2, '--model=lightgbm: a baseline has no settings to'),
        (
            ('--dataset=table', '--model=logistic'),
            2,
            '--model=logistic: a baseline has no',
        ),
        (('--dataset=table', '--model=mlp'), 2, 'table needs files'),
        (('--dataset=synthetic', '--model=dlff'), 2, "--model=dlff: .* did you mean 'dlf'"),
        (('--dataset=synthetic', '--model=dlf', '--config.seed=3'), 2, 'use --seed$'),
        (('--dataset=synthetic', '--model=dlf', '--config.seeds=3'), 2, 'a trial is one run'),
        (('--dataset=frappe', '--model=dlf'), 2, 'frappe needs files: --files=FOLDER'),
        (('--dataset=synthetic', '--model=mlp,lr'), 2, 'expected one model'),
        (('--dataset=synthetic', '--model=mlp', '--space=configs/spaces/dlf.toml'), 2, 'no key config.model'),
    ],
)
def test_wrong_commands(tmp_path, flags, code, message, capsys):
    assert tune.main(['tune', f'--workdir={tmp_path}', *flags]) == code
    said = capsys.readouterr()
    assert said.out == ''
    assert re.search(message, said.err.strip()), said.err
    assert list(tmp_path.iterdir()) == []
