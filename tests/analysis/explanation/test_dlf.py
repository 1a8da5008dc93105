"""DLF's inner tensors and removals against the reference in NumPy; training knows nothing of them."""

import itertools

import jax
import numpy as np
import polars as pl
import pytest
from flax import linen as nn

import dlf_jax
from dlf_jax.analysis.explanation.dlf import Inside
from dlf_jax.analysis.explanation.sample import draw, of_table
from dlf_jax.data.readers.frames import FrameTable
from dlf_jax.models import embedding
from dlf_jax.serving.encoded_batches import EncodedBatches
from dlf_jax.training.model_setup import TrainingSetup
from tests.exporting import fitted, untrained
from tests.references import dlf as reference
from tests.references.layers import Mode, mlp, softmax

ROWS = 40
SIZES = {
    'model.layers': 2, 'model.attention_layers': 2, 'model.tokens': 3, 'model.rank': 2, 'model.heads': 2,
    'model.hidden': (6,), 'model.head': (5,), 'model.embedding_size': 4, 'model.gate_epsilon': 1e-3,
}  # fmt: skip


@pytest.fixture(scope='module')
def encoder():
    return fitted.small_encoder()


@pytest.fixture(scope='module')
def sample(encoder):
    rows = fitted.table(ROWS, seed=3).frame
    click = pl.Series(np.arange(ROWS) % 2)
    batches = EncodedBatches(FrameTable(rows.with_columns(click=click)), encoder, 64, labelled=True)
    return draw(of_table(batches), ROWS, 0, 'the rows')


class Reference:
    """The reference's tensors of the sample, float64."""

    def __init__(self, predictor, sample):
        forward, state = predictor.setup.forward, predictor.state
        wide = lambda tree: jax.tree.map(lambda x: np.asarray(x, np.float64), tree)  # noqa: E731
        params = state.params
        batch = {name: np.asarray(v) for name, v in sample.rows.items()}
        rows = embedding.gather_rows(params['tables'], embedding.ids_of(batch, forward.schema))
        read = embedding.assemble(rows, params['dense']['embedding'], batch, forward.schema)
        self.first = np.asarray(read['embedding'], np.float64)
        self.params, self.stats = wide(params['dense']['model']), wide(state.batch_stats)
        model = forward.model
        self.fields = {n: getattr(model, n) for n in type(model).__dataclass_fields__ if n not in ('parent',)}
        self.mode = Mode(False, None)

    def layers(self, removed=(), means=None):
        """Block outputs, fused tokens, gate and carried term of every layer; and the logits.

        Args:
          removed: pairs of a layer and a pathway whose values are the means over the rows.
          means: by such a pair.
        """
        state, found = self.first, []
        for l in range(self.fields['layers']):  # noqa: E741
            params, stats = self.params[f'layer_{l}'], self.stats.get(f'layer_{l}', {})
            outputs = {}
            for name in reference.block_names(self.fields):
                block = reference.block(
                    name, params[name], stats.get(name, {}), self.first, state, self.fields, self.mode
                )
                outputs[name] = self.mean(block) if (l, name) in removed else block
            fused = reference.fuse(
                params['fusion'], stats.get('fusion', {}), outputs, state, self.fields, self.mode
            )
            own = len(outputs) * self.fields['tokens']
            if (l, 'attention') in removed:
                fused = np.concatenate([fused[:, :own], self.mean(fused[:, own:])], 1)
            residual = params['residual']
            gate = np.maximum(self.fields['gate_epsilon'], state @ residual['gate_kernel'])
            carried = (
                np.einsum('bnd,nm->bmd', gate * state, residual['token_kernel'])
                if ('token_kernel' in residual)
                else gate * state
            )
            if (l, 'residual') in removed:
                carried = self.mean_of[l]
            found.append({'outputs': outputs, 'fused': fused, 'gate': gate, 'carried': carried})
            # Plain, a state of as many tokens is carried as it is.
            state = reference.residual(
                {k: v for k, v in residual.items() if k == 'norm'}, stats.get('residual', {}), fused, carried,
                {**self.fields, 'gate': False}, self.mode,
            )  # fmt: skip
        flat = state.reshape(len(state), -1)
        head = self.stats.get('head')
        logits = mlp(self.params['head'], head, flat, self.fields['head'], True, self.mode)[:, 0]
        return found, logits, state

    @staticmethod
    def mean(values):
        return np.broadcast_to(values.mean(0, keepdims=True), values.shape)


