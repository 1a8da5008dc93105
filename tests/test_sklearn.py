"""The classifier for scikit-learn: its own checks, and what people do with it."""

import logging
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator

from dlf_jax.sklearn import CTRClassifier
from tests.conftest import write_table

# The checks that fit nothing, or what most classifiers get wrong; all of them are run by the slow test.
QUICK = {
    'check_do_not_raise_errors_in_init_or_set_params', 'check_estimator_cloneable', 'check_estimator_repr',
    'check_estimator_tags_renamed', 'check_valid_tag_types', 'check_estimators_unfitted',
    'check_no_attributes_set_in_init', 'check_parameters_default_constructible', 'check_complex_data',
    'check_classifiers_one_label_sample_weights', 'check_estimator_sparse_array', 'check_fit1d',
    'check_n_features_in', 'check_estimators_empty_data_messages', 'check_supervised_y_no_nan',
    'check_classifier_not_supporting_multiclass', 'check_requires_y_none', 'check_get_params_invariance',
}  # fmt: skip
# Rows are drawn into batches in a random order, so weights are not the same steps as repeated rows.
EXPECTED = {
    'check_sample_weight_equivalence_on_dense_data': 'training is in batches of rows in a random order'
}
KEYS = {'training.epochs': 3, 'training.batch_size': 128}


@pytest.fixture(autouse=True)
def quiet():
    """Small tables of noise, of which training warns."""
    logging.getLogger('dlf_jax').setLevel(logging.ERROR)


@pytest.fixture(scope='module')
def frame(tmp_path_factory):
    return pd.read_csv(write_table(tmp_path_factory.mktemp('sklearn') / 'train.csv', 1500))


def classifier(**options):
    keys = {**KEYS, 'optimizer.learning_rate': 0.1, **options.pop('keys', {})}
    return CTRClassifier(options.pop('model', 'lr'), keys=keys, random_state=0, **options)


def checks():
    estimator = CTRClassifier('lr', keys={'training.epochs': 1}, random_state=0)
    return [(check.func.__name__, check) for _, check in estimator_checks_generator(estimator)]


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(('name', 'check'), [pair for pair in checks() if pair[0] in QUICK])
def test_a_quick_check_of_scikit_learn(name, check):
    check(CTRClassifier('lr', keys={'training.epochs': 1}, random_state=0))


def test_the_quick_checks_are_there():
    assert {name for name, _ in checks()} >= QUICK


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(('name', 'check'), checks())
def test_all_checks_of_scikit_learn(name, check):
    try:
        check(CTRClassifier('lr', keys={'training.epochs': 2}, random_state=0))
    except AssertionError:
        if name not in EXPECTED:
            raise
    else:
        assert name not in EXPECTED, f'{name} passes: expect it no more'


def test_frames_of_any_columns(frame):
    rows, clicks = frame.drop(columns='click'), np.where(frame.click == 1, 'yes', 'no')
    fitted = classifier().fit(rows, clicks)
    assert list(fitted.classes_) == ['no', 'yes']
    assert list(fitted.feature_names_in_) == ['user', 'ad', 'price']
    found = fitted.predict_proba(rows)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert fitted.score(rows, clicks) > 0.65
    assert set(fitted.predict(rows)) == {'no', 'yes'}
    # The same values in other types, and a copy by the saved bytes.
    np.testing.assert_array_equal(fitted.predict_proba(pl.from_pandas(rows)), found)
    np.testing.assert_array_equal(fitted.predict_proba(rows.astype({'user': 'category'})), found)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(rows), found)
    assert clone(fitted).get_params() == fitted.get_params()
    with pytest.raises(ValueError, match='feature names should match'):
        fitted.predict(rows.rename(columns={'ad': 'advert'}))


def test_arrays_with_missing_values_and_categories(frame):
    values = frame[['user', 'ad', 'price']].to_numpy(dtype=object)
    values[::50, 0], values[::70, 2] = None, np.nan
    fitted = classifier(categorical=[0, 1]).fit(values, frame.click)
    kinds = {field.name: field.kind for field in fitted.model_.schema.fields}
    assert kinds == {'x0': 'categorical', 'x1': 'categorical', 'x2': 'numeric'}
    assert fitted.predict_proba(values)[:, 1].std() > 0.05
    with pytest.raises(ValueError, match="categorical: no column 'user'; found: x0, x1, x2"):
        classifier(categorical=['user']).fit(values, frame.click)


def test_weights(frame):
    """Rows of weight 0 are as good as left out; large weights of one class move the scores."""
    rows, clicks = frame.drop(columns='click'), frame.click
    kept = np.arange(len(rows)) % 3 > 0
    zero = classifier().fit(rows, clicks, sample_weight=kept.astype(float))
    without = classifier().fit(rows[kept], clicks[kept], sample_weight=np.ones(kept.sum()))
    np.testing.assert_array_equal(zero.predict_proba(rows), without.predict_proba(rows))
    heavy = classifier().fit(rows, clicks, sample_weight=np.where(clicks == 1, 5.0, 1.0))
    assert heavy.predict_proba(rows)[:, 1].mean() > without.predict_proba(rows)[:, 1].mean() + 0.1


def test_a_pipeline_in_cross_validation(frame):
    impute = make_column_transformer((SimpleImputer(), ['price']), remainder='passthrough')
    impute.set_output(transform='pandas')
    scores = cross_val_score(
        make_pipeline(impute, classifier()), frame.drop(columns='click'), frame.click, cv=2, scoring='roc_auc'
    )
    assert scores.min() > 0.65


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'keys': {'training.epoch': 1}}, "config.training.epoch: .*did you mean 'training.epochs'"),
        ({'model': 'dlff'}, "did you mean 'dlf'"),
        ({'validation_fraction': 1.0}, 'validation_fraction=1.0: expected above 0 and below 1'),
    ],
)
def test_parameters_that_cannot_be(frame, options, message):
    with pytest.raises(ValueError, match=message):
        classifier(**options).fit(frame.drop(columns='click'), frame.click)
