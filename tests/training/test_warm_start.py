"""A run that begins with another's weights: what it takes over, what it tells, what it refuses."""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import polars as pl
import pytest

import dlf_jax
from dlf_jax.compiling import data_sizes
from dlf_jax.data import builders
from dlf_jax.data.loading.batches import TrainingBatches
from dlf_jax.data.loading.order import Order
from dlf_jax.data.preprocess.encoder import Encoder
from dlf_jax.errors import UsageError, UserError
from dlf_jax.training import train_state, warm_start
from dlf_jax.training.checkpoint import Checkpoints
from dlf_jax.training.model_setup import TrainingSetup
from dlf_jax.training.preemption import Preempted, Preemption
from dlf_jax.workdir import Workdir
from tests.conftest import ROOT
from tests.training import growth

pytestmark = pytest.mark.usefixtures('compiled_once')
SMALL = {
    'dataset.block_rows': 256, 'model.embedding_size': 4, 'training.batch_size': 256, 'training.epochs': 1,
    'optimizer.embedding_rows': 'lazy_adam', 'plateau.patience': 0,
}  # fmt: skip


def config_of(files, day, model='fm', **changes):
    values = {'dataset.name': 'table', 'dataset.train': str(files / f'{day}.csv'), **SMALL, **changes}
    return dlf_jax.load_config(
        model=model, overrides={'dataset.schema': str(files / 'schema.toml'), **values}
    )


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Days 0 and 1; `again`, whose values day 0 has."""
    folder = tmp_path_factory.mktemp('days')
    growth.write(folder)
    return folder


@pytest.fixture(scope='module')
def before(files):
    dlf_jax.train(config_of(files, 0), files / 'before', files / 'data')
    return files / 'before'


@pytest.fixture(scope='module')
def after(files, before):
    """The workdir of day 1, begun from day 0."""
    config = config_of(files, 1, **{'training.warm_start': str(before)})
    dlf_jax.train(config, files / 'after', files / 'data')
    return files / 'after'


def state(workdir, step=None):
    """State of a checkpoint of a run, and its encoder."""
    encoder = Encoder.load(workdir / 'encoder')
    setup = TrainingSetup(Workdir(workdir).config(), encoder.schema, 100, 256)
    checkpoints = Checkpoints(
        workdir / 'checkpoints', [0], setup.abstract_state, setup.optimizer, read_only=True
    )
    found, _ = checkpoints.restore(step)
    checkpoints.close()
    return jax.device_get(found), encoder, setup


def test_rows_and_moments_travel_with_their_values(before, after):
    (old, was, _), (new, now, _) = state(before), state(after, 0)
    assert now.growth['user']['new'] > 0
    assert growth.check_moved(old, was, new, now) > 100
    assert int(new.step) == int(old.step) > 0
    for one, other in zip(
        jax.tree.leaves(old.params['dense']), jax.tree.leaves(new.params['dense']), strict=True
    ):
        assert np.array_equal(one, other)


def test_result_tells_progressive_metrics_and_growth(before, after):
    result = json.loads((after / 'result.json').read_text())
    began, growth_of = result['began_from'], result['growth']
    assert (began['path'], began['seed'], began['step']) == (str(before), 0, state(before)[0].step)
    config = json.loads((after / 'config.json').read_text())
    assert config['training']['warm_start'] == str(before)
    # The model of day 0 on the same rows, by the road of prediction.
    table = pl.read_csv(config['dataset']['train'])
    table = table.head(result['progressive']['rows'])
    expected = dlf_jax.load(before).evaluate(table)
    assert result['progressive']['auc'] == pytest.approx(expected['auc'], abs=1e-6)
    assert result['progressive']['logloss'] == pytest.approx(expected['logloss'], abs=1e-6)
    ratio = float(dlf_jax.load(before).predict(table).mean()) / table['click'].mean()
    assert result['progressive']['calibration_ratio'] == pytest.approx(ratio, rel=1e-5)
    changes = pl.read_parquet(after / 'encoder' / 'changes.parquet')
    assert len(changes.filter(pl.col('field') == 'user')) == growth_of['user']['new']


def test_known_values_end_as_going_on_would(files, before, tmp_path):
    """A pass over rows whose values are all known ends with the bits of a plain loop of steps from the old
    run's state over the same batches."""
    config = config_of(files, 'again', **{'training.warm_start': str(before)})
    dlf_jax.train(config, tmp_path / 'run', files / 'data')
    ended, encoder, _ = state(tmp_path / 'run')
    old, _, setup = state(before)
    builder = builders.build(config.dataset, str(files / 'data'), warm_start.ancestor(config))
    builder.prepare()
    assert encoder.growth['user']['new'] == 0
    blocks = builder.blocks('train')
    batches = TrainingBatches(blocks, Order(blocks.rows, blocks.block_rows, 256, 0), 1)
    shapes, step = setup.abstract_state(1), setup.train_step(1)
    going = jax.tree.map(lambda leaf, x: jax.device_put(leaf, x.sharding), old, shapes)
    for i in range(len(batches)):
        going, _ = step(going, setup.partitioner.put(batches[i]))
    going = jax.device_get(going)
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(going.replace(scratch={})),
        jax.tree.leaves(ended.replace(scratch={})), strict=True,
    ):  # fmt: skip
        assert np.array_equal(one, other), train_state.leaf_name(path)
    assert int(going.step) == int(old.step) + len(batches)


