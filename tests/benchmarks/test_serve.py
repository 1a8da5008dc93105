"""The load of the server's benchmark asks what it says, and counts what it is answered."""

import asyncio
import contextlib
import json

import pytest

from benchmarks import serve, serve_load


@contextlib.asynccontextmanager
async def answering(statuses):
    """A server that answers one status after another, each after 10 ms; yields its port, and bodies."""
    bodies = []

    async def client(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b'\r\n\r\n')
                length = int(head.lower().split(b'content-length:')[1].split(b'\r\n')[0])
                bodies.append(await reader.readexactly(length))
                status = statuses[len(bodies) % len(statuses)]
                await asyncio.sleep(0.01)
                writer.write(b'HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok' % status)
        writer.close()

    server = await asyncio.start_server(client, '127.0.0.1', 0)
    try:
        yield server.sockets[0].getsockname()[1], bodies
    finally:
        server.close()


def requests(tmp_path):
    (tmp_path / 'bodies').write_text(''.join(json.dumps({'rows': [i]}) + '\n' for i in range(7)))
    return serve_load.requests_of(tmp_path / 'bodies')


@pytest.mark.parametrize('how', [{'clients': 3}, {'rate': 100}])
def test_load(tmp_path, how):
    act = serve_load.opened if 'rate' in how else serve_load.closed

    async def whole():
        async with answering((200, 200, 503)) as (port, bodies):
            spec = {'port': port, 'seconds': 0.5, **how}
            taken, failed, seconds = await asyncio.wait_for(act(spec, requests(tmp_path)), 20)
            return taken, failed, seconds, list(bodies)

    taken, failed, seconds, bodies = asyncio.run(whole())
    assert len(bodies) == len(taken) > 10
    assert {json.loads(body)['rows'][0] for body in bodies} == set(range(7))
    assert failed == pytest.approx(len(taken) / 3, abs=1)
    assert min(taken) >= 0.01
    assert seconds >= 0.4
    if 'rate' in how:
        assert 25 <= len(taken) <= 80


def test_both_sides_have_the_same_sizes():
    assert set(serve.SHAPES) == set(serve.VARIANTS)
    assert (len(serve.NUMBERS), len(serve.CATEGORIES)) == (13, 26)
