"""The scripts and manifests of `launch/`, as far as they can be tried without what they are for."""

import json
import re
import signal
import subprocess
import time

import pytest
import yaml

from tests.conftest import ROOT, TINY, compiled
from tests.launch.environment import virtual_environment


def test_the_jobset_is_one_and_its_command_is_ours():
    jobset = yaml.safe_load((ROOT / 'launch' / 'jobset.yaml').read_text())
    assert (jobset['apiVersion'], jobset['kind']) == ('jobset.x-k8s.io/v1alpha2', 'JobSet')
    (job,) = jobset['spec']['replicatedJobs']
    spec = job['template']['spec']
    assert spec['completionMode'] == 'Indexed'
    pod = spec['template']['spec']
    (container,) = pod['containers']
    _, _, line = container['command']
    name = jobset['metadata']['name']
    # The first pod's name, as the headless service of a JobSet gives it.
    assert f'coordinator={name}-{job["name"]}-0-0.{name}:{container["ports"][0]["containerPort"]}' in line
    assert f'processes={spec["completions"]}' in line
    assert spec['completions'] == spec['parallelism']
    assert {m['name'] for m in container['volumeMounts']} == {v['name'] for v in pod['volumes']}
    flags = [word for word in line.split() if word.startswith('--')]
    keys = {flag.split('=')[0] for flag in flags}
    assert keys >= {'--config', '--workdir', '--data_dir', '--config.distributed.process'}


def test_tpu_vms_get_what_an_installation_needs():
    script = (ROOT / 'launch' / 'tpu.sh').read_text().replace('\\\n', ' ')
    (copied,) = re.findall(r'scp --recurse "\$\{on_all\[@\]\}" (.*) "\$TPU:dlf_jax"', script)
    assert all((ROOT / name).exists() for name in copied.split()), copied
    assert set(copied.split()) >= {'dlf_jax', 'configs', 'launch', 'pyproject.toml', 'setup.py', 'README.md'}


@pytest.fixture
def environment(tmp_path):
    return {**virtual_environment(tmp_path / 'venv'), **compiled()}


@pytest.mark.slow
def test_processes_on_this_machine(tmp_path, data_dir, environment):
    line = ['launch/processes.sh', '2', *TINY, f'--workdir={tmp_path}', f'--data_dir={data_dir}']
    done = subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 'does not provide the extra' not in done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result['valid']['rows'] == 600


@pytest.mark.slow
@pytest.mark.parametrize('count', [1, 2])
def test_a_signal_to_the_script_lets_all_processes_save(count, tmp_path, data_dir, environment):
    line = [
        'launch/processes.sh',
        str(count),
        *TINY,
        '--config.training.epochs=200',
        '--config.plateau.patience=0',
    ]
    told = tmp_path / 'told'
    with open(told, 'w') as file:
        script = subprocess.Popen(
            [*line, f'--workdir={tmp_path / "run"}', f'--data_dir={data_dir}'],
            cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=file,
        )  # fmt: skip
    checkpoints = tmp_path / 'run' / 'checkpoints'
    deadline = time.monotonic() + 200
    while not any(checkpoints.glob('[0-9]*')):
        assert script.poll() is None, told.read_text()
        assert time.monotonic() < deadline, told.read_text()
        time.sleep(0.05)
    script.send_signal(signal.SIGTERM)
    assert script.wait(timeout=60) == 143, told.read_text()
    # All have ended when it does.
    assert told.read_text().count('error: stopped by SIGTERM') == count