def test_moments_reset_and_rows_of_the_unknown(files, before, tmp_path):
    """From a saved model, which has no moments to keep."""
    saved = tmp_path / 'saved'
    dlf_jax.load(before).save(saved)
    keys = {'training.warm_start': str(saved), 'training.new_rows': 'out_of_vocabulary'}
    with pytest.raises(UserError, match='a saved model, which has no moments'):
        dlf_jax.train(config_of(files, 1, **keys), tmp_path / 'run', files / 'data')
    config = config_of(files, 1, **keys, **{'training.keep_moments': False})
    origin = warm_start.Origin.of(str(saved))
    builder = builders.build(config.dataset, str(files / 'data'), warm_start.ancestor(config))
    builder.prepare()
    setup = TrainingSetup(config, builder.schema(), 100, 256)
    found = jax.device_get(warm_start.initial_state(config, setup, builder.encoder(), origin))
    assert int(found.step) == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(found.opt_state))
    old, was, _ = state(before)
    now = builder.encoder()
    table, rows = (s.params['tables']['categorical_2']['embedding'] for s in (found, old))
    new = range(was.schema.vocabulary_of(2), now.schema.vocabulary_of(2))
    assert len(new) == now.growth['user']['new'] > 0
    assert all(np.array_equal(table[row], rows[0]) for row in new)


def test_goes_on_without_what_it_began_from(files, after, tmp_path, monkeypatch):
    """A run that is interrupted after its first checkpoint."""
    source, run = tmp_path / 'source', tmp_path / 'run'
    shutil.copytree(files / 'before', source)
    config = config_of(files, 1, **{'training.warm_start': str(source)})

    class Killed(Exception):
        pass

    def killed(*arguments):
        raise Killed

    monkeypatch.setattr('dlf_jax.training.trainer.Trainer._train', killed)
    with pytest.raises(Killed):
        dlf_jax.train(config, run, files / 'data')
    monkeypatch.undo()
    shutil.rmtree(source)
    # Another model under another path is not what it began from; the run stays as it is.
    with pytest.raises(UserError, match=r'began from .*source.* is not the same model'):
        dlf_jax.train(config_of(files, 1, **{'training.warm_start': str(after)}), run, files / 'data')
    with pytest.raises(UserError, match=r'training.warm_start: .* there'):
        dlf_jax.train(config_of(files, 1), run, files / 'data')
    # Needed for data that is no longer there.
    with pytest.raises(UserError, match='source/encoder: gone'):
        dlf_jax.train(config, run, tmp_path / 'elsewhere')
    shutil.copytree(after, source)
    with pytest.raises(UserError, match='source/encoder: has changed'):
        dlf_jax.train(config, run, tmp_path / 'elsewhere')
    result = dlf_jax.train(config, run, files / 'data')
    expected = json.loads((after / 'result.json').read_text())
    for key in ('progressive', 'valid', 'test', 'growth', 'steps'):
        assert result[key] == expected[key]
    # What is there in part alone is not needed either.
    (source / 'encoder' / 'vocabulary.parquet').unlink()
    assert dlf_jax.train(config, run, files / 'data') == result
    moved = config_of(files, 1, **{'training.warm_start': str(source), 'dataset.block_rows': 256})
    moved.training.warm_start = str(tmp_path / 'moved')
    (tmp_path / 'moved' / 'encoder').mkdir(parents=True)
    with pytest.raises(UserError, match='is not the same model'):
        dlf_jax.train(moved, run, files / 'data')
    for one, other in zip(*(jax.tree.leaves(state(w)[0]) for w in (run, after)), strict=True):
        assert np.array_equal(one, other)


