"""The plots are there, are PNG, and are not needed for the table."""

import json
import math

import pytest

from dlf_jax.comparison import plots, report, results_table
from dlf_jax.comparison.runner import Outcome
from tests.comparison.conftest import make, result


def write_curve(run, aucs):
    run.workdir.create()
    lines = [{'kind': 'train', 'step': 1, 'loss': 0.7}]
    lines += [
        {'kind': 'valid', 'step': i, 'epoch': i / 2, 'auc': a, 'logloss': round(1 - a, 9)} for i, a in aucs
    ]
    run.workdir.metrics.write_text(''.join(json.dumps(line) + '\n' for line in lines))


def test_plots(compared, tmp_path):
    found, outcome = compared
    for run in outcome.results:
        write_curve(run, [(1, 0.9), (2, 0.75)])
    assert plots.curve(found.runs[0], ('auc', 'logloss')) == {
        'epoch': [0.5, 1.0],
        'auc': [0.9, 0.75],
        'logloss': [0.1, 0.25],
    }
    written = plots.write(tmp_path, *compared, results_table.summarise(*compared))
    assert [path.name for path in written] == [
        'frappe-comparison.png', 'frappe-curves.png', 'frappe-parameters.png',
    ]  # fmt: skip
    for path in written:
        assert path.read_bytes().startswith(b'\x89PNG')
    assert not list(tmp_path.glob('.*.tmp'))


def test_sweep_plot(tmp_path):
    found = make(tmp_path, 'dlf,mlp', ['model.dropout=0,0.1,0.2'], seeds='2')
    outcome = Outcome({run: result(0.7 + i / 100, test=0.7) for i, run in enumerate(found.runs)})
    written = plots.write(tmp_path, found, outcome, results_table.summarise(found, outcome))
    assert 'synthetic-sweep-model.dropout.png' in [path.name for path in written]


def test_plots_show_every_metric(tmp_path):
    overrides = {'training.metrics': "('brier',)"}
    found = make(tmp_path, 'dlf,mlp', ['model.dropout=0,0.1'], seeds='1', overrides=overrides)
    outcome = Outcome({run: result(0.7, brier=0.1, gauc=None) for run in found.runs})
    for run in found.runs:
        run.workdir.create()
        line = {'kind': 'valid', 'epoch': 1, 'auc': 0.7, 'logloss': 0.4, 'brier': 0.1, 'gauc': None}
        run.workdir.metrics.write_text(json.dumps(line) + '\n')
    lines, shown = results_table.summarise(found, outcome), results_table.shown_metrics(found, outcome)
    assert list(shown) == ['auc', 'gauc', 'logloss', 'brier']
    assert len(plots.write(tmp_path, found, outcome, lines)) == 4
    rows = list(zip(found.rows, lines, strict=True))
    comparison = plots._comparison(rows, outcome, 'valid', shown)
    for figure in (comparison, plots._curves(found.rows, outcome, shown)):
        labels = {text for axes in figure.axes for text in (axes.get_xlabel(), axes.get_ylabel())}
        assert {'AUC ↑', 'GAUC ↑', 'Logloss ↓', 'Brier score ↓'} <= labels
    assert plots._limits([[0.3, 0.1], [0.4, math.nan]], shown['brier']) == pytest.approx((0.07, 0.7))
    assert plots._limits([[math.nan]], shown['gauc']) is None


def test_nothing_finished(tmp_path):
    found = make(tmp_path, 'dlf')
    assert plots.write(tmp_path, found, Outcome(), results_table.summarise(found, Outcome())) == []


def test_without_matplotlib(compared, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(plots, 'available', lambda: False)
    monkeypatch.setattr(report._log, 'info', lambda text, *args: caplog.records.append(text % args))
    assert report._plots(tmp_path, *compared, results_table.summarise(*compared)) == []
    assert "pip install 'dlf_jax[plots]'" in caplog.records[-1]
