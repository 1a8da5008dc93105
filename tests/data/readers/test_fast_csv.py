"""The fast parser against Polars' parser: the same columns, or none."""

import tempfile

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

from dlf_jax.data.readers import fast_csv
from dlf_jax.data.readers.tables import TextTable

COLUMNS = ('a', 'n', 'b', 'm')
SHORT = st.text(st.characters(codec='ascii', exclude_characters='\t\n\r"'), max_size=12)
WHOLE = st.one_of(
    st.just(''), st.integers(-9_999_999, 99_999_999).map(str), st.sampled_from(['-0', '007', '-01'])
)
ANY = st.text(st.sampled_from('0159-+.eE ax\t\r\nä"\0'), max_size=14)


def parsed(rows, ended=True):
    data = '\n'.join('\t'.join(row) for row in rows).encode() + b'\n' * ended
    return data, fast_csv.parse(data, '\t', COLUMNS, ['b', 'a', 'm', 'n'], {'n', 'm'})


def by_polars(data):
    with tempfile.NamedTemporaryFile(suffix='.tsv') as file:
        table = TextTable((file.name,), '\t', COLUMNS, quote=False)
        return table._parse(data, file.name, 1, ['b', 'a', 'm', 'n'], {'n', 'm'})


@given(st.lists(st.tuples(SHORT, WHOLE, SHORT, WHOLE), min_size=1, max_size=30), st.booleans())
@example([('', '', '', '')], True)
@example([('abcdefgh', '-1', 'abcdefghi', '12345678')] * 3, False)
def test_plain_rows_are_as_polars_reads_them(rows, ended):
    data, frame = parsed(rows, ended)
    assert frame is not None
    expected = by_polars(data)
    assert frame.schema == expected.schema
    assert frame.equals(expected)
    # 0.0 and -0.0 are equal; their reciprocals are not.
    assert (1 / frame['n']).equals(1 / expected['n'])


@given(st.lists(st.tuples(ANY, ANY, ANY, ANY), min_size=1, max_size=4))
def test_what_is_read_at_all_is_as_polars_reads_it(rows):
    data, frame = parsed(rows)
    if frame is not None:
        assert frame.equals(by_polars(data))


def test_what_is_not_plain_is_declined():
    good = ('a', '1', 'b', '2')
    for bad in (
        ('a' * 13, '1', 'b', '2'),
        ('ä', '1', 'b', '2'),
        ('a', '1.5', 'b', '2'),
        ('a', '123456789', 'b', '2'),
        ('a', '-', 'b', '2'),
        ('a', '--1', 'b', '2'),
        ('a', '1', 'b', '2\r'),
        ('a', '1', 'b'),
        ('a', '1', 'b', '2', ''),
        ('',),
    ):
        assert parsed([good, bad, good])[1] is None, bad
    # As many fields as two rows have, but not in each.
    assert parsed([(*good, 'a'), good[1:]])[1] is None
    assert parsed([good])[1].schema['n'] == pl.Float64
