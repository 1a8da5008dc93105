"""The routes of the server: the Open Inference Protocol, rows as JSON, a page, and what operators ask for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from dlf_jax.data.preprocess.joined_encoder import TypedRows
from dlf_jax.server import guard, open_inference, openapi, page
from dlf_jax.server.batcher import Batcher
from dlf_jax.server.metrics import CONTENT_TYPE, Metrics
from dlf_jax.server.rows import BadRequest
from dlf_jax.server.scorer import Scorer, Scores
from dlf_jax.server.settings import Settings


class Service:
    """What the routes share: the version that scores now, the queue in front of it, and whether it is taken.

    Attributes:
      settings: values of the command's flags.
      scorer: the version that reads and scores the requests that come from now on; may be replaced.
      draining: whether the server is about to end, so that no more requests should be sent.
      metrics: what is counted.
    """

    def __init__(self, settings: Settings, scorer: Scorer):
        """Takes the first version.

        Args:
          settings: values of the command's flags.
          scorer: ready.
        """
        self.settings, self.scorer, self.draining = settings, scorer, False
        self._batcher: Batcher | None = None
        self.metrics = Metrics(
            lambda: self._batcher.waiting_rows if self._batcher else 0,
            lambda: self.ready,
            lambda: self.scorer.version,
        )

    def swap(self, scorer: Scorer) -> None:
        """Has another version read and score the requests that come from now on."""
        self.scorer = scorer
        self.metrics.swap('swapped')

    @property
    def ready(self) -> bool:
        """Whether requests should be sent."""
        return self._batcher is not None and self._batcher.alive and not self.draining

    @contextlib.asynccontextmanager
    async def running(self, app: Starlette) -> AsyncIterator[None]:
        """Takes requests meanwhile, and scores at the end what was taken."""
        del app
        settings = self.settings
        self._batcher = batcher = Batcher(
            settings.max_batch, settings.max_queue, settings.max_delay_ms / 1000, self.metrics.batch
        )
        try:
            yield
        finally:
            self._batcher = None
            await asyncio.to_thread(batcher.close)

    async def scores(self, scorer: Scorer, rows: TypedRows) -> Scores:
        """Scores of rows.

        Args:
          scorer: the version that has read them.
          rows: the rows.

        Raises:
          BadRequest: a value cannot be.
          Overloaded: too many rows are waiting.
          TimeoutError: they were not scored in time.
        """
        if rows.rows > self.settings.max_rows:
            raise BadRequest(f'{rows.rows} rows, but at most {self.settings.max_rows} at once', 413)
        if self._batcher is None:
            raise BadRequest('the server is ending', 503)
        async with asyncio.timeout(self.settings.timeout_seconds):
            return await self._batcher.submit(scorer, rows)

    async def body(self, request: Request) -> bytes:
        """The body of a request. Raises BadRequest where it is too large, or does not come."""
        try:
            async with asyncio.timeout(self.settings.timeout_seconds):
                return await guard.body_of(request, self.settings.max_body_bytes)
        except TimeoutError:
            raise BadRequest('the body did not come in time', 408) from None


def application(service: Service) -> ASGIApp:
    """The server as an ASGI application."""
    routes = _Routes(service)
    model = '/v2/models/{name}'
    table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ('/v2/health/live', 'GET', routes.live),
        ('/v2/health/ready', 'GET', routes.ready),
        ('/v2', 'GET', routes.server),
        *(
            (f'{model}{version}{path}', method, function)
            for version in ('', '/versions/{version}')
            for path, method, function in (
                ('/infer', 'POST', routes.infer),
                ('/ready', 'GET', routes.model_ready),
                ('', 'GET', routes.metadata),
            )
        ),
        ('/v1/score', 'POST', routes.score),
        ('/v1/schema', 'GET', routes.schema),
        ('/metrics', 'GET', routes.metrics),
        ('/openapi.json', 'GET', routes.openapi),
        ('/', 'GET', routes.page),
        ('/page.js', 'GET', routes.script),
        ('/page.css', 'GET', routes.style),
    ]
    # What is asked most is compared first.
    table.sort(key=lambda entry: entry[1], reverse=True)
    app = Starlette(
        routes=[Route(path, function, methods=[method]) for path, method, function in table],
        exception_handlers=guard.HANDLERS,
        lifespan=service.running,
    )
    app.router.redirect_slashes = False
    return guard.Guard(app, service.settings.token, service.metrics, lambda: service.draining)


class _Routes:
    """A method for each route."""

    def __init__(self, service: Service):
        self._service, self._name = service, service.settings.name

    async def live(self, request: Request) -> Response:
        return _json({'live': True})

    async def ready(self, request: Request) -> Response:
        return _json({'ready': self._service.ready}, 200 if self._service.ready else 503)

    async def server(self, request: Request) -> Response:
        return _json(open_inference.server())

    async def metadata(self, request: Request) -> Response:
        return _json(open_inference.metadata(self._name, self._asked(request)))

    async def model_ready(self, request: Request) -> Response:
        self._asked(request)
        ready = self._service.ready
        return _json({'name': self._name, 'ready': ready}, 200 if ready else 503)

    async def infer(self, request: Request) -> Response:
        scorer = self._asked(request)
        body = await self._service.body(request)
        length = request.headers.get(open_inference.HEADER)
        inference = open_inference.parse(body, length, scorer, self._service.settings.max_rows)
        scores = await self._service.scores(scorer, inference.rows)
        answer, headers = open_inference.answer(self._name, scorer.version, inference, scores.probabilities)
        return Response(answer, headers=headers)

    def _asked(self, request: Request) -> Scorer:
        """The version that a path names. Raises BadRequest where there is none such."""
        scorer, name = self._service.scorer, request.path_params['name']
        if name != self._name:
            raise BadRequest(f'model {name[:80]!r}: there is only {self._name!r}', 404)
        version = request.path_params.get('version', scorer.version)
        if version != scorer.version:
            raise BadRequest(f'version {version[:80]!r}: there is only {scorer.version!r} now', 404)
        return scorer

    async def score(self, request: Request) -> Response:
        scorer = self._service.scorer
        found = open_inference.decoded(await self._service.body(request))
        if found.keys() != {'rows'}:
            raise BadRequest('the body: expected {"rows": [{COLUMN: VALUE, ...}, ...]} and nothing beside')
        if isinstance(found['rows'], list) and len(found['rows']) > self._service.settings.max_rows:
            count, limit = len(found['rows']), self._service.settings.max_rows
            raise BadRequest(f'rows: {count} rows, but at most {limit} at once', 413)
        rows = scorer.reader.rows(found.pop('rows'))
        # What else was in the body must not be held while its rows wait.
        del found
        scores = await self._service.scores(scorer, rows)
        names = scorer.reader.names
        answer = {
            'probabilities': scores.probabilities,
            'unknown_fields': _named(scores.unknown, names),
            'missing_fields': _named(scores.missing, names),
            'model': self._name,
            'version': scorer.version,
        }
        return _json(answer)

    async def schema(self, request: Request) -> Response:
        scorer = self._service.scorer
        fields = [
            {'name': field.name, 'kind': field.kind, 'number': field.number, 'separator': field.separator}
            for field in scorer.schema.fields
        ]
        return _json({'model': self._name, 'version': scorer.version, 'fields': fields})

    async def metrics(self, request: Request) -> Response:
        return Response(self._service.metrics.text(), media_type=CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        return _json(openapi.document(self._name, self._service.scorer, bool(self._service.settings.token)))

    async def page(self, request: Request) -> Response:
        return Response(page.HTML, media_type='text/html', headers={'content-security-policy': page.POLICY})

    async def script(self, request: Request) -> Response:
        return Response(page.SCRIPT, media_type='text/javascript')

    async def style(self, request: Request) -> Response:
        return Response(page.STYLE, media_type='text/css')


def _json(value: Any, status: int = 200) -> Response:
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, media_type='application/json')


def _named(flags: np.ndarray, names: tuple[str, ...]) -> list[list[str]]:
    """Names of the fields that are marked, of each row."""
    found: list[list[str]] = [[] for _ in flags]
    for row, field in np.argwhere(flags).tolist():
        found[row].append(names[field])
    return found
