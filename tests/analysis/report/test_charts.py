"""Scales have round marks; charts hold every value, in words too."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlf_jax.analysis.report import charts, scales
from dlf_jax.analysis.report.charts import Bar, Series
from dlf_jax.analysis.report.elements import markup

numbers = st.floats(-1e9, 1e9, allow_nan=False)


@pytest.mark.parametrize(
    ('low', 'high', 'marks'),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (0.61, 0.88, [0.65, 0.7, 0.75, 0.8, 0.85]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (3, 3, [3]),
    ],
)
def test_marks_are_round(low, high, marks):
    assert scales.round_marks(low, high) == pytest.approx(marks)


@pytest.mark.parametrize(
    ('low', 'high', 'marks'), [(0.001, 1, [0.001, 0.01, 0.1, 1]), (0.02, 0.3, [0.03, 0.1, 0.3])]
)
def test_marks_of_a_log_axis(low, high, marks):
    assert scales.powers(low, high) == pytest.approx(marks)


@given(st.lists(st.one_of(numbers, st.none(), st.just(math.nan)), max_size=20), st.booleans(), st.booleans())
def test_an_axis_spans_its_values(values, zero, log):
    axis = scales.spanning('', values, zero=zero, log=log)
    assert axis.low < axis.high
    known = [v for v in values if v is not None and math.isfinite(v) and (v > 0 or not log)]
    assert all(axis.low <= v <= axis.high for v in known)
    assert all(0 <= axis.place(v) <= 1 for v in known)
    assert all(isinstance(text, str) for _, text in axis.marked())


def test_places_on_an_axis():
    assert scales.Axis('', 0, 10).place(2.5) == 0.25
    assert scales.Axis('', 0.01, 1, log=True).place(0.1) == pytest.approx(0.5)
    assert scales.Axis('', 0, 10).place(99) == 1


def test_a_chart_has_a_point_for_every_value_and_says_what_it_shows():
    series = [
        Series('one', [0, 1, 2], [1, None, 3], tips=['a', 'b', 'c']),
        Series('two', [0, 1], [2, 2], low=[1, 1], high=[3, 3], colour=1, joined=False),
    ]
    x, y = scales.spanning('x', [0, 2]), scales.spanning('y', [1, 3])
    page = markup(charts.chart('A <title>', 'What is seen.', series, x, y, diagonal=True))
    assert page.count('<circle') == 4
    assert page.count('class="whisker"') == 2
    assert '<title>c</title>' in page
    assert '<title>b</title>' not in page
    assert 'aria-label="A &lt;title&gt;. What is seen."' in page or 'aria-label="A <title&gt;' in page
    assert '<figcaption>A &lt;title&gt;</figcaption>' in page
    assert 'one' in page
    assert 'two' in page


def test_bars_keep_long_names_in_their_tips():
    name = 'a_very_long_name_of_a_column_of_somebody'
    page = markup(charts.bars('Bars', 'Some.', [Bar(name, 0.5, 0.4, 0.6), Bar('b', -0.1)], 'length'))
    assert f'<title>{name}: 0.5</title>' in page
    assert '>a_very_long_name_o…<' in page
    assert page.count('<rect') == 2


@pytest.mark.parametrize(('values', 'widths'), [((-0.05, -0.025), [237.2, 118.6]), ((0.0,), [1.0]), ((), [])])
def test_bars_below_zero_fill_the_axis_and_none_are_no_mistake(values, widths):
    page = markup(charts.bars('Bars', 'Some.', [Bar(str(v), v) for v in values], 'length'))
    found = [float(w) for w in re.findall(r'width="([\d.]+)" height="14', page)]
    assert found == pytest.approx(widths, abs=60)
    assert len(found) < 2 or found[0] == pytest.approx(2 * found[1], rel=0.01)


def test_no_line_joins_points_beyond_the_axis():
    x, y = scales.Axis('x', 0, 4), scales.Axis('y', 1, 2)
    page = markup(charts.chart('A', 'B.', [Series('one', [0, 1, 2, 3], [0.1, 0.2, 1.5, 3.0])], x, y))
    (path,) = re.findall(r'<path d="(.*?)" class="line"', page)
    assert re.sub(r'[^ML]', '', path) == 'MMLL'
