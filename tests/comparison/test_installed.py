"""Comparisons and searches from an installed wheel, in a clean environment, outside of the checkout."""

import json
from pathlib import Path

import pytest

from dlf_jax import config_files, models
from dlf_jax.errors import UsageError
from tests.conftest import ROOT


def test_a_wheel_lists_all_models_on_a_dataset(installed, tmp_path):
    line = ('-m', 'dlf_jax.compare', '--list', '--dataset=synthetic', '--models=all', '--seeds=2')
    result = json.loads(installed(tmp_path, *line))
    assert result['runs'] == 2 * len(models.of_any_data())
    assert all(
        f'--config={installed.site}/dlf_jax/configs/synthetic.py:' in r['command'] for r in result['list']
    )
    # What a page is made of is there, with the licence of what is not ours.
    assets = Path(f'{installed.site}/dlf_jax/analysis/report/assets')
    own = ROOT / 'dlf_jax/analysis/report/assets'
    assert {path.name for path in assets.iterdir()} == {path.name for path in own.iterdir()}
    assert 'sortable.LICENSE.txt' in {path.name for path in own.iterdir()}
    # Listing leaves nothing behind.
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_wheel_compares_and_tunes(installed, tmp_path, data_dir):
    small = (
        f'--data_dir={data_dir}', '--config.dataset.rows=3000', '--config.dataset.block_rows=256',
        '--config.training.batch_size=256', '--config.training.epochs=1',
    )  # fmt: skip
    line = ('-m', 'dlf_jax.compare', '--dataset=synthetic', '--models=lr', '--seeds=1', *small)
    result = json.loads(installed(tmp_path, *line))
    assert (result['finished'], result['failed']) == (1, [])
    assert (tmp_path / 'results/comparison/table.md').is_file()
    assert '--logloss_weight' in installed(tmp_path, '-m', 'dlf_jax.tune', '--help')
    # The spaces of the wheel are there.
    for name in ('shared', 'dlf', 'table/shared', 'table/dlf'):
        assert Path(f'{installed.site}/dlf_jax/configs/spaces/{name}.toml').is_file()


def test_a_config_file_is_the_local_one_or_the_package_s(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_files.find_config_file('configs/criteo.py') == ROOT / 'configs/criteo.py'
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs/criteo.py').touch()
    assert config_files.find_config_file('configs/criteo.py').resolve() == tmp_path / 'configs/criteo.py'
    assert config_files.find_config_file(f'{tmp_path}/configs/criteo.py').parent == tmp_path / 'configs'
    for name, hint in (
        ('configs/critoe.py', "did you mean 'configs/criteo.py'"),
        (f'{tmp_path}/frappe.py', 'no such file'),
        ('configs/../configs/frappe.py', 'no such file'),
        ('', 'no such file'),
    ):
        with pytest.raises(UsageError, match=f'--config={name}: .*{hint}'):
            config_files.find_config_file(name)
