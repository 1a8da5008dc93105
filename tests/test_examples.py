"""The examples: their page, run with an installed wheel outside of the checkout; and each by itself."""

import csv
import functools
import json
import re
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dlf_jax
from dlf_jax import config, plugins
from dlf_jax.data import builders
from dlf_jax.errors import UsageError
from dlf_jax.models import Bag, Inputs
from dlf_jax.testing import check_model
from dlf_jax.testing.model_check import MASK, random_inputs
from dlf_jax.training.ranking_metrics import auc
from tests.conftest import ROOT
from tests.docs.pages import snippets

MODEL, DATASET, METRIC = (
    f'{ROOT}/examples/{name}'
    for name in ('target_attention.py:TargetAttention', 'songs.py:Songs', 'metric.py:recall_at_10_percent')
)


def example(name):
    return plugins.lookup(name, {}, 'the example')


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_from_a_wheel(installed, tmp_path):
    shutil.copytree(ROOT / 'examples', tmp_path / 'examples', ignore=shutil.ignore_patterns('__pycache__'))
    train, later, python, own = [
        # Prepared data is kept below HOME.
        installed.shell(tmp_path, snippet.code.replace('/tmp/', f'{tmp_path}/'), HOME=str(tmp_path))
        for snippet in snippets(tmp_path / 'examples/README.md')
    ]
    result = json.loads(train)
    assert result == json.loads((tmp_path / 'songs/result.json').read_text())
    # The page says what is possible, without the histories too.
    assert 0.8 < result['test']['auc'] < 0.88
    assert 0.2 < result['test']['recall_at_10_percent'] < 0.3
    evaluated, predicted = map(json.loads, later.splitlines())
    assert evaluated['rows'] == predicted['rows'] == 2000
    assert 0.8 < evaluated['auc'] < 0.88
    assert 0.2 < evaluated['recall_at_10_percent'] < 0.3
    assert json.loads(python) == result['test']
    assert re.match(r'<TrainedModel .*/own_model.py:WeightedPairs: \d fields, valid auc 0\.[5-9]', own)

    with open(tmp_path / 'new.csv') as file:
        rows = list(csv.DictReader(file))
    labels = np.array([int(row['played']) for row in rows])
    assert auc(labels, probabilities(tmp_path / 'predictions.csv')) == pytest.approx(
        evaluated['auc'], abs=1e-6
    )
    # With the histories of other listeners, and found from another folder.
    with open(tmp_path / 'mixed.csv', 'w') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, 'history': rows[i - 1]['history']} for i, row in enumerate(rows))
    mixed = str(tmp_path / 'mixed_predictions.csv')
    dlf_jax.predict(tmp_path / 'songs', str(tmp_path / 'mixed.csv'), mixed)
    assert auc(labels, probabilities(mixed)) < 0.62


def probabilities(path):
    with open(path) as file:
        return np.array([float(row['probability']) for row in csv.DictReader(file)])


def test_a_wrong_model_is_found():
    """The check of the example's model would find a factor that the reference does not have."""
    model = example(f'{ROOT}/examples/own_model.py:WeightedPairs')(embedding_size=3, hidden=(5, 4))
    reference = example(f'{ROOT}/examples/own_model.py:reference')
    check_model(model, reference)
    with pytest.raises(AssertionError, match='Not equal'):
        check_model(model, lambda *args, **fields: 1.001 * reference(*args, **fields))

    def other_gradient(params, batch_stats, rows, train, **fields):
        logits = reference(params, batch_stats, rows, train, **fields)
        # The same value at the drawn rows, but another slope.
        (e,) = rows.values()
        moved = (e - own_rows).sum()
        return logits + moved

    (own_rows,) = (rows[MASK] for rows in random_inputs(model)[1].values())
    with pytest.raises(AssertionError, match='by the gradient'):
        check_model(model, other_gradient)
    with pytest.raises(ValueError, match='for models on embeddings alone'):
        check_model(example(MODEL)(target='song'), reference)


def test_a_wheel_finds_its_config_files(installed, tmp_path):
    line = (
        '-m', 'dlf_jax.main', '--config=configs/synthetic.py', '--mode=prepare', '--config.dataset.rows=1000',
        f'--data_dir={tmp_path}/data',
    )  # fmt: skip
    result = json.loads(installed(tmp_path, *line))
    assert (result['dataset'], result['rows']) == ('synthetic', {'train': 700, 'valid': 200, 'test': 100})


