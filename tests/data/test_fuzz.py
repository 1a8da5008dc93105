"""Damaged files end in a clear error, or in exactly the rows that an independent reader finds.

The rows are generated in the formats of Criteo's raw file, Avazu's, libFM's and a quoted CSV; real samples
are damaged, too, where they are available. The number of seeds is fixed; more with DLF_JAX_FUZZ=1000.
"""

import csv
import gzip
import io
import os
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest

from dlf_jax.config import get_config
from dlf_jax.data import builders
from dlf_jax.data.builders.avazu import RAW_FIELDS
from dlf_jax.data.readers import text_blocks
from dlf_jax.errors import UserError
from tests.conftest import SHARED
from tests.data.test_builders import rows_of

SEEDS = int(os.environ.get('DLF_JAX_FUZZ', '60'))
TOKENS = (
    b'"', b'""', b',', b'\t', b' ', b'\n', b'\r', b'\r\n', b'\n\n', b'\x00', b'\xff', b'\xc3', b'-', b'.',
    b'nan', b'inf', b'-inf', b'1e999', b'2', b'NULL', b':', b'1:1', b'\xef\xbb\xbf', b'x' * 5000,
)  # fmt: skip


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


FORMS = {
    'criteo': (criteo, 'train.txt', {'treatment': 'log2'}),
    'avazu': (avazu, 'train.csv', {'hour': 'parts'}),
    'movielens': (libfm, 'train.libfm', {}),
    'table': (quoted, 'train.csv', {'label': 'label', 'categorical': ('a',), 'numeric': ('x',)}),
}
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
    else:
        separator = '\t' if form == 'criteo' else ' '
        values = [line.split(separator)[0] for line in text.rstrip('\r\n').split('\n')]
    return [max(float(value), 0.0) for value in values]


def attempt(form, path, keys):
    config = get_config('mlp').dataset
    config.name, config.train, config.valid = form, str(path), str(path)
    config.allow_modified, config.block_rows = True, 16
    for key, value in keys.items():
        config[key] = value
    builder = builders.build(config, str(path.parent / 'data'))
    try:
        builder.prepare()
    finally:
        finished = list(path.parent.glob(f'data/{form}/*/1.0.0'))
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
            assert all(np.isfinite(v).all() for v in rows.values()), seed
    # Both outcomes must occur, or nothing is tested.
    assert 0 < whole < SEEDS
