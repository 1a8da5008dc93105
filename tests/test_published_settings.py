"""The config files of the public datasets have the settings that were published with the scores.

Written down here as they were published: by dataset, model and the names of FuxiCTR's keys, from the logs of
the best runs of the public leaderboard (BARS), and those of FinalNet and EulerNet from their authors'
repositories.
"""

import ast
import functools
import shlex

import chex
import jax
import numpy as np
import pytest

from dlf_jax import config as configs
from dlf_jax import models
from dlf_jax.comparison.published_scores import LEADERBOARD, PAPER
from dlf_jax.comparison.resolve import parse_overrides, resolve
from dlf_jax.comparison.settings import Setting
from dlf_jax.data.builders.avazu import X1_FIELDS
from dlf_jax.data.builders.criteo import CATEGORIES, NUMBERS
from dlf_jax.data.builders.frappe import Frappe
from dlf_jax.data.builders.movielens import Movielens
from dlf_jax.data.schema import Schema, number_field, text_field
from dlf_jax.training.model_setup import TrainingSetup
from tests.conftest import ROOT

# 'dnn' is the MLP's layers where they are not 400, 400, 400.
SETTINGS = """
criteo  afm        attention_dim=32 attention_dropout=[0,0] reg=1e-06
criteo  afn:+      afn_dropout=0.4 afn_hidden_units=[200] bn=True dnn_dropout=0.1 reg=1e-05 ensemble_dnn=True logarithmic_neurons=100
criteo  afn        afn_dropout=0.5 afn_hidden_units=[800] bn=False reg=1e-05 ensemble_dnn=False logarithmic_neurons=400
criteo  autoint:+  attention_dim=256 attention_layers=3 bn=True reg=1e-05 layer_norm=True dropout=0.1 num_heads=2 use_scale=False use_wide=True
criteo  autoint    attention_dim=256 attention_layers=3 reg=1e-05 layer_norm=True dropout=0 num_heads=4 use_scale=True use_wide=True
criteo  dcn        bn=False crossing_layers=3 reg=1e-05 dropout=0.1
criteo  dcnv2      bn=False reg=1e-05 dropout=0.1 num_cross_layers=3 dnn=[500,500,500]
criteo  masknet    model_structure='SerialMaskNet' reg=1e-05 reduction_ratio=0.2 dropout=0.2 emb_layernorm=False net_layernorm=True
criteo  fibinet    bilinear_type='field_interaction' reg=1e-05 reduction_ratio=12 dropout=0.5 bn=False
criteo  dlrm       interaction_op='dot' reg=1e-05 top_mlp_dropout=0.2 bottom_mlp_dropout=0 bottom_mlp_units=[400,400,400] bn=True
criteo  mlp        bn=False reg=1e-05 dropout=0.1
criteo  deepfm     bn=True reg=1e-05 dropout=0.1
criteo  edcn       bn=True bridge_type='hadamard_product' reg=1e-05 dropout=0.1 num_cross_layers=3 temperature=20 use_regulation_module=True
criteo  fm         reg=5e-06
criteo  finalmlp   reg=1e-05 fs1_context=['I1','I2','I3','I4','I5','I6','I7','I8','I9','I10','I11','I12','I13'] fs2_context=['C6'] fs_hidden_units=[800] mlp1_batch_norm=True mlp1_dropout=0.2 mlp1_hidden_units=[400,400,400] mlp2_batch_norm=True mlp2_dropout=0.3 mlp2_hidden_units=[1000] num_heads=200 use_fs=True
criteo  lr         reg=5e-07
criteo  pnn        bn=True reg=1e-05 dropout=0.1
criteo  sam        aggregation='weighted_pooling' reg=1e-05 interaction_type='SAM3A' dropout=0 num_interaction_layers=5 use_residual=True
criteo  xdeepfm    bn=False cin_layer_units=[16,16] reg=1e-05 dropout=0.2
criteo  finalnet   bn=True reg=1e-05 block1_hidden_units=[400,400] block1_dropout=0.1 block2_hidden_units=[400,400] block2_dropout=0 block_activations='ReLU' use_feature_gating=True
avazu  afm        attention_dim=16 attention_dropout=[0.2,0.2] reg=1e-05
avazu  afn:+      afn_dropout=0.2 afn_hidden_units=[1200] bn=True dnn_dropout=0 reg=0.01 ensemble_dnn=True logarithmic_neurons=1500
avazu  afn        afn_dropout=0.3 afn_hidden_units=[400] bn=False reg=0.01 ensemble_dnn=False logarithmic_neurons=1500
avazu  autoint:+  attention_dim=256 attention_layers=5 bn=True reg=0.01 layer_norm=True dropout=0.1 num_heads=2 use_scale=True use_wide=False
avazu  autoint    attention_dim=128 attention_layers=4 reg=0.01 layer_norm=True dropout=0 num_heads=1 use_scale=True use_wide=False
avazu  dcn        bn=False crossing_layers=3 reg=0.05 dropout=0.1
avazu  dcnv2      bn=True reg=0.05 dropout=0.2 num_cross_layers=5
avazu  masknet    model_structure='SerialMaskNet' reg=0.1 reduction_ratio=2 dropout=0.4 emb_layernorm=True net_layernorm=True
avazu  fibinet    bilinear_type='field_all' reg=0.1 reduction_ratio=3 dropout=0.2 bn=True
avazu  eulernet   shape=[40,40,40] reg=0.05 net_ex_dropout=0 net_im_dropout=0.2 layer_norm=False
avazu  dlrm       interaction_op='dot' reg=0.01 top_mlp_dropout=0.3 bn=True
avazu  mlp        bn=False reg=0.01 dropout=0.1
avazu  deepfm     bn=True reg=0.1 dropout=0.3
avazu  edcn       bn=True bridge_type='hadamard_product' reg=0.05 dropout=0.1 num_cross_layers=3 temperature=1 use_regulation_module=False
avazu  fm         reg=1e-05
avazu  finalmlp   reg=0.05 fs1_context=[] fs2_context=[] fs_hidden_units=[800] mlp1_batch_norm=True mlp1_dropout=0.3 mlp1_hidden_units=[400,400,400] mlp2_batch_norm=True mlp2_dropout=0.3 mlp2_hidden_units=[800] num_heads=10 use_fs=True
avazu  lr         reg=5e-07
avazu  pnn        bn=False reg=5e-05 dropout=0.2
avazu  sam        aggregation='concat' reg=0.01 interaction_type='SAM3A' dropout=0.3 num_interaction_layers=4 use_residual=True
avazu  xdeepfm    bn=True cin_layer_units=[64] reg=0.01 dropout=0.2
avazu  finalnet   bn=True reg=0.05 block1_hidden_units=[800] block1_dropout=0.3 block2_hidden_units=[800,800] block2_dropout=0.2 block_activations='ReLU' use_feature_gating=True
movielens  afm        attention_dim=16 attention_dropout=[0.4,0.4] reg=1e-05
movielens  afn:+      afn_dropout=0.4 afn_hidden_units=[200] bn=False dnn_dropout=0.5 reg=0.001 ensemble_dnn=True logarithmic_neurons=800
movielens  afn        afn_dropout=0.4 afn_hidden_units=[200] bn=False reg=0.001 ensemble_dnn=False logarithmic_neurons=800
movielens  autoint:+  attention_dim=128 attention_layers=2 bn=True reg=0.01 layer_norm=True dropout=0.1 num_heads=4 use_scale=True use_wide=True
movielens  autoint    attention_dim=128 attention_layers=2 reg=0.01 layer_norm=True dropout=0 num_heads=4 use_scale=True use_wide=True
movielens  dcn        bn=True crossing_layers=4 reg=0.01 dropout=0.2
movielens  dcnv2      bn=True reg=0.01 dropout=0.2 num_cross_layers=5
movielens  masknet    model_structure='SerialMaskNet' reg=0.005 reduction_ratio=4 dropout=0.5 emb_layernorm=False net_layernorm=True
movielens  fibinet    bilinear_type='field_all' reg=0.05 reduction_ratio=0.3 dropout=0.3 bn=True
movielens  eulernet   shape=[52] reg=0.01 net_ex_dropout=0 net_im_dropout=0 layer_norm=True
movielens  dlrm       interaction_op='cat' reg=0.01 top_mlp_dropout=0.2 bn=True
movielens  mlp        bn=True reg=0.005 dropout=0.4
movielens  deepfm     bn=True reg=0.01 dropout=0.3
movielens  edcn       bn=True bridge_type='hadamard_product' reg=0.01 dropout=0.1 num_cross_layers=2 temperature=1 use_regulation_module=False
movielens  fm         reg=5e-06
movielens  finalmlp   reg=0.01 fs1_context=[] fs2_context=[] fs_hidden_units=[800] mlp1_batch_norm=True mlp1_dropout=0.4 mlp1_hidden_units=[400] mlp2_batch_norm=True mlp2_dropout=0.2 mlp2_hidden_units=[800] num_heads=10 use_fs=True
movielens  lr         reg=5e-06
movielens  pnn        bn=False reg=0.01 dropout=0.1
movielens  sam        aggregation='weighted_pooling' reg=0.001 interaction_type='SAM3A' dropout=0 num_interaction_layers=2 use_residual=True
movielens  xdeepfm    bn=False cin_layer_units=[64,64,64] reg=0.005 dropout=0.3
movielens  finalnet   bn=True reg=0.01 block1_hidden_units=[400,400] block1_dropout=0 block2_hidden_units=[500] block2_dropout=0 block_activations='ReLU' use_feature_gating=True
"""  # noqa: E501  # a row is a run
PUBLISHED = [line.split(maxsplit=2) for line in SETTINGS.strip().splitlines()]

