"""FM against its reference, and what its equation promises."""

import numpy as np
import pytest

from dlf_jax.models.fm import FM
from tests.models import checks
from tests.references import fm


def test_reference():
    checks.check_against(fm.logits, FM(embedding_size=3))


def test_parameters():
    model = FM()
    assert model.tables == {'embedding': 10, 'linear': 1}
    assert checks.parameter_shapes(model) == {'bias': (1,)}


def test_fields_may_be_permuted():
    model = FM(embedding_size=3)
    checks.check_permutation(model, checks.random_variables(model))


def test_one_field_has_no_pairs():
    model = FM(embedding_size=3)
    variables, rows = checks.random_variables(model), checks.random_rows(model)
    first = {table: values[:, :1] for table, values in rows.items()}
    expected = variables['params']['bias'] + rows['linear'][:, 0, 0]
    np.testing.assert_allclose(checks.evaluate(model, variables, first), expected, rtol=1e-5, atol=1e-6)


def test_error_names_the_field():
    with pytest.raises(ValueError, match=r'model.embedding_size=0: '):
        FM(embedding_size=0)
