"""The peer of `benchmarks/step.py` computes the same functions."""

import json
import subprocess

import jax
import numpy as np
import pytest

from benchmarks import step
from benchmarks.step_ours import Trainer, product_flops
from dlf_jax.models import embedding
from tests.conftest import ROOT

MLP = {'hidden': [8, 6], 'batch_norm': True, 'dropout': 0.0}
CASES = {
    'dcnv2': ('full', {'embedding_size': 4, 'cross_layers': 2, **MLP}),
    'deepfm': ('full', {'embedding_size': 4, **MLP}),
    'dlf': ('released', {'embedding_size': 4, 'layers': 2, 'tokens': 3, 'rank': 2, 'head': [7], **MLP}),
}


def specification(folder, model):
    variant, shape = CASES[model]
    options = step.flags(
        [
            *(f'--model={model}', f'--variant={variant}', '--fields=5', '--vocabulary=60', '--batch_size=16'),
            *(f'--shape={json.dumps(shape)}', '--peer=none', '--penalty=0.1', '--batches=2'),
        ]
    )
    spec = step.specification(options, folder)
    (folder / 'spec.json').write_text(json.dumps(spec))
    return json.loads((folder / 'spec.json').read_text())


def random_state(trainer):
    """Every parameter drawn anew, so that no zero, one or symmetry hides anything."""
    draw = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: draw.normal(0, 0.5, leaf.shape).astype(np.float32), trainer.state.params
    )
    return trainer.state.replace(params=params)


@pytest.mark.slow
@pytest.mark.parametrize('model', CASES)
def test_peer_computes_the_same_function(model, tmp_path):
    if not step.PEER.exists():
        pytest.skip('needs the peer: benchmarks/peer_environment.sh')
    trainer = Trainer(specification(tmp_path, model))
    state, batch = random_state(trainer), trainer.batches[0]
    leaves, _ = jax.tree.flatten_with_path(state.params)
    weights = {'/'.join(key.key for key in path): leaf for path, leaf in leaves}
    np.savez(tmp_path / 'weights.npz', **weights)
    command = [
        step.PEER,
        'benchmarks/peer_torch.py',
        'logits',
        tmp_path / 'spec.json',
        tmp_path / 'weights.npz',
    ]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = embedding.lookup(state.params['tables'], batch, trainer.schema)
    variables = {'params': state.params['model'], 'batch_stats': state.batch_stats}
    evaluated = trainer.model.apply(variables, rows)
    trained, _ = trainer.model.apply(variables, rows, train=True, mutable=['batch_stats'])
    for mode, expected in (('evaluation', evaluated), ('training', trained)):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found[mode], expected, rtol=0, atol=2e-5 * scale, err_msg=mode)


def test_our_side_trains_and_tells_its_parts(tmp_path):
    trainer = Trainer(specification(tmp_path, 'dcnv2'))
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
