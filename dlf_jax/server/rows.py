"""Rows of a request as typed rows, by the rules of a frame with the same values; errors name the field."""

from __future__ import annotations

import bisect
import itertools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from dlf_jax.data.preprocess.joined_encoder import NAME, Parts, TypedRows
from dlf_jax.data.readers.arrow_columns import number_values, text_values
from dlf_jax.data.readers.chunk import Chunk, to_numbers
from dlf_jax.data.schema import Field, Schema
from dlf_jax.errors import UserError
from dlf_jax.server.derived import DerivedColumns

_TEXT, _NUMBER = {str, type(None)}, {float, int, bool, type(None)}
_TEXT_OR_FLOAT = {*_TEXT, float}
# What JSON calls the types.
_KINDS = {
    str: 'a text', int: 'a number', float: 'a number', bool: 'a boolean', list: 'a list', dict: 'an object',
    type(None): 'null',
}  # fmt: skip
# What a JSON value, or the elements of an array, are beside text; as `arrow_columns.family_of` says it.
_FAMILIES = {int: 'numbers', float: 'numbers', bool: 'booleans'}
_FAMILIES_OF_ARRAYS = {'b': 'booleans', 'i': 'numbers', 'u': 'numbers', 'f': 'numbers'}
# Whole numbers of JSON from here on are in no type of a column.
_INTEGERS = (-(2**63), 2**64)


class BadRequest(UserError):
    """A request that cannot be answered, with the status that says so.

    Attributes:
      status: of HTTP.
    """

    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status


