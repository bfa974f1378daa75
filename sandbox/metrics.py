"""What a worker tells Prometheus of itself. Labels are few and bounded, never the name of an image."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from registry.contract.asked import Asked
from registry.contract.judge import judge
from registry.contract.report import Report
from registry.errors import RequestInvalidError
from sandbox.budget import Room
from sandbox.errors import SandboxError
from sandbox.images.collect import Figures

_UNIX = "unix:"
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.\-]+):(?P<port>\d{1,5})")
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)


class WorkerMetrics:
    """The numbers of one worker process."""

    def __init__(self, room: Room, *, slots: int, runtime: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        about = Info("seatrial_worker", "What runs here.", registry=self.registry)
        about.info({"version": version("seatrial"), "runtime": runtime})
        self._gauge("slots", "Runs that it takes on at once.").set(slots)
        self._gauge("runs_in_progress", "Runs going on now.").set_function(lambda: room.running)
        self._gauge("runs_waiting", "Runs that wait for memory, processes or disk.").set_function(
            lambda: room.waiting
        )
        self._runs = Counter(
            "seatrial_worker_runs",
            "Runs reported, by verdict and by how they ended or why nothing was run.",
            ("verdict", "reason"),
            registry=self.registry,
        )
        self._lost = Counter(
            "seatrial_worker_leases_lost",
            "Runs broken off since their lease was over or could not be kept.",
            registry=self.registry,
        )
        self._steps = Histogram(
            "seatrial_worker_step_seconds",
            "Seconds that a step of a run took.",
            ("step",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._cache = self._gauge("cache_bytes", "Layers kept, pulled and unpacked.")
        self._free = self._gauge("disk_free_bytes", "Free on the disk of the cache.")
        self._room = self._gauge(
            "disk_room_bytes", "What one more image may take, with what can be collected."
        )
        self._ahead = self._gauge("registry_clock_ahead_seconds", "The registry's clock, against this one.")
        self._heard = self._gauge("registry_contact_timestamp_seconds", "When the registry last answered.")

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(f"seatrial_worker_{name}", documentation, registry=self.registry)

    def heard(self, ahead_seconds: float | None) -> None:
        """The registry has answered, whose clock is so far ahead."""
        self._heard.set(time.time())
        if ahead_seconds is not None:
            self._ahead.set(ahead_seconds)

    def looked(self, figures: Figures) -> None:
        """The cache was looked at."""
        self._cache.set(figures.size_bytes)
        self._free.set(figures.free_bytes)
        self._room.set(figures.room_bytes)

    def reported(self, report: Report, asked: Sequence[Asked] = ()) -> None:
        """A job has ended, of which these cases were asked."""
        self._runs.labels(judge(report, asked=asked).verdict, report.ended()).inc()
        for step in report.steps:
            self._steps.labels(step.name).observe(step.seconds)

    def lease_lost(self) -> None:
        """A run was broken off."""
        self._lost.inc()

    def text(self) -> bytes:
        """All numbers in the text format of Prometheus."""
        return generate_latest(self.registry)


def parse_metrics_address(text: str) -> tuple[str, int] | Path:
    """What ``--metrics`` says: ``HOST:PORT``, or ``unix:PATH``.

    Raises:
        RequestInvalidError: it is neither.
    """
    if text.startswith(_UNIX) and len(text) > len(_UNIX):
        return Path(text.removeprefix(_UNIX))
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise RequestInvalidError(f"--metrics {text[:200]!r} is neither HOST:PORT nor unix:PATH")
    return match["host"].strip("[]"), int(match["port"])


@asynccontextmanager
async def serving(metrics: WorkerMetrics, address: tuple[str, int] | Path) -> AsyncIterator[str]:
    """Answer ``GET /metrics`` at ``address`` as long as the block lasts; gives where.

    Raises:
        SandboxError: ``worker-error``: it cannot be listened there.
    """

    async def show(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/metrics", show)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = _site(runner, address)
        try:
            await site.start()
        except OSError as error:
            where = address if isinstance(address, Path) else f"{address[0]}:{address[1]}"
            raise SandboxError(
                "worker-error", f"--metrics: cannot listen at {where}: {error.strerror}"
            ) from None
        yield _shown(runner, address)
    finally:
        await runner.cleanup()


def _site(runner: web.AppRunner, address: tuple[str, int] | Path) -> web.BaseSite:
    if isinstance(address, Path):
        # One that a killed worker left; a living worker's is kept by its state folder's lock.
        if address.is_socket():
            address.unlink()
        return web.UnixSite(runner, str(address))
    return web.TCPSite(runner, *address)


def _shown(runner: web.AppRunner, address: tuple[str, int] | Path) -> str:
    if isinstance(address, Path):
        return f"{_UNIX}{address}"
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}/metrics" if ":" in host else f"http://{host}:{port}/metrics"