def test_changes_while_a_run_begins(before, tmp_path):
    """`latest` of days that are walked meanwhile: the link is followed once, and the end compared."""
    link, run = tmp_path / 'latest', tmp_path / 'copy'
    shutil.copytree(before, run)
    link.symlink_to(run)
    config = config_of(before.parent, 1, **{'training.warm_start': str(link)})
    assert config.training.warm_start == str(run)
    origin = warm_start.Origin.of(str(run))
    origin.check()
    (run / 'calibration.json').write_text('{}')
    with pytest.raises(UserError, match='changes while this run begins'):
        origin.check()


def test_stopped_before_the_first_checkpoint(files, before, tmp_path, monkeypatch):
    """While the training part is scored."""
    monkeypatch.setattr(Preemption, 'due', lambda self: True)
    config = config_of(files, 1, **{'training.warm_start': str(before)})
    with pytest.raises(Preempted, match='before the first step; the same command goes on'):
        dlf_jax.train(config, tmp_path / 'run', files / 'data')


def test_programs_are_of_the_grown_tables(files, after):
    config = Workdir(after).config()
    found = data_sizes.find(config, str(files / 'data'))
    assert found.schema.vocabulary == Encoder.load(after / 'encoder').schema.vocabulary


def test_what_does_not_fit_is_named(files, before, tmp_path):
    def refused(error, **changes):
        config = config_of(files, 1, **{'training.warm_start': str(before), **changes})
        with pytest.raises(UserError) as caught:
            dlf_jax.train(config, tmp_path / 'run', files / 'data')
        assert error in str(caught.value)
        assert not (tmp_path / 'run' / 'config.json').exists()

    refused('config.model.embedding_size 4 there, 8 now', **{'model.embedding_size': 8})
    refused(
        "config.optimizer.embedding_rows 'lazy_adam' there, 'adam' now",
        **{'optimizer.embedding_rows': 'adam'},
    )
    text = (files / 'schema.toml').read_text()
    (tmp_path / 'other.toml').write_text(text.replace('hash_buckets = 5', 'hash_buckets = 6'))
    refused("field 'site': hash_buckets 5 before, 6 now", **{'dataset.schema': str(tmp_path / 'other.toml')})
    refused('no trained model here', **{'training.warm_start': str(tmp_path / 'nothing')})


@pytest.mark.parametrize(
    ('error', 'changes'),
    [
        ('config.seeds=2', {'seeds': 2}),
        ("config.optimizer.schedule='cosine'", {'optimizer.schedule': 'cosine'}),
        ("config.training.new_rows='zero'", {'training.new_rows': 'zero'}),
        ('config.dataset.forget_after=-1', {'dataset.forget_after': -1}),
    ],
)
def test_keys_that_cannot_be(files, error, changes):
    with pytest.raises(UsageError, match=error):
        config_of(files, 1, **{'training.warm_start': 'before', **changes})


@pytest.mark.slow
def test_tables_cut_over_four_devices(tmp_path):
    flags = {'XLA_FLAGS': '--xla_force_host_platform_device_count=4', 'JAX_PLATFORMS': 'cpu'}
    command = [sys.executable, '-m', 'tests.training.growth', str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **flags},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
