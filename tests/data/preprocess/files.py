"""Prepared data as the bytes of its files, to compare engines by."""

import hashlib
from pathlib import Path

from dlf_jax.config import get_config
from dlf_jax.data import builders


def prepared(folder, **keys):
    """Prepares, by keys of `config.dataset`; md5 of every file of the prepared data, by name."""
    config = get_config('mlp').dataset
    config.allow_modified, config.block_rows = True, 128
    for key, value in keys.items():
        config[key] = value
    builder = builders.build(config, str(folder))
    builder.prepare()
    root = Path(builder.data_dir)
    assert not list(root.parent.parent.rglob('incomplete*'))
    files = [path for path in root.rglob('*') if path.is_file()]
    return {str(p.relative_to(root)): hashlib.md5(p.read_bytes()).hexdigest() for p in files}