@pytest.fixture(scope='module')
def predictor(encoder):
    return untrained.predictor(encoder, 'dlf', **SIZES)


@pytest.fixture(scope='module')
def summary(predictor, sample):
    return Inside(predictor, sample).summary(sample.at(np.array([4])))


@pytest.fixture(scope='module')
def expected(predictor, sample):
    return Reference(predictor, sample)


def test_gates_are_those_of_the_reference(summary, expected, encoder):
    layers, _, _ = expected.layers()
    for told, layer in zip(summary[0]['layers'], layers, strict=True):
        gate, floor = layer['gate'], expected.fields['gate_epsilon']
        np.testing.assert_allclose(told['gate']['share_at_floor'], (gate <= floor).mean(), atol=1e-3)
        np.testing.assert_allclose(told['gate']['mean'], gate.mean(), rtol=1e-4)
        for name, size in told['gate']['quantiles'].items():
            quantile = np.quantile(gate, float(name[:-1]) / 100, method='inverted_cdf')
            np.testing.assert_allclose(size, quantile, rtol=0.02)
        by_token = [token['mean'] for token in told['gate']['by_token']]
        np.testing.assert_allclose(by_token, gate.mean((0, 2)), rtol=1e-4)
    names = [token['token'] for token in summary[0]['layers'][0]['gate']['by_token']]
    schema = encoder.schema
    assert names == [f.name for f in (*schema.categorical, *schema.numeric, *schema.bags)]
    second = [token['token'] for token in summary[0]['layers'][1]['gate']['by_token']]
    assert second[:4] == ['low_rank 1', 'low_rank 2', 'low_rank 3', 'high_rank 1']
    assert second[-1] == 'attention 3'


def test_pathways_shares_are_those_of_the_reference(summary, expected):
    layers, _, _ = expected.layers()
    for told, layer in zip(summary[0]['layers'], layers, strict=True):
        own = 3 * len(layer['outputs'])
        parts = {**layer['outputs'], 'attention': layer['fused'][:, own:], 'residual': layer['carried']}
        variances = {name: part.var(0).sum() for name, part in parts.items()}
        for pathway in told['pathways']:
            share = variances[pathway['pathway']] / sum(variances.values())
            np.testing.assert_allclose(pathway['share_of_variance'], share, rtol=1e-3, atol=1e-6)
        norms = [np.sqrt((x**2).sum((1, 2))) for x in (layer['carried'], layer['fused'] + layer['carried'])]
        np.testing.assert_allclose(told['carried'], (norms[0] / norms[1]).mean(), rtol=1e-4)


def test_removals_are_those_of_the_reference(summary, expected, sample):
    found, whole, final = expected.layers()
    expected.mean_of = [expected.mean(layer['carried']) for layer in found]
    labels = np.asarray(sample.rows['label'], np.float64)

    def loss(logits):
        return np.mean(np.logaddexp(0, logits) - labels * logits)

    for l, layer in enumerate(summary[0]['layers']):  # noqa: E741
        for pathway in layer['pathways']:
            # The means are those of the model as it is.
            _, without, _ = expected.layers({(l, pathway['pathway'])})
            cost = pathway['logloss']['mean']
            np.testing.assert_allclose(cost, loss(without) - loss(whole), rtol=2e-3, atol=2e-6)
    # Of all layers together the means differ from those of the model as it is: see the last layer alone.
    last = len(found) - 1
    told = summary[0]['layers'][last]['pathways']
    assert any(abs(pathway['logloss']['mean']) > 1e-5 for pathway in told)
    shares = {'+'.join(entry['removed']): entry['share_of_norm'] for entry in summary[0]['low_order']}
    assert shares.keys() == {'residual', 'low_rank', 'residual+low_rank'}
    assert 0 < shares['residual'] < shares['residual+low_rank']
    assert final.shape[0] == ROWS


