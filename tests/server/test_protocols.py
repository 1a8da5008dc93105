"""Both protocols answer what the model says in Python, whatever the fields and the form of their values."""

import json

import httpx
import numpy as np
import polars as pl
import pytest
import tritonclient.http as triton

from tests.server.conftest import table

LISTS = ('tags', 'history', 'links')


def score(client, rows):
    answer = client.post('/v1/score', json={'rows': rows})
    assert answer.status_code == 200, answer.text
    return answer.json()


def probabilities(client, rows):
    return np.array(score(client, rows)['probabilities'], np.float32)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize('rows', [1, 7, 100])
def test_rows_score_as_a_frame_does(client, model, frame, rows):
    part = frame[50 : 50 + rows]
    close(probabilities(client, part.to_dicts()), model.predict(part))


def test_what_is_scored_in_one_request_is_scored_row_by_row(client, frame):
    part = frame[:20]
    alone = [probabilities(client, [row])[0] for row in part.to_dicts()]
    close(probabilities(client, part.to_dicts()), alone)
    assert np.std(alone) > 0.01


# By column, values of JSON and the frame's column that says the same.
FORMS = {
    'user': [('u3', pl.String), (3, pl.Int64), (3.0, pl.Float64), (2.5, pl.Float64),
             (True, pl.Boolean),
             (None, pl.String), ('', pl.String), ('NaN', pl.String), ('2026-01-31T00:00Z', pl.String)],
    'item': [('i3', pl.String), ('NA', pl.String), (-1, pl.Int64), (-1.0, pl.Float64), ('-1.0', pl.String)],
    'version': [('1.1', pl.String), ('1.10', pl.String), (1.1, pl.Float64), ('True', pl.String),
                (True, pl.Boolean), (2.0, pl.Float64)],
    'url': [('http://a.example/7', pl.String), (7, pl.Int64), ('7.0', pl.String), (None, pl.String)],
    'zip': [(10003, pl.Int64), (10003.0, pl.Float64), ('10003', pl.String), ('10003.00', pl.String),
            ('1.0003e+4', pl.String), (None, pl.Int64)],
    'flag': [(True, pl.Boolean), ('True', pl.String), ('false', pl.String), (None, pl.Boolean)],
    'price': [(1, pl.Int64), (1.5, pl.Float64), ('1.5', pl.String), (True, pl.Boolean), (None, pl.Float64)],
    'amount': [(0.5, pl.Float64), (-1, pl.Int64), ('NA', pl.String), ('-1.0', pl.String),
               (1e300, pl.Float64)],
    'weight': [(1e10, pl.Float64), ('NaN', pl.String), (7, pl.Int64)],
    'age': [(33, pl.Int64), (33.5, pl.Float64), ('33', pl.String), (None, pl.Int64), (-5, pl.Int64)],
    'count': [(0, pl.Int64), (77, pl.Int64), ('77', pl.String), (-3, pl.Int64), (1.9, pl.Float64)],
    'tags': [(['t1', 't2'], pl.List(pl.String)), ([], pl.List(pl.String)), (None, pl.List(pl.String)),
             (['t1', None, '', 't3', 't4', 't5'], pl.List(pl.String)), ([1, 2], pl.List(pl.Int64))],
    'history': [('i1|i2', pl.String), (['i1', 'i2'], pl.List(pl.String)), ('NA|i2', pl.String),
                ('', pl.String), ('i1', pl.String), (None, pl.String),
                (['unseen', 'i3', 'i4', 'i5', 'i6'], pl.List(pl.String))],
    'links': [('l1 l2 l3', pl.String), (['l1'], pl.List(pl.String)), ('', pl.String), (5, pl.Int64)],
}  # fmt: skip


@pytest.mark.parametrize('column', FORMS)
def test_forms_of_a_value(client, model, frame, column):
    """A number, a text, a boolean and null are what they are in a column of a frame."""
    base = frame[5:6]
    seen = set()
    for value, kind in FORMS[column]:
        rows = [{**base.to_dicts()[0], column: value}]
        expected = model.predict(base.with_columns(pl.Series(column, [value], kind)))
        close(probabilities(client, rows), expected)
        seen.add(expected.item())
    assert len(seen) > 1, 'the values make no difference'


