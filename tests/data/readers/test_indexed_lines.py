"""libSVM and libFFM lines, compared with a reader that takes them apart token by token."""

import gzip
import random

import polars as pl
import pytest

import dlf_jax
from dlf_jax.data import schema_files, schema_proposal
from dlf_jax.data.readers import tables, text_blocks
from dlf_jax.data.readers.chunk import Columns
from dlf_jax.data.readers.indexed_lines import LibffmTable, LibsvmTable, format_of
from dlf_jax.errors import UserError
from tests.conftest import SMALL_FLAGS, config_of, fail, run
from tests.data.test_schema_files import DEFAULTS

SVM = '# made by hand\n+1 3:1 7:1 12:0.5\n-1 qid:4 7:1  # a comment\n\n-1\t\n+1 3:1 12:-2e-1 40:0\r\n'
FFM = '1 0:11:1 1:22:1 2:33:0.25\n0 0:12:1\n# none\n1 1:23:1.0 1:24:1 2:33:-4\n0\n'


def opened(path, text, **options):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return tables.open_table((str(path),), **options)


def frame_of(table, text=(), numbers=(), keep=()):
    chunks = list(table.chunks(Columns(text, numbers, keep)))
    return pl.concat([chunk.frame for chunk in chunks])


def test_libsvm_columns(tmp_path):
    table = opened(tmp_path / 'a.txt', SVM)
    assert isinstance(table, LibsvmTable)
    assert table.columns == ('label', 'qid', 'features')
    tables.check_columns(table, ['label', 'features', '12', '999'], 'a feature')
    with pytest.raises(UserError, match="no column 'twelve'"):
        tables.check_columns(table, ['twelve'], 'a feature')
    found = frame_of(table, ('label', 'features', 'qid', '40'), ('12',))
    assert found['label'].to_list() == ['1', '-1', '-1', '1']
    assert found['features'].to_list() == [['3', '7'], ['7'], [], ['3']]
    assert found['qid'].to_list() == [None, '4', None, None]
    assert found['12'].to_list() == [0.5, 0, 0, -0.2]
    assert found['40'].to_list() == ['0', '0', '0', '0']


def test_libffm_columns(tmp_path):
    table = opened(tmp_path / 'a.txt', FFM)
    assert isinstance(table, LibffmTable)
    assert table.columns == ('label', 'field_0', 'field_1', 'field_2')
    tables.check_columns(table, ['label', 'field_1', 'field_77'], 'a feature')
    found = frame_of(table, ('label', 'field_0', 'field_1', 'field_77'), ('field_2',))
    assert found.rows() == [
        ('1', ['11'], ['22'], [], 0.25), ('0', ['12'], [], [], None), ('1', [], ['23', '24'], [], -4.0),
        ('0', [], [], [], None),
    ]  # fmt: skip
    # Kept alone, as a proposal of a schema reads them.
    (chunk,) = table.chunks(Columns(keep=('field_0', 'label', 'field_1', 'field_2')))
    assert chunk.kept.rows() == [
        ('11', '1', '22', '0.25'), ('12', '0', None, None), (None, '1', '23,24', '-4'),
        (None, '0', None, None),
    ]  # fmt: skip


@pytest.mark.parametrize('packed', [False, True])
def test_many_lines_are_as_they_are_read_one_by_one(tmp_path, monkeypatch, packed):
    monkeypatch.setattr(text_blocks, 'CHUNK_BYTES', 3000)
    draw = random.Random(0)
    lines, expected = [], []
    for i in range(2000):
        fields = sorted(draw.sample(range(6), draw.randint(0, 6)))
        entries = [(f, draw.randint(0, 99), 1 if f < 4 else draw.choice([0.5, -1.25, 3])) for f in fields]
        lines.append(' '.join([str(i % 2), *(f'{f}:{index}:{value}' for f, index, value in entries)]))
        by_field = {f: [str(index)] if f < 4 else float(value) for f, index, value in entries}
        expected.append((str(i % 2), *(by_field.get(f, [] if f < 4 else None) for f in range(6))))
        if i % 97 == 0:
            lines.append('  # a comment')
    text = ('\n'.join(lines) + '\n').encode()
    table = opened(tmp_path / 'a.ffm', gzip.compress(text) if packed else text)
    wanted = Columns(('label', *(f'field_{i}' for i in range(4))), ('field_4', 'field_5'))
    chunks = list(table.chunks(wanted))
    assert len(chunks) > 5
    assert pl.concat([chunk.frame for chunk in chunks]).rows() == expected
    at = chunks[5].where(3).rpartition(' ')[2]
    assert lines[int(at) - 1].split(' ')[0] == chunks[5].frame['label'][3]
    if packed:
        with pytest.raises(UserError, match='unpack it first'):
            next(table.places(0))
        return
    places = list(table.places(0))
    assert sum(count for _, count in places) == 2000
    assert pl.concat([table.read(place, wanted).frame for place, _ in places]).rows() == expected