# Names of FuxiCTR's keys here; a model may have another.
KEYS = {
    'reg': 'embedding.penalty', 'bn': 'batch_norm', 'dnn': 'hidden', 'attention_dim': 'attention_size',
    'attention_layers': 'layers', 'num_heads': 'heads', 'use_scale': 'scale', 'use_wide': 'wide',
    'afn_dropout': 'dropout', 'afn_hidden_units': 'hidden', 'dnn_dropout': 'deep_dropout',
    'ensemble_dnn': 'plus', 'logarithmic_neurons': 'neurons', 'crossing_layers': 'cross_layers',
    'num_cross_layers': 'cross_layers', 'bridge_type': 'bridge', 'temperature': 'tau',
    'use_regulation_module': 'regulation', 'fs1_context': 'context_1', 'fs2_context': 'context_2',
    'fs_hidden_units': 'gate_hidden', 'mlp1_batch_norm': 'batch_norm', 'mlp1_dropout': 'dropout_1',
    'mlp1_hidden_units': 'hidden_1', 'mlp2_batch_norm': 'batch_norm', 'mlp2_dropout': 'dropout_2',
    'mlp2_hidden_units': 'hidden_2', 'use_fs': 'gate', 'aggregation': 'pooling', 'interaction_type': 'block',
    'num_interaction_layers': 'layers', 'use_residual': 'residual', 'cin_layer_units': 'cin',
    'block1_hidden_units': 'hidden_1', 'block1_dropout': 'dropout', 'block2_hidden_units': 'hidden_2',
    'block2_dropout': 'dropout_2', 'block_activations': 'relu', 'use_feature_gating': 'gate',
    'model_structure': 'structure', 'reduction_ratio': 'reduction', 'emb_layernorm': 'embedding_norm',
    'net_layernorm': 'layer_norm', 'bilinear_type': 'bilinear', 'net_ex_dropout': 'dropout',
    'net_im_dropout': 'implicit_dropout', 'interaction_op': 'interaction', 'top_mlp_dropout': 'dropout',
    'bottom_mlp_dropout': 'bottom_dropout', 'bottom_mlp_units': 'bottom_hidden',
}  # fmt: skip
OWN_KEYS = {
    ('edcn', 'bn'): 'gate_norm',
    ('edcn', 'num_cross_layers'): 'layers',
    ('fibinet', 'reduction_ratio'): 'ratio',
}
VALUES = {
    'hadamard_product': 'hadamard',
    'weighted_pooling': 'weighted',
    'SAM3A': '3a',
    'ReLU': True,
    'SerialMaskNet': 'serial',
    'field_all': 'all',
    'field_interaction': 'interaction',
}
# What FuxiCTR's code does and no key of its says.
ALWAYS = {
    'autoint': {'project_residual': False},
    'dcnv2': {'structure': 'parallel', 'mixture': False},
    'edcn': {'residual': False, 'batch_norm': False},
    'fibinet': {'shared': True, 'excitation': 'relu'},
    'finalnet': {'blocks': 2, 'residual': 'concat'},
    'pnn': {'product': 'inner'},
    'xdeepfm': {'cin_bias': True},
}
# All runs, on all datasets.
RECIPE = {
    'optimizer.name': 'adam', 'optimizer.embedding_rows': 'adam', 'optimizer.learning_rate': 1e-3,
    'optimizer.clip_norm': 10.0, 'optimizer.schedule': 'constant', 'optimizer.warmup_steps': 0,
    'plateau.factor': 0.1, 'plateau.min_learning_rate': 1e-6, 'plateau.patience': 2,
    'training.batch_size': 4096, 'training.epochs': 100, 'training.evaluate_every': 0,
    'training.monitor': 'auc', 'embedding.std': 1e-4, 'dataset.min_count': 1, 'dataset.treatment': 'auto',
}  # fmt: skip


