"""What differs between the data that a run began with and the data of today, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def describe(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The differences between two descriptions of data that change the prepared records.

    Args:
      there: `Builder.made_of` of the run, once through JSON.
      now: that of today, likewise.

    Returns:
      A line for each file, key of `config.dataset` and field that differs. The same bytes under another name
      are no difference.
    """
    return [
        *_files(there['files'], now['files']),
        *_values('config.dataset.', there['keys'], now['keys']),
        *_schema(there['schema'], now['schema']),
        *_values('partition values of ', there.get('folders', {}), now.get('folders', {})),
        *_values('', _versions(there), _versions(now)),
    ]


def _files(there: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Differences of the files by part, each a list of `path` and `sum`."""
    for part in {**there, **now}:
        old, new = there.get(part, []), now.get(part, [])
        if [file['sum'] for file in old] == [file['sum'] for file in new]:
            continue
        if [file['path'] for file in old] != [file['path'] for file in new]:
            yield f'{part}: {_names(old)} there, {_names(new)} now'
        else:
            pairs = zip(old, new, strict=True)
            changed = [a['path'] for a, b in pairs if a['sum'] != b['sum']]
            yield f'{part}: {", ".join(changed)} {"has" if len(changed) == 1 else "have"} other content now'


def _names(files: Sequence[Mapping[str, str]]) -> str:
    return ', '.join(file['path'] for file in files) or 'no files of its own'


def _schema(there: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Differences of schemas, as `Schema.identity` gives them."""
    old, new = ({field['name']: field for field in schema['fields']} for schema in (there, now))
    yield from _values('the schema: ', _without_fields(there), _without_fields(now))
    for name in {**old, **new}:
        if name not in old or name not in new:
            yield f'the schema: field {name!r} is there {"only before" if name in old else "only now"}'
        else:
            yield from _values(f'the schema: field {name!r}: ', old[name], new[name])
    if set(old) == set(new) and list(old) != list(new):
        yield 'the schema: the fields are in another order'


def _without_fields(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != 'fields'}


def _versions(made_of: Mapping[str, Any]) -> dict[str, Any]:
    names = {'dataset': 'dataset', 'release': 'version of the dataset', 'encoder': 'version of the encoder'}
    return {**{told: made_of[key] for key, told in names.items()}, 'version of the data': made_of['version']}


def _values(prefix: str, there: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in {**there, **now}:
        if there.get(key) != now.get(key):
            yield f'{prefix}{key}: {_shown(there, key)} there, {_shown(now, key)} now'


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else 'the default'