def test_values_of_several_types_in_one_column(client, model, frame):
    """Each has its own meaning, whatever the others are."""
    base = frame[5:6].to_dicts()[0]
    rows, expected = [], []
    for column in ('user', 'zip', 'price', 'history', 'tags'):
        for value, kind in FORMS[column]:
            rows.append({**base, column: value})
            expected.append(model.predict(frame[5:6].with_columns(pl.Series(column, [value], kind))).item())
    close(probabilities(client, rows), expected)


def test_unknown_and_missing_fields_are_named(client, frame):
    row = {**frame[5:6].to_dicts()[0], 'user': 'nobody', 'item': None, 'history': 'i1|unseen', 'price': None}
    found = score(client, [row, {**row, 'user': 'u1', 'item': 'i1', 'history': [], 'price': 3}])
    assert found['unknown_fields'][0] == ['user', 'history']
    assert {'item', 'price'} <= set(found['missing_fields'][0])
    assert found['unknown_fields'][1] == []
    assert 'history' in found['missing_fields'][1]
    assert 'price' not in found['missing_fields'][1]
    assert found['model'] == 'model'
    assert found['version'] == client.get('/v2/models/model').json()['versions'][0]


def inputs(frame, binary, texts=()):
    """A frame as inputs of the real client."""
    found = []
    for column in frame.drop('click').iter_columns():
        values, kind = column.to_list(), column.dtype
        if column.name in texts:
            values, kind = [str(value) for value in values], pl.String
        if kind == pl.List(pl.String):
            width = max(map(len, values)) or 1
            array = np.array([row + [''] * (width - len(row)) for row in values], np.object_)
            name = 'BYTES'
        elif kind == pl.String:
            array, name = np.array([value or '' for value in values], np.object_), 'BYTES'
        elif kind == pl.Boolean:
            array, name = np.array(values, bool), 'BOOL'
        elif kind == pl.Float64:
            array, name = np.array(values, np.float64), 'FP64'
        elif None in values:
            array, name = np.array(values, np.float32), 'FP32'
        else:
            array, name = np.array(values, np.int64), 'INT64'
        one = triton.InferInput(column.name, list(array.shape), name)
        one.set_data_from_numpy(array, binary_data=binary)
        found.append(one)
    return found


@pytest.fixture(scope='module')
def real(server):
    with triton.InferenceServerClient(server[0].removeprefix('http://')) as found:
        yield found


@pytest.mark.parametrize('binary', [True, False], ids=['binary', 'json'])
def test_the_real_client_gets_the_same(real, model, frame, binary):
    # Its JSON cannot carry NaN.
    part = frame[:40] if binary else frame.filter(pl.all_horizontal(pl.all().is_not_null()))[:40]
    wanted = [triton.InferRequestedOutput('probability', binary_data=binary)]
    answer = real.infer('model', inputs(part, binary), outputs=wanted, request_id='7')
    found = answer.as_numpy('probability')
    assert found.dtype == np.float32
    close(found, model.predict(part))
    told = answer.get_response()
    assert (told['id'], told['model_name']) == ('7', 'model')


def test_numbers_sent_as_texts(real, model, frame):
    part = frame.filter(pl.all_horizontal(pl.all().is_not_null()))[:20]
    answer = real.infer('model', inputs(part, True, texts=('zip', 'price', 'age')))
    close(answer.as_numpy('probability'), model.predict(part))


def test_what_the_real_client_asks_of_a_server(real, client, scorer, frame):
    assert real.is_server_live()
    assert real.is_server_ready()
    assert real.is_model_ready('model')
    assert real.is_model_ready('model', scorer.version)
    assert not real.is_model_ready('model', '1-00000000')
    assert not real.is_model_ready('other')
    assert real.get_server_metadata()['extensions'] == ['binary_tensor_data']
    told = real.get_model_metadata('model')
    kinds = {one['name']: (one['datatype'], one['shape']) for one in told['inputs']}
    assert list(kinds) == frame.columns[1:]
    assert kinds['user'] == ('BYTES', [-1])
    assert kinds['price'] == ('FP64', [-1])
    assert kinds['tags'] == ('BYTES', [-1, -1])
    assert told['outputs'] == [{'name': 'probability', 'datatype': 'FP32', 'shape': [-1]}]


