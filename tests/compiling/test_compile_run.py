"""What a run would take, of devices that are here and of some that are not."""

import importlib.util
import types

import jax
import numpy as np
import pytest

import dlf_jax
from dlf_jax import config as configs
from dlf_jax import workdir
from dlf_jax.compiling import compile_run, data_sizes, programs, targets
from dlf_jax.compiling.programs import Program
from dlf_jax.errors import UsageError, UserError
from dlf_jax.training.model_setup import TrainingSetup
from tests.conftest import TINY, config_of, fail, run


def test_the_command_tells_what_a_run_takes(tmp_path):
    text = tmp_path / 'step.txt'
    found = run(
        *TINY, '--mode=compile', f'--data_dir={tmp_path / "data"}', f'--config.compile.text={text}',
        env={'XLA_FLAGS': '--xla_force_host_platform_device_count=4'},
    )  # fmt: skip
    assert (found['devices'], found['device'], found['fits']) == (4, 'cpu', True)
    assert found['data'] == 'the published sizes of synthetic'
    for name in ('create', 'step', 'predict'):
        assert found[name]['kernels'] > 0
        assert found[name]['total_gb'] > 0
    counts = found['parameters']
    # All gradients are summed over the devices.
    reduced = 2 * 3 / 4 * 4 * (counts['dense'] + counts['table']) / 1e6
    assert found['step']['collectives']['all-reduce']['megabytes'] >= reduced
    assert not found['predict']['collectives']
    assert 'optimizer/apply' in found['step']['parts']
    assert any(part.startswith('backward tower/hidden') for part in found['step']['parts'])
    assert 'ENTRY' in text.read_text()
    # It needs no data, and makes none.
    assert not (tmp_path / 'data').exists()


def test_a_step_holds_its_state_and_batch_and_takes_the_operations_of_its_products():
    config = config_of(*TINY, '--config.training.batch_size=512', '--config.model.hidden=(64,)')
    found = compile_run.compile_run(config, 'nowhere')
    setup = TrainingSetup(config, data_sizes.find(config, 'nowhere').schema, 10, 512)
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(setup.abstract_state(1)))
    batch = 512 * 4 * (26 + 13 + 2)
    assert found['step']['held_gb'] == pytest.approx((held + batch) / 1e9, rel=0.01, abs=1e-3)
    # A product forward and two backward; sums and norms beside them are small.
    products = 3 * 2 * 512 * (39 * 4 * 64 + 64)
    assert products / 1e9 <= found['step']['gigaflops'] <= 1.4 * products / 1e9


def test_sizes_are_those_of_prepared_data_where_there_is_some(tmp_path):
    config = config_of(*TINY)
    assert 'published' in data_sizes.find(config, str(tmp_path)).source
    told = dlf_jax.prepare(config, tmp_path)
    found = data_sizes.find(config, str(tmp_path))
    assert told['folder'] in found.source
    assert (found.schema.vocabulary, found.rows) == (told['vocabulary'], told['rows']['train'])
    batch = found.batch()
    assert batch['categorical'].shape == (1, 26)
    assert batch['categorical'].dtype == np.int32
    assert batch['numeric'].shape == (1, 13)
    assert batch.keys() == {'categorical', 'numeric', 'label', 'weight'}


@pytest.mark.parametrize('name', ['criteo', 'avazu', 'movielens', 'frappe'])
def test_public_datasets_need_no_data(name):
    config = dlf_jax.load_config(f'configs/{name}.py', 'mlp', overrides={'compile.vocabulary': 1_000_000})
    found = data_sizes.find(config, 'nowhere')
    assert found.schema.vocabulary == pytest.approx(1_000_000, rel=0.01)
    # A model may ask for a field by its name.
    wanted = dlf_jax.load_config(f'configs/{name}.py', 'finalmlp').model.context_1
    assert set(wanted) <= {field.name for field in found.schema.fields}


def test_an_own_table_has_to_be_prepared(tmp_path):
    config = dlf_jax.load_config('configs/table.py', 'mlp')
    with pytest.raises(UserError, match='--mode=prepare'):
        data_sizes.find(config, str(tmp_path))


def test_targets_that_cannot_be(monkeypatch):
    with pytest.raises(UsageError, match=r"'v9:2x2': no such kind of device; known: a100"):
        targets.devices_of('v9:2x2')
    for target in ('v5e:8', 'v5e:2xb', 'h100:0', 'h100:9', 'h100:2x2'):
        with pytest.raises(UsageError, match='expected a'):
            targets.devices_of(target)
    assert targets.devices_of('') == jax.devices()

    def refuse(*_, **__):
        raise RuntimeError('JAX TPU support not installed')

    monkeypatch.setattr(targets.topologies, 'get_topology_desc', refuse)
    for target, extra in (('v5e:2x4', 'tpu'), ('a100', 'cuda13')):
        with pytest.raises(UserError, match=rf"pip install 'dlf_jax\[{extra}\]'"):
            targets.devices_of(target)


