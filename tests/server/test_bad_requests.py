"""What is malformed, hostile or too large is refused with the field's name, and harms no other request."""

import asyncio
import contextlib
import json
import struct
import threading

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlf_jax.errors import UserError
from dlf_jax.server import open_inference
from dlf_jax.server.rows import BadRequest
from tests.server.conftest import serving

HEADER = open_inference.HEADER


@pytest.fixture(scope='module')
def row(frame):
    return frame[5:6].to_dicts()[0]


def refused(answer, status, *parts):
    assert answer.status_code == status, answer.text
    message = answer.json()['error']
    assert 'Traceback' not in message
    for part in parts:
        assert part in message, message
    return message


# Column, value, and what the error says beside the column.
VALUES = [
    ('user', {}, 'expected a text or a number, found an object'),
    ('user', ['a', 'b'], 'expected one value, found a list of 2'),
    ('user', [['a']], 'found a list'),
    ('user', 10**30, 'is rounded'),
    ('user', 2.0**53, 'is rounded'),
    ('url', {'a': 1}, 'found an object'),
    ('zip', True, 'expected numbers'),
    ('flag', 1, 'expected booleans'),
    ('tags', 't1', 'expected a list of values, found a text'),
    ('tags', 3, 'expected a list of values, found a number'),
    ('tags', [['t1']], 'found a list in it'),
    ('tags', [{}], 'found an object in it'),
    ('history', {'i1': 1}, 'found an object'),
    ('price', 'cheap', "expected a number, found 'cheap'"),
    ('price', [1], 'expected a number, found a list'),
    ('price', {}, 'expected a number, found an object'),
    ('price', 'inf', 'expected a finite number'),
    ('price', 1e200, 'at most 1e+140'),
    ('weight', 1e139, 'beyond the numbers of float32'),
    ('age', 'old', "expected a number, found 'old'"),
    ('count', '-inf', 'expected a finite number'),
]


@pytest.mark.parametrize(('column', 'value', 'part'), VALUES)
def test_a_value_that_cannot_be(client, row, column, value, part):
    rows = [row, {**row, column: value}, row]
    answer = client.post('/v1/score', json={'rows': rows})
    assert f'column {column!r}' in refused(answer, 400, 'row 2', part)


def test_a_column_that_is_not_there(client, row):
    short = {name: value for name, value in row.items() if name != 'history'}
    refused(
        client.post('/v1/score', json={'rows': [row, short]}), 400, 'row 2', "no column 'history'", 'null'
    )
    # What is no feature may be there or not.
    del row['click']
    assert client.post('/v1/score', json={'rows': [{**row, 'more': {}}]}).status_code == 200


BODIES = [
    (b'', 'no JSON'), (b'{', 'no JSON'), (b'\xff\xfe', 'no JSON'), (b'[]', 'expected a JSON object'),
    (b'null', 'expected a JSON object'), (b'{}', 'expected {"rows"'), (b'{"rows": 3}', 'rows: expected'),
    (b'{"rows": []}', 'rows: expected'), (b'{"rows": {}}', 'rows: expected'),
    (b'{"rows": [1]}', 'row 1: expected'),
    (b'{"rows": [[]]}', 'row 1: expected an object, found a list'), (b'{"rows": [null]}', 'found null'),
    (b'{"rows": [{}], "more": 1}', 'nothing beside'), (b'{"rows": [{"user": NaN}]}', 'no JSON'),
    (b'{"rows":' + b'[' * 100_000, 'no JSON'), (b'{"rows": [{"user": "\\ud800"}]}', 'no JSON'),
]  # fmt: skip


@pytest.mark.parametrize(('body', 'part'), BODIES, ids=range(len(BODIES)))
def test_a_body_that_is_none(client, body, part):
    refused(client.post('/v1/score', content=body), 400, part)
    assert client.post('/v2/models/model/infer', content=body).status_code == 400


def tensor(name='user', shape=(1,), datatype='BYTES', **more):
    return {'name': name, 'shape': list(shape), 'datatype': datatype, **more}