def test_the_model_against_numpy():
    """Weights of every layer are drawn; BatchNorm's statistics are those of a new model."""
    model = example(MODEL)(
        target='song', embedding_size=3, attention_hidden=(4,), hidden=(6,), numeric_hidden=(2,)
    )
    rng = np.random.default_rng(0)
    fields = rng.normal(size=(5, 4, 3))  # place, song, hour, history
    mask = np.arange(2) < rng.integers(0, 3, size=(5, 1))
    items, numbers = rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 1))
    # What is absent may be anything.
    bag = Bag({'embedding': jnp.where(mask[..., None], items, jnp.nan)}, jnp.asarray(mask))
    inputs = Inputs(('place', 'song', 'hour', 'history'), jnp.asarray(numbers), ('hour',), {'history': bag})
    embeddings = {'embedding': jnp.asarray(fields)}
    variables = jax.jit(model.init)(jax.random.key(0), embeddings, inputs=inputs)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape), variables['params'])
    assert set(params) == {'attention', 'numbers', 'tower'}

    def dense(x, layer):
        return x @ layer['kernel'] + layer['bias']

    def hidden(x, mlp, norm=True):
        x = dense(x, mlp['hidden_0'])
        if norm:
            x = x / np.sqrt(1 + 1e-5) * mlp['norm_0']['scale'] + mlp['norm_0']['bias']
        return np.maximum(x, 0)

    expected = []
    for i in range(5):
        place, song, interest = fields[i, 0], fields[i, 1], np.zeros(3)
        for item in items[i][mask[i]]:
            pair = np.concatenate([item, song, item - song, item * song])
            interest += (
                dense(hidden(pair, params['attention'], norm=False), params['attention']['out']) * item
            )
        features = np.concatenate([place, song, interest, hidden(numbers[i], params['numbers'])])
        expected.append(dense(hidden(features, params['tower']), params['tower']['out'])[0])

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1), has_aux=True)
    def gradients(params, embeddings):
        logits = model.apply({**variables, 'params': params}, embeddings, inputs=inputs)
        return logits.sum(), logits

    found, logits = gradients(params, embeddings)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    chex.assert_tree_all_finite(found)


@pytest.fixture
def songs_csv(tmp_path):
    lines = plugins.lookup(f'{ROOT}/examples/songs.py:lines', {}, 'the example')
    path = tmp_path / 'songs.csv'
    path.write_text('\n'.join(lines(200)) + '\n')
    return path


@pytest.mark.parametrize('buckets', [0, 16])
def test_the_dataset_s_histories_have_the_ids_of_songs(songs_csv, tmp_path, buckets):
    options = config.get_config('lr').dataset
    options.name, options.train, options.hash_buckets = DATASET, str(songs_csv), buckets
    builder = builders.build(options, str(tmp_path))
    builder.prepare()
    with open(songs_csv) as file:
        rows = list(csv.DictReader(file))[:140]
    schema, found = builder.encoder().schema, builder.blocks('train').read(0)
    assert [field.size for field in schema.fields if field.shares] == [0]
    ids = {row['song']: i for row, i in zip(rows, found['categorical'][:, 0].tolist(), strict=True)}
    known = 0
    for row, history in zip(rows, found['bags'].tolist(), strict=True):
        songs = row['history'].split()
        # A listener without a history has the id of a missing song.
        assert sum(i >= 0 for i in history) == max(1, len(songs))
        for song, i in zip(songs, history, strict=False):
            assert i == ids.get(song, i)
            known += song in ids
    assert known > 100


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        ({'target': 'sogn'}, r"config.model.target: there is no field 'sogn'; did you mean 'song'"),
        (
            {'target': 'song', 'history': 'hour'},
            r"config.model.history: there is no multi-valued field 'hour'; known: history",
        ),
    ],
)
def test_the_model_names_the_key_of_a_wrong_field(songs_csv, tmp_path, keys, message):
    overrides = {'dataset.name': DATASET, 'dataset.train': str(songs_csv)}
    overrides |= {f'model.{key}': value for key, value in keys.items()}
    wrong = dlf_jax.load_config(model=MODEL, overrides=overrides)
    with pytest.raises(UsageError, match=message):
        dlf_jax.train(wrong, tmp_path / 'run', tmp_path / 'data')


def test_the_metric_by_hand():
    labels, weights = np.array([1.0, 0, 1, 1, 0, 0, 0, 0, 0, 1]), np.ones(10)
    recall = example(METRIC)

    def found(logits, weights=weights, labels=labels):
        return recall({'label': labels, 'logit': np.asarray(logits, float), 'weight': weights})

    # One row of ten, of four positives.
    assert found([9, 8, 7, 6, 5, 4, 3, 2, 1, 0]) == 1 / 4
    assert found([8, 9, 7, 6, 5, 4, 3, 2, 1, 0]) == 0
    # One of two rows of the same logit, of which one is positive; and one of ten.
    assert found([9, 9, 7, 6, 5, 4, 3, 2, 1, 0]) == pytest.approx(1 / 8)
    assert found(np.zeros(10)) == pytest.approx(1 / 10)
    # A tenth of all weight, 1.8, is a part of the first row; the positives weigh 12.
    heavy = np.array([9.0, *np.ones(9)])
    assert found([9, 8, 7, 6, 5, 4, 3, 2, 1, 0], heavy) == pytest.approx(1.8 / 12)
    assert found(np.arange(10), labels=np.zeros(10)) is None
