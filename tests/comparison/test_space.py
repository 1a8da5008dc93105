"""Search spaces: what a file says, and errors that name the key."""

import pytest

from dlf_jax import config as configs
from dlf_jax.comparison import resolve, space
from dlf_jax.comparison.settings import Setting
from dlf_jax.errors import UserError
from tests.conftest import ROOT


def write(tmp_path, text):
    path = tmp_path / 'space.toml'
    path.write_text(text)
    return path


def test_read(tmp_path):
    found = space.read(
        write(
            tmp_path,
            """
            [embedding]
            penalty = { low = 1e-3, high = 0.1, log = true }
            [model]
            tokens = { low = 2, high = 16 }
            dropout = { low = 0.0, high = 0.5, step = 0.1 }
            head = [[], [400], [400, 400], [400]]
            gate = [true, false]
            norm = ["none", "layer"]
            """,
        )
    )
    assert found == {
        'embedding.penalty': space.Range(1e-3, 0.1, log=True),
        'model.tokens': space.Range(2, 16),
        'model.dropout': space.Range(0.0, 0.5, step=0.1),
        'model.head': space.Choice(('()', '(400,)', '(400, 400)')),
        'model.gate': space.Choice(('True', 'False')),
        'model.norm': space.Choice(('none', 'layer')),
    }


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a = ', 'space.toml: cannot be read as a search space'),
        ('', 'no keys to search'),
        ('[model]\nhead = 3', r'model\.head: expected a list'),
        ('[model]\nhead = []', r'model\.head: expected a list'),
        ('[model]\nrank = { low = 3 }', r'model\.rank: low, high and step must be numbers'),
        ('[model]\nrank = { low = true, high = 3 }', r'model\.rank: low, high and step must be numbers'),
        ('[model]\nrank = { low = 3, high = 3 }', r'model\.rank: expected low < high'),
        ('[model]\nrank = { low = 0, high = 3, log = true }', r'model\.rank: .* with log, low > 0'),
        ('[model]\nrank = { low = 1, high = 3, steps = 1 }', r"model\.rank: 'steps'"),
        ('[model]\nrank = { low = 1, high = 3, step = 0.5 }', r'model\.rank: expected a step'),
        ('[model]\nrank = { low = 1, high = 4, step = 2 }', r'model\.rank: expected a step'),
        ('[model]\ndropout = { low = 0.0, high = 0.5, step = 0.2 }', r'model\.dropout: expected a step'),
        ('[model]\nrank = { low = 1, high = 4, step = -1 }', r'model\.rank: expected a step'),
    ],
)
def test_error_names_the_key(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        space.read(write(tmp_path, text))


@pytest.mark.parametrize(
    ('entry', 'value', 'text'),
    [
        (space.Choice(('()', '(400,)')), '(400,)', '(400,)'),
        (space.Range(2, 16), 7, '7'),
        (space.Range(1e-4, 0.2, log=True), 0.0123456, '0.0123'),
        (space.Range(0.0, 0.6, step=0.1), 0.30000000000000004, '0.3'),
        (space.Range(0.0, 0.25, step=0.0625), 0.1875, '0.1875'),
    ],
)
def test_text_and_back(entry, value, text):
    assert entry.text(value) == text
    assert entry.holds(text)
    assert entry.text(entry.parse(text)) == text


def test_a_rounded_end_stays_inside():
    entry = space.Range(0.1, 0.12344, log=True)
    assert entry.parse('0.1235') == 0.12344
    assert not entry.holds('0.1235')


@pytest.mark.parametrize(
    ('entry', 'text'),
    [
        (space.Range(1, 20), '10.0'),
        (space.Range(100, 200), '(128, 64)'),
        (space.Range(8, 40, step=8), '10'),
        (space.Range(0.0, 0.5, step=0.1), '0.25'),
        (space.Choice(('0.2',)), '0.3'),
    ],
)
def test_what_an_entry_does_not_hold(entry, text):
    assert not entry.holds(text)


@pytest.mark.parametrize('path', sorted((ROOT / 'configs/spaces').glob('*.toml')), ids=lambda path: path.stem)
def test_spaces_of_the_project(path):
    """Every value of every key makes a valid config of the model that the file is named after."""
    file = ROOT / 'configs/frappe.py'
    for key, entry in space.read(path).items():
        for text in entry.ends():
            config = resolve.resolve(file, Setting(path.stem), {key: text})
            assert entry.holds(space.as_text(dict(configs.flatten(config))[key])), f'{key}={text}'