def file_of(dataset):
    return ROOT / 'configs' / f'{dataset}.py'


def docstring(dataset):
    return ast.get_docstring(ast.parse(file_of(dataset).read_text()), clean=False)


def own_flags(dataset, setting):
    """The flags that the file's docstring gives for a variant with settings of its own."""
    for line in docstring(dataset).replace('\\\n', ' ').splitlines():
        words = shlex.split(line) if line.startswith('    :') else []
        if words[:2] == [f':{setting.model}', f'--variant={setting.variant}']:
            return words[2:]
    return []


@functools.cache
def config_of(dataset, name):
    model, _, variant = name.partition(':')
    setting = Setting(model, variant or 'full')
    return resolve(file_of(dataset), setting, parse_overrides(own_flags(dataset, setting)))


def expected(model, text):
    """Keys and values of a row as this project has them."""
    found = {'hidden': (400, 400, 400)} if 'hidden' in configs.get_config(model).model else {}
    for word in text.split():
        name, _, value = word.partition('=')
        value = ast.literal_eval(value)
        if name == 'attention_dropout':
            found['attention_dropout'], found['dropout'] = value
            continue
        value = tuple(value) if isinstance(value, list) else VALUES.get(value, value)
        found[OWN_KEYS.get((model, name), KEYS.get(name, name))] = value
    penalty = found.pop('embedding.penalty')
    if model == 'edcn' and not found['regulation']:
        del found['tau']
    if model != 'lr':
        found['embedding_size'] = 10
    fields = {f'model.{key}': value for key, value in {**found, **ALWAYS.get(model, {})}.items()}
    return {**RECIPE, **fields, 'embedding.penalty': penalty}


