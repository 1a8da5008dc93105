"""The page of a comparison: all numbers of its table, sortable, with a link to every run's own page."""

import dataclasses
import json

import pytest

from dlf_jax.comparison import differences, page, results_table
from dlf_jax.comparison.run_list import RunList
from tests.analysis.report.test_elements import Parsed


@pytest.fixture
def written(compared, tmp_path):
    """The page of the comparison, of whose runs one has a page of its own and two have a history."""
    found, outcome = compared
    dlf, mlp, fm = (row.runs for row in found.rows)
    for run in (dlf[0], mlp[0]):
        run.workdir.path.mkdir(parents=True)
        lines = [
            {
                'kind': 'valid',
                'step': step,
                'seed': 0,
                'epoch': step / 9,
                'auc': 0.9 + step / 1e3,
                'logloss': 0.2,
            }
            for step in (10, 20)
        ]
        run.workdir.metrics.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    (dlf[0].workdir.path / 'report.html').write_text('')
    outcome.errors[fm[2]] = '<b>step 7</b>: the loss is nan'
    lines = results_table.summarise(found, outcome)
    return page.write(
        tmp_path, 'A <title>', found, outcome, lines, differences.summarise(found, outcome)
    ), found


def test_the_table_and_every_run(written):
    path, _ = written
    text = path.read_text()
    found = Parsed(text)
    assert '0.98133' in text
    assert '± 0.00153' in text
    # Every run is in the table, linked to its page or its folder.
    assert text.count('<td>finished</td>') == 8
    links = [a['href'] for tag, a in found.tags if tag == 'a' and not a['href'].startswith('#')]
    assert links[:2] == ['runs/frappe/dlf/seed0/report.html', 'runs/frappe/dlf/seed1/']
    assert len(links) == 9
    assert (path.parent / links[0]).is_file()
    assert '<b>step 7</b>: the loss is nan' in found.text
    assert 'A <title>' in found.text
    assert results_table.LEGEND in found.text
    assert 'Failed: frappe fm seed 2' in found.text
    # No scores are stored, which is told; how many seeds a difference needs is known without.
    assert 'no finished run here' in found.text
    assert 'seeds needed, AUC' in found.text


def test_curves_of_the_best_settings_are_over_each_other(written):
    text = written[0].read_text()
    chart = text[text.index('aria-label="AUC on the valid part') :]
    chart = chart[: chart.index('</svg>')]
    assert chart.count('class="line"') == 2
    assert 'dlf, step 10: 0.91000' in chart
    assert 'mlp, step 20: 0.92000' in chart


def test_a_comparison_that_has_just_begun(compared, tmp_path):
    found, outcome = compared
    outcome.results.clear()
    lines = results_table.summarise(found, outcome)
    text = page.write(
        tmp_path, 'new', found, outcome, lines, differences.summarise(found, outcome)
    ).read_text()
    assert '0 of 9 runs finished' in text


def test_several_datasets_have_a_section_each(compared, tmp_path):
    found, outcome = compared
    others = [dataclasses.replace(row, dataset='criteo') for row in found.rows]
    both = RunList((*found.rows, *others))
    lines = results_table.summarise(both, outcome)
    text = page.write(tmp_path, 'two', both, outcome, lines, ()).read_text()
    assert 'id="dataset-frappe"' in text
    assert 'id="dataset-criteo"' in text


def test_in_a_browser(written, opened):
    found = opened(written[0], width=390)
    assert found.noted == []
    assert found.asked == [written[0].as_uri()]
    assert found.evaluate('document.documentElement.scrollWidth') <= 390
    names = found.locator('table').first.locator('tbody th')
    assert names.all_inner_texts() == ['dlf', 'mlp', 'fm']
    found.locator('table').first.locator('thead th').nth(2).locator('button').click()
    found.locator('table').first.locator('thead th').nth(2).locator('button').click()
    found.wait_for_timeout(50)
    assert names.all_inner_texts() == ['fm', 'mlp', 'dlf']
