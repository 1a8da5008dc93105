"""No test and no benchmark waits for ever: what waits for a process or a thread has a deadline."""

import ast

import pytest

from tests.conftest import ROOT

RUN = ('run', 'call', 'check_call', 'check_output')


def endless(source):
    """Lines of calls that wait without a deadline."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, keywords = node.func.attr, [keyword.arg for keyword in node.keywords]
        # `**options` may hold one.
        if 'timeout' in keywords or None in keywords:
            continue
        of_subprocess = isinstance(node.func.value, ast.Name) and node.func.value.id == 'subprocess'
        runs = (of_subprocess and name in RUN) or name == 'communicate'
        # `' '.join(words)` has an argument, a deadline is one too.
        waits = name in ('wait', 'join') and not node.args
        if runs or waits:
            yield node.lineno


@pytest.mark.parametrize(
    'path',
    sorted([*ROOT.glob('tests/**/*.py'), *ROOT.glob('benchmarks/**/*.py')]),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_wait_has_a_deadline(path):
    assert list(endless(path.read_text())) == []


@pytest.mark.parametrize(
    ('call', 'found'),
    [
        ("subprocess.run(['true'], check=True)", True),
        ("subprocess.run(['true'], timeout=3)", False),
        ('process.communicate()', True),
        ('process.communicate(timeout=3)', False),
        ('process.wait()', True),
        ('event.wait(3)', False),
        ('thread.join()', True),
        ("', '.join(words)", False),
        ('app.run(main)', False),
        ('command(**options).wait(**options)', False),
    ],
)
def test_endless_waits_are_found(call, found):
    assert bool(list(endless(call))) == found