def test_attention_is_that_of_the_reference(summary, expected):
    layers, _, _ = expected.layers()
    blocks, heads = reference.block_names(expected.fields), 2
    lines = pl.DataFrame(summary[1])
    inputs = list(layers[1]['outputs'].values())
    params = expected.params['layer_1']['fusion']
    for a in range(2):
        own = params[f'attention_{a}']
        qkv = [
            np.split(z @ own['qkv_kernel'][m] + own['qkv_bias'][m], 3, axis=-1) for m, z in enumerate(inputs)
        ]
        for (m, x), head in itertools.product(itertools.product(range(3), repeat=2), range(heads)):
            part = slice(2 * head, 2 * head + 2)
            scores = np.einsum('bnc,bmc->bnm', qkv[m][0][..., part], qkv[x][1][..., part]) / np.sqrt(2)
            weights = softmax(scores)
            one = lines.filter(
                layer=2, attention_layer=a + 1, block=blocks[m], attends_to=blocks[x], head=head + 1
            ).sort('query', 'key')
            np.testing.assert_allclose(one['mean'], weights.mean(0).ravel(), rtol=1e-4)
            np.testing.assert_allclose(one['of_row'], weights[4].ravel(), rtol=1e-4)
            (told,) = (
                pair
                for pair in summary[0]['layers'][1]['attention'][a]['pairs']
                if (pair['block'], pair['attends_to'], pair['head']) == (blocks[m], blocks[x], head + 1)
            )
            entropy = -(weights * np.log(weights)).sum(-1).mean() / np.log(3)
            np.testing.assert_allclose(told['entropy'], entropy, rtol=1e-4)
            assert told['kind'] == ('self' if m == x else 'cross')
        inputs = reference.attention_layer(own, inputs, heads, True)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ('wo_rli', 'fusion=gate', 'released')]


@pytest.mark.parametrize('variant', ['wo_naf', *SLOW])
def test_other_variants(encoder, sample, variant):
    keys = {**SIZES, 'model.layers': 1, 'model.hidden': (), 'model.attention_layers': 1}
    if variant == 'released':
        keys |= {'model.input_attention': True, 'model.hidden': (4,)}
    predictor = untrained.predictor(encoder, 'dlf', variant, **keys)
    found, lines = Inside(predictor, sample).summary(sample.at(np.array([0])))
    (layer,) = found['layers']
    names = [pathway['pathway'] for pathway in layer['pathways']]
    added = {'wo_rli': ['attention'], 'fusion=gate': ['fusion'], 'released': ['attention']}.get(variant, [])
    assert names[-1] == 'residual'
    assert names[-1 - len(added) : -1] == added
    assert ('low_rank' in names) == (variant != 'wo_rli')
    assert (layer['gate'] is None) == (variant in ('wo_rli', 'released'))
    assert bool(lines) == (variant == 'wo_rli')
    total = sum(pathway['share_of_variance'] for pathway in layer['pathways'])
    np.testing.assert_allclose(total, 1)
    if variant == 'wo_naf':
        assert layer['gate']['by_pathway'].keys() == {'low_rank', 'high_rank', 'implicit'}


def test_training_has_nothing_of_it(encoder, monkeypatch):
    """The programs of training, initial weights and prediction are the same, byte for byte, where a model
    cannot sow."""

    def texts():
        keys = {**SIZES, 'training.batch_size': 16, 'model.layers': 1}
        config = dlf_jax.load_config(model='dlf', overrides=keys)
        setup = TrainingSetup(config, encoder.schema, 10, 16, jax.devices()[:1])
        rows = {name: np.zeros((16, *v.shape[1:]), v.dtype) for name, v in shapes.items()}
        batch = setup.partitioner.shapes(rows, 16)
        state = setup.abstract_state(1)
        return (
            setup.train_step(1).lower(state, batch).as_text(),
            setup.predict_step(1).lower(state.weights(), batch).as_text(),
            setup.lower_creation(1).as_text(),
        )

    batches = EncodedBatches(FrameTable(fitted.table(3).frame), encoder, 3, labelled=False)
    shapes = next(iter(batches))[0]
    with_sowing = texts()
    calls = []
    monkeypatch.setattr(nn.Module, 'sow', lambda *args, **options: calls.append(args[2]))
    assert texts() == with_sowing
    assert {'gate', 'carried', 'final', 'outputs', 'fused', 'weights_0'} <= set(calls)
