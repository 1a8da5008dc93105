"""Minutes of load with swaps, clients that leave, bad requests: no wrong answer, none lost, memory flat.

`SOAK_MINUTES` says how long; 2 where it does not.
"""

import asyncio
import os
import random
import shutil
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

import dlf_jax
from dlf_jax.server.scorer import load
from tests.server.test_command import started
from tests.server.test_swap import replace

SECONDS = 60 * float(os.environ.get('SOAK_MINUTES', '2'))
CLIENTS = 12


def resident(pid):
    """Megabytes of a process."""
    lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith('VmRSS:'))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_a_long_time(saved, frame, tmp_path):
    names = ('first', 'second')
    live = tmp_path / 'live'
    shutil.copytree(saved / 'first', live)
    expected = {load(saved / n, (1,)).version: dlf_jax.load(saved / n).predict(frame) for n in names}
    rows = frame.to_dicts()
    counts = dict.fromkeys(('answered', 'refused', 'left', 'swaps'), 0)
    seen, memory = set(), []

    async def good(client, draw):
        at, size = draw.randrange(250), draw.choice((1, 1, 3, 40))
        answer = await client.post('/v1/score', json={'rows': rows[at : at + size]})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        found = np.array(told['probabilities'], np.float32)
        wanted = expected[told['version']][at : at + size]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-7)
        seen.add(told['version'])
        counts['answered'] += 1

    async def bad(client, draw):
        row = rows[draw.randrange(250)]
        wrong = draw.choice(
            [
                {**row, 'price': 1e200},
                {**row, 'weight': 1e139},
                {**row, 'user': {}},
                {},
                7,
                {**row, 'tags': 'x'},
            ]
        )
        answer = await client.post('/v1/score', json={'rows': [row, wrong]})
        assert answer.status_code == 400, answer.text
        counts['refused'] += 1

    async def leaving(address, draw):
        """A client that goes away in the middle of a request, or before the answer."""
        host, port = address.removeprefix('http://').split(':')
        reader, writer = await asyncio.open_connection(host, int(port))
        body = b'{"rows": [' + b' ' * 1000 + b']}'
        head = b'POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n' % len(body)
        writer.write((head + body)[: draw.randrange(len(head + body) + 1)])
        writer.transport.abort()
        del reader
        counts['left'] += 1

    async def client_of(address, seed, end):
        draw = random.Random(seed)
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            while time.monotonic() < end:
                chance = draw.random()
                if chance < 0.1:
                    await bad(client, draw)
                elif chance < 0.15:
                    await leaving(address, draw)
                else:
                    await good(client, draw)

    async def swapping(end, pid):
        current = 0
        while time.monotonic() < end - 10:
            await asyncio.sleep(5)
            current = 1 - current
            await asyncio.to_thread(replace, saved / names[current], live)
            counts['swaps'] += 1
            memory.append(resident(pid))

    async def whole(address, pid):
        end = time.monotonic() + SECONDS
        await asyncio.gather(*(client_of(address, i, end) for i in range(CLIENTS)), swapping(end, pid))

    with started(f'--workdir={live}', '--poll_seconds=0.5') as (process, address, log):
        asyncio.run(whole(address, process.pid))
        assert process.poll() is None
        text = httpx.get(f'{address}/metrics').text
        told = ''.join(log)
    print(counts, [round(m) for m in memory])
    assert set(expected) == seen
    assert min(counts.values()) > 3, counts
    assert 'Traceback' not in told
    assert [line for line in text.splitlines() if 'status="5' in line] == []
    # After the first third nothing grows, but for what the allocator keeps of two versions.
    third = len(memory) // 3
    assert max(memory[-3:]) < 1.1 * max(memory[: third + 1]) + 30, memory
