"""Messages for people: one line each, whatever they quote."""

import pytest

from dlf_jax.errors import UsageError, UserError
from dlf_jax.training.checkpoint import Unreadable
from tests.conftest import fail, table_flags


@pytest.mark.parametrize('kind', [UserError, UsageError, lambda text: Unreadable(text, 3)])
def test_a_message_is_one_line(kind):
    quoted = ' t.parquet: not Parquet:\n  magic bytes\r\n\tnot found\x0b here\u2028there \n'
    assert str(kind(quoted)) == 't.parquet: not Parquet: magic bytes not found here there'
    # Spaces within a line may be part of what is quoted.
    assert str(kind("column 'a  b'")) == "column 'a  b'"


def test_a_damaged_file_is_told_in_one_line(tmp_path):
    (tmp_path / 't.parquet').write_bytes(b'PAR1' + bytes(100))
    message = fail(*table_flags(tmp_path / 't.parquet'), '--mode=prepare', f'--data_dir={tmp_path / "data"}')
    assert f'{tmp_path}/t.parquet' in message