INFERENCES = [
    ({'inputs': []}, 'inputs'),
    ({'inputs': [1]}, 'inputs'),
    ({'inputs': [tensor('nothing', data=['a'])]}, "input 'nothing': no such column"),
    ({'inputs': [tensor('usr', data=['a'])]}, "did you mean 'user'"),
    ({'inputs': [{'name': ['user']}]}, 'no such column'),
    ({'inputs': [tensor(data=['a'])]}, "no input 'item'"),
    ({'inputs': [tensor(data=['a']), tensor(data=['a'])]}, "input 'user': is there twice"),
    ({'inputs': [tensor(data=['a']), tensor('item', (2,), data=['a', 'b'])]}, "input 'item': 2 rows, but 1"),
    ({'inputs': [tensor(data=[1])]}, "input 'user': data: expected texts"),
    ({'inputs': [tensor(data='a')]}, "input 'user': data: expected a list"),
    ({'inputs': [tensor()]}, "input 'user': data: expected a list"),
    ({'inputs': [tensor(data=['a', 'b'])]}, "input 'user': expected 1 values by its shape, found 2"),
    ({'inputs': [tensor(shape=(1, 2), data=['a', 'b'])]}, "input 'user': 2 values a row"),
    (
        {'inputs': [tensor('tags', (2, 2), data=[['a', 'b', 'c'], ['d']])]},
        "input 'tags': data: expected 2 lists of 2",
    ),
    ({'inputs': [tensor(shape=(1,), data=[['a', 'b']])]}, "'user': data: expected 1 lists of 1"),
    ({'inputs': [tensor(shape=(1, 1, 1), data=['a'])]}, "input 'user': shape"),
    ({'inputs': [tensor(shape=(-1,), data=['a'])]}, "input 'user': shape"),
    ({'inputs': [tensor(shape=(True,), data=['a'])]}, "input 'user': shape"),
    ({'inputs': [tensor(shape=(0,), data=[])]}, "input 'user': shape"),
    ({'inputs': [tensor(datatype='TEXT', data=['a'])]}, "input 'user': datatype 'TEXT'"),
    ({'inputs': [tensor(datatype=[], data=['a'])]}, "input 'user': datatype"),
    ({'inputs': [tensor('zip', datatype='INT8', data=[1000])]}, "input 'zip': 1000 is no INT8"),
    ({'inputs': [tensor('zip', datatype='INT64', data=[1.5])]}, "input 'zip': data: expected whole numbers"),
    ({'inputs': [tensor('zip', datatype='INT64', data=[True])]}, "input 'zip': data: expected whole numbers"),
    ({'inputs': [tensor('flag', datatype='BOOL', data=[1])]}, "input 'flag': data: expected booleans"),
    ({'inputs': [tensor('tags', (1, 2), data=[['a'], 'b'])]}, "input 'tags': data: expected lists"),
    ({'inputs': [tensor(data=['a'], parameters=3)]}, "input 'user': parameters"),
    ({'inputs': [tensor(parameters={'binary_data_size': 5})]}, "input 'user': binary_data_size"),
    ({'inputs': [tensor(parameters={'binary_data_size': -1})]}, "input 'user': binary_data_size"),
    ({'inputs': [tensor(data=['a'])], 'id': 3}, 'id'),
    ({'inputs': [tensor(data=['a'])], 'input': []}, "'input': no part of a request; did you mean 'inputs'"),
    ({'inputs': [tensor(data=['a'])], 'outputs': [{'name': 'logit'}]}, "output 'logit'"),
    ({'inputs': [tensor(data=['a'])], 'outputs': 3}, 'outputs'),
    ({'inputs': [tensor(data=['a'])], 'parameters': {'binary_data_output': 3}}, 'binary_data'),
    ({'inputs': [tensor('user', (2000,), data=['a'] * 2000)]}, "input 'user': 2000 rows, but at most 1024"),
]


@pytest.mark.parametrize(('request_', 'part'), INFERENCES, ids=range(len(INFERENCES)))
def test_an_inference_that_cannot_be(client, request_, part):
    answer = client.post('/v2/models/model/infer', json=request_)
    refused(answer, 413 if 'at most' in part else 400, part)


