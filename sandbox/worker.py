"""A worker: claim, try, report, until told to drain.

The registry is a stranger, as the worker is to it: it says what to try, and the worker says what it saw. A
lease that cannot be kept ends its run at once, since somebody else may have it by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import structlog

from registry.contract import PROTOCOL_VERSION
from registry.contract.asked import asked_by
from registry.contract.isolation import SPEC_NEWS
from registry.contract.job import Job
from registry.contract.report import ErrorReason, Report, ReportError
from registry.contract.scan import OTHER_SCANNERS, SCANS, Incomplete, Scan
from registry.oci.platform import parse_platform
from sandbox.attempt import MESSAGE_MAX, Scanning, Task, Workplace, try_image
from sandbox.client import JobUnknown, LeaseOver, RegistryClient, RegistryRefusal, RegistryUnreachable
from sandbox.images.collect import Collected, Figures, collect, look
from sandbox.images.sourcehttp import registry_source
from sandbox.livelog import LiveLog
from sandbox.metrics import WorkerMetrics
from sandbox.scanners.layers import Scanner
from sandbox.scanners.others.source import ScannerSource
from sandbox.services import ServiceSource

CLAIM_SECONDS = 20.0
PAUSE_SECONDS = 0.5
PAUSE_MAX_SECONDS = 15.0
REPORT_ATTEMPT_SECONDS = 600.0
log: structlog.typing.FilteringBoundLogger = structlog.get_logger("seatrial.worker")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Drain:
    """How a worker is told to end: ``asked`` finishes what runs, ``now`` gives it back."""

    asked: asyncio.Event
    now: asyncio.Event


@dataclass(frozen=True, slots=True)
class Post:
    """Where a worker stands: its registry, what it works with, what is counted, how it ends."""

    client: RegistryClient
    workplace: Workplace
    metrics: WorkerMetrics
    drain: Drain
    mechanisms: tuple[str, ...]
    """The isolation that its runs can have."""
    scanner: Scanner


async def run_worker(post: Post, *, platforms: tuple[str, ...], slots: int) -> None:
    """Work until drained; ``slots`` runs at once.

    Raises:
        RegistryRefusal: the registry will not have this worker.
    """
    refusals: list[BaseException] = []
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(slots):
                group.create_task(_work(post, platforms, slots))
    except* RegistryRefusal as refused:
        refusals.extend(refused.exceptions)
    if refusals:
        raise refusals[0]  # not above: Python 3.11.2 makes a group again of what is raised in except*


async def _work(post: Post, platforms: tuple[str, ...], slots: int) -> None:
    client, drain, loop = post.client, post.drain, asyncio.get_running_loop()
    pause = PAUSE_SECONDS
    while not drain.asked.is_set():
        if post.workplace.room.waiting:
            # Another worker may have room at once.
            await _unless(drain.asked, asyncio.sleep(PAUSE_SECONDS))
            continue
        try:
            disk = await _tidy(post)
            full = disk is not None and not disk.room_bytes
            again_at = loop.time() + (PAUSE_MAX_SECONDS if full else PAUSE_SECONDS)
            claiming = client.claim(
                platforms,
                slots=slots,
                wait_seconds=CLAIM_SECONDS,
                disk_bytes=None if disk is None else disk.room_bytes,
                disk_most_bytes=None if disk is None else disk.most_bytes,
                mechanisms=(*post.mechanisms, *SPEC_NEWS, SCANS, OTHER_SCANNERS),
            )
            answer = await _unless(drain.asked, claiming)
        except RegistryUnreachable as error:
            log.warning("waiting for the registry", reason=str(error), seconds=pause)
            await _unless(drain.asked, asyncio.sleep(pause))
            pause = min(pause * 2, PAUSE_MAX_SECONDS)
            continue
        except JobUnknown as job:
            log.error("job of a newer registry", digest=job.digest, reason=str(job))
            # Another worker may be of its version; this one goes on with what it knows.
            message = f"the worker is older than its registry: {job}"
            report = _without_run(job, "spec-invalid", message, retryable=True)
            await _deliver(partial(client.report, report), drain, "report")
            continue
        pause = PAUSE_SECONDS
        if answer is None:
            return
        if answer.job is not None:
            await _do(post, answer.job)
        elif answer.drain:
            log.info("drained by the registry")
            drain.asked.set()
        else:
            # The registry waits for work; whoever answers in its place may not.
            await _unless(drain.asked, asyncio.sleep(max(0.0, again_at - loop.time())))
    # Each round begins so; after the last job there is none.
    await _tidy(post)


async def _tidy(post: Post) -> Figures | None:
    """Keep the cache to its limits; how it stands then, ``None``: not known."""
    try:
        collected, figures = await asyncio.to_thread(_collect, post.workplace)
    except OSError as error:
        log.warning("cache not looked at", reason=repr(error))
        return None
    post.metrics.looked(figures)
    for line in collected.left_over:
        log.warning("swept", what=line)
    if collected.removed:
        log.info("cache collected", entries=len(collected.removed), bytes=collected.size_bytes)
    if not figures.room_bytes:
        log.warning("no room for images", free_bytes=figures.free_bytes, cache_bytes=figures.size_bytes)
    return figures


def _collect(workplace: Workplace) -> tuple[Collected, Figures]:
    collected = collect(workplace.cache, workplace.cache_limits)
    return collected, look(workplace.cache, workplace.cache_limits)


async def _do(post: Post, job: Job) -> None:
    client, drain = post.client, post.drain
    started = asyncio.get_running_loop().time()
    told = {"repository": job.repository, "digest": job.digest, "trial": job.trial, "attempt": job.attempt}
    log.info("trying", **told)
    live = LiveLog()
    attempt = asyncio.create_task(_attempt(post, job, live))
    keeping = asyncio.create_task(_keep(client, job))
    telling = asyncio.create_task(live.tell(client, job.lease))
    leaving = asyncio.create_task(drain.now.wait())
    try:
        await asyncio.wait((attempt, keeping, leaving), return_when=asyncio.FIRST_COMPLETED)
        await _end(telling)
        if not attempt.done():
            await _end(attempt)
        if keeping.done() and not leaving.done():
            log.warning("lease lost, run ended", **told)
            post.metrics.lease_lost()
            return
        report = _given_back(job) if attempt.cancelled() else attempt.result()
        await _hand_in(client, job, report, drain)
        is_scan_alone = job.spec is not None and job.spec.is_scan_alone
        if report.error is not None or not is_scan_alone:
            asked = asked_by(None if job.spec is None else job.spec.canonical())
            post.metrics.reported(report, asked)
        error = report.error.reason if report.error else None
        seconds = round(asyncio.get_running_loop().time() - started, 3)
        log.info("reported", **told, error=error, seconds=seconds)
    finally:
        for task in (attempt, keeping, telling, leaving):
            await _end(task)


async def _attempt(post: Post, job: Job, live: LiveLog) -> Report:
    client = post.client
    try:
        platform = parse_platform(job.platform)
    except ValueError as error:
        return _without_run(job, "platform-unsupported", str(error))
    task = Task(
        reference=job.digest,
        platform=platform,
        spec=job.spec,
        image_spec_allowed=job.image_spec_allowed,
        image_specs=job.image_specs or (),
        limits=job.limits,
        ceiling=job.ceiling,
        prepare=job.prepare,
        lease=job.lease,
        secrets=job.secrets or {},
        on_output=live.take,
        on_run=live.begin,
        scanning=Scanning(post.scanner, partial(_hand_in_scan, client, drain=post.drain))
        if job.scan
        else None,
    )
    source_of = partial(registry_source, client.url, token=job.pull_token, tls=client.tls)
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(source_of(job.repository))
        services = [
            ServiceSource(
                one.name,
                one.repository,
                one.digest,
                await stack.enter_async_context(source_of(one.repository)),
            )
            for one in job.services or ()
        ]
        others = [
            ScannerSource(
                one.name,
                one.repository,
                one.digest,
                await stack.enter_async_context(source_of(one.repository)),
            )
            for one in job.scanners or ()
        ]
        if task.scanning is not None:
            task = replace(task, scanning=replace(task.scanning, others=others))
        return await try_image(source, replace(task, services=services), workplace=post.workplace)


async def _keep(client: RegistryClient, job: Job) -> None:
    """Renew the lease until cancelled; return when it is lost, by the registry's word or by silence."""
    loop = asyncio.get_running_loop()
    seconds = job.lease_seconds
    end = loop.time() + seconds
    while loop.time() < end:
        await asyncio.sleep(min(seconds / 3, max(end - loop.time(), 0)))
        asked = loop.time()
        try:
            async with asyncio.timeout(max(end - asked, 0.05)):
                seconds = await client.renew(job.lease)
            # From before the question, so that we never believe in a lease longer than the registry does.
            end = asked + seconds
        except (RegistryUnreachable, TimeoutError) as error:
            log.warning("lease not renewed", reason=str(error), left=round(end - loop.time(), 1))
        except (LeaseOver, RegistryRefusal) as error:
            log.warning("lease over", reason=str(error))
            return


