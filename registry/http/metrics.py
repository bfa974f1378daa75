"""Metrics of one process for Prometheus. Labels are few and bounded: never a name, a path or an address."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The counters of one application; each application has its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "seatrial_http_requests",
            "Requests answered, by route, method and class of status.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "seatrial_http_request_seconds",
            "Seconds from the end of a request's header to the end of its handler, by route.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        # Finding them by their labels costs several times what counting does.
        self._counts: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.in_flight = Gauge(
            "seatrial_http_requests_in_flight", "Requests being handled.", registry=self.registry
        )
        self.blob_bytes = Counter(
            "seatrial_blob_bytes",
            "Bytes of blobs moved, by direction.",
            ("direction",),
            registry=self.registry,
        )

    def observe(self, *, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        counts = self._counts.get((route, method, status))
        if counts is None:
            shown = method if method in _METHODS else "other"
            counts = (
                self._requests.labels(route, shown, f"{status // 100}xx"),
                self._seconds.labels(route),
            )
            if shown == method:  # whose names are few
                self._counts[route, method, status] = counts
        counts[0].inc()
        counts[1].observe(seconds)


METRICS = web.AppKey("metrics", Metrics)


async def show_metrics(request: web.Request) -> web.Response:
    """``GET /metrics``: this process's numbers in the text format of Prometheus."""
    body = generate_latest(request.app[METRICS].registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
