"""Damaged files end in a clear error, or in exactly the rows that an independent reader finds.

The rows are generated in the formats of Criteo's raw file, Avazu's, libFM's, libSVM's, libFFM's, a quoted CSV
and Parquet; real samples are damaged, too, where they are available. The number of seeds is fixed; more with
DLF_JAX_FUZZ=1000.
"""

import csv
import gzip
import io
import os
import random
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from dlf_jax.config import get_config
from dlf_jax.data import builders
from dlf_jax.data.builders.avazu import RAW_FIELDS
from dlf_jax.data.readers import text_blocks
from dlf_jax.data.readers.chunk import Columns
from dlf_jax.data.readers.tables import open_table
from dlf_jax.errors import UserError
from tests.conftest import SHARED
from tests.data.test_builders import rows_of

SEEDS = int(os.environ.get('DLF_JAX_FUZZ', '60'))
TOKENS = (
    b'"', b'""', b',', b'\t', b' ', b'\n', b'\r', b'\r\n', b'\n\n', b'\x00', b'\xff', b'\xc3', b'-', b'.',
    b'nan', b'inf', b'-inf', b'1e999', b'2', b'NULL', b':', b'1:1', b'\xef\xbb\xbf', b'x' * 5000,
)  # fmt: skip


LIBSVM = """label = "label"
[columns.features]
kind = "multi-valued"
length = 5
[columns.50]
kind = "numeric"
"""


def criteo(draw):
    def line():
        numbers = [draw.choice(['', str(draw.randint(-3, 500))]) for _ in range(13)]
        return '\t'.join(
            [str(draw.randint(0, 1)), *numbers, *(f'{draw.randint(0, 9):08x}' for _ in range(26))]
        )

    return '\n'.join(line() for _ in range(40)) + '\n'


def avazu(draw):
    def line(i):
        hour = f'141021{draw.randint(0, 23):02d}'
        return ','.join(
            [str(i), str(draw.randint(0, 1)), hour, *(str(draw.randint(0, 9)) for _ in range(21))]
        )

    return '\r\n'.join([','.join(['id', 'click', *RAW_FIELDS]), *map(line, range(40))]) + '\r\n'


def libfm(draw):
    return ''.join(
        f'{draw.choice([-1, 1])} {draw.randint(0, 9)}:1 {draw.randint(10, 19)}:1 {draw.randint(20, 29)}:1\n'
        for _ in range(40)
    )


def quoted(draw):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(['label', 'a', 'x'])
    for _ in range(40):
        word = draw.choice(['plain', 'with, comma', 'with "quotes"', 'two\nlines', ''])
        writer.writerow([draw.randint(0, 1), word, draw.choice(['', '1.5', '-2'])])
    return text.getvalue()


def libsvm(draw):
    def line():
        entries = [f'{index}:1' for index in sorted(draw.sample(range(1, 30), draw.randint(0, 4)))]
        price = [f'50:{draw.choice(["0.5", "-2", "1e-3"])}'] if draw.random() < 0.7 else []
        comment = [' # note'] if draw.random() < 0.1 else []
        return ' '.join([draw.choice(['+1', '-1']), *entries, *price, *comment])

    return '\n'.join(line() for _ in range(40)) + '\n'


def libffm(draw):
    def line():
        first, second = draw.randint(0, 9), draw.randint(10, 19)
        return f'{draw.randint(0, 1)} 0:{first}:1 1:{second}:1 2:20:{draw.random():.3f}'

    return '\n'.join(line() for _ in range(40)) + '\n'


FORMS = {
    'criteo': (criteo, 'train.txt', {'treatment': 'log2'}),
    'avazu': (avazu, 'train.csv', {'hour': 'parts'}),
    'movielens': (libfm, 'train.libfm', {}),
    'table': (quoted, 'train.csv', {'label': 'label', 'categorical': ('a',), 'numeric': ('x',)}),
    'libsvm': (libsvm, 'train.svm', {'format': 'libsvm', 'schema': LIBSVM}),
    'libffm': (libffm, 'train.ffm', {'categorical': ('field_0', 'field_1'), 'numeric': ('field_2',)}),
}
# Datasets of the forms that are not called after theirs.
DATASET = {'libsvm': 'table', 'libffm': 'table'}
# Bytes that mean something in Parquet's footer and pages.
PARQUET_TOKENS = (b'PAR1', b'\x00' * 8, b'\xff' * 4, b'\x15\x80\x80\x04', b'\x80' * 9 + b'\x01')
SAMPLES = {'criteo': 'criteo/train_head.txt', 'avazu': 'avazu/train_head.csv'}


def damaged(data, draw):
    """The bytes after a few mutations."""
    data = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 5])):
        at = draw.randrange(len(data) + 1)
        kind = draw.randrange(6)
        if kind == 0:
            data[at:at] = draw.choice(TOKENS)
        elif kind == 1:
            del data[at : at + draw.choice([1, 1, 3, 50])]
        elif kind == 2 and at < len(data):
            data[at] = draw.randrange(256)
        elif kind == 3 and at < len(data):
            data[at : at + 1] = draw.choice(TOKENS)
        elif kind == 4:
            stop = min(len(data), at + draw.choice([1, 10, 200]))
            data[at:at] = data[at:stop]
        else:
            del data[draw.choice([at, max(at, len(data) - 3)]) :]
    return bytes(data)