async def _hand_in(client: RegistryClient, job: Job, report: Report, drain: Drain) -> None:
    """Deliver the report; where it is not taken, without what a registry of the version before does not know;
    and where that is not either, one that says so: else the part would be tried again, and end the same way.
    """
    for news in (True, False):
        try:
            await _deliver(partial(client.report, report, news=news), drain, "report")
            return
        except RegistryRefusal as refusal:
            if refusal.status in (401, 403):
                raise
            log.error("report refused", trial=job.trial, whole=news, reason=str(refusal))
            instead = _without_run(job, "worker-error", f"the report was refused: {refusal}")
    await _deliver(partial(client.report, instead), drain, "report")


async def _hand_in_scan(client: RegistryClient, scan: Scan, *, drain: Drain) -> None:
    """Deliver what was found; where that is not taken, say so instead: the image is not without findings."""
    try:
        await _deliver(partial(client.scan, scan), drain, "scan")
    except RegistryRefusal as refusal:
        if refusal.status in (401, 403):
            raise
        log.error("scan refused", digest=scan.digest, reason=str(refusal))
        gap = Incomplete(scanner="worker", reason=f"the scan was refused: {refusal}"[:300])
        nothing = {"packages": (), "found": (), "reported": (), "others": ()}
        instead = scan.model_copy(update={**nothing, "incomplete": (gap,)})
        with suppress(RegistryRefusal):
            await _deliver(partial(client.scan, instead), drain, "scan")


