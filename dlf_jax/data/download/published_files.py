"""What is published of each dataset: files, md5 sums, rows, terms; and whether given files are it.

Published figures compare with one's own only on the same rows. So files that claim to be a published
dataset are held against its md5 sums and its numbers of rows, and what differs is an error, unless
`config.dataset.allow_modified` says that it is meant.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence

from dlf_jax.data.download.checksums import content_md5_sums, is_zipped, md5_sums
from dlf_jax.errors import UserError

_log = logging.getLogger(__name__)

# The forms: split in three by the leaderboards, as CSV with CRLF line ends; or as the owner's
# competition gave it, one table with LF line ends.
X1 = 'x1'
RAW = 'raw'

_MEANT = 'set --config.dataset.allow_modified=True if that is meant'


@dataclasses.dataclass(frozen=True)
class File:
    """A published file.

    Attributes:
      name: the file's name.
      md5: hexadecimal; '' where it is not known.
      rows: without the header line.
    """

    name: str
    md5: str
    rows: int


@dataclasses.dataclass(frozen=True)
class Published:
    """A dataset as it is published.

    Attributes:
      name: for people.
      licence: what its owner allows, in short.
      licence_url: where that is stated.
      form: `X1` or `RAW`.
      fields: of a row, the label among them.
      files: by part (train, valid, test); a raw form is one file, 'train', of all rows.
      url: the page to download it from.
    """

    name: str
    licence: str
    licence_url: str
    form: str
    fields: int
    files: Mapping[str, File]
    url: str

    @property
    def rows(self) -> int:
        """Rows of all parts together."""
        return sum(file.rows for file in self.files.values())

    @property
    def line_end(self) -> bytes:
        """What ends the lines of its files."""
        return b'\r\n' if self.form == X1 else b'\n'


@dataclasses.dataclass(frozen=True)
class Recognised:
    """What comparing files with a published dataset has found; as text, one line for people.

    Attributes:
      name: of the published dataset.
      exact: whether every given file holds the published content.
      notes: per part, what differs without harm, or that there is nothing to compare with.
      differs: what differs in earnest; empty unless that was allowed.
    """

    name: str
    exact: bool
    notes: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.differs:
            return f'this is not {self.name} as published: {"; ".join(self.differs)}'
        verdict = f'this is exactly {self.name}' if self.exact else f'this may be {self.name}'
        return f'{verdict} ({"; ".join(self.notes)})' if self.notes else verdict


def _x1(
    name: str, licence: str, licence_url: str, fields: int, rows: Sequence[int], md5: Sequence[str]
) -> Published:
    parts = ('train', 'valid', 'test')
    files = {p: File(f'{p}.csv', m, r) for p, m, r in zip(parts, md5, rows, strict=True)}
    url = f'https://huggingface.co/datasets/reczoo/{name}'
    return Published(name, licence, licence_url, X1, fields, files, url)


_CRITEO = 'for research, by the rules of the Display Advertising Challenge'
_CRITEO_RULES = 'https://www.kaggle.com/c/criteo-display-ad-challenge/rules'
_AVAZU = 'for research, by the rules of the Click-Through Rate Prediction challenge'
_AVAZU_RULES = 'https://www.kaggle.com/c/avazu-ctr-prediction/rules'

CRITEO_X1 = _x1(
    'Criteo_x1', _CRITEO, _CRITEO_RULES, 40,
    (33_003_326, 8_250_124, 4_587_167),
    (
        '30b89c1c7213013b92df52ec44f52dc5',
        'f73c71fb3c4f66b6ebdfa032646bea72',
        '2c48b26e84c04a69b948082edae46f8c',
    ),
)  # fmt: skip
AVAZU_X1 = _x1(
    'Avazu_x1', _AVAZU, _AVAZU_RULES, 23,
    (28_300_276, 4_042_897, 8_085_794),
    (
        'f1114a07aea9e996842c71648e0f6395',
        'd9568f246357d156c4b8030fadb8b623',
        '9e2fe9c48705c9315ae7a0953eb57acf',
    ),
)  # fmt: skip
MOVIELENS_X1 = _x1(
    'MovielensLatest_x1',
    'for research; publications acknowledge it; no commercial use without permission of GroupLens',
    'https://grouplens.org/datasets/movielens/',
    4,
    (1_404_801, 401_372, 200_686),
    (
        'efc8bceeaa0e895d566470fc99f3f271',
        'e1930223a5026e910ed5a48687de8af1',
        '54e8c6baff2e059fe067fb9b69e692d0',
    ),
)
FRAPPE_X1 = _x1(
    'Frappe_x1',
    'for research; publications cite Baltrunas et al. 2015',
    'https://arxiv.org/abs/1505.03014',
    11,
    (202_027, 57_722, 28_860),
    (
        'ba7306e6c4fc19dd2cd84f2f0596d158',
        '88d51bf2173505436d3a8f78f2a59da8',
        '3470f6d32713dc5f7715f198ca7c612a',
    ),
)
CRITEO_RAW = Published(
    "Kaggle's Criteo data", _CRITEO, _CRITEO_RULES, RAW, 40,
    {'train': File('train.txt', '4dcfe6c4b7783585d4ae3c714994f26a', 45_840_617)},
    'https://www.kaggle.com/c/criteo-display-ad-challenge/data',
)  # fmt: skip
AVAZU_RAW = Published(
    "Kaggle's Avazu data", _AVAZU, _AVAZU_RULES, RAW, 24,
    {'train': File('train.csv', '', 40_428_967)},
    'https://www.kaggle.com/c/avazu-ctr-prediction/data',
)  # fmt: skip


def recognise(
    published: Published,
    paths_by_part: Mapping[str, str | Sequence[str]],
    data_dir: str,
    allow_modified: bool = False,
) -> Recognised:
    """Compares files with the published ones, by md5 sum.

    Harmless: other line ends, gzip compression, parts that are not given.

    Args:
      published: what the files claim to be.
      paths_by_part: the given files; a part cut from another part's files is not given.
      data_dir: where sums are remembered.
      allow_modified: logs and returns what differs instead of raising, and reads nothing twice.

    Raises:
      UserError: naming file, found and published sum of all that differ.
    """
    given = {part: _several(paths) for part, paths in paths_by_part.items() if paths}
    notes: list[str] = []
    differs: list[str] = []
    unknown = not any(file.md5 for file in published.files.values())
    for part, paths in () if unknown else given.items():
        harmless, difference = _compare(published, part, paths, data_dir, deep=not allow_modified)
        notes += [harmless] if harmless else []
        differs += [difference] if difference else []
    if unknown:
        notes.append(f'no md5 sum is known; rows, once they are read, should be {published.rows:,}')
    notes += [f'{part}: not given' for part in published.files if part not in given]
    found = Recognised(published.name, not unknown and not differs, tuple(notes), tuple(differs))
    if differs and not allow_modified:
        raise UserError(f'{found}; {_MEANT}')
    _log.log(logging.WARNING if differs else logging.INFO, '%s', found)
    return found


def check_rows(
    published: Published, rows_by_part: Mapping[str, int], allow_modified: bool = False
) -> tuple[str, ...]:
    """Compares numbers of rows, after reading, with the published ones.

    Args:
      published: what the files claim to be.
      rows_by_part: rows of the given files; where parts were cut from one file, their sum as 'train'.
        Of raw forms only the sum over the parts is looked at.
      allow_modified: logs and returns what differs instead of raising.

    Returns:
      What differs, a line each.
    """
    if published.form == RAW:
        rows_by_part = {'all parts': sum(rows_by_part.values())}
        expected = {'all parts': published.rows}
    else:
        expected = {part: file.rows for part, file in published.files.items()}
    differs = tuple(
        f'{part}: {rows:,} rows, published: {expected[part]:,}'
        for part, rows in rows_by_part.items()
        if part in expected and rows != expected[part]
    )
    if differs:
        text = f'this is not {published.name} as published: {"; ".join(differs)}'
        if not allow_modified:
            raise UserError(f'{text}; {_MEANT}')
        _log.warning('%s', text)
    return differs


def same_content(published: Published, part: str, path: str, data_dir: str) -> bool:
    """Whether the file holds a part's published content, perhaps with other line ends or compressed."""
    return not _compare(published, part, (path,), data_dir, deep=True)[1]


