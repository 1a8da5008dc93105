"""Whether files are what is published: exactly, but for line ends and compression, or not."""

import gzip
import hashlib
import json
import os

import pytest

from dlf_jax.data.download import checksums, published_files
from dlf_jax.data.download.published_files import RAW, X1, File, Published, check_rows, recognise
from dlf_jax.errors import UserError
from tests.conftest import shared_file

CONTENT = {
    part: b'label,a\r\n' + b''.join(b'%d,%s%d\r\n' % (i % 2, part.encode(), i) for i in range(rows))
    for part, rows in (('train', 50), ('valid', 20), ('test', 10))
}


def md5(content):
    return hashlib.md5(content).hexdigest()


TINY = Published(
    'Tiny_x1', 'for tests', 'http://example.org/licence', X1, 2,
    {part: File(f'{part}.csv', md5(content), content.count(b'\n') - 1) for part, content in CONTENT.items()},
    'http://example.org/tiny',
)  # fmt: skip


def files_of(folder, **contents):
    """Writes parts, the published content unless another is given, and returns their paths."""
    paths = {}
    for part, content in {**CONTENT, **contents}.items():
        (folder / f'{part}.csv').write_bytes(content)
        paths[part] = str(folder / f'{part}.csv')
    return paths


def test_exactly(tmp_path):
    found = recognise(TINY, files_of(tmp_path), str(tmp_path))
    assert found.exact
    assert str(found) == 'this is exactly Tiny_x1'
    assert not found.differs


def test_harmless_differences(tmp_path):
    paths = files_of(tmp_path, train=CONTENT['train'].replace(b'\r\n', b'\n'))
    zipped = tmp_path / 'valid.csv.gz'
    zipped.write_bytes(gzip.compress(CONTENT['valid']))
    given = {'train': (paths['train'],), 'valid': (str(zipped),), 'test': ''}
    found = recognise(TINY, given, str(tmp_path))
    assert found.exact
    assert str(found) == (
        'this is exactly Tiny_x1 (train: other line ends; valid: gzip-compressed; test: not given)'
    )
    # Both at once, and without the last line end.
    zipped.write_bytes(gzip.compress(CONTENT['valid'].replace(b'\r\n', b'\n')[:-1]))
    assert recognise(TINY, given, str(tmp_path)).exact


def test_line_ends_across_chunks(tmp_path, monkeypatch):
    for size in (1, 2, 3, 7, 64):
        monkeypatch.setattr(checksums, '_CHUNK', size)
        for name, content in {'crlf': b'a\r\nb\rc\r\n', 'lf': b'a\nb\rc\n', 'open': b'a\r\nb\rc'}.items():
            (tmp_path / name).write_bytes(content)
            folder = str(tmp_path / f'{size}')
            for end in (b'\n', b'\r\n'):
                ((raw, ended),) = checksums.content_md5_sums([str(tmp_path / name)], folder, end)
                assert raw == md5(content)
                assert ended == md5(b'a' + end + b'b\rc' + end)
    for content, ended in ((b'', b''), (b'\r', b'\r\n')):
        (tmp_path / 'odd').write_bytes(content)
        ((_, found),) = checksums.content_md5_sums([str(tmp_path / 'odd')], str(tmp_path), b'\n')
        assert found == md5(ended)


def test_modified(tmp_path):
    changed = CONTENT['train'].replace(b'1,train7', b'0,train7')
    paths = files_of(tmp_path, train=changed)
    with pytest.raises(UserError) as error:
        recognise(TINY, paths, str(tmp_path))
    message = str(error.value)
    for told in (paths['train'], md5(changed), md5(CONTENT['train']), 'config.dataset.allow_modified=True'):
        assert told in message
    assert paths['valid'] not in message
    assert '\n' not in message
    found = recognise(TINY, paths, str(tmp_path), allow_modified=True)
    assert not found.exact
    assert len(found.differs) == 1
    assert md5(changed) in str(found)


def test_exchanged_parts(tmp_path):
    paths = files_of(tmp_path, valid=CONTENT['test'].replace(b'\r\n', b'\n'))
    with pytest.raises(UserError, match=r'valid\.csv: md5 \w+ \(that is the published test\.csv\)'):
        recognise(TINY, paths, str(tmp_path))


def test_a_file_that_is_too_short_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(checksums, 'file_md5', None)
    paths = files_of(tmp_path, train=b'label,a\n1,2\n')
    with pytest.raises(UserError, match=r'train\.csv: 12 bytes, too few for the 50 rows of train\.csv'):
        recognise(TINY, {'train': paths['train']}, str(tmp_path))


def test_several_files(tmp_path):
    paths = files_of(tmp_path)
    with pytest.raises(UserError, match=r'train: 2 files, published is one, train\.csv'):
        recognise(TINY, {'train': (paths['train'], paths['valid'])}, str(tmp_path))