BAD = {
    '1 3:1:1\n1 x:1\n': "line 2: expected a field, an index and a number, such as 3:17:1, found 'x:1'",
    '1 3:1:1\n1 3:1:1:1\n': "line 2: expected .* found '3:1:1:1'",
    '1 3:1:1\n1 -3:1:1\n': "line 2: expected .* found '-3:1:1'",
    '1 3:1:1\n1 3:99999999999999999999:1\n': 'line 2: expected .*, found .*9999',
    '1 3:1:1\n1 3:1:much\n': "line 2: expected .* found '3:1:much'",
    '1 3:1:1\n\n3:1:1\n': "line 3: expected a label before the entries, found '3:1:1'",
    '1 3:1:1\n1 3:1:0.5\n': 'line 2: field_3 has the value 0.5; that of a category is 1; declare it numeric',
    '1 3:1:1\n# c\n1 4:1:1 4:2:1\n': 'line 3: field_4 is there more than once; a number is one',
    '1 3:1:1\n1 qid:1 qid:2 3:1:1\n': 'line 2: qid is there twice',
    '1 3:1:1\n1 3:1:1\0\n': 'line 2: ',
}  # fmt: skip


@pytest.mark.parametrize('text', BAD)
def test_bad_lines_are_named(tmp_path, text):
    table = opened(tmp_path / 'a.txt', text)
    with pytest.raises(UserError, match=BAD[text]) as error:
        frame_of(table, ('label', 'field_3'), ('field_4',))
    assert str(error.value).startswith(f'{tmp_path}/a.txt, line ')
    assert '\n' not in str(error.value)


def test_bad_libsvm_lines_are_named(tmp_path):
    table = opened(tmp_path / 'a.txt', '1 3:1\n1 3:1 5:0.25\n1 3:1 3:1\n')
    with pytest.raises(UserError, match=r"line 2: the index 5 has the value 0.25; .*numeric=\('5',\)"):
        frame_of(table, ('label', 'features'))
    with pytest.raises(UserError, match='line 3: the index 3 is there more than once'):
        frame_of(table, ('label',), ('3',))
    # An index of numbers is no feature of the list.
    assert frame_of(table, ('features',), ('5',))['features'].to_list() == [['3'], ['3'], ['3', '3']]
    with pytest.raises(UserError, match='no rows'):
        frame_of(opened(tmp_path / 'b.txt', '# nothing\n', format='libsvm'), ('label',))


def test_how_files_are_recognised(tmp_path):
    forms = {
        '1 3:1\n': 'libsvm', '-1 qid:3 3:0.5 4:1e-3 # c\n': 'libsvm', '# c\n0\n+1 3:1\n': 'libsvm',
        '1 0:3:1\n': 'libffm', '0.5 0:3:1 1:2:-.5\r\n': 'libffm',
        'label,a\n1,2\n': '', 'a\n1 3:1\n': '', '1\t2\t3\n': '', '1 3:1 x\n': '', '\n': '', 'x 3:1\n': '',
        '1,12:30\n': '',
    }  # fmt: skip
    for text, form in forms.items():
        (tmp_path / 't').write_text(text)
        assert format_of(str(tmp_path / 't')) == form, text


def test_formats_that_are_not_the_files(tmp_path):
    pl.DataFrame({'a': [1]}).write_parquet(tmp_path / 'p')
    (tmp_path / 't').write_text('a\n1\n')
    for name, form in (('p', 'text'), ('p', 'libsvm'), ('t', 'parquet')):
        with pytest.raises(
            UserError, match=f"{name}: a .* file; config.dataset.format='{form}' is not for it"
        ):
            tables.open_table((str(tmp_path / name),), format=form)
    # As text, a line of entries is a header line.
    assert opened(tmp_path / 's', '1 3:1\n', format='text').columns == ('1 3:1',)


