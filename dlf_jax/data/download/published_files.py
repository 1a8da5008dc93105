"""Published datasets (files, md5 sums, numbers of rows, licences), and comparison of given files with them.

Published scores can be compared with one's own only if both are taken on the same rows. Files that claim to
be a published dataset are therefore compared with its md5 sums and numbers of rows; a difference is an error,
unless `config.dataset.allow_modified` allows it.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence

from dlf_jax.data.download.checksums import content_md5_sums, is_gzipped, md5_sums
from dlf_jax.errors import UserError

_log = logging.getLogger(__name__)

# Forms of publication: three CSV files with CRLF line ends, split by the leaderboard (BARS); or one table
# with LF line ends, as the owner's competition gave it.
X1 = 'x1'
RAW = 'raw'

_MEANT = 'set --config.dataset.allow_modified=True if that is meant'


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a published dataset.

    Attributes:
      name: file name.
      md5: md5 sum, hexadecimal; '' where it is not known.
      rows: number of rows, without the header line.
    """

    name: str
    md5: str
    rows: int


@dataclasses.dataclass(frozen=True)
class Published:
    """A published dataset.

    Attributes:
      name: name for people and for the archive, NAME.zip.
      licence: summary of what the owner allows.
      licence_url: page that states it.
      form: `X1` or `RAW`.
      fields: number of fields of a row, the label included.
      files: file of each part (train, valid, test); the raw form has one, 'train', of all rows.
      url: page to download it from.
      repository: dataset on the Hugging Face hub, e.g. 'reczoo/Frappe_x1'; '' where there is none, because
        the owner gives the files to registered people alone.
    """

    name: str
    licence: str
    licence_url: str
    form: str
    fields: int
    files: Mapping[str, File]
    url: str
    repository: str = ''

    @property
    def rows(self) -> int:
        """Number of rows of all parts together."""
        return sum(file.rows for file in self.files.values())

    @property
    def line_end(self) -> bytes:
        """Line end of the files."""
        return b'\r\n' if self.form == X1 else b'\n'


@dataclasses.dataclass(frozen=True)
class Recognised:
    """Result of comparing files with a published dataset; as a string, one line for people.

    Attributes:
      name: name of the published dataset.
      exact: whether every given file has the published content.
      notes: harmless differences of single parts, and parts that could not be compared.
      differs: differences in content; empty unless the caller allowed them.
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
    repository = f'reczoo/{name}'
    url = f'https://huggingface.co/datasets/{repository}'
    return Published(name, licence, licence_url, X1, fields, files, url, repository)


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
    """Compares files with those of a published dataset, by md5 sum.

    Other line ends, gzip compression and parts that are not given are harmless differences.

    Args:
      published: dataset that the files claim to be.
      paths_by_part: paths of each part's files; without a part that is to be cut from another part's files.
      data_dir: folder in which checksums are remembered.
      allow_modified: whether to log and return differences in content instead of raising; files that
        differ are then not read again to look behind line ends and compression.

    Returns:
      The result, which has been logged too.

    Raises:
      UserError: differences in content; names each file with its md5 sum and the published one.
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
    """Compares the numbers of rows that were read with the published ones.

    Args:
      published: dataset that the files claim to be.
      rows_by_part: number of rows of each given part; their sum as 'train' where parts were cut from one
        file. For the raw form only the sum over all parts is compared.
      allow_modified: whether to log and return differences instead of raising.

    Returns:
      One line for each difference.

    Raises:
      UserError: numbers differ.
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
    """Whether a file has the published content of a part, apart from line ends and gzip compression.

    Args:
      published: dataset that the file claims to belong to.
      part: train, valid or test.
      path: the file.
      data_dir: folder in which checksums are remembered.
    """
    return not _compare(published, part, (path,), data_dir, deep=True)[1]


def _several(paths: str | Sequence[str]) -> tuple[str, ...]:
    return (paths,) if isinstance(paths, str) else tuple(paths)


def _compare(
    published: Published, part: str, paths: tuple[str, ...], data_dir: str, deep: bool
) -> tuple[str, str]:
    """Returns (harmless difference, difference in content), each '' where there is none.

    Args:
      published: dataset that the files claim to belong to.
      part: train, valid or test.
      paths: files given for that part.
      data_dir: folder in which checksums are remembered.
      deep: whether a file with another md5 sum is read again, apart from line ends and compression.
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
    if not is_gzipped(path) and (size := os.path.getsize(path)) < file.rows * published.fields:
        # Every field is followed by at least one byte, so this needs no reading.
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