def expected_labels(form, data):
    """The labels as an independent reader finds them, or None where it finds no table."""
    text = data.decode('utf-8')
    if form == 'table' or form == 'avazu':
        rows = [row for row in csv.reader(io.StringIO(text.lstrip('\ufeff'), newline='')) if row]
        label = rows[0].index('click' if form == 'avazu' else 'label')
        values = [row[label] for row in rows[1:]]
    elif form in ('libsvm', 'libffm'):
        lines = [line.partition('#')[0].split() for line in text.split('\n')]
        values = [line[0] for line in lines if line]
    else:
        separator = '\t' if form == 'criteo' else ' '
        values = [line.split(separator)[0] for line in text.rstrip('\r\n').split('\n')]
    return [max(float(value), 0.0) for value in values]


def attempt(form, path, keys):
    config = get_config('mlp').dataset
    config.name, config.train, config.valid = DATASET.get(form, form), str(path), str(path)
    config.allow_modified, config.block_rows = True, 16
    for key, value in keys.items():
        config[key] = value
    if config.schema:
        (path.parent / 'schema.toml').write_text(config.schema)
        config.schema = str(path.parent / 'schema.toml')
    builder = builders.build(config, str(path.parent / 'data'))
    try:
        builder.prepare()
    finally:
        finished = list(path.parent.glob(f'data/{config.name}/*/1.0.0'))
    assert len(finished) == 1
    return rows_of(builder, 'train')


@pytest.mark.parametrize('form', FORMS)
def test_damaged_files(form, monkeypatch):
    monkeypatch.setattr(text_blocks, 'CHUNK_BYTES', 2000)
    make, name, keys = FORMS[form]
    whole = 0
    for seed in range(SEEDS):
        draw = random.Random(f'{form}{seed}')
        sample = SHARED / SAMPLES.get(form, 'none')
        if seed % 4 == 3 and sample.is_file():
            with sample.open('rb') as file:
                original = b''.join(file.readline() for _ in range(60))
        else:
            original = make(draw).encode()
        data = damaged(original, draw) if seed else original
        packed = seed % 5 == 4
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / (f'{name}.gz' if packed else name)
            stored = gzip.compress(data, mtime=0) if packed else data
            path.write_bytes(damaged(stored, draw) if packed and seed % 10 == 9 else stored)
            try:
                rows = attempt(form, path, keys)
            except UserError as error:
                message = str(error)
                assert path.name in message or 'part of' in message, (seed, message)
                assert '\n' not in message, (seed, message)
                assert not list(path.parent.glob('data/*/*/1.0.0')), seed
                continue
            whole += 1
            labels = expected_labels(form, gzip.decompress(path.read_bytes()) if packed else data)
            assert rows['label'].tolist() == labels, seed
            # A missing number is NaN.
            assert not any(np.isinf(v).any() for v in rows.values()), seed
    # Both outcomes must occur, or nothing is tested.
    assert 0 < whole < SEEDS


def parquet(draw):
    """A Parquet file, written in one of several ways."""
    rows = 40
    frame = pl.DataFrame(
        {
            'label': [draw.randint(0, 1) for _ in range(rows)],
            'a': [draw.choice(['x', 'two\nlines', None, 'z' * 50]) for _ in range(rows)],
            'tags': [[draw.choice('abc') for _ in range(draw.randint(0, 3))] for _ in range(rows)],
            'x': [draw.choice([None, 0.5, -2.0]) for _ in range(rows)],
        },
        schema={'label': pl.Int64, 'a': pl.String, 'tags': pl.List(pl.String), 'x': pl.Float64},
    )
    file = io.BytesIO()
    pq.write_table(
        frame.to_arrow(),
        file,
        row_group_size=draw.choice([7, 40]),
        compression=draw.choice(['none', 'snappy', 'zstd', 'gzip']),
        use_dictionary=draw.random() < 0.5,
        data_page_version=draw.choice(['1.0', '2.0']),
    )
    return frame, file.getvalue()


def damaged_parquet(data, draw):
    """The bytes after a few mutations, half of them in the footer."""
    data = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 5])):
        footer = int.from_bytes(data[-8:-4], 'little') + 8 if len(data) > 8 else 8
        low = max(0, len(data) - footer) if draw.random() < 0.5 else 0
        at = draw.randrange(min(low, len(data)), len(data) + 1)
        kind = draw.randrange(4)
        if kind == 0:
            data[at:at] = draw.choice(PARQUET_TOKENS)
        elif kind == 1:
            del data[at : at + draw.choice([1, 8, 200])]
        elif kind == 2 and at < len(data):
            data[at] = draw.randrange(256)
        elif kind == 3 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
    return bytes(data)


def test_damaged_parquet_files(tmp_path):
    """Pages without checksums can be damaged unseen, so only the way in which reading ends is checked."""
    path, whole, refused = tmp_path / 'train.parquet', 0, 0
    for seed in range(4 * SEEDS):
        draw = random.Random(f'parquet{seed}')
        frame, data = parquet(draw)
        path.write_bytes(damaged_parquet(data, draw) if seed % 20 else data)
        try:
            table = open_table((str(path),))
            wanted = tuple(name for name in ('label', 'a', 'tags') if name in table.columns)
            chunks = list(table.chunks(Columns(wanted, ('x',) if 'x' in table.columns else (), wanted)))
            for place, _ in table.places(0):
                table.read(place, Columns(wanted))
        except UserError as error:
            refused += 1
            message = str(error)
            assert str(path) in message, (seed, message)
            assert len(message.splitlines()) == 1, (seed, message)
            continue
        whole += 1
        if not seed % 20:
            found = pl.concat([chunk.kept for chunk in chunks])
            assert found.equals(frame.select(wanted)), seed
    assert whole > 4 * SEEDS // 20
    assert refused
