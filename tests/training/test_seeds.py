"""Runs of several seeds, trained together, are the runs that they would be alone."""

import json
import shutil
import signal
import statistics
import time

import chex
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from dlf_jax import api, config_checks
from dlf_jax import config as configs
from dlf_jax.data import builders
from dlf_jax.errors import UsageError, UserError
from dlf_jax.serving.predict import Predictor
from dlf_jax.trained_model import TrainedModel
from dlf_jax.training import run_progress
from dlf_jax.training.loss_guard import AHEAD, LossGuard
from dlf_jax.training.model_setup import TrainingSetup
from dlf_jax.training.run_progress import RunProgress
from dlf_jax.training.schedules import Plateau
from dlf_jax.training.seeds import stack_runs, unstack_runs, vmap_runs
from dlf_jax.workdir import Workdir
from tests.conftest import command, finish, run
from tests.test_resume import course, last_line
from tests.training import test_train_step

SEEDS = (0, 1, 2)
# An MLP with BatchNorm and dropout whose learning rate drops, and whose seeds stop at different
# steps. A large eps makes Adam's step follow the gradient's size, not the sign of its rounding.
FLAGS = {
    'dataset.rows': 3000, 'dataset.block_rows': 256, 'model.hidden': (8,), 'model.embedding_size': 4,
    'model.dropout': 0.2, 'training.batch_size': 256, 'training.epochs': 8,
    'training.evaluate_every': 4, 'training.checkpoint_every': 3, 'training.log_every': 1,
    'plateau.factor': 0.5,
    'optimizer.learning_rate': 0.25, 'optimizer.eps': 0.01, 'embedding.std': 0.2,
}  # fmt: skip


def config_of(seed, seeds=1):
    config = configs.get_config('mlp')
    config.update_from_flattened_dict({**FLAGS, 'seed': seed, 'seeds': seeds})
    config_checks.validate(config)
    return config


def train(config, folder, data_dir):
    """Trains in this process; the workdir."""
    api.train(config, folder, data_dir)
    return folder


def result(workdir):
    return json.loads((workdir / 'result.json').read_text())


def kept(workdir):
    return sorted(int(path.name) for path in (workdir / 'checkpoints').iterdir() if path.name.isdigit())


def saved(workdir, step):
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore((workdir / 'checkpoints' / str(step) / 'state').absolute())


def assert_close(lines, others):
    """The same lines of metrics but for rounding."""
    for line, other in zip(lines, others, strict=True):
        assert line.pop('kind') == other.pop('kind')
        assert line == pytest.approx(other, rel=1e-4, abs=1e-6)


# Programs that run for some steps are compiled fast rather than well, and once.
COMPILATION = {'jax_disable_most_optimizations': True, 'jax_persistent_cache_min_compile_time_secs': 0.1}


