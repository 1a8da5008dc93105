"""The peer of `benchmarks/step.py` computes the same functions."""

import json
import os
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import mlperf, step
from benchmarks.step_ours import Trainer, product_flops
from dlf_jax.models import embedding
from tests.conftest import ROOT

MLP = {'hidden': [8, 6], 'batch_norm': True, 'dropout': 0.0}
DLF = {'embedding_size': 4, 'layers': 2, 'tokens': 3, 'rank': 2, **MLP}
CASES = {
    ('dcnv2', 'full'): {'embedding_size': 4, 'cross_layers': 2, **MLP},
    ('deepfm', 'full'): {'embedding_size': 4, **MLP},
    ('dlf', 'full'): {**DLF, 'attention_layers': 2, 'heads': 2, 'head': []},
    ('dlf', 'released'): {**DLF, 'head': [7]},
}
MLPERF = {'embedding_size': 4, 'bottom_hidden': [8], 'cross_layers': 2, 'rank': 3, 'hidden': [9, 7]}


def specification(folder, model, variant):
    shape = CASES[model, variant]
    options = step.flags(
        [
            *(f'--model={model}', f'--variant={variant}', '--fields=5', '--vocabulary=60', '--batch_size=16'),
            *(f'--shape={json.dumps(shape)}', '--peer=none', '--penalty=0.1', '--batches=2'),
        ]
    )
    spec = step.specification(options, folder)
    (folder / 'spec.json').write_text(json.dumps(spec))
    return json.loads((folder / 'spec.json').read_text())


def bag_specification(folder):
    """MLPerf's fields in small."""
    flags = ['--preset=dlrm-mlperf', '--cap=40', '--batch_size=16', '--batches=2', '--peer=none']
    spec = step.specification(step.flags([*flags, f'--shape={json.dumps(MLPERF)}']), folder)
    (folder / 'spec.json').write_text(json.dumps(spec))
    return json.loads((folder / 'spec.json').read_text())


def random_state(trainer):
    """Every parameter drawn anew, so that no zero, one or symmetry hides anything."""
    draw = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: draw.normal(0, 0.5, leaf.shape).astype(np.float32), trainer.state.params
    )
    return trainer.state.replace(params=params)


@pytest.fixture
def peer():
    """What runs a script of the peer's."""
    if not step.PEER.exists():
        pytest.skip('needs PyTorch, in the peer of benchmarks/peer_environment.sh')
    return run_peer


def run_peer(script, *arguments):
    """The JSON object that a script of the peer's prints last."""
    command = [step.PEER, f'benchmarks/{script}', *arguments]
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        # Of more threads, each spins while it waits for those that other work keeps from running.
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def outputs(trainer, state, train):
    """Logits of the first batch, and the gradient of half their squares' sum by the rows looked up."""
    batch = trainer.batches[0]
    rows = embedding.lookup(state.params['tables'], state.params['dense']['embedding'], batch, trainer.schema)
    variables = {'params': state.params['dense']['model'], 'batch_stats': state.batch_stats}

    inputs = embedding.make_inputs({}, {}, batch, trainer.schema, summed=True)
    options = {'inputs': inputs} if trainer.model.wants_inputs else {}

    def energy(rows):
        mutable = ['batch_stats'] if train else []
        logits, _ = trainer.model.apply(variables, rows, train=train, mutable=mutable, **options)
        return 0.5 * jnp.sum(jnp.square(logits)), logits

    gradients, logits = jax.jit(jax.grad(energy, has_aux=True))(rows)
    return {'logits': logits, 'gradients': gradients}


