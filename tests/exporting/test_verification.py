"""What is let pass of a difference between an exported model and the predictor."""

import numpy as np
import polars as pl
import pytest

from dlf_jax.config import build_model
from dlf_jax.errors import UserError
from dlf_jax.exporting import program, verification
from dlf_jax.training.train_step import Forward
from tests.exporting import fitted, untrained

WANTED = verification.Expected(
    pl.DataFrame({'user': [f'u{i}' for i in range(20)]}),
    {'ids': np.arange(20)},
    {},
    np.full(20, 0.5, np.float32),
)


def compare(difference, rounding):
    """`largest_difference` of a model that is off in row 13, and whether it asked for the rounding."""
    asked = []

    def run(inputs):
        return {'probability': np.where(inputs['ids'] == 13, 0.5 + difference, 0.5).astype(np.float32)}

    def loss():
        asked.append(True)
        return rounding

    return verification.largest_difference(run, WANTED, loss), bool(asked)


def test_small_differences_pass():
    (largest, limit), asked = compare(5e-6, 1.0)
    assert (largest, limit, asked) == (pytest.approx(5e-6, rel=0.01), 1e-5, False)


def test_what_float32_loses_in_the_model_passes(caplog):
    (largest, limit), asked = compare(9e-5, 1e-5)
    assert (largest, limit, asked) == (pytest.approx(9e-5, rel=0.01), pytest.approx(1e-4), True)
    assert 'differs by up to 9e-05 in probability: float32 loses that much in this model' in caplog.text


@pytest.mark.parametrize(
    ('difference', 'rounding'), [(1.2e-4, 1e-5), (2e-5, 1e-7), (np.nan, 1.0), (2e-3, 1.0)]
)
def test_more_does_not_pass(difference, rounding):
    with pytest.raises(UserError, match=r"is the most that they may differ; .* The row is {'user': 'u13'}"):
        compare(difference, rounding)


def test_rounding_is_that_of_float32():
    predictor = untrained.predictor(fitted.small_encoder(), 'mlp', **{'export.inputs': 'ids'})
    wanted = verification.expected(predictor, raw=False, rows=50)
    forward = Forward(build_model(predictor.config), predictor.encoder.schema)
    made = program.of_state(forward, predictor.state, 'mlp')
    assert 0 < verification.rounding(made, wanted.encoded) < 1e-6