@pytest.fixture(scope='module', autouse=True)
def environment(tmp_path_factory):
    """Sets how this process compiles, and is the environment in which others do the same."""
    options = {**COMPILATION, 'jax_compilation_cache_dir': str(tmp_path_factory.mktemp('cache'))}
    before = {name: jax.config.values[name] for name in options}
    for values in (options, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if values is options:
            yield {name.upper(): str(value) for name, value in options.items()}


@pytest.fixture(scope='module')
def together(tmp_path_factory, data_dir):
    return train(config_of(0, len(SEEDS)), tmp_path_factory.mktemp('together') / 'run', data_dir)


@pytest.fixture(scope='module')
def alone(tmp_path_factory, data_dir):
    folder = tmp_path_factory.mktemp('alone')
    return {seed: train(config_of(seed), folder / str(seed), data_dir) for seed in SEEDS}


@pytest.mark.parametrize('seed', SEEDS)
def test_together_is_alone(together, alone, seed):
    found, expected = result(together)['runs'][SEEDS.index(seed)], result(alone[seed])
    assert list(found) == list(expected)
    for key in ('model', 'seed', 'steps', 'best_step', 'parameters'):
        assert found[key] == expected[key]
    for part in ('valid', 'test'):
        assert found[part] == pytest.approx(expected[part], abs=1e-6)
    # Line by line: losses, learning rates with their drops, scores.
    lines = [line for line in course(together) if line['seed'] == seed]
    assert_close(lines, course(alone[seed]))
    # The best state: parameters, BatchNorm's statistics, Adam's moments. A bias before BatchNorm
    # has no gradient but rounding, so it wanders a little.
    step = found['best_step']
    stack = [run['seed'] for run in result(together)['runs'] if run['steps'] >= step]
    state = unstack_runs(saved(together, step), len(stack))[stack.index(seed)]
    chex.assert_trees_all_close(state, saved(alone[seed], step), rtol=1e-4, atol=1e-4)


def test_the_seeds_stop_and_drop_at_different_steps(together):
    """What the test above rests on."""
    runs = result(together)['runs']
    assert len({run['steps'] for run in runs}) == len({run['best_step'] for run in runs}) == 3
    lines = course(together)
    assert min(line['learning_rate'] for line in lines if line['kind'] == 'train') < 0.2
    for run_ in runs:
        taken = [line['step'] for line in lines if line['kind'] == 'train' and line['seed'] == run_['seed']]
        assert taken == list(range(1, run_['steps'] + 1))


def test_result_of_all(together):
    found = result(together)
    runs = found['runs']
    assert found['seeds'] == [run['seed'] for run in runs] == list(SEEDS)
    assert found['steps'] == max(run['steps'] for run in runs)
    for part in ('valid', 'test'):
        for name in ('auc', 'logloss'):
            values = [run[part][name] for run in runs]
            assert found['mean'][part][name] == pytest.approx(statistics.mean(values))
            assert found['std'][part][name] == pytest.approx(statistics.stdev(values))
    best = max(runs, key=lambda run: run['valid']['auc'])
    assert found['best_seed'] == best['seed']
    assert {path.name for path in (together / 'tensorboard').iterdir()} == {f'seed-{s}' for s in SEEDS}


def test_checkpoints_are_the_latest_and_the_best_ones(together):
    found = result(together)
    wanted = {found['steps'], *(run['best_step'] for run in found['runs'])}
    # And the one before the latest, should that be damaged.
    before = set(kept(together)) - wanted
    assert wanted <= set(kept(together))
    assert len(before) <= 1
    assert all(step == sorted(kept(together))[-2] for step in before)


def scores(workdir, config, seed, tmp_path):
    config.predict.seed = seed
    found = TrainedModel(workdir, config).evaluate(tmp_path / 'valid.csv')
    return {name: value for name, value in found.items() if name != 'out_of_vocabulary'}


def test_prediction_takes_the_best_or_the_given_seed(together, tmp_path, data_dir):
    config = Workdir(together).config()
    builder = builders.build(config.dataset, str(data_dir))
    whole = builder.task.tables['all']
    (chunk,) = whole.chunks(builder.task.columns())
    counts = builder.info.metadata['rows']
    chunk.frame.slice(counts['train'], counts['valid']).write_csv(tmp_path / 'valid.csv')

    found = result(together)
    by_seed = {run['seed']: run['valid'] for run in found['runs']}
    for seed in (-1, *SEEDS):
        wanted = by_seed[found['best_seed'] if seed == -1 else seed]
        told = scores(Workdir(together), config, seed, tmp_path)
        assert told == pytest.approx({name: wanted[name] for name in told}, abs=1e-6)
    with pytest.raises(UsageError, match=r'config.predict.seed=7: no such run here; .* seeds 0, 1, 2'):
        scores(Workdir(together), config, 7, tmp_path)


def test_workdir_from_before_several_seeds(alone, tmp_path, data_dir):
    """Its config lacks keys, and its checkpoints hold one run's progress, not a list."""
    old = shutil.copytree(alone[0], tmp_path / 'old')
    config = json.loads((old / 'config.json').read_text())
    del config['seeds'], config['predict']['seed']
    (old / 'config.json').write_text(json.dumps(config))
    for path in old.glob('checkpoints/*/progress/metadata'):
        (run_,) = json.loads(path.read_text())['runs']
        del run_['steps']
        path.write_text(json.dumps(run_))
    Predictor(Workdir(old), Workdir(old).config())
    wanted = config_of(0)
    assert api.train(wanted, old, data_dir) == result(alone[0])
    (old / 'result.json').unlink()
    again = result(train(wanted, old, data_dir))
    for key in ('seed', 'steps', 'best_step', 'valid', 'test'):
        assert again[key] == result(alone[0])[key]


def test_more_epochs_and_more_patience(tmp_path, data_dir):
    config = config_of(45, 2)
    config.training.epochs = 2
    folder = train(config, tmp_path / 'run', data_dir)
    # The second had no patience left before the end of the second epoch.
    assert [run['steps'] for run in result(folder)['runs']] == [18, 16]
    config.plateau.patience = 3
    with pytest.raises(UserError, match=r'another config \(plateau.patience: 2 there, 3 now\)'):
        Workdir(folder).finished(config)
    config.plateau.patience = 2
    config.training.epochs = 3
    longer = [run['steps'] for run in result(train(config, folder, data_dir))['runs']]
    # The first goes on, to an evaluation that ends its patience too; the second stays where it was.
    assert longer == [24, 16]


def test_keys_that_cannot_be():
    config = configs.get_config('mlp')
    for key, value, message in (
        ('seeds', 0, 'config.seeds=0: expected at least 1'),
        ('seed', 2**31 - 2, r'config.seeds=3: expected seeds less than 2\^31'),
        ('predict.seed', -2, 'config.predict.seed=-2: expected a seed'),
    ):
        bad = configs.get_config('mlp')
        bad.seeds = 3
        bad.update_from_flattened_dict({key: value})
        with pytest.raises(UsageError, match=message):
            config_checks.validate(bad)
    config_checks.validate(config)


def test_a_loss_that_is_not_finite_names_the_seed(tmp_path):
    guard = LossGuard(tmp_path, config_of(3, 2))
    guard.add(1, [3, 4], {'loss': np.array([0.5, 0.6]), 'gradient_norm': np.ones(2)})
    guard.add(2, [3, 4], {'loss': np.array([0.5, np.nan]), 'gradient_norm': np.ones(2)})
    # The first step that was not finite is named, and not the latest.
    guard.add(3, [3, 4], {'loss': np.array([np.nan, np.nan]), 'gradient_norm': np.ones(2)})
    with pytest.raises(UserError, match=r'^seed 4, step 2: the loss is nan; .* was 0.6 at step 1'):
        guard.read()


def test_metrics_are_read_of_steps_that_are_done_alone(tmp_path):
    """What the device may still be at stays there, for a later reading."""
    guard = LossGuard(tmp_path, config_of(3, 2))
    for step in range(1, AHEAD + 4):
        loss = np.float32(np.nan if step == AHEAD + 3 else step)
        guard.add(step, [3], {'loss': loss, 'gradient_norm': np.float32(1)})
    assert guard.done == 3
    assert guard.read(2)[3]['loss'] == 2
    assert guard.read(guard.done)[3]['loss'] == 3
    with pytest.raises(UserError, match=rf'^seed 3, step {AHEAD + 3}: the loss is nan'):
        guard.read()


def test_best_seed_is_the_lowest_of_equals():
    best = {3: None, 4: 0.7, 5: 0.8, 6: 0.8}
    assert run_progress.best_seed({s: RunProgress(plateau=Plateau(best=b)) for s, b in best.items()}) == 5
    assert run_progress.best_seed({s: RunProgress() for s in (3, 4)}) == 3


@pytest.mark.slow
def test_a_stacked_step_of_dlf_is_the_steps_alone():
    config = test_train_step.config_of('dlf', optimizer__eps=1.0, optimizer__learning_rate=0.1)
    config.model.update({'layers': 1, 'tokens': 3, 'rank': 4, 'hidden': (8,), 'head': (8,), 'dropout': 0.3})
    seeds = (0, 5)
    setup = TrainingSetup(config, test_train_step.SCHEMA, 100, 32, jax.devices()[:1])
    step, shapes = setup.body(), jax.eval_shape(setup.create, np.int32(0))
    states, batches = (
        [state_of(shapes, seed) for seed in seeds],
        [test_train_step.batch_of(32, 3, s) for s in seeds],
    )
    stacked, alone = jax.jit(vmap_runs(step, 2)), jax.jit(step)
    found = stacked(stack_runs(states), stack_runs(batches, np.stack))
    for i, part in enumerate(unstack_runs(found, 2)):
        chex.assert_trees_all_close(part, alone(states[i], batches[i]), rtol=1e-4, atol=1e-5)


def state_of(shapes, seed):
    """A state of random parameters, made without compiling anything."""
    draw = np.random.default_rng(seed)

    def filled(value):
        return lambda leaf: np.full(leaf.shape, value, leaf.dtype)

    return jax.tree.map(filled(0), shapes).replace(
        seed=np.int32(seed),
        params=jax.tree.map(lambda x: draw.normal(0, 0.3, x.shape).astype(np.float32), shapes.params),
        batch_stats=jax.tree.map(filled(1), shapes.batch_stats),
        learning_rate_scale=np.float32(0.5),
    )


# As processes, which share what is compiled with this one.
COMMAND = (
    '--config.model.name=mlp',
    *(f'--config.{key}={value}'.replace(' ', '') for key, value in FLAGS.items()),
)


@pytest.mark.slow
def test_kill_9(together, tmp_path, data_dir, environment):
    """While all train, and at the step at which the stack shrinks."""
    flags = (*COMMAND, '--config.seeds=3', f'--workdir={tmp_path}', f'--data_dir={data_dir}')
    stops = sorted(run_['steps'] for run_ in result(together)['runs'])
    for moment in (stops[0] - 6, stops[0]):
        process = command(*flags, env=environment)
        while process.poll() is None:
            last = last_line(tmp_path)
            if last and last['step'] >= moment:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert finish(process).returncode == -signal.SIGKILL
        assert last_line(tmp_path)['step'] < stops[-1]
    run(*flags, env=environment)
    assert course(tmp_path) == course(together)
    assert kept(tmp_path) == kept(together)
    for step in kept(tmp_path):
        chex.assert_trees_all_equal(saved(tmp_path, step), saved(together, step))
    for one, other in zip(*(result(workdir)['runs'] for workdir in (tmp_path, together)), strict=True):
        for key in ('seed', 'steps', 'best_step', 'valid', 'test'):
            assert one[key] == other[key]


@pytest.mark.slow
def test_four_devices_agree_with_one(together, tmp_path, data_dir, environment):
    run(
        *COMMAND, '--config.seeds=2', '--config.training.epochs=1', f'--workdir={tmp_path}',
        f'--data_dir={data_dir}',
        env={**environment, 'XLA_FLAGS': '--xla_force_host_platform_device_count=4'},
    )  # fmt: skip
    found, expected = (
        [line for line in course(workdir) if line['step'] <= 8 and line['seed'] < 2]
        for workdir in (tmp_path, together)
    )
    assert_close(found, expected)