def flags(path, *more):
    return (*SMALL_FLAGS, '--dataset=table', f'--config.dataset.train={path}', *more)


def learnable(form, count=600):
    """Lines whose label depends on the first index, another on the value of the second."""
    draw = random.Random(1)
    for _ in range(count):
        ad, price = draw.randint(0, 3), round(draw.random(), 3)
        label = '+1' if draw.random() < (0.15 + 0.2 * ad) else '-1'
        tags = sorted(draw.sample(range(100, 105), draw.randint(1, 3)))
        if form == 'libsvm':
            yield ' '.join([label, f'{ad}:1', f'50:{price}', *(f'{tag}:1' for tag in tags)])
        else:
            yield ' '.join([label, f'0:{ad}:1', f'1:50:{price}', *(f'2:{tag}:1' for tag in tags)])


SCHEMAS = {
    'libsvm': (
        'label = "label"\n[columns.features]\nkind = "multi-valued"\nlength = 5\n'
        '[columns.50]\nkind = "numeric"\n'
    ),
    'libffm': (
        'label = "label"\n[columns.field_0]\nkind = "categorical"\n[columns.field_1]\nkind = "numeric"\n'
        '[columns.field_2]\nkind = "multi-valued"\nlength = 5\n'
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize('form', SCHEMAS)
def test_training_and_prediction_by_the_command(form, tmp_path):
    path = tmp_path / 'train.data'
    path.write_text('\n'.join(learnable(form)) + '\n')
    (tmp_path / 's.toml').write_text(SCHEMAS[form])
    schema = f'--config.dataset.schema={tmp_path / "s.toml"}'
    run(*flags(path, schema), f'--data_dir={tmp_path / "data"}', f'--workdir={tmp_path / "run"}')
    # Prediction needs the workdir alone.
    (tmp_path / 's.toml').unlink()
    (tmp_path / 'few').write_text('\n'.join(list(learnable(form))[:5]) + '\n')
    output = tmp_path / 'o.parquet'
    told = run('--mode=evaluate', f'--workdir={tmp_path / "run"}', f'--input={tmp_path / "few"}')
    assert told['rows'] == 5
    assert not any(told['out_of_vocabulary'].values())
    run('--mode=predict', f'--workdir={tmp_path / "run"}', f'--input={path}', f'--output={output}')
    if form == 'libffm':
        (tmp_path / 'few').write_text('1 0:1:1 1:50:0.5\n0 0:1:1 0:2:1 1:50:0.5\n')
        message = fail('--mode=evaluate', f'--workdir={tmp_path / "run"}', f'--input={tmp_path / "few"}')
        assert "few, line 2: column 'field_0': expected one value a row" in message
    assert pl.read_parquet(output).height == 600


def test_a_schema_of_libffm_files_can_be_proposed(tmp_path):
    path = tmp_path / 'train.ffm'
    path.write_text('\n'.join(learnable('libffm')) + '\n')
    found = schema_proposal.propose(tables.open_table((str(path),)), str(tmp_path / 's.toml'))
    assert found['label'] == 'label'
    fields = {f.name: f for f in schema_files.load(str(tmp_path / 's.toml'), DEFAULTS).fields}
    assert {name: f.kind for name, f in fields.items()} == {
        'field_0': 'categorical', 'field_1': 'numeric', 'field_2': 'multi-valued',
    }  # fmt: skip
    config = config_of(*flags(path, f'--config.dataset.schema={tmp_path / "s.toml"}'))
    assert dlf_jax.prepare(config, tmp_path / 'data')['fields']['field_2'] == 2 + 5


def test_mistakes_by_the_command(tmp_path):
    path = tmp_path / 'train.ffm'
    path.write_text('\n'.join(learnable('libffm')) + '\n')
    data = (f'--data_dir={tmp_path / "data"}', '--mode=prepare')
    named = "--config.dataset.categorical=('field_0','field_{}')"
    message = fail(*flags(path, named.format(2)), *data)
    assert 'train.ffm, line ' in message
    assert (
        "column 'field_2': expected one value a row, found lists of several; make the field multi-valued"
        in message
    )
    message = fail(*flags(path, named.format(1)), *data)
    assert 'train.ffm, line 1: field_1 has the value' in message
    assert 'declare it numeric' in message
    message = fail(*flags(path, '--config.dataset.format=libfm', named.format(1)), *data, code=2)
    assert "config.dataset.format='libfm': no such choice; did you mean 'libffm'?" in message
