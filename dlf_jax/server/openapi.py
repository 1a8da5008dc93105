"""The server's description in OpenAPI 3.1, made from the model's schema."""

from __future__ import annotations

from typing import Any

import dlf_jax
from dlf_jax.data.schema import Field
from dlf_jax.server.open_inference import HEADER
from dlf_jax.server.scorer import Scorer

_TEXT = {'type': ['string', 'number', 'boolean', 'null']}


def document(name: str, scorer: Scorer, token: bool) -> dict[str, Any]:
    """The whole description.

    Args:
      name: of the model.
      scorer: the version that scores now.
      token: whether requests must bring one.
    """
    model = f'/v2/models/{name}'
    found: dict[str, Any] = {
        'openapi': '3.1.0',
        'info': {'title': f'dlf_jax: {name}', 'version': dlf_jax.__version__},
        'paths': {
            '/v1/score': {'post': _operation('Probabilities of rows', 'Scored', body='Rows')},
            '/v1/schema': {'get': _operation('The columns of the model')},
            '/v2/health/live': {'get': _operation('Whether the server runs')},
            '/v2/health/ready': {'get': _operation('Whether requests are taken')},
            '/v2': {'get': _operation('The server')},
            model: {'get': _operation('The model: inputs, output, version')},
            f'{model}/ready': {'get': _operation('Whether requests are taken')},
            f'{model}/infer': {'post': _inference()},
            '/metrics': {'get': _operation("Metrics in Prometheus's text format", media='text/plain')},
        },
        'components': {'schemas': _schemas(scorer)},
    }
    if token:
        found['components']['securitySchemes'] = {'token': {'type': 'http', 'scheme': 'bearer'}}
        found['security'] = [{'token': []}]
        for path in ('/v2/health/live', '/v2/health/ready'):
            found['paths'][path]['get']['security'] = []
    return found


def _operation(
    about: str, answer: str = '', body: str = '', media: str = 'application/json'
) -> dict[str, Any]:
    """An operation.

    Args:
      about: what it does.
      answer: name of the schema of its answer; '' for any.
      body: name of the schema of its body; '' for none.
      media: type of its answer.
    """
    content = {media: {'schema': {'$ref': f'#/components/schemas/{answer}'} if answer else {}}}
    found: dict[str, Any] = {
        'summary': about,
        'responses': {'200': {'description': about, 'content': content}, 'default': _error()},
    }
    if body:
        schema = {'$ref': f'#/components/schemas/{body}'}
        found['requestBody'] = {'required': True, 'content': {'application/json': {'schema': schema}}}
    return found


def _inference() -> dict[str, Any]:
    found = _operation('Probabilities, by the Open Inference Protocol', 'InferenceAnswer', 'Inference')
    binary = {'schema': {'type': 'string', 'format': 'binary'}}
    found['requestBody']['content']['application/octet-stream'] = binary
    found['responses']['200']['content']['application/octet-stream'] = binary
    found['parameters'] = [
        {
            'name': HEADER,
            'in': 'header',
            'schema': {'type': 'integer', 'minimum': 0},
            'description': 'Number of bytes of JSON before the tensors.',
        }
    ]
    return found


def _error() -> dict[str, Any]:
    schema = {'$ref': '#/components/schemas/Error'}
    return {'description': 'What is wrong', 'content': {'application/json': {'schema': schema}}}


def _schemas(scorer: Scorer) -> dict[str, Any]:
    fields = scorer.schema.fields
    names = {'type': 'array', 'items': {'type': 'array', 'items': {'type': 'string'}}}
    row = {
        'type': 'object',
        'properties': {field.name: _value(field) for field in fields},
        'required': [field.name for field in fields],
    }
    tensor = {
        'type': 'object',
        'properties': {
            'name': {'type': 'string', 'enum': [field.name for field in fields]},
            'datatype': {'type': 'string'},
            'shape': {'type': 'array', 'items': {'type': 'integer', 'minimum': 1}},
            'data': {'type': 'array'},
            'parameters': {'type': 'object'},
        },
        'required': ['name', 'datatype', 'shape'],
    }
    return {
        'Error': _object(error={'type': 'string'}),
        'Rows': {
            **_object(rows={'type': 'array', 'minItems': 1, 'items': row}), 'additionalProperties': False,
        },
        'Scored': _object(
            probabilities={'type': 'array', 'items': {'type': 'number'}},
            unknown_fields=names, missing_fields=names, model={'type': 'string'}, version={'type': 'string'},
        ),
        'Inference': {
            'type': 'object',
            'properties': {
                'id': {'type': 'string'},
                'inputs': {'type': 'array', 'items': tensor},
                'outputs': {'type': 'array'},
                'parameters': {'type': 'object'},
            },
            'required': ['inputs'],
        },
        'InferenceAnswer': _object(
            model_name={'type': 'string'}, model_version={'type': 'string'}, outputs={'type': 'array'}
        ),
    }  # fmt: skip


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {'type': 'object', 'properties': properties, 'required': list(properties)}


def _value(field: Field) -> dict[str, Any]:
    """Values of a column."""
    if field.number:
        return {'type': ['number', 'boolean', 'string', 'null'], 'description': 'A number, also as text.'}
    if field.bag:
        # A text is several values where they have a separator.
        return {'anyOf': [{'type': 'array', 'items': _TEXT}, _TEXT]}
    return dict(_TEXT)
