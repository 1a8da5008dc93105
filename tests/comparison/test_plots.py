"""The plots are there, are PNG, and are not needed for the table."""

import json

from dlf_jax.comparison import plots, report, table
from dlf_jax.comparison.runner import Outcome
from tests.comparison.conftest import make, result


def course(run, aucs):
    run.workdir.create()
    lines = [{'kind': 'train', 'step': 1, 'loss': 0.7}]
    lines += [
        {'kind': 'valid', 'step': i, 'epoch': i / 2, 'auc': a, 'logloss': round(1 - a, 9)} for i, a in aucs
    ]
    run.workdir.metrics.write_text(''.join(json.dumps(line) + '\n' for line in lines))


def test_plots(compared, tmp_path):
    found, outcome = compared
    for run in outcome.results:
        course(run, [(1, 0.9), (2, 0.75)])
    assert plots.course(found.runs[0]) == {
        'epoch': [0.5, 1.0],
        'auc': [0.9, 0.75],
        'logloss': [0.1, 0.25],
    }
    written = plots.write(tmp_path, *compared, table.summarise(*compared))
    assert [path.name for path in written] == [
        'frappe-comparison.png', 'frappe-curves.png', 'frappe-parameters.png',
    ]  # fmt: skip
    for path in written:
        assert path.read_bytes().startswith(b'\x89PNG')
    assert not list(tmp_path.glob('.*.tmp'))


def test_sweep_plot(tmp_path):
    found = make(tmp_path, 'dlf,mlp', ['model.dropout=0,0.1,0.2'], seeds='2')
    outcome = Outcome({run: result(0.7 + i / 100, test=0.7) for i, run in enumerate(found.runs)})
    written = plots.write(tmp_path, found, outcome, table.summarise(found, outcome))
    assert 'synthetic-sweep-model.dropout.png' in [path.name for path in written]


def test_nothing_finished(tmp_path):
    found = make(tmp_path, 'dlf')
    assert plots.write(tmp_path, found, Outcome(), table.summarise(found, Outcome())) == []


def test_without_matplotlib(compared, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(plots, 'available', lambda: False)
    monkeypatch.setattr(report._log, 'info', lambda text, *args: caplog.records.append(text % args))
    assert report._plots(tmp_path, *compared, table.summarise(*compared)) == []
    assert "pip install 'dlf_jax[plots]'" in caplog.records[-1]