@pytest.mark.parametrize(('dataset', 'name', 'text'), PUBLISHED, ids=[f'{d}-{n}' for d, n, _ in PUBLISHED])
def test_settings_are_the_published_ones(dataset, name, text):
    found = dict(configs.flatten(config_of(dataset, name)))
    wanted = expected(name.partition(':')[0], text)
    assert {key: found[key] for key in wanted} == wanted


def test_every_published_score_has_its_settings():
    for dataset in ('criteo', 'avazu', 'movielens'):
        named = {name for where, name, _ in PUBLISHED if where == dataset}
        assert named == set(LEADERBOARD[dataset])


# Rows of the tables in the leaderboard's runs and in FinalMLP's and FinalNet's, which count a row more per
# categorical field; and the number of fields.
VOCABULARY = {'criteo': 2_086_316 - 13, 'avazu': 1_298_599, 'movielens': 90_239}
NEWER = {'criteo': 26, 'avazu': 22, 'movielens': 3}
CATEGORICAL = {
    'criteo': CATEGORIES,
    'avazu': X1_FIELDS,
    'movielens': Movielens.FIELDS,
    'frappe': Frappe.FIELDS,
}
# "Total number of parameters" in the logs.
PARAMETERS = {
    ('criteo', 'lr'): 2_086_317, ('criteo', 'fm'): 22_949_477, ('criteo', 'afm'): 22_949_871,
    ('criteo', 'autoint'): 23_364_453, ('criteo', 'dcnv2'): 22_018_021, ('criteo', 'sam'): 20_940_260,
    ('criteo', 'xdeepfm'): 23_461_462, ('criteo', 'afn'): 24_081_239, ('criteo', 'edcn'): 21_329_055,
    ('criteo', 'finalmlp'): 22_478_162, ('criteo', 'finalnet'): 21_658_582,
    ('avazu', 'afn:+'): 44_424_829, ('avazu', 'autoint:+'): 14_202_856, ('avazu', 'edcn'): 13_136_471,
    ('avazu', 'dcnv2'): 13_641_311, ('avazu', 'pnn'): 13_487_991, ('avazu', 'finalnet'): 14_163_518,
    ('movielens', 'autoint:+'): 1_383_799, ('movielens', 'finalmlp'): 1_040_902,
    ('movielens', 'finalnet'): 1_106_234,
}  # fmt: skip
# Those of FuxiCTR without an equal here: a second bias beside the output's.
SECOND_BIAS = ('xdeepfm', 'finalmlp')


