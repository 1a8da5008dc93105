"""The container and the manifest of the server, as far as they can be tried without what they are for."""

import json
import re

import yaml

from dlf_jax import serve
from tests.conftest import ROOT


def docker(instruction):
    """Arguments of an instruction of the Dockerfile, of each time that it is there."""
    text = (ROOT / 'launch' / 'Dockerfile').read_text().replace('\\\n', ' ')
    return re.findall(rf'^{instruction} (.*)$', text, re.M)


def options(*arguments):
    """What the command makes of arguments, of which every flag must exist."""
    arguments = [one for one in arguments if not one.startswith('--token_file=')]
    return serve.parse(['serve', *arguments])


def manifests():
    return list(yaml.safe_load_all((ROOT / 'launch' / 'kubernetes.yaml').read_text()))


def test_the_container_has_what_an_installation_needs_and_its_command_is_ours():
    for copied in docker('COPY'):
        *names, _ = copied.split()
        assert all((ROOT / name).exists() for name in names), copied
    copied = {name for line in docker('COPY') for name in line.split()[:-1]}
    assert copied >= {'dlf_jax', 'configs', 'pyproject.toml', 'setup.py', 'README.md', 'LICENSE'}
    assert '[serve]' in docker('RUN')[0]
    (line,), (more,) = docker('ENTRYPOINT'), docker('CMD')
    python, module, name, *flags = json.loads(line)
    assert (python, module, name) == ('python', '-m', 'dlf_jax.serve')
    found = options(*flags, *json.loads(more))
    assert (found['workdir'], found['host'], str(found['port'])) == ('/model', '0.0.0.0', docker('EXPOSE')[0])
    assert found['grace_seconds'] > found['drain_seconds'] > 0
    # Not root, as a number.
    assert int(docker('USER')[0]) > 0


def test_the_manifest_runs_the_container_and_asks_it():
    deployment, service = manifests()
    assert (deployment['apiVersion'], deployment['kind']) == ('apps/v1', 'Deployment')
    assert (service['apiVersion'], service['kind']) == ('v1', 'Service')
    template = deployment['spec']['template']
    labels = template['metadata']['labels']
    assert deployment['spec']['selector']['matchLabels'] == labels == service['spec']['selector']
    pod = template['spec']
    (container,) = pod['containers']
    entry = json.loads(docker('ENTRYPOINT')[0])[3:]
    found = options(*entry, *container['args'])
    assert found['grace_seconds'] < pod['terminationGracePeriodSeconds']
    (port,) = container['ports']
    assert port['containerPort'] == found['port']
    (to,) = service['spec']['ports']
    assert to['targetPort'] == port['name']
    paths = {
        kind: container[f'{kind}Probe']['httpGet']['path'] for kind in ('startup', 'readiness', 'liveness')
    }
    assert paths == {
        'startup': '/v2/health/ready', 'readiness': '/v2/health/ready', 'liveness': '/v2/health/live',
    }  # fmt: skip
    assert all(container[f'{kind}Probe']['httpGet']['port'] == port['name'] for kind in paths)
    # A pod is taken off the address before it stops to listen.
    assert container['readinessProbe']['periodSeconds'] < found['drain_seconds']
    mounts = {m['name']: m for m in container['volumeMounts']}
    assert set(mounts) == {volume['name'] for volume in pod['volumes']}
    assert mounts['model']['mountPath'] == found['workdir']
    assert mounts['model']['readOnly'] is True
    (token,) = [one.split('=')[1] for one in container['args'] if one.startswith('--token_file=')]
    assert token.startswith(mounts['token']['mountPath'])


def test_the_pod_has_no_rights_that_it_does_not_need():
    pod = manifests()[0]['spec']['template']['spec']
    (container,) = pod['containers']
    assert pod['securityContext']['runAsNonRoot'] is True
    assert str(pod['securityContext']['runAsUser']) == docker('USER')[0]
    assert container['securityContext'] == {
        'readOnlyRootFilesystem': True, 'allowPrivilegeEscalation': False, 'capabilities': {'drop': ['ALL']},
    }  # fmt: skip
    assert pod['automountServiceAccountToken'] is False
