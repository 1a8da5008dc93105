"""md5 sums of input files, remembered by path, size and time of change."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from dlf_jax.data.progress import Progress
from dlf_jax.errors import UserError, writing


def md5_sums(paths: Iterable[str], data_dir: str) -> list[str]:
    """The md5 sum of each file, hexadecimal.

    Args:
      paths: files.
      data_dir: keeps `digests.json`, so that a file is read through once and not at every start.
    """
    cache = Path(data_dir) / 'digests.json'
    try:
        known = json.loads(cache.read_text())
    except (OSError, ValueError):
        known = {}
    sums, fresh = [], {}
    for path in paths:
        stat = os.stat(path)
        key = f'{os.path.abspath(path)}|{stat.st_size}|{stat.st_mtime_ns}'
        if key not in known:
            known[key] = fresh[key] = _md5(path, stat.st_size)
        sums.append(known[key])
    if fresh:
        with writing(str(cache)):
            cache.parent.mkdir(parents=True, exist_ok=True)
            temporary = cache.with_name(f'.digests.{os.getpid()}.tmp')
            temporary.write_text(json.dumps(known, indent=0))
            os.replace(temporary, cache)
    return sums


def _md5(path: str, size: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with open(path, 'rb') as file, Progress(f'reading {path}', 'B', size) as progress:
            while data := file.read(1 << 22):
                digest.update(data)
                progress.advance(len(data))
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    return digest.hexdigest()