def test_both_protocols_take_old_and_new_rows_of_a_large_request(client, model):
    # More rows than the largest program takes.
    rows = table(333, 5)
    close(probabilities(client, rows.to_dicts()), model.predict(rows))


def test_the_page_shows_a_form_and_holds_nothing_foreign(client):
    page = client.get('/')
    assert page.headers['content-type'].startswith('text/html')
    policy = page.headers['content-security-policy']
    assert "default-src 'none'" in policy
    assert 'unsafe' not in policy
    script, style = client.get('/page.js'), client.get('/page.css')
    assert (script.status_code, style.status_code) == (200, 200)
    for text in (page.text, script.text, style.text):
        assert 'http' not in text.replace('http-equiv', '')
    # No script of its own, which the policy would stop.
    assert page.text.count('<script') == page.text.count('<script src="/page.js"></script>') == 1
    assert ' on' not in page.text.replace(' one', '')
    assert '<style' not in page.text
    assert 'innerHTML' not in script.text
    for name in ('form', 'fields', 'answer', 'notes', 'token', 'model', 'token-line'):
        assert f"'{name}'" in script.text
        assert f'id="{name}"' in page.text


def test_what_the_page_asks_for(client, scorer, frame):
    told = client.get('/v1/schema').json()
    assert [field['name'] for field in told['fields']] == frame.columns[1:]
    assert told['version'] == scorer.version
    # A form's values are texts.
    row = {field['name']: '7' for field in told['fields']}
    row |= {field['name']: ['a', 'b'] for field in told['fields'] if field['kind'] == 'multi-valued'}
    assert len(score(client, [row])['probabilities']) == 1


def test_the_description_is_of_this_server(client, frame):
    told = client.get('/openapi.json').json()
    assert told['openapi'].startswith('3.')
    row = told['components']['schemas']['Rows']['properties']['rows']['items']
    assert row['required'] == list(row['properties']) == frame.columns[1:]
    for path, operations in told['paths'].items():
        for method in operations:
            answer = client.request(method, path)
            assert answer.status_code in (200, 400), (path, method)
    # Every reference leads somewhere.
    text = json.dumps(told)
    for name in {part.split('"')[0] for part in text.split('#/components/schemas/')[1:]}:
        assert name in told['components']['schemas']


def test_metrics_count(scorer, frame):
    from tests.server.conftest import serving

    with serving(scorer) as (address, _), httpx.Client(base_url=address) as client:
        rows = [{**row, 'user': 'nobody', 'item': None} for row in frame[:6].to_dicts()]
        for _ in range(3):
            score(client, rows)
        client.post('/v1/score', json={'rows': [{}]})
        client.get('/nowhere')
        text = client.get('/metrics').text
    found = {
        line.rsplit(' ', 1)[0]: float(line.rsplit(' ', 1)[1]) for line in text.splitlines() if line[0] != '#'
    }
    assert found['dlf_rows_total'] == 18
    assert found['dlf_requests_total{route="/v1/score",status="200"}'] == 3
    assert found['dlf_requests_total{route="/v1/score",status="400"}'] == 1
    assert found['dlf_requests_total{route="other",status="404"}'] == 1
    assert found['dlf_request_seconds_count{route="/v1/score"}'] == 4
    assert found['dlf_field_rows_total{field="user"}'] == 18
    assert found['dlf_field_unknown_total{field="user"}'] == 18
    assert found['dlf_field_missing_total{field="item"}'] == 18
    assert found['dlf_batch_rows_count'] == 3
    assert found['dlf_probability_bucket{le="+Inf"}'] == found['dlf_probability_count'] == 18
    assert 0 < found['dlf_probability_sum'] < 18
    assert found['dlf_queue_rows'] == 0
    assert found['dlf_ready'] == 1
    assert found[f'dlf_version{{version="{scorer.version}"}}'] == 1