def _several(paths: str | Sequence[str]) -> tuple[str, ...]:
    return (paths,) if isinstance(paths, str) else tuple(paths)


def _compare(
    published: Published, part: str, paths: tuple[str, ...], data_dir: str, deep: bool
) -> tuple[str, str]:
    """Returns (harmless difference, difference in earnest), each '' where there is none.

    Args:
      deep: whether to look behind line ends and compression, where the plain sum is another.
    """
    file = published.files.get(part)
    if file is None:
        names = ', '.join(f.name for f in published.files.values())
        return '', f'{part}: {", ".join(paths)}: published is only {names}'
    if len(paths) != 1:
        return '', f'{part}: {len(paths)} files, published is one, {file.name}'
    (path,) = paths
    if not file.md5:
        return f'{part}: no md5 sum is known', ''
    if not is_zipped(path) and (size := os.path.getsize(path)) < file.rows * published.fields:
        # Each field has a byte for what comes after it: without reading the file.
        return '', f'{path}: {size:,} bytes, too few for the {file.rows:,} rows of {file.name}'
    (found,) = md5_sums([path], data_dir)
    if found == file.md5:
        return '', ''
    content = ended = found
    if deep:
        ((content, ended),) = content_md5_sums([path], data_dir, published.line_end)
    if content == file.md5:
        return f'{part}: gzip-compressed', ''
    if ended == file.md5:
        return f'{part}: other line ends', ''
    others = (f.name for p, f in published.files.items() if p != part and f.md5 in (found, content, ended))
    taken = ''.join(f' (that is the published {name})' for name in others)
    return '', f'{path}: md5 {found}{taken}, published for {file.name}: {file.md5}'
