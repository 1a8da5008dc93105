"""Settings of the server: the values of the command's flags."""

from __future__ import annotations

import dataclasses

# Numbers of rows that programs are compiled for: powers of 4, so that few are filled up by more than half.
_STEP = 4


@dataclasses.dataclass(frozen=True)
class Settings:
    """Values of the flags of `dlf_jax.serve`, which says what they are.

    Attributes:
      token: that requests must bring; '' for none.
    """

    workdir: str
    name: str = 'model'
    host: str = '127.0.0.1'
    port: int = 8000
    seed: int = -1
    max_batch: int = 512
    max_delay_ms: float = 0.0
    max_rows: int = 1024
    max_body_bytes: int = 4 << 20
    max_queue: int = 8192
    max_connections: int = 1024
    timeout_seconds: float = 5.0
    poll_seconds: float = 10.0
    drain_seconds: float = 0.0
    grace_seconds: float = 20.0
    token: str = ''

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of rows that programs are compiled for, rising."""
        sizes = [self.max_batch]
        while sizes[0] > 2 * _STEP:
            sizes.insert(0, sizes[0] // _STEP)
        return tuple(sizes) if sizes[0] == 1 else (1, *sizes)
