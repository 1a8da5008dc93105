"""Schema files: TOML files in which people describe the columns of their tables."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from typing import Any

from dlf_jax.data.schema import (
    KINDS,
    MULTI_VALUED,
    NUMBERS,
    NUMERIC,
    SHARED_OPTIONS,
    Field,
    Schema,
    number_options,
)
from dlf_jax.errors import UserError, suggest
from dlf_jax.storage import inputs

# Kind of a column that is no feature.
IGNORED = 'ignored'
# Length of a multi-valued field whose file does not say, and of an ordered one.
LENGTH, ORDERED_LENGTH = 20, 50
# Keys beside the columns.
_KEYS = ('label', 'weight', 'group', 'positive', 'soft_labels')
_OPTIONS = {f.name for f in dataclasses.fields(Field)} - {'name', 'size'}


def load(path: str, defaults: Mapping[str, Any]) -> Schema:
    """Reads a schema file such as this one:

        label = "click"            # also weight = "...", group = "...", positive = "yes"
        [columns.user]
        kind = "categorical"       # numeric, multi-valued, ignored
        min_count = 2              # any option of `schema.Field`

    Args:
      path: the file.
      defaults: `min_count`, `max_size`, `hash_buckets`, `missing`, and for numbers `treatment`, `buckets`,
        `frequencies`, `fill` and `out_of_range`, used for columns that leave them out.

    Returns:
      The schema, its fields without sizes.

    Raises:
      UserError: no such file, not TOML, an unknown key, or a value that is not allowed.
    """
    try:
        found = tomllib.loads(inputs.local_file(path, 'config.dataset.schema').read_text('utf-8'))
    except FileNotFoundError as error:
        raise UserError(f'config.dataset.schema: no such file: {path}') from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f'{path}: cannot be read as TOML: {error}') from error
    columns = found.pop('columns', {})
    for key in found:
        if key not in _KEYS:
            raise UserError(f'{path}: {key!r}: no such key{suggest(key, [*_KEYS, "columns"])}')
        if key == 'soft_labels':
            if not isinstance(found[key], bool):
                raise UserError(f'{path}: soft_labels={found[key]!r}: expected true or false')
        elif not isinstance(found[key], str):
            raise UserError(f'{path}: {key}={found[key]!r}: expected the name of a column')
    if not found.get('label'):
        raise UserError(f'{path}: label: expected the name of the column that holds 0 or 1')
    if not isinstance(columns, dict) or not columns:
        raise UserError(f'{path}: no columns; expected tables such as [columns.user]')
    try:
        found_fields = [_field(path, name, options, defaults) for name, options in columns.items()]
        fields = {field.name: field for field in found_fields if field}
        for name, field in fields.items():
            if field.shares in fields:
                # Options that the column leaves out are those of the field that it shares with.
                owner = fields[field.shares]
                same = {k: getattr(owner, k) for k in SHARED_OPTIONS}
                kept = {k: v for k, v in same.items() if k not in columns[name]}
                fields[name] = dataclasses.replace(field, **kept)
        schema = Schema(tuple(fields.values()), **found)
    except (ValueError, TypeError) as error:
        raise UserError(f'{path}: {error}') from error
    if not schema.fields:
        raise UserError(f'{path}: every column is ignored; at least one must be a feature')
    if schema.label in columns and any(f.name == schema.label for f in schema.fields):
        raise UserError(f'{path}: column {schema.label!r} is the label and a feature; make it ignored')
    return schema


def _field(path: str, name: str, options: Any, defaults: Mapping[str, Any]) -> Field | None:
    if not isinstance(options, dict):
        raise UserError(f'{path}: columns.{name}={options!r}: expected a table [columns.{name}]')
    options = dict(options)
    kind = options.pop('kind', None)
    if kind not in (*KINDS, IGNORED):
        raise UserError(
            f'{path}: [columns.{name}] kind={kind!r}: no such kind{suggest(str(kind), [*KINDS, IGNORED])}'
        )
    if kind == IGNORED:
        return None
    for key in options:
        if key not in _OPTIONS:
            raise UserError(
                f'{path}: [columns.{name}] {key!r}: no such option{suggest(key, sorted(_OPTIONS))}'
            )
    if isinstance(options.get('missing'), list):
        options['missing'] = tuple(options['missing'])
    if 'shares' not in options:
        options = {'missing': defaults['missing'], **options}
    if kind == NUMERIC or options.get('treatment'):
        options = {'out_of_range': defaults['out_of_range'], **options}
    if kind == NUMERIC:
        kept = defaults['treatment'] if defaults['treatment'] in NUMBERS else 'auto'
        options = {'treatment': kept, **options}
        return Field(name, kind, **{**number_options(options['treatment'], defaults), **options})
    if options.get('treatment') == 'bucket':
        return Field(name, kind, **{**number_options('bucket', defaults), **options})
    if 'shares' not in options:
        hashed = 0 if options.get('treatment') else defaults['hash_buckets']
        options = {'hash_buckets': hashed, **options}
        if not options['hash_buckets']:
            options = {'min_count': defaults['min_count'], 'max_size': defaults['max_size'], **options}
    if kind == MULTI_VALUED:
        length = ORDERED_LENGTH if options.get('ordered') else LENGTH
        options = {'pooling': 'mean', 'length': length, **options}
    return Field(name, kind, **options)