class RowReader:
    """Reader of the rows of requests for a schema. Holds nothing that a call changes."""

    def __init__(self, schema: Schema, families: Mapping[str, str], derived: DerivedColumns | None = None):
        """Takes what was trained on.

        Args:
          schema: the features.
          families: what columns with a type of their own held in training, by name.
          derived: makes columns that rows do not have of others; None: there are none such.
        """
        self._parts = parts = Parts.of(schema)
        self._families, self._derived = families, derived if derived and derived.any else None
        groups = (parts.texts, parts.hashed, parts.lists, parts.numbers)
        self._getters = [_getter([field.name for field in fields]) for fields in groups]
        self.names = tuple(field.name for field in schema.fields)

    def rows(self, rows: Any) -> TypedRows:
        """Reads rows of JSON.

        Args:
          rows: a list of objects, each with a value for every column: a text, a number, a boolean, null where
            it is missing, or a list of them for a multi-valued field. Other columns may be there.

        Raises:
          BadRequest: a column is not there, or holds what a frame's may not; names the row and the column.
        """
        if not isinstance(rows, list) or not rows:
            raise BadRequest('rows: expected a list of at least one object, by the names of columns')
        if set(map(type, rows)) != {dict}:
            row = next(i for i, value in enumerate(rows) if type(value) is not dict)
            raise BadRequest(f'row {row + 1}: expected an object, found {_KINDS[type(rows[row])]}')
        rows = self._with_derived(rows)
        try:
            texts, hashed, lists, numbers = (_flat(getter, rows) for getter in self._getters)
        except KeyError:
            raise self._absent(rows) from None
        parts, count = self._parts, len(rows)
        return TypedRows(
            count,
            self._texts(texts, parts.texts),
            self._texts(hashed, parts.hashed),
            [self._lists(lists[i :: len(parts.lists)], field) for i, field in enumerate(parts.lists)],
            self._numbers(numbers, parts.numbers, count),
        )

    def _with_derived(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows with the columns that the dataset makes of others."""
        if not self._derived or all(name in row for row in rows for name in self.names):
            return rows
        try:
            return self._derived.added(rows)
        except UserError as error:
            raise BadRequest(str(error)) from error

    def _absent(self, rows: list[dict[str, Any]]) -> BadRequest:
        row, name = next((i, n) for i, row in enumerate(rows) for n in self.names if n not in row)
        return BadRequest(f'row {row + 1}: no column {name!r}; send null where its value is missing')

    def columns(self, columns: Mapping[str, list[Any] | np.ndarray], count: int) -> TypedRows:
        """Reads columns.

        Args:
          columns: texts, or arrays of numbers or booleans, [count] each, or what `lists` returns; by the name
            of the column.
          count: number of rows.

        Raises:
          BadRequest: as `rows` raises it.
        """
        for name in self.names:
            if name not in columns:
                raise BadRequest(f'no input {name!r}, a column that the model was trained with')
        parts = self._parts
        numbers = np.empty((count, len(parts.numbers)))
        for i, field in enumerate(parts.numbers):
            numbers[:, i] = _number_column(columns[field.name], field)
        return TypedRows(
            count,
            _interleaved([self._text_column(columns[field.name], field) for field in parts.texts]),
            _interleaved([self._text_column(columns[field.name], field) for field in parts.hashed]),
            [self._lists(self._text_column(columns[field.name], field), field) for field in parts.lists],
            numbers,
        )

    def lists(self, values: list[Any] | np.ndarray, width: int, name: str) -> list[Any] | np.ndarray:
        """Values of a column, `width` a row, as a list for each row where it is multi-valued.

        Args:
          values: row after row, [rows * width].
          width: number of values of each row, 1 for a column of single values.
          name: of the column.

        Raises:
          BadRequest: as `rows` raises it.
        """
        field = next((field for field in self._parts.lists if field.name == name), None)
        if field is None:
            return values
        texts = self._text_column(values, field)
        return [texts[i : i + width] for i in range(0, len(texts), width)]

    def _text_column(self, values: list[Any] | np.ndarray, field: Field) -> list[Any]:
        if isinstance(values, list):
            return values
        self._check_family(_FAMILIES_OF_ARRAYS[values.dtype.kind], field, 0)
        try:
            return text_values(pl.Series(field.name, values), Chunk(pl.DataFrame(), NAME, 1)).to_list()
        except UserError as error:
            raise BadRequest(str(error)) from error

    def _texts(self, values: list[Any], fields: tuple[Field, ...]) -> list[str | None]:
        """Texts of values, row after row."""
        if set(map(type, values)) <= _TEXT:
            return values
        width = len(fields)
        found: list[Any] = [
            value if type(value) is str else self._text(value, fields[i % width], i // width)
            for i, value in enumerate(values)
        ]
        for first, field in enumerate(fields):
            places = [i for i in range(first, len(found), width) if type(found[i]) is float]
            texts = _float_texts([found[i] for i in places], [i // width for i in places], field)
            for i, text in zip(places, texts, strict=True):
                found[i] = text
        return found

    def _text(self, value: Any, field: Field, row: int) -> str | float | None:
        """The text of a value of a field with one value a row, or a float that has none yet."""
        if isinstance(value, list):
            if len(value) > 1:
                raise BadRequest(
                    f'row {row + 1}: column {field.name!r}: expected one value, found a list of {len(value)}'
                )
            value = value[0] if value else None
        return self._one_text(value, field, row)

    def _one_text(self, value: Any, field: Field, row: int) -> str | float | None:
        """The text of a value, or a float that has none yet: all those of a column get theirs at once."""
        if value is None or isinstance(value, str):
            return value
        if type(value) not in _FAMILIES:
            raise BadRequest(
                f'row {row + 1}: column {field.name!r}: expected a text or a number, found '
                f'{_KINDS[type(value)]}'
            )
        self._check_family(_FAMILIES[type(value)], field, row)
        if isinstance(value, bool):
            return 'true' if value else 'false'
        if isinstance(value, int):
            if not _INTEGERS[0] <= value < _INTEGERS[1]:
                raise BadRequest(
                    f'row {row + 1}: column {field.name!r}: {value} is beyond the integers of 64 bits; send '
                    'it as a text'
                )
            return str(value)
        assert isinstance(value, float)
        return value

    def _check_family(self, found: str, field: Field, row: int) -> None:
        trained = self._families.get(field.name, found)
        if trained != found:
            raise BadRequest(
                f'row {row + 1}: column {field.name!r}: expected {trained}, as in training, or text; '
                f'found {found}'
            )

    def _lists(self, values: Sequence[Any], field: Field) -> list[list[str | None] | None]:
        """Values of a multi-valued field, by row."""
        found: list[list[Any] | None] = []
        with_floats: list[int] = []
        for row, value in enumerate(values):
            if isinstance(value, list):
                kinds = set(map(type, value))
                found.append(value if kinds <= _TEXT else self._list(value, kinds, field, row))
                if float in kinds:
                    with_floats.append(row)
                continue
            text = self._one_text(value, field, row)
            if text is None:
                found.append(None)
            elif field.separator and isinstance(text, float):
                # The text of a float may hold the separator.
                found.append([text])
                with_floats.append(row)
            elif field.separator:
                found.append([*str(text).split(field.separator)])
            else:
                raise BadRequest(
                    f'row {row + 1}: column {field.name!r}: expected a list of values, found '
                    f'{_KINDS[type(value)]}'
                )
        places = [
            (row, i)
            for row in with_floats
            for i, value in enumerate(found[row] or ())
            if type(value) is float
        ]
        if places:
            floats = [found[row][i] for row, i in places]  # type: ignore[index]
            texts = _float_texts(floats, [row for row, _ in places], field)
            # Lists of a request stay as they are.
            for row in with_floats:
                found[row] = [*(found[row] or ())]
            for (row, i), text in zip(places, texts, strict=True):
                found[row][i] = text  # type: ignore[index]
            for row in with_floats:
                if not isinstance(values[row], list):
                    found[row] = found[row][0].split(field.separator)  # type: ignore[index]
        return found

    def _list(self, values: list[Any], kinds: set[type], field: Field, row: int) -> list[str | float | None]:
        if kinds <= _TEXT_OR_FLOAT:
            self._check_family('numbers', field, row)
            return values
        for value in values:
            if isinstance(value, list | dict):
                raise BadRequest(
                    f'row {row + 1}: column {field.name!r}: expected a list of texts or numbers, found '
                    f'{_KINDS[type(value)]} in it'
                )
        return [self._one_text(value, field, row) for value in values]

    def _numbers(self, values: list[Any], fields: tuple[Field, ...], count: int) -> np.ndarray:
        """Numbers of values, row after row, float64 [count, fields]."""
        kinds = set(map(type, values))
        if not kinds <= _NUMBER:
            values, width = [*values], len(fields)
            if kinds - _NUMBER - {str}:
                i = next(i for i, value in enumerate(values) if type(value) not in {*_NUMBER, str})
                raise BadRequest(
                    f'row {i // width + 1}: column {fields[i % width].name!r}: expected a number, found '
                    f'{_KINDS[type(values[i])]}'
                )
            for first, field in enumerate(fields):
                places = [i for i in range(first, len(values), width) if type(values[i]) is str]
                found = _numbers_of([values[i] for i in places], [i // width for i in places], field)
                for i, number in zip(places, found, strict=True):
                    values[i] = number
        # None becomes NaN.
        return np.array(values, np.float64).reshape(count, len(fields))


def _getter(names: list[str]) -> Callable[[dict[str, Any]], Iterable[Any]]:
    """Values of a row by the names of columns."""
    if len(names) > 1:
        return operator.itemgetter(*names)
    return (lambda row: (row[names[0]],)) if names else (lambda row: ())


def _flat(getter: Callable[[dict[str, Any]], Iterable[Any]], rows: list[dict[str, Any]]) -> list[Any]:
    return list(itertools.chain.from_iterable(map(getter, rows)))


def _interleaved(columns: list[list[str | None]]) -> list[str | None]:
    """Columns as their values row after row."""
    return (
        (columns or [[]])[0]
        if len(columns) < 2
        else list(itertools.chain.from_iterable(zip(*columns, strict=True)))
    )


def _float_texts(floats: list[float], rows: list[int], field: Field) -> list[str]:
    """Texts of the floats of a column, which are in these rows."""

    def read(values: list[Any], row: int) -> pl.Series:
        return text_values(pl.Series(field.name, values, pl.Float64), Chunk(pl.DataFrame(), NAME, row + 1))

    return _at_once(read, floats, rows)


def _numbers_of(texts: list[str], rows: list[int], field: Field) -> list[float | None]:
    """Numbers of the texts of a column, which are in these rows."""

    def read(values: list[Any], row: int) -> pl.Series:
        series = pl.Series(field.name, values, pl.String)
        return to_numbers(Chunk(pl.DataFrame(), NAME, row + 1), series, field.missing)

    return _at_once(read, texts, rows)


def _at_once(read: Callable[[list[Any], int], pl.Series], values: list[Any], rows: list[int]) -> list[Any]:
    """Values of a column as one series, since one for each would take as long as a thousand of their values.

    Args:
      read: reads values, and raises UserError where one cannot be; takes the row for its message.
      values: any number.
      rows: of each of the values.

    Raises:
      BadRequest: a value cannot be; names the row of the first such.
    """
    if not values:
        return []
    try:
        return read(values, rows[0]).to_list()
    except UserError:
        pass

    def fails(count: int) -> bool:
        try:
            read(values[:count], 0)
        except UserError:
            return True
        return False

    # Halving finds the first one in as many steps as its place has bits, however many are before it.
    first = bisect.bisect_left(range(1, len(values)), True, key=fails)
    try:
        return read(values[first : first + 1], rows[first]).to_list()
    except UserError as error:
        raise BadRequest(str(error)) from error


def _number_column(values: list[str] | np.ndarray, field: Field) -> np.ndarray:
    """Numbers of a column, float64 [rows], NaN where missing."""
    series = pl.Series(field.name, values, pl.String if isinstance(values, list) else None)
    try:
        return number_values(series, Chunk(pl.DataFrame(), NAME, 1), field.missing).to_numpy()
    except UserError as error:
        raise BadRequest(str(error)) from error