@pytest.mark.parametrize(
    ('raw', 'rows', 'part'),
    [
        (struct.pack('<I', 9) + b'abc', 1, 'end before text 1'),
        (struct.pack('<I', 0xFFFFFFFF), 1, 'end before text 1'),
        (b'\0\0', 1, 'end before text 1'),
        (struct.pack('<I', 1) + b'a', 2, 'end before text 2'),
        (struct.pack('<I', 1) + b'ab', 1, '1 bytes after the last'),
        (struct.pack('<I', 1) + b'\xff', 1, 'text 1 is no UTF-8'),
        (struct.pack('<I', 1) + b'a', 1000, 'end before text 2 of 1000'),
    ],
)
def test_bytes_that_are_no_texts(client, raw, rows, part):
    head = json.dumps({'inputs': [tensor(shape=(rows,), parameters={'binary_data_size': len(raw)})]}).encode()
    answer = client.post('/v2/models/model/infer', content=head + raw, headers={HEADER: str(len(head))})
    refused(answer, 400, "input 'user'", part)


@pytest.mark.parametrize('length', ['-1', 'x', '1e3', '99999999', '9' * 5000, '²'])
def test_a_length_that_cannot_be(client, length):
    headers = [(HEADER.encode(), length.encode('utf-8'))]
    refused(client.post('/v2/models/model/infer', content=b'{}', headers=headers), 400, HEADER)


def test_paths_and_methods_that_are_none(client):
    refused(client.get('/nowhere'), 404)
    refused(client.get('/v1/score'), 405)
    refused(client.post('/v2/models/other/infer', content=b'{}'), 404, "'other'")
    refused(client.get('/v2/models/model/versions/9'), 404, "version '9'")
    refused(client.get('/v2/models/../../etc/passwd'), 404)
    refused(client.get('/v2/'), 404)


def test_limits(scorer, row):
    with (
        serving(scorer, max_body_bytes=20_000, max_rows=5, timeout_seconds=0.4) as (address, _),
        httpx.Client(base_url=address) as client,
    ):
        refused(client.post('/v1/score', content=b' ' * 20_001), 413, '20000 bytes')
        refused(client.post('/v1/score', content=iter([b' ' * 15_000, b' ' * 15_000])), 413, '20000 bytes')
        refused(client.post('/v1/score', json={'rows': [row] * 6}), 413, '6 rows')
        refused(client.post('/v1/score', content=b'x', headers={'content-encoding': 'gzip'}), 415)
        assert client.post('/v1/score', json={'rows': [row] * 5}).status_code == 200

        def slow():
            yield b'{'
            threading.Event().wait(1.5)
            yield b'}'

        # The server does not wait for the rest, and the client may notice that first.
        with contextlib.suppress(httpx.TransportError):
            refused(client.post('/v1/score', content=slow()), 408, 'did not come')
        assert client.post('/v1/score', json={'rows': [row]}).status_code == 200


def test_a_token(scorer, row):
    with serving(scorer, token='secret') as (address, _), httpx.Client(base_url=address) as client:
        assert client.get('/v2/health/live').status_code == 200
        assert client.get('/v2/health/ready').status_code == 200
        for path in ('/v2/models/model', '/metrics', '/openapi.json', '/v1/schema', '/anything'):
            for token in (None, 'Bearer', 'Bearer secre', 'Bearer secrets', 'secret', 'Basic secret'):
                answer = client.get(path, headers={'authorization': token} if token else {})
                refused(answer, 401)
                assert answer.headers['www-authenticate'] == 'Bearer'
        good = {'authorization': 'Bearer secret'}
        assert client.get('/metrics', headers=good).status_code == 200
        assert client.post('/v1/score', json={'rows': [row]}, headers=good).status_code == 200
        assert client.post('/v1/score', json={'rows': [row]}).status_code == 401


def test_answers_end_their_connections_when_the_server_is_about_to_end(scorer, row):
    with serving(scorer) as (address, service), httpx.Client(base_url=address) as client:
        assert 'connection' not in client.get('/v2/health/live').headers
        service.draining = True
        for answer in (
            client.get('/v2/health/live'),
            client.post('/v1/score', json={'rows': [row]}),
            client.post('/v1/score', json={}),
        ):
            assert answer.headers['connection'] == 'close'