async def _deliver(send: Callable[[], Awaitable[None]], drain: Drain, what: str) -> None:
    """Hand in a report or a scan, again and again while the registry is away; a lease that is over drops it.

    Raises:
        RegistryRefusal: the registry does not take it, or this worker.
    """
    pause = PAUSE_SECONDS
    loop = asyncio.get_running_loop()
    end = loop.time() + REPORT_ATTEMPT_SECONDS
    while True:
        try:
            await send()
            return
        except RegistryUnreachable as error:
            if loop.time() + pause > end or drain.now.is_set():
                log.warning(f"{what} dropped", reason=str(error))
                return
            log.warning(f"{what} not delivered yet", reason=str(error), seconds=pause)
            await _unless(drain.now, asyncio.sleep(pause))
            pause = min(pause * 2, PAUSE_MAX_SECONDS)
        except LeaseOver as error:
            log.warning(f"{what} refused", reason=str(error))
            return


def _given_back(job: Job) -> Report:
    message = "the worker was stopped before the run had ended"
    return _without_run(job, "worker-lost", message, retryable=True)


def _without_run(
    job: Job | JobUnknown, reason: ErrorReason, message: str, *, retryable: bool = False
) -> Report:
    problem = ReportError(reason=reason, message=message[:MESSAGE_MAX], retryable=retryable)
    return Report(
        protocol=PROTOCOL_VERSION,
        lease=job.lease,
        digest=job.digest,
        platform=job.platform,
        tested="",
        runtime="",
        error=problem,
    )


async def _unless(event: asyncio.Event, work: Awaitable[T]) -> T | None:
    """The result of ``work``, or ``None`` where the event came first and the work was cancelled."""
    task = asyncio.ensure_future(work)
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for one in (task, waiting):
            await _end(one)


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait for it; what it has to say is read elsewhere or not wanted."""
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
