"""Open lists: what a name in a config key comes to."""

import pytest

from dlf_jax import plugins
from dlf_jax.errors import UsageError

KNOWN = {'one': 1, 'two': 2}


def test_an_entry_of_the_list():
    assert plugins.lookup('one', KNOWN, 'config.thing') == 1


def test_an_object_of_a_module():
    assert plugins.lookup('collections:OrderedDict', KNOWN, 'config.thing').__name__ == 'OrderedDict'


def test_an_object_of_a_file_is_loaded_once(tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text('class Mine:\n    pass\n')
    found = plugins.lookup(f'{file}:Mine', KNOWN, 'config.thing')
    assert found.__name__ == 'Mine'
    assert plugins.lookup(f'{file}:Mine', KNOWN, 'config.thing') is found


def test_files_of_one_name_are_two_modules(tmp_path):
    for i in (1, 2):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / 'mine.py').write_text(f'VALUE = {i}\n')
    found = [plugins.lookup(f'{tmp_path}/{i}/mine.py:VALUE', KNOWN, 'config.thing') for i in (1, 2)]
    assert found == [1, 2]


def test_a_file_is_named_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plugins.absolute('mine.py:Mine') == f'{tmp_path}/mine.py:Mine'
    assert plugins.absolute('package.module:Mine') == 'package.module:Mine'
    assert plugins.absolute('one') == 'one'


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('onee', r"config.thing='onee': there is no such entry; did you mean 'one'"),
        ('nothing.py:Mine', r'there is no file nothing.py'),
        ('no_such_module:Mine', r'importing no_such_module failed: ModuleNotFoundError'),
        ('collections:OrderdDict', r"has no 'OrderdDict'; did you mean 'OrderedDict'"),
    ],
)
def test_errors_name_key_and_cause(name, message):
    with pytest.raises(UsageError, match=message):
        plugins.lookup(name, KNOWN, 'config.thing')


def test_a_broken_file_says_what_is_wrong(tmp_path):
    (tmp_path / 'broken.py').write_text('x = 1\ny = undefined\n')
    with pytest.raises(UsageError, match=r"broken.py failed: NameError: name 'undefined'"):
        plugins.lookup(f'{tmp_path}/broken.py:x', KNOWN, 'config.thing')