def test_a_step_under_pmap_and_a_text_without_a_folder_are_refused(tmp_path):
    with pytest.raises(UsageError, match='pmap'):
        compile_run.compile_run(config_of(*TINY, '--config.parallel=pmap'), 'nowhere')
    told = fail(*TINY, '--mode=compile', f'--config.compile.text={tmp_path}/no/step.txt')
    assert 'config.compile.text' in told
    assert 'there is no folder' in told


def setup_on(count):
    """So many devices of 10 GB, and replicated tables."""
    partitioner = types.SimpleNamespace(devices=count * jax.devices(), shard_rows=False)
    config = config_of(*TINY, '--config.training.batch_size=4096')
    return types.SimpleNamespace(partitioner=partitioner, memory=10e9, config=config)


def test_what_does_not_fit_says_what_would():
    one, eight = setup_on(1), setup_on(8)
    large = Program(1.0, 1.0, held=2e9, temporary=20e9, text='')
    told = compile_run.advice('step', large, one)
    assert '--config.training.batch_size=1600' in told
    assert '--config.training.accumulate=4' in told
    assert '3 such devices' in told
    told = compile_run.advice('predict', large, eight)
    assert '--config.predict.batch_size=1600' in told
    assert 'accumulate' not in told
    assert '24 such devices' in told
    full = Program(1.0, 1.0, held=11e9, temporary=1e9, text='')
    assert compile_run.advice('step', full, eight).endswith(': --config.sharding.tables=rows')
    assert 'more devices' in compile_run.advice('step', full, one)
    found = programs.report(large, jax.devices(), one.memory)
    assert (found['fits'], found['total_gb']) == (False, 22.0)


class TooLarge:
    """A traced program whose compiler gives up."""

    def __init__(self, message):
        self.message = message

    def compile(self):
        raise jax.errors.JaxRuntimeError(self.message)


@pytest.mark.parametrize(
    ('message', 'temporary'),
    [
        (
            'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries '
            '(33.13G) exceeds available HBM (15.75G).',
            33.13 * 2**30,
        ),
        (
            'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. '
            'Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G.',
            20.5 * 2**30 - 1e9,
        ),
    ],
)
def test_a_compiler_that_gives_up_tells_how_much_was_missing(message, temporary):
    program = programs.compiled(lambda: TooLarge(message), state=1e9)
    assert program.temporary == pytest.approx(temporary)
    assert (program.held, program.text) == (1e9, '')
    with pytest.raises(jax.errors.JaxRuntimeError, match='of ours'):
        programs.compiled(lambda: TooLarge('INTERNAL: a mistake of ours'), 1e9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('target', 'compiler'),
    [('v5e:2x2', 'libtpu'), ('h100', 'jax_cuda13_plugin'), ('a100:8', 'jax_cuda13_plugin')],
)
def test_a_model_compiles_for_devices_that_are_not_here(target, compiler):
    if not importlib.util.find_spec(compiler):
        pytest.skip(f'needs the compiler for {target}, the package {compiler}')
    found = run(*TINY, '--mode=compile', f'--config.compile.target={target}')
    assert found['devices'] == {'v5e:2x2': 4, 'h100': 1, 'a100:8': 8}[target]
    assert found['fits']
    assert found['step']['bound_ms'] > 0
    assert found['step']['traffic_ms'] > 0
    assert bool(found['step']['collectives']) == (found['devices'] > 1)
    assert ('estimated_cycles' in found['step']) == (compiler == 'libtpu')


@pytest.mark.slow
@pytest.mark.parametrize('target', ['h100', 'h100:2'])
def test_the_attention_kernel_compiles_for_a_gpu_that_is_not_here(target, tmp_path):
    if not importlib.util.find_spec('jax_cuda13_plugin'):
        pytest.skip('needs the compiler for GPUs, the package jax_cuda13_plugin')
    text, rows = tmp_path / 'step.txt', 64
    run(
        *TINY, '--config.model.name=dlf', '--config.model.attention_kernel=mosaic_gpu',
        '--config.precision=bfloat16', '--config.model.embedding_size=32', '--config.model.layers=1',
        f'--config.training.batch_size={rows}', '--mode=compile', f'--config.compile.target={target}',
        f'--config.compile.text={text}',
    )  # fmt: skip
    program = text.read_text()
    # Two attention layers, forward and backward, on each device's own rows of 16 tokens.
    assert program.count('custom_call_target="mosaic_gpu_v2"') == 4
    assert f'bf16[{16 * rows // (2 if ":" in target else 1)},32]' in program
    assert ' all-gather(' not in program


def test_compile_keys_may_differ_between_the_runs_of_a_workdir():
    assert all(key.startswith(workdir.FREE) for key, _ in configs.flatten({'compile': {'target': ''}}))