@pytest.mark.slow
@pytest.mark.parametrize(('model', 'variant'), [*CASES, ('dlrm_dcnv2', 'full')])
def test_peer_computes_the_same_function(model, variant, peer, tmp_path):
    bags = model == 'dlrm_dcnv2'
    trainer = Trainer(bag_specification(tmp_path) if bags else specification(tmp_path, model, variant))
    state = random_state(trainer)
    leaves, _ = jax.tree.flatten_with_path(state.params)
    np.savez(tmp_path / 'weights.npz', **{'/'.join(key.key for key in path): leaf for path, leaf in leaves})
    found = peer('peer_torch_check.py', tmp_path / 'spec.json', tmp_path / 'weights.npz')
    for mode in ('evaluation', 'training'):
        expected = outputs(trainer, state, mode == 'training')
        assert_close(found[mode]['logits'], expected['logits'], mode)
        assert found[mode]['gradients'].keys() == expected['gradients'].keys()
        for table, gradient in expected['gradients'].items():
            if bags:
                # Without the numbers' places, which the model does not read.
                first = len(trainer.schema.categorical)
                gradient = np.delete(gradient, range(first, first + len(trainer.schema.numeric)), 1)
            assert_close(found[mode]['gradients'][table], gradient, f'{mode}, gradient of {table}')


def assert_close(found, expected, what):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * scale, err_msg=what)


@pytest.mark.slow
@pytest.mark.parametrize('way', ['eager', 'eager-bfloat16'])
def test_the_peer_on_a_device_trains(way, peer, tmp_path):
    specification(tmp_path, 'dlf', 'full')
    found = peer('peer_torch_device.py', tmp_path / 'spec.json', f'--way={way}', '--steps=10')
    assert 'error' not in found, found['error']
    assert 0 < found['loss'] < np.log(2)
    assert 0 < found['first_step_seconds'] <= found['third_step_seconds']


@pytest.mark.slow
def test_a_way_that_fails_is_a_row(peer, tmp_path):
    spec = specification(tmp_path, 'dlf', 'full')
    spec['shape']['heads'] = 3
    (tmp_path / 'spec.json').write_text(json.dumps(spec))
    found = peer('peer_torch_device.py', tmp_path / 'spec.json', '--way=eager')
    assert set(found) == {'way', 'error'}
    assert '\n' not in found['error']


def test_our_side_trains_and_tells_its_parts(tmp_path):
    trainer = Trainer(specification(tmp_path, 'dcnv2', 'full'))
    first = trainer.steps(1)['loss']
    assert trainer.steps(30)['loss'] < first
    assert list(trainer.parts(2)) == ['lookup', 'forward', 'backward', 'update']


def test_flops_are_those_of_the_products():
    jaxpr = jax.make_jaxpr(lambda a, b: jax.jit(lambda a, b: a @ b)(a, b).sum())
    assert product_flops(jaxpr(np.ones((3, 5)), np.ones((5, 7))).jaxpr) == 2 * 3 * 5 * 7


def test_made_up_batches_stay_in_their_fields():
    sizes = step.field_sizes(5, 60)
    assert sum(sizes) == 60
    assert min(sizes) >= 4
    ids = step.made_up(sizes, 2, 500)['categorical']
    ends = np.cumsum(sizes)
    assert (ids < ends).all()
    assert (ids >= ends - sizes).all()


def test_made_up_bags():
    """Of each field its own ids; the others of a row's first id are the same wherever it is."""
    sizes = mlperf.sizes(40)
    batch = step.made_up(sizes, 2, 300, mlperf.LENGTHS, 13)
    ids = np.concatenate([batch['categorical'], batch['bags']], -1).reshape(600, -1)
    assert ids.shape[1] == 214
    assert batch['numeric'].shape == (2, 300, 13)
    ends, start = np.cumsum(sizes), 0
    for size, end, length in zip(sizes, ends, mlperf.LENGTHS, strict=True):
        own = ids[:, start : start + length]
        assert ((own >= end - size) & (own < end)).all()
        lists = {tuple(row) for row in own.tolist()}
        assert len(lists) == len({row[0] for row in lists})
        start += length


@pytest.mark.slow
def test_our_side_trains_on_bags(tmp_path):
    trainer = Trainer(bag_specification(tmp_path))
    first = trainer.steps(1)['loss']
    assert trainer.steps(20)['loss'] < first