def schema_of(dataset, rows):
    """The dataset's fields; the first has almost all rows of the table."""
    names = CATEGORICAL[dataset]
    sizes = [rows - (len(names) - 1), *[1] * (len(names) - 1)]
    numbers = NUMBERS if dataset == 'criteo' else ()
    fields = [text_field(name, size=size) for name, size in zip(names, sizes, strict=True)]
    return Schema((*(number_field(name, 'none') for name in numbers), *fields), 'label')


@pytest.mark.parametrize(('dataset', 'name'), PARAMETERS, ids=['-'.join(run) for run in PARAMETERS])
def test_models_are_as_large_as_the_published_ones(dataset, name):
    """Layers, widths, biases and norms all count, so little is left that could differ."""
    model = name.partition(':')[0]
    rows = VOCABULARY[dataset] + NEWER[dataset] * (model in ('finalmlp', 'finalnet'))
    setup = TrainingSetup(config_of(dataset, name), schema_of(dataset, rows), 100, 4096, jax.devices()[:1])
    wanted = PARAMETERS[dataset, name] - (model in SECOND_BIAS)
    if (dataset, name) == ('criteo', 'finalmlp'):
        # FuxiCTR's gates have rows of 13 numeric fields and of C6, which has 23, instead of all.
        wanted += (2 * (rows + 13) - (13 + 23)) * 10
    assert sum(setup.parameter_counts().values()) == wanted


@pytest.mark.parametrize('dataset', ['criteo', 'avazu', 'movielens'])
def test_the_docstring_shows_the_published_scores(dataset):
    def shown(scores, name):
        return '{:.4f} / {:.4f}'.format(*scores[name]) if name in scores else ''

    _, _, table = docstring(dataset).partition('    model      leaderboard      paper\n')
    rows = {line.split()[0]: line for line in table.partition('\n\n')[0].splitlines()}
    assert set(rows) == {*models.of_any_data(), *LEADERBOARD[dataset]}
    for name, row in rows.items():
        wanted = f'    {name:11}{shown(LEADERBOARD[dataset], name):17}{shown(PAPER[dataset], name)}'
        assert row == wanted.rstrip()


