"""Load for `serve.py`: a process of its own, which asks a server for the scores of rows and tells the times.

    python -m benchmarks.serve_load SPEC.json

The spec has `port`, `bodies` (a file with a request's JSON on each line), `rows` of each, `seconds`, and
either `clients` (closed loop: each asks again once answered) or `rate` (open loop: requests a second, at
times drawn from a Poisson process whatever the server does; the time of a request begins when it was due).
The last line is a JSON object: milliseconds p50 and p99, requests and rows a second, failures.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

# Connections of the open loop: more than are ever waiting, unless the server is far behind.
_CONNECTIONS = 256


class Connection:
    """A connection that is kept: writes a request, reads the answer, nothing more."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection('127.0.0.1', port))

    async def ask(self, request: bytes) -> bool:
        """Whether it was answered with 200."""
        self._writer.write(request)
        head = await self._reader.readuntil(b'\r\n\r\n')
        at = head.lower().index(b'content-length:') + len(b'content-length:')
        await self._reader.readexactly(int(head[at : head.index(b'\r\n', at)]))
        return head.startswith(b'HTTP/1.1 200')


async def closed(spec: dict[str, Any], requests: list[bytes]) -> tuple[list[float], int, float]:
    """Seconds of each request, failures, and seconds of all."""
    taken: list[float] = []
    failed = 0
    connections = [await Connection.open(spec['port']) for _ in range(spec['clients'])]
    start = time.perf_counter()

    async def client(connection: Connection, at: int) -> None:
        nonlocal failed
        while (begin := time.perf_counter()) < start + spec['seconds']:
            good = await connection.ask(requests[at % len(requests)])
            failed += not good
            taken.append(time.perf_counter() - begin)
            at += 1

    await asyncio.gather(
        *(client(c, i * len(requests) // len(connections)) for i, c in enumerate(connections))
    )
    return taken, failed, time.perf_counter() - start


async def opened(spec: dict[str, Any], requests: list[bytes]) -> tuple[list[float], int, float]:
    """The same, with requests at a rate."""
    taken: list[float] = []
    failed = 0
    connections = [await Connection.open(spec['port']) for _ in range(_CONNECTIONS)]
    start = time.perf_counter()

    def arrivals() -> Iterator[tuple[float, bytes]]:
        draw, due = random.Random(0), start
        while (due := due + draw.expovariate(spec['rate'])) < start + spec['seconds']:
            yield due, draw.choice(requests)

    coming = arrivals()

    async def client(connection: Connection) -> None:
        nonlocal failed
        for due, request in coming:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            good = await connection.ask(request)
            failed += not good
            taken.append(time.perf_counter() - due)

    await asyncio.gather(*map(client, connections))
    return taken, failed, time.perf_counter() - start


def requests_of(bodies: Path) -> list[bytes]:
    """A request for each line of a file."""
    return [
        b'POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n'
        b'Content-Length: %d\r\n\r\n%b' % (len(body), body)
        for body in bodies.read_bytes().splitlines()
    ]


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    requests = requests_of(Path(spec['bodies']))
    act = opened if 'rate' in spec else closed
    taken, failed, seconds = uvloop.run(act(spec, requests))
    p50, p99 = np.percentile(taken, [50, 99]) * 1e3
    found = {
        'p50_ms': round(p50, 2), 'p99_ms': round(p99, 2), 'requests_per_second': round(len(taken) / seconds),
        'rows_per_second': round(spec['rows'] * len(taken) / seconds), 'failed': failed,
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == '__main__':
    main()
