"""The parts of the long run, on few rows."""

import json

import pytest

from benchmarks import full_size


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_parts_are_measured_once_and_the_table_is_whole(tmp_path, capsys):
    arguments = [str(tmp_path), '--rows=2000', '--models=lr', '--batch-size=64']
    full_size.main(arguments)
    lines = [json.loads(line) for line in (tmp_path / 'results.jsonl').read_text().splitlines()]
    names = ['generate', 'prepare', 'loader', 'train lr', 'evaluate lr', 'predict lr']
    assert [line['part'] for line in lines] == names
    trained = lines[3]
    assert 0 < trained['killed_at'] < trained['steps'] == 25
    # Few batches are all made before the second epoch is timed.
    assert all(line['rows_per_second'] > 0 and line['peak_bytes'] > 1e6 for line in lines)
    table = (tmp_path / 'results.md').read_text()
    assert table == capsys.readouterr().out
    assert [row.split('|')[1].strip() for row in table.splitlines()[2:]] == names
    # Nothing is done again.
    full_size.main(arguments)
    assert len((tmp_path / 'results.jsonl').read_text().splitlines()) == len(names)
    with pytest.raises(SystemExit, match='results of 2000 rows'):
        full_size.main([str(tmp_path), '--rows=3000'])
