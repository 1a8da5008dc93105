"""What the server counts, as Prometheus reads it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from dlf_jax.server.scorer import Scorer, Scores

CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
# Upper ends of the ranges of probabilities; clicks are rare.
_SCORES = np.array([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


class Metrics:
    """Counters and histograms of one server, with a registry of their own."""

    def __init__(self, queue: Callable[[], int], ready: Callable[[], bool], version: Callable[[], str]):
        """Makes them.

        Args:
          queue: gives the number of rows that wait.
          ready: whether requests are taken.
          version: that scores now; '' for none.
        """
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            'dlf_requests', 'Requests, by route and status.', ['route', 'status'], registry=registry
        )
        self._seconds = Histogram(
            'dlf_request_seconds', 'Seconds from the head of a request to the end of its answer.',
            ['route'], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._rows = Counter('dlf_rows', 'Rows that were scored.', registry=registry)
        self._batch = Histogram(
            'dlf_batch_rows', 'Rows that were scored together.', buckets=_ROWS, registry=registry
        )
        self._batch_seconds = Histogram(
            'dlf_batch_seconds', 'Seconds that a batch took to encode and to score.', buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._swaps = Counter(
            'dlf_swaps', 'Versions that were loaded beside the first, by result.', ['result'],
            registry=registry,
        )  # fmt: skip
        for result in ('swapped', 'refused'):
            self._swaps.labels(result)
        waiting = Gauge('dlf_queue_rows', 'Rows that wait to be scored.', registry=registry)
        waiting.set_function(queue)
        taking = Gauge('dlf_ready', 'Whether requests are taken.', registry=registry)
        taking.set_function(ready)
        self._values = _Values()
        registry.register(self._values)
        registry.register(_Version(version))

    def request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answer."""
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, scorer: Scorer, scores: Scores, seconds: float) -> None:
        """Counts what was scored together: rows, unknown and missing values, probabilities.

        Args:
          scorer: that scored it.
          scores: of the rows.
          seconds: that they took.
        """
        rows = len(scores.probabilities)
        self._rows.inc(rows)
        self._batch.observe(rows)
        self._batch_seconds.observe(seconds)
        self._values.add(scorer.reader.names, scores)

    def swap(self, result: str) -> None:
        """Counts a version: 'swapped' or 'refused'."""
        self._swaps.labels(result).inc()

    def text(self) -> bytes:
        """All of them, in Prometheus's text format."""
        return generate_latest(self._registry)


class _Values(Collector):
    """Unknown and missing values by field, and the histogram of probabilities.

    Counted as arrays: the library's own histogram takes a microsecond a value.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By the names of a version's fields, for each: rows, those whose value is unknown, and missing.
        self._fields: dict[tuple[str, ...], np.ndarray] = {}
        self._scores, self._sum = np.zeros(len(_SCORES), np.int64), 0.0

    def add(self, names: tuple[str, ...], scores: Scores) -> None:
        """Adds the rows of a batch.

        Args:
          names: of the columns of `scores`.
          scores: of the rows.
        """
        rows = np.full(len(names), len(scores.probabilities))
        found = np.stack([rows, scores.unknown.sum(axis=0), scores.missing.sum(axis=0)])
        places = np.searchsorted(_SCORES, scores.probabilities.astype(np.float64))
        counts = np.bincount(places, minlength=len(_SCORES))
        total = float(scores.probabilities.sum(dtype=np.float64))
        with self._lock:
            self._scores += counts
            self._sum += total
            self._fields[names] = self._fields.get(names, 0) + found

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        """The metrics as they are."""
        fields: dict[str, np.ndarray] = {}
        with self._lock:
            scores, total = np.cumsum(self._scores).tolist(), self._sum
            for names, held in self._fields.items():
                for name, column in zip(names, held.T, strict=True):
                    fields[name] = fields.get(name, 0) + column
        for i, (name, about) in enumerate(
            [
                ('dlf_field_rows', 'Rows that were scored, by field.'),
                ('dlf_field_unknown', 'Rows whose value the training part did not have, by field.'),
                ('dlf_field_missing', 'Rows without a value, by field.'),
            ]
        ):
            family = CounterMetricFamily(name, about, labels=['field'])
            for field, held in fields.items():
                family.add_metric([field], int(held[i]))
            yield family
        ends = [*(f'{end:g}' for end in _SCORES[:-1]), '+Inf']
        histogram = HistogramMetricFamily('dlf_probability', 'Probabilities that were answered.')
        histogram.add_metric([], list(zip(ends, scores, strict=True)), sum_value=total)
        yield histogram


class _Version(Collector):
    """The version that scores now, as a label."""

    def __init__(self, version: Callable[[], str]):
        self._version = version

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metric as it is."""
        family = GaugeMetricFamily('dlf_version', 'The version that scores now.', labels=['version'])
        family.add_metric([self._version()], 1)
        yield family