PAPER_SIZES = {
    'embedding_size': 64, 'layers': 8, 'attention_layers': 2, 'tokens': 16, 'rank': 24, 'heads': 2,
    'hidden': (512,), 'head': (), 'fusion': 'naf', 'gate': True, 'norm': 'layer',
}  # fmt: skip


@pytest.mark.parametrize('model', models.of_any_data())
@pytest.mark.parametrize('dataset', CATEGORICAL)
def test_the_papers_setting(dataset, model):
    """It changes what the paper prints, in all models, and leaves the rest as the config file has it."""
    file, setting = file_of(dataset), Setting(model)
    plain = dict(configs.flatten(resolve(file, setting, {})))
    found = dict(configs.flatten(resolve(file, setting, {'paper': 'True'})))
    changed = {key for key, value in found.items() if value != plain[key]}
    assert found['training.batch_size'] == 10_000
    if model != 'lr':
        assert found['model.embedding_size'] == 64
    if model == 'dlf':
        assert {key: found[f'model.{key}'] for key in PAPER_SIZES} == PAPER_SIZES
        assert not any('dropout' in key for key in changed)
        assert {key.partition('.')[0] for key in changed} == {'paper', 'training', 'model'}
    else:
        assert changed <= {'paper', 'training.batch_size', 'model.embedding_size'}


def test_the_command_line_and_the_variant_win_over_the_papers_setting():
    given = {'paper': 'True', 'model.layers': '4', 'training.batch_size': '2000'}
    config = resolve(file_of('criteo'), Setting('dlf', 'wo_rli'), given)
    assert (config.model.layers, config.training.batch_size) == (4, 2000)
    assert (config.model.low_rank, config.model.gate, config.model.embedding_size) == (False, False, 64)


def setup_and_batch(dataset, model, variant, paper):
    config = resolve(file_of(dataset), Setting(model, variant), {'paper': str(paper)})
    schema = schema_of(dataset, 1000)
    size = config.training.batch_size = 8
    draw = np.random.default_rng(0)
    batch = {
        'categorical': np.zeros((size, len(schema.categorical)), np.int32),
        'numeric': draw.normal(size=(size, len(schema.numeric))).astype(np.float32),
        'label': draw.integers(0, 2, size).astype(np.float32),
        'weight': np.ones(size, np.float32),
    }
    return TrainingSetup(config, schema, 100, size, jax.devices()[:1]), batch


@pytest.mark.parametrize(
    'dataset',
    [name if name == 'movielens' else pytest.param(name, marks=pytest.mark.slow) for name in CATEGORICAL],
)
@pytest.mark.parametrize('model', models.of_any_data())
def test_every_models_step_keeps_the_shapes_of_its_state(dataset, model):
    """Traced, not run; on the data with numbers and categories also each variant, and the paper's setting."""
    cases = [('full', False)]
    if dataset == 'criteo':
        cases = [*((variant, False) for variant in models.MODELS[model].variants), ('full', True)]
    for variant, paper in cases:
        setup, batch = setup_and_batch(dataset, model, variant, paper)
        state = jax.eval_shape(setup.create, np.int32(0))
        after, metrics = jax.eval_shape(setup.body(), state, batch)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
        assert metrics['loss'].shape == ()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize('dataset', CATEGORICAL)
@pytest.mark.parametrize('model', models.of_any_data())
def test_every_model_takes_a_step(dataset, model):
    """With real numbers, which move every model's weights and stay finite."""
    setup, batch = setup_and_batch(dataset, model, 'full', False)
    state = setup.initial_state([0])
    before = jax.device_get(state.params)
    state, metrics = setup.train_step(1)(state, setup.partitioner.put(batch))
    after = jax.device_get(state.params)
    assert np.isfinite(metrics['loss']).all()
    chex.assert_tree_all_finite(after)
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, before, after)))