# Values of JSON of all kinds, with those that are near what is expected.
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=['Cs']), max_size=8),
    st.sampled_from(['u1', 'NA', '-1', '1e5', '2026-01-31 23:59', 'True', '-0', '1.0', 'i1|i2', '\n', '\0']),
)  # fmt: skip
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def rows_of(names):
    return st.lists(st.dictionaries(st.sampled_from(names), ANY, max_size=len(names)), max_size=4)


QUIET = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@QUIET
@given(data=st.data())
def test_whatever_a_row_holds_it_is_scored_or_refused(scorer, row, data):
    changes = data.draw(st.dictionaries(st.sampled_from(scorer.reader.names), ANY, max_size=3))
    try:
        scores = scorer.score(scorer.reader.rows(orjson.loads(orjson.dumps([row, {**row, **changes}]))))
    except TypeError:
        # An integer that JSON of this library cannot hold.
        assert any(abs(n) >= 2**63 for n in _integers(changes))
        return
    except UserError as error:
        message = str(error)
    else:
        assert np.isfinite(scores.probabilities).all()
        return
    assert any(repr(name) in message for name in changes), message


def _integers(value):
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _integers(inner)
    elif isinstance(value, int):
        yield value


@QUIET
@given(data=st.data())
def test_whatever_an_inference_is_it_is_read_or_refused(scorer, data):
    parameters = st.none() | st.fixed_dictionaries(
        {}, optional={'binary_data_size': st.integers(-2, 40) | ANY}
    )
    one = st.fixed_dictionaries(
        {},
        optional={
            'name': st.sampled_from(scorer.reader.names) | ANY,
            'shape': st.lists(st.integers(-1, 3), max_size=3) | ANY,
            'datatype': st.sampled_from(['BYTES', 'FP32', 'INT64', 'BOOL', 'FP16']) | ANY,
            'data': st.lists(ANY, max_size=3) | ANY,
            'parameters': parameters | ANY,
        },
    )
    request = st.fixed_dictionaries(
        {'inputs': st.lists(one, max_size=3) | ANY}, optional={'outputs': ANY, 'id': ANY, 'parameters': ANY}
    )
    head = json.dumps(data.draw(request)).encode()
    raw = data.draw(st.binary(max_size=40))
    length = data.draw(st.none() | st.just(str(len(head))) | st.text(max_size=3))
    with contextlib.suppress(BadRequest):
        open_inference.parse(head + raw, length, scorer, 100)


@QUIET
@given(body=st.binary(max_size=60))
def test_whatever_bytes_come_they_are_refused(scorer, body):
    for length in (None, '0', str(len(body) // 2)):
        with pytest.raises(BadRequest):
            open_inference.parse(body, length, scorer, 100)


def test_a_bad_request_harms_no_other_of_its_batch(scorer, model, frame):
    """All at once, so that they share batches; each good one has its own scores."""
    rows = frame.to_dicts()
    bad = [
        {**rows[0], 'price': 1e200}, {**rows[0], 'weight': 1e139}, {**rows[0], 'user': {}}, {'user': 'u1'},
    ]  # fmt: skip

    async def ask(address):
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60) as client:

            async def one(i):
                if i % 5 == 4:
                    answer = await client.post('/v1/score', json={'rows': [rows[i], bad[i % 4]]})
                    return answer.status_code
                answer = await client.post('/v1/score', json={'rows': rows[i : i + 1 + i % 3]})
                return answer.json()['probabilities']

            return await asyncio.gather(*(one(i) for i in range(190)))

    with serving(scorer, max_delay_ms=5) as (address, service):
        answers = asyncio.run(ask(address))
        text = service.metrics.text().decode()
    expected = model.predict(frame)
    for i, answer in enumerate(answers):
        if i % 5 == 4:
            assert answer == 400
        else:
            np.testing.assert_allclose(
                np.array(answer, np.float32), expected[i : i + 1 + i % 3], rtol=0, atol=1e-7
            )
    batches = float(
        next(line for line in text.splitlines() if line.startswith('dlf_batch_rows_count')).split()[1]
    )
    assert batches < 100, 'requests did not share batches, so nothing was tested'
