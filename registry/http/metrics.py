"""Metrics for Prometheus. Labels are few and bounded: never a name, a path or an address.

Of several processes behind one port, whichever is asked tells of all: their counters lie in shared files.
"""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_left
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from registry.advisories.standing import Standing, standing
from registry.auth.access import require_auditor
from registry.auth.networks import is_in
from registry.errors import UnauthorizedError
from registry.http.authentication import authenticate
from registry.http.parsers import PARSERS
from registry.http.proxies import client_address
from registry.http.services import SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from registry.contract.judge import Judgement
    from registry.contract.report import Report
    from registry.events.deliverykeeping import Backlog as Deliveries
    from registry.trials.backlog import Backlog

# What the library itself goes by, when it is imported.
_SHARED = os.environ.get("PROMETHEUS_MULTIPROC_DIR")  # noqa: TID251
_ALIVE = "gauge_livesum_"
"""Begins the name of a file that goes when its process ends."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
HAND_OVER_SECONDS = 1.0
"""How long others of several processes may not know what one has counted."""
_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class _Tally:
    """Requests since the last handing over. To count one by the library costs ten times as much, and several
    times that in shared files."""

    __slots__ = ("buckets", "count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(_SECONDS) + 1)


class Metrics:
    """The counters of one application; each application has its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        if not _SHARED:
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
        self.in_flight = Gauge(
            "seatrial_http_requests_in_flight",
            "Requests being handled.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.broken_off = Counter(
            "seatrial_http_requests_repeated",
            "Times that a request was begun again, as the database broke it off to end a deadlock.",
            registry=self.registry,
        )
        self.blob_bytes = Counter(
            "seatrial_blob_bytes",
            "Bytes of blobs moved, by direction.",
            ("direction",),
            registry=self.registry,
        )
        self.audit_rows = self._newest(
            "seatrial_audit_rows", "Rows of the audit trail and of pulls by day.", "table"
        )
        self.audit_removed = Counter(
            "seatrial_audit_rows_removed",
            "Rows removed by this process when their time was over (expired), or before (shortened).",
            ("why",),
            registry=self.registry,
        )
        self.pulls_uncounted = Counter(
            "seatrial_pulls_uncounted",
            "Pulls that no day counts, as there were too many to remember.",
            registry=self.registry,
        )
        self._parts = self._newest(
            "seatrial_trial_parts", "Parts of trials without a verdict, by state (queued, leased).", "state"
        )
        self._oldest = self._newest(
            "seatrial_trial_oldest_pending_seconds", "Age of the oldest part without a verdict."
        )
        self._without_room = self._newest(
            "seatrial_trial_parts_without_room",
            "Queued parts that wait as no worker that could try them has the disk (1000: or more).",
        )
        self._workers = self._newest(
            "seatrial_workers", "Workers that are not revoked, by state (alive, drained, silent).", "state"
        )
        self._verdicts = Counter(
            "seatrial_trial_verdicts",
            "Reports taken, by verdict (or retried) and by how the run ended or why there was none.",
            ("verdict", "reason"),
            registry=self.registry,
        )
        self._flaky = Counter(
            "seatrial_trial_flaky_attempts",
            "Attempts that failed before one passed, in the reports taken.",
            registry=self.registry,
        )
        self._pending = self._newest("seatrial_webhook_deliveries_pending", "Deliveries that wait.")
        self._oldest_delivery = self._newest(
            "seatrial_webhook_oldest_pending_seconds", "Age of the oldest delivery that waits."
        )
        self._disabled = self._newest("seatrial_webhooks_disabled", "Webhooks that are disabled.")
        self.webhook_attempts = Counter(
            "seatrial_webhook_attempts",
            "Attempts to deliver, by outcome (delivered, failed, gone).",
            ("outcome",),
            registry=self.registry,
        )
        self.live_log_streams = Gauge(
            "seatrial_live_log_streams",
            "Logs that are watched while they are written.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self._advisories = self._newest("seatrial_advisories_sources", "Sources of advisories; 0: no file.")
        self._advisories_age = self._newest(
            "seatrial_advisories_age_seconds", "Age of the oldest source of advisories; 0: there is none."
        )
        self._unmatched = self._newest(
            "seatrial_matching_packages_left",
            "Packages that are to be matched with the advisories that count.",
        )
        self._untold = self._newest(
            "seatrial_matching_images_untold", "Images that are to be told that their findings changed."
        )
        self.damaged_blobs = self._newest(
            "seatrial_blobs_damaged", "Blobs whose bytes are damaged, which nobody is given."
        )
        self.scrubbed_bytes = Counter(
            "seatrial_scrubbed_bytes",
            "Bytes of blobs that this process has read again and hashed.",
            registry=self.registry,
        )
        self._swept = Counter(
            "seatrial_swept",
            "What was over and removed by this process (rows; of logs, the parts of trials), by what it was.",
            ("what",),
            registry=self.registry,
        )
        self._unswept = Counter(
            "seatrial_sweep_failures",
            "Times that what is over could not be removed by this process, by what it is.",
            ("what",),
            registry=self.registry,
        )
        self._swept_at = self._newest(
            "seatrial_sweep_timestamp_seconds", "When a sweep of what is over last ended."
        )
        self._tallies: dict[tuple[str, str, int], _Tally] = {}
        self._handing_over: asyncio.TimerHandle | None = None

    def _newest(self, name: str, documentation: str, *labels: str) -> Gauge:
        """A gauge of something that all processes share."""
        return Gauge(name, documentation, labels, registry=self.registry, multiprocess_mode="mostrecent")

    def stands(self, backlog: Backlog) -> None:
        """How the queue stands."""
        self._oldest.set(backlog.oldest_seconds)
        self._without_room.set(backlog.without_room)
        for gauge, counts in ((self._parts, backlog.parts), (self._workers, backlog.workers)):
            for state, count in counts.items():
                gauge.labels(state).set(count)

    def knows(self, standing: Standing) -> None:
        """How it stands with advisories."""
        oldest = standing.oldest_at
        self._advisories.set(len(standing.status.sources) if standing.status else 0)
        self._advisories_age.set(max((datetime.now(UTC) - oldest).total_seconds(), 0) if oldest else 0)

    def matches(self, *, left: int, untold: int) -> None:
        """How far matching is."""
        self._unmatched.set(left)
        self._untold.set(untold)

    def delivers(self, backlog: Deliveries) -> None:
        """How it stands with deliveries."""
        self._pending.set(backlog.pending)
        self._oldest_delivery.set(backlog.oldest_seconds)
        self._disabled.set(backlog.disabled)

    def swept(self, swept: Mapping[str, int | None]) -> None:
        """A sweep has ended: how many rows of what, ``None`` where it could not be done."""
        for what, count in swept.items():
            label = what.lower().replace(" ", "_")
            self._swept.labels(label).inc(count or 0)
            self._unswept.labels(label).inc(count is None)
        self._swept_at.set_to_current_time()

    def reported(self, report: Report, judgement: Judgement | None) -> None:
        """A worker's report was taken; without a judgement the part is tried again."""
        self._verdicts.labels(judgement.verdict if judgement else "retried", report.ended()).inc()
        self._flaky.inc(judgement.flaky if judgement else 0)

    def observe(self, *, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (route, method if method in _METHODS else "other", status)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = _Tally()
        tally.count += 1
        tally.seconds += seconds
        tally.buckets[bisect_left(_SECONDS, seconds)] += 1
        if _SHARED and self._handing_over is None:
            loop = asyncio.get_running_loop()
            self._handing_over = loop.call_later(HAND_OVER_SECONDS, self.hand_over)

    def hand_over(self) -> None:
        """Let all who tell the numbers know what was observed."""
        if self._handing_over is not None:
            self._handing_over.cancel()
            self._handing_over = None
        tallies, self._tallies = self._tallies, {}
        for (route, method, status), tally in tallies.items():
            self._requests.labels(route, method, f"{status // 100}xx").inc(tally.count)
            seconds = self._seconds.labels(route)
            # What observe() does for one at a time.
            seconds._sum.inc(tally.seconds)
            for bucket, count in zip(seconds._buckets, tally.buckets, strict=True):
                if count:
                    bucket.inc(count)

    def text(self) -> bytes:
        """All numbers in the text format of Prometheus."""
        self.hand_over()
        if not _SHARED:
            return generate_latest(self.registry)
        everyones = CollectorRegistry()
        everyones.register(_Counters())
        everyones.register(_Processes())
        return generate_latest(everyones)


class _Counters(Collector):
    """What all processes have counted. A file has no bytes from when its process makes it until it grows, and
    for good where the process was killed between."""

    def collect(self) -> Iterable[Metric]:
        """One family for each number."""
        files = []
        for path in Path(_SHARED or "").glob("*.db"):
            with suppress(FileNotFoundError):  # its process has ended since
                if path.stat().st_size:
                    files.append(str(path))
        return MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call,no-any-return]


class _Processes(Collector):
    """What the kernel knows of each process, by its id."""

    def collect(self) -> Iterable[Metric]:
        """One family for each figure."""
        families: dict[str, Metric] = {}
        for path in Path(_SHARED or "").glob(f"{_ALIVE}*.db"):
            pid = path.stem.removeprefix(_ALIVE)
            for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                family = families.setdefault(
                    metric.name, Metric(metric.name, metric.documentation, metric.type)
                )
                for sample in metric.samples:
                    family.add_sample(sample.name, {"pid": pid}, sample.value)
        return families.values()


METRICS = web.AppKey("metrics", Metrics)


async def show_metrics(request: web.Request) -> web.Response:
    """``GET /metrics``: for whoever asks from the networks that are set, and for auditors.

    Raises:
        UnauthorizedError, DeniedError: from elsewhere, and no auditor.
    """
    settings = request.app[SERVICES].settings
    if not is_in(client_address(request, settings), settings.metrics_networks):
        try:
            require_auditor(await authenticate(request), "read the metrics from here")
        except UnauthorizedError as error:
            raise UnauthorizedError(
                f"{error.message}; or let the networks that ask read the metrics (SEATRIAL_METRICS_NETWORKS)",
                headers={"WWW-Authenticate": 'Bearer realm="seatrial metrics"'},
            ) from None
    metrics = request.app[METRICS]
    metrics.knows(await request.app[PARSERS].run(standing, settings.advisories_file))
    body = metrics.text()
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
