"""Identity of values: one text for a value, whatever file format or dtype carries it.

A whole number is its decimal digits (7, 7.0 and the text "7.00" are "7"), another number its shortest decimal
text ("7.50" is "7.5"), a boolean "true" or "false", a day "2026-01-31", a moment "2026-01-31 23:59:59" in
UTC. Text is itself; leading zeros are kept, so "02516" is not "2516". The empty text, a null and the words
that number columns write for no number (NaN, nan) are missing.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Sequence

import polars as pl

# What is missing beside the empty text: what programs write for a float that is no number.
_NO_NUMBER = ('NaN', 'nan')
_DECIMAL = r'^-?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?$'
# With a point or a sign in the exponent: hexadecimal text such as 12345e67 is no number.
_EXPONENT = r'^-?[0-9]+(?:\.[0-9]+)?[eE][+-][0-9]{1,3}$|^-?[0-9]+\.[0-9]+[eE][0-9]{1,3}$'
_BOOLEAN = r'^(?:True|TRUE|False|FALSE)$'
_MOMENT = (
    r'^([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:\.([0-9]*))?'
    r'(Z|[+-][0-9]{2}:?[0-9]{2})?$'
)
# A text that could be any of those.
_PERHAPS = r'^-0$|[.]|[eE][+-][0-9]|^(?:True|TRUE|False|FALSE)$|^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]'

# Parts of which each text with that pattern has one.
PARTS = ('.', '-', 'e+', 'E+', 'rue', 'RUE', 'alse', 'ALSE')
# For texts by lines; of a text of several lines it says so too often, never too seldom.
_PERHAPS_HERE = re.compile(_PERHAPS, re.MULTILINE)


def canonical(values: pl.Series, missing: Sequence[str] = (), verbatim: bool = False) -> pl.Series:
    """The one text of each value, null where it is missing; applying it twice changes nothing more.

    Args:
      values: String [n].
      missing: further texts that stand for a missing value, such as 'NA'.
      verbatim: whether texts are kept as they are written; only empty ones and `missing` are missing then.

    Returns:
      String [n].
    """
    name = values.name
    values = _without(values, markers_of(missing, verbatim))
    if verbatim:
        return values.alias(name)
    at = values.str.contains(_PERHAPS).fill_null(False).arg_true()
    if not len(at):
        return values.alias(name)
    found = values.gather(at).rename('v').to_frame()
    v = pl.col('v')
    decimals = v.str.contains(_DECIMAL) & (v.str.contains('.', literal=True) | (v == '-0'))
    stripped = (
        pl.when(v.str.contains('.', literal=True))
        .then(v.str.strip_chars_end('0').str.strip_chars_end('.'))
        .otherwise(v)
    )
    rewritten = found.select(
        pl.when(decimals)
        .then(pl.when(stripped == '-0').then(pl.lit('0')).otherwise(stripped))
        .when(v.str.contains(_BOOLEAN))
        .then(v.str.to_lowercase())
        .otherwise(v)
    ).to_series()
    for pattern, rewrite in ((_EXPONENT, _expanded), (_MOMENT, _moments)):
        special = rewritten.str.contains(pattern).arg_true()
        if len(special):
            rewritten = rewritten.scatter(special, rewrite(rewritten.gather(special)))
    values = values.clone().scatter(at, rewritten)
    # A marker names a value, however that is written: -1 stands for -1.0 too.
    return (_without(values, missing) if missing else values).alias(name)


def markers_of(missing: Sequence[str], verbatim: bool) -> tuple[str, ...]:
    """The texts that stand for a missing value, as they are written; arguments as those of `canonical`."""
    return ('', *missing) if verbatim else ('', *_NO_NUMBER, *missing)


def perhaps_rewritten(texts: Sequence[str]) -> list[int]:
    """Positions of the texts that `canonical` might write in another way; it certainly leaves the others."""
    # All at once, which mostly finds none; a part is found much faster than a pattern.
    together = '\n'.join(texts)
    if not any(part in together for part in PARTS):
        return []
    return [i for i, text in enumerate(texts) if _PERHAPS_HERE.search(text)]


def canonical_rows(values: pl.Series, missing: Sequence[str] = (), verbatim: bool = False) -> pl.Series:
    """The same as `canonical`, faster for columns of many rows and few values."""
    distinct = values.unique()
    found = canonical(distinct, missing, verbatim)
    changed = distinct.ne_missing(found)
    if not changed.any():
        return values
    return values.replace(distinct.filter(changed), found.filter(changed))


def _without(values: pl.Series, markers: Sequence[str]) -> pl.Series:
    wrong = values.is_in(list(markers))
    return values.set(wrong, None) if wrong.any() else values


def _expanded(values: pl.Series) -> pl.Series:
    """Numbers without their exponents."""

    def expand(text: str) -> str:
        whole = format(decimal.Decimal(text), 'f')
        whole = whole.rstrip('0').rstrip('.') if '.' in whole else whole
        return '0' if whole == '-0' else whole

    return pl.Series(values.name, [expand(text) for text in values.to_list()], pl.String)


def _moments(values: pl.Series) -> pl.Series:
    """Moments in UTC, without a fraction of 0, and without a time of day of 0."""
    parts = values.to_frame('v').select(
        pl.col('v').str.extract(_MOMENT, group).fill_null('').alias(str(group)) for group in range(1, 5)
    )
    day, time, fraction, zone = (pl.col(str(group)) for group in range(1, 5))
    time = pl.when(time.str.len_bytes() == 5).then(time + ':00').otherwise(time)
    sign = pl.when(zone.str.starts_with('-')).then(-1).otherwise(1)
    digits = zone.str.replace_all('[^0-9]', '')
    minutes = digits.str.slice(0, 2).cast(pl.Int64, strict=False) * 60 + digits.str.slice(2, 2).cast(
        pl.Int64, strict=False
    )
    local = (day + ' ' + time).str.to_datetime('%Y-%m-%d %H:%M:%S', time_unit='us', strict=False)
    utc = (local - pl.duration(minutes=(sign * minutes).fill_null(0))).dt.to_string('%Y-%m-%d %H:%M:%S')
    kept = fraction.str.strip_chars_end('0')
    text = pl.when(kept == '').then(utc.str.strip_suffix(' 00:00:00')).otherwise(utc + '.' + kept)
    found = parts.select(text.alias('v')).to_series()
    # What has the form of a moment and is none (the 31st of February) is text.
    return found.fill_null(values)
