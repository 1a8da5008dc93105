"""Search spaces: what a file says, and errors that name the key."""

import ast
import itertools

import pytest

from dlf_jax import config as configs
from dlf_jax import config_by_size, models
from dlf_jax.comparison import resolve, space
from dlf_jax.comparison.settings import Setting
from dlf_jax.errors import UsageError, UserError
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
            layers = { times = [0.5, 1] }
            rank = { times = { low = 0.5, high = 2.0, log = true } }
            heads = []
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
        'model.layers': space.Times((0.5, 1)),
        'model.rank': space.Times(space.Range(0.5, 2.0, log=True)),
    }


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a = ', 'space.toml: cannot be read as a search space'),
        ('', 'no keys to search'),
        ('[model]\nhead = 3', r'model\.head: expected a list'),
        ('[model]\nhead = []', 'no keys to search'),
        ('[model]\nrank = { times = 3 }', r'model\.rank: expected a list or a range without a step'),
        ('[model]\nrank = { times = [] }', r'model\.rank: expected a list or a range'),
        ('[model]\nrank = { times = [0, 1] }', r'model\.rank: .* above 0'),
        ('[model]\nrank = { times = ["a"] }', r'model\.rank: .* factors above 0'),
        ('[model]\nrank = { times = { low = 0, high = 2 } }', r'model\.rank: .* above 0'),
        ('[model]\nrank = { times = { low = 1, high = 3, step = 1 } }', r'model\.rank: .* without a step'),
        ('[model]\nrank = { times = { low = 1 } }', r'model\.rank: low, high and step must be numbers'),
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


FOLDER = ROOT / 'configs'
# Numbers of rows and fields, from the smallest table to a large and wide one.
SIZES = [
    config_by_size.Size(rows, fields) for rows in (100, 1300, 34_000, 20_000_000) for fields in (3, 40, 600)
]


def space_of(dataset, model, size=None):
    """The space of a model on a dataset, and the config's values with those by the size of the data."""
    config = resolve.resolve(FOLDER / f'{dataset}.py', Setting(model), {})
    known = dict(configs.flatten(config_by_size.filled(config, size) if size else config))
    return space.resolved(space.of_model(FOLDER, dataset, model, known), known, 'space'), known


def pairs_of_values(found):
    """Values of any two keys, all of a choice and the ends of a range."""
    for one, other in itertools.combinations(found, 2):
        values = itertools.product(found[one].ends(), found[other].ends())
        yield from ({one: first, other: second} for first, second in values)


@pytest.mark.parametrize('dataset', ['frappe', 'table'])
@pytest.mark.parametrize('model', models.MODELS)
def test_spaces_of_the_project(dataset, model):
    """Every model has a space; every value of it makes a valid config, and so do the values of any two keys
    of the model."""
    found, _ = space_of(dataset, model, SIZES[0])
    for key, entry in found.items():
        for text in entry.ends():
            config = resolve.resolve(FOLDER / f'{dataset}.py', Setting(model), {key: text})
            assert entry.holds(space.as_text(dict(configs.flatten(config))[key])), f'{key}={text}'
    config = resolve.resolve(FOLDER / f'{dataset}.py', Setting(model), {})
    fields = config_by_size.filled(config, SIZES[0]).model.to_dict()
    own = {key: entry for key, entry in found.items() if key.startswith('model.')}
    for values in pairs_of_values(own):
        given = {key.partition('.')[2]: literal(text) for key, text in values.items()}
        models.build(**{**fields, **given})


def literal(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


@pytest.mark.parametrize('model', models.MODELS)
def test_the_first_trial_on_own_tables_has_the_defaults(model):
    for size in SIZES:
        found, known = space_of('table', model, size)
        outside = [key for key, entry in found.items() if not entry.holds(space.as_text(known[key]))]
        assert not outside, size
        assert {'training.batch_size', 'embedding.penalty', 'optimizer.learning_rate'} <= found.keys()


@pytest.mark.parametrize('model', models.of_any_data())
def test_the_first_trial_on_frappe_has_the_config_file_s_values(model):
    found, known = space_of('frappe', model)
    assert [key for key, entry in found.items() if not entry.holds(space.as_text(known[key]))] == []


def test_no_file_of_the_project_is_read_by_no_model():
    names = {path.stem for path in (FOLDER / 'spaces').rglob('*.toml')}
    assert names - {'shared'} <= models.MODELS.keys()
    folders = {path.name for path in (FOLDER / 'spaces').iterdir() if path.is_dir()}
    assert all((FOLDER / f'{name}.py').is_file() for name in folders)


@pytest.mark.parametrize(
    ('factors', 'value', 'expected'),
    [
        ((0.5, 1, 2), 0.003, space.Choice(('0.0015', '0.003', '0.006'))),
        ((0.5, 1, 2), 256, space.Choice(('128', '256', '512'))),
        # What a rule computed stays as it is.
        ((1, 2), 0.123456, space.Choice(('0.123456', '0.247'))),
        ((0.1, 1), 2, space.Choice(('1', '2'))),
        (space.Range(0.1, 10, log=True), 5e-6, space.Range(5e-7, 5e-5, log=True)),
        (space.Range(0.5, 2), 100, space.Range(50, 200)),
    ],
)
def test_factors_of_the_config_s_value(factors, value, expected):
    assert space.Times(factors).of(value) == expected


def test_a_value_that_factors_do_not_change(caplog):
    found = {'embedding.penalty': space.Times((1, 2)), 'model.layers': space.Range(1, 2)}
    with caplog.at_level('INFO', 'dlf_jax'):
        searched = space.resolved(found, {'embedding.penalty': 0.0, 'model.layers': 1}, 'space.toml')
    assert searched == {'model.layers': space.Range(1, 2)}
    assert 'embedding.penalty is 0' in caplog.text
    with pytest.raises(UserError, match=r"space\.toml, model\.norm: times needs a number .* 'layer'"):
        space.resolved({'model.norm': space.Times((1, 2))}, {'model.norm': 'layer'}, 'space.toml')


def test_files_of_a_space_win_over_those_before(tmp_path):
    texts = {
        'shared.toml': '[model]\nrank = [1]\nwidth = [1]\ntokens = [1]\nheads = [1]\nlayers = [1]',
        'table/shared.toml': '[model]\nwidth = [2]\ntokens = [2]',
        'dlf.toml': '[model]\ntokens = [3]\nlayers = [3]',
        'table/dlf.toml': '[model]\nlayers = [4]\nheads = []',
    }
    (tmp_path / 'spaces/table').mkdir(parents=True)
    for name, text in texts.items():
        (tmp_path / 'spaces' / name).write_text(text)
    known = {'model.width', 'model.tokens', 'model.layers', 'model.heads'}

    def read(dataset, model):
        return {key: entry.values for key, entry in space.of_model(tmp_path, dataset, model, known).items()}

    assert read('table', 'dlf') == {'model.width': ('2',), 'model.tokens': ('3',), 'model.layers': ('4',)}
    assert read('frappe', 'dlf')['model.layers'] == ('3',)
    assert read('table', 'my')['model.layers'] == ('1',)
    # A shared key that the model lacks is left out; one of its own file is an error elsewhere.
    assert 'model.rank' not in read('table', 'dlf')
    with pytest.raises(UsageError, match=r'spaces/my\.toml: there is no such search space; --space=FILE'):
        space.of_model(tmp_path / 'spaces', 'table', 'my', known)
