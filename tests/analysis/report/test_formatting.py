"""Numbers as people read them."""

import math

import pytest

from dlf_jax.analysis.report import formatting as f


@pytest.mark.parametrize(
    ('made', 'text'),
    [
        (f.fixed(0.98849), '0.9885'),
        (f.fixed(-0.5, 2), '−0.50'),
        (f.fixed(None), '–'),
        (f.fixed(math.nan), '–'),
        (f.signed(0.00123), '+0.0012'),
        (f.signed(-0.00123), '−0.0012'),
        (f.signed(-1e-9, 5), '0.00000'),
        (f.count(288609), '288,609'),
        (f.count(None), '–'),
        (f.short(0), '0'),
        (f.short(950), '950'),
        (f.short(999.6), '1 k'),
        (f.short(999_700), '1 M'),
        (f.short(-999_999), '−1 M'),
        (f.short(0.9996), '1'),
        (f.short(1234567), '1.23 M'),
        (f.short(0.0034), '0.0034'),
        (f.short(1e-5), '1e−5'),
        (f.short(-5000), '−5 k'),
        (f.percent(0.333), '33.3 %'),
        (f.percent(0.0312), '3.1 %'),
        (f.percent(0.0), '0 %'),
        (f.percent(1.0), '100 %'),
        (f.percent(1e-6), '< 0.01 %'),
        (f.interval((0.9871, 0.9893)), '0.9871 to 0.9893'),
        (f.interval(None), '–'),
        (f.duration(0.44), '0.4 s'),
        (f.duration(48.2), '48 s'),
        (f.duration(192), '3 min 12 s'),
        (f.duration(7500), '2 h 5 min'),
        (f.plural(1, 'field'), '1 field'),
        (f.plural(1000, 'key'), '1,000 keys'),
        (f.plural(2, 'entry', 'entries'), '2 entries'),
    ],
)
def test_numbers_as_people_read_them(made, text):
    assert made == text