def test_sums_are_remembered(tmp_path, monkeypatch):
    paths = files_of(tmp_path, train=CONTENT['train'].replace(b'\r\n', b'\n'))
    read = []
    content_md5, file_md5 = checksums._content_md5, checksums.file_md5
    monkeypatch.setattr(checksums, '_content_md5', lambda *a: read.append('content') or content_md5(*a))
    monkeypatch.setattr(checksums, 'file_md5', lambda *a: read.append('file') or file_md5(*a))
    recognise(TINY, paths, str(tmp_path), allow_modified=True)
    assert read == ['file'] * 3  # no second look where all is allowed
    recognise(TINY, paths, str(tmp_path))
    assert read == ['file'] * 3 + ['content']  # and only at what differs
    recognise(TINY, paths, str(tmp_path))
    assert len(read) == 4
    assert len(json.loads((tmp_path / 'digests.json').read_text())) == 4
    os.utime(paths['train'], ns=(1, 1))
    recognise(TINY, paths, str(tmp_path))
    assert len(read) == 6


def test_sums_tell_files_apart_at_every_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(checksums, '_CHUNK', 64)
    content = bytes(range(256)) + b'end'
    given = {
        'whole': content,
        'same': content,
        'short': content[:-1],
        'swapped': content[64:128] + content[:64],
    }
    given |= {f'byte {i}': content[:i] + b'?' + content[i + 1 :] for i in (0, 100, 258)} | {'none': b''}
    paths = {name: tmp_path / name for name in given}
    for name, path in paths.items():
        path.write_bytes(given[name])
    found = dict(zip(given, checksums.sums(map(str, paths.values()), str(tmp_path)), strict=True))
    assert found['same'] == found['whole']
    assert len(set(found.values())) == len(found) - 1
    pieces = b''.join(hashlib.sha256(content[i : i + 64]).digest() for i in range(0, len(content), 64))
    assert found['whole'] == hashlib.sha256(pieces).hexdigest()


def test_damaged_gzip(tmp_path):
    zipped = gzip.compress(CONTENT['train'])
    for content in (zipped[:-20], zipped[:30] + bytes(20) + zipped[50:]):
        paths = files_of(tmp_path, train=content)
        with pytest.raises(UserError, match=r'train\.csv: damaged gzip file'):
            recognise(TINY, paths, str(tmp_path))


def test_rows():
    rows = {part: file.rows for part, file in TINY.files.items()}
    assert check_rows(TINY, rows) == ()
    assert check_rows(TINY, {'train': 50}) == ()
    with pytest.raises(
        UserError, match=r'valid: 21 rows, published: 20; set --config.dataset.allow_modified'
    ):
        check_rows(TINY, {**rows, 'valid': 21})
    assert check_rows(TINY, {**rows, 'valid': 21}, True) == ('valid: 21 rows, published: 20',)


def test_raw_forms(tmp_path):
    raw = Published('Raw', 'for tests', '', RAW, 1, {'train': File('train.txt', '', 80)}, '')
    paths = files_of(tmp_path)
    found = recognise(raw, paths, str(tmp_path))
    assert not found.exact
    assert not found.differs
    assert 'this may be Raw (no md5 sum is known; rows, once they are read, should be 80' in str(found)
    assert check_rows(raw, {'train': 50, 'valid': 20, 'test': 10}) == ()
    with pytest.raises(UserError, match='all parts: 81 rows, published: 80'):
        check_rows(raw, {'train': 50, 'valid': 21, 'test': 10})
    # With a known sum, lines end in LF, and parts of one's own are not what is published.
    text = CONTENT['train'].replace(b'\r\n', b'\n')
    raw = Published('Raw', 'for tests', '', RAW, 1, {'train': File('train.txt', md5(text), 50)}, '')
    assert recognise(raw, {'train': paths['train']}, str(tmp_path)).notes == ('train: other line ends',)
    with pytest.raises(UserError, match=r'valid: .*: published is only train\.txt'):
        recognise(raw, {p: paths[p] for p in ('train', 'valid')}, str(tmp_path))


def test_the_real_ones(tmp_path):
    known = (
        published_files.CRITEO_X1,
        published_files.AVAZU_X1,
        published_files.MOVIELENS_X1,
        published_files.FRAPPE_X1,
    )
    for dataset in known:
        assert list(dataset.files) == ['train', 'valid', 'test']
        assert all(len(file.md5) == 32 for file in dataset.files.values())
        assert dataset.url == f'https://huggingface.co/datasets/reczoo/{dataset.name}'
        assert dataset.repository == f'reczoo/{dataset.name}'
    assert len({file.md5 for dataset in known for file in dataset.files.values()}) == 12
    # Splits of the same rows.
    assert published_files.CRITEO_X1.rows == published_files.CRITEO_RAW.rows == 45_840_617
    assert published_files.AVAZU_X1.rows == published_files.AVAZU_RAW.rows == 40_428_967
    valid = recognise(
        published_files.FRAPPE_X1, {'valid': str(shared_file('frappe/valid.csv'))}, str(tmp_path)
    )
    assert valid.exact
    assert 'valid: other line ends' in valid.notes
    with pytest.raises(UserError, match=r'published for train\.csv: ba7306e6c4fc19dd2cd84f2f0596d158'):
        recognise(published_files.FRAPPE_X1, {'train': str(shared_file('frappe/train.csv'))}, str(tmp_path))
