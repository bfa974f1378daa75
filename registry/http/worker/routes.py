"""Handlers of the worker protocol, and the task that takes back the leases of silent workers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from registry.auth.actor import Lease
from registry.contract import PROTOCOL_VERSION
from registry.contract.job import (
    AttachedSpec,
    ClaimRequest,
    ClaimResponse,
    Job,
    JobScanner,
    RenewRequest,
    RenewResponse,
)
from registry.contract.livelog import CHUNK_MAX, LogChunk
from registry.contract.report import MAX_REPORT_BYTES, Report, ReportError
from registry.contract.scan import MAX_OTHERS, MAX_SCAN_BYTES, OTHER_SCANNERS, Scan
from registry.contract.specfile import parse_run_spec
from registry.errors import ConflictError, RequestInvalidError
from registry.http.authentication import authenticate_worker
from registry.http.body import leave_expectation, read_all
from registry.http.matching import MATCHER
from registry.http.metrics import METRICS
from registry.http.parsers import PARSERS
from registry.http.services import SERVICES
from registry.http.sweeps import tried
from registry.http.worker.messages import parse_unversioned, read_message
from registry.oci.platform import parse_platform
from registry.settings import SettingsError
from registry.trials import livelog, queue, scans, verdicts
from registry.trials.backlog import read_backlog
from registry.trials.imagespecs import read_attached
from registry.trials.judging import judge_reported
from registry.trials.matching import match_arrived
from registry.trials.scanned import document_of
from registry.trials.scanners import wanted_in, with_unanswered
from registry.trials.secrets import values_for
from registry.trials.services import images_for
from registry.trials.verdicts import Reporter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from structlog.typing import FilteringBoundLogger

    from registry.auth.actor import Actor
    from registry.http.metrics import Metrics
    from registry.http.services import Services

log: FilteringBoundLogger = structlog.get_logger("seatrial.trials")
MESSAGE_MAX_BYTES = 64 * 1024
LOG_MAX_BYTES = 6 * CHUNK_MAX + MESSAGE_MAX_BYTES
"""JSON may write each character as six."""
REAP_SECONDS = 5.0
PULL_TOKEN_MARGIN_SECONDS = 60


def add_routes(app: web.Application) -> None:
    """Add the worker protocol to the application."""
    app.add_routes(
        [
            web.post(f"/worker/v1/{name}", handler, expect_handler=leave_expectation)
            for name, handler in (
                ("claim", claim),
                ("renew", renew),
                ("log", take_log),
                ("scan", take_scan),
                ("report", report),
            )
        ]
    )
    app.cleanup_ctx.append(_reaping)
    app.on_shutdown.append(_end_long_polls)


async def claim(request: web.Request) -> web.Response:
    """``POST /worker/v1/claim``: a job, or nothing when the wait is over."""
    services = request.app[SERVICES]
    actor = await authenticate_worker(request)
    asked = await read_message(request, ClaimRequest, limit_bytes=MESSAGE_MAX_BYTES)
    for platform in asked.platforms:
        try:
            parse_platform(platform)
        except ValueError as error:
            raise RequestInvalidError(str(error)) from None
    found = await queue.claim(
        services.database,
        services.settings,
        worker=_reporter(actor),
        platforms=asked.platforms,
        mechanisms=asked.mechanisms,
        disk_bytes=asked.disk_bytes,
        disk_most_bytes=asked.disk_most_bytes,
        slots=asked.slots,
        address=actor.address,
        wait_seconds=asked.wait_seconds,
        is_gone=lambda: request.transport is None or request.transport.is_closing(),
        require_still_let_in=lambda: authenticate_worker(request),
    )
    if isinstance(found, queue.Nothing):
        answer = ClaimResponse(protocol=PROTOCOL_VERSION, job=None, drain=found.drain)
    else:
        log.info("job leased", worker=actor.name, part=found.part, attempt=found.attempt)
        job = await _job(request, actor, found, mechanisms=asked.mechanisms or ())
        answer = ClaimResponse(protocol=PROTOCOL_VERSION, job=job)
    return _json(answer.model_dump_json())


async def renew(request: web.Request) -> web.Response:
    """``POST /worker/v1/renew``: the heartbeat of a lease."""
    services = request.app[SERVICES]
    await authenticate_worker(request)
    asked = await read_message(request, RenewRequest, limit_bytes=MESSAGE_MAX_BYTES)
    actor = await authenticate_worker(request)  # it may have been revoked while it sent that
    seconds = await queue.renew(
        services.database, services.settings, worker=_reporter(actor), lease=asked.lease
    )
    return _json(RenewResponse(protocol=PROTOCOL_VERSION, lease_seconds=seconds).model_dump_json())


async def take_log(request: web.Request) -> web.Response:
    """``POST /worker/v1/log``: some output of a run that goes on."""
    services = request.app[SERVICES]
    await authenticate_worker(request)
    chunk = await read_message(request, LogChunk, limit_bytes=LOG_MAX_BYTES)
    actor = await authenticate_worker(request)  # it may have been revoked while it sent that
    taken = await livelog.append(services.database, worker=_reporter(actor), chunk=chunk)
    return _json(taken.model_dump_json())


async def take_scan(request: web.Request) -> web.Response:
    """``POST /worker/v1/scan``: what was found in the image of a lease, before its report."""
    services = request.app[SERVICES]
    database = services.database
    await scans.require_any(database, worker=_reporter(await authenticate_worker(request)))
    raw = await read_all(request, MAX_SCAN_BYTES)
    parsers = request.app[PARSERS]
    said = await parsers.run(parse_unversioned, raw, Scan)
    actor = await authenticate_worker(request)  # it may have been revoked while it sent that
    here = await scans.require_asked(database, worker=_reporter(actor), lease=said.lease)
    said = with_unanswered(said, await wanted_in(database, *here, said.platform))
    document = await parsers.run(document_of, said)
    await request.app[MATCHER].require_bounded([one.component for one in document.held])
    repository_id = await scans.take(
        database,
        services.blobs,
        worker=_reporter(actor),
        lease=said.lease,
        document=document,
        attested=services.settings.attest_scans,
    )
    arrived = match_arrived(
        database,
        request.app[MATCHER],
        document_digest=str(document.digest),
        repository_id=repository_id,
        image=document.image,
    )
    # What could not be matched is not lost, and is matched as soon as it can be.
    await tried("packages of a scan", arrived, done="matched")
    log.info("scan taken", worker=actor.name, digest=document.image, incomplete=document.scanned.incomplete)
    return web.Response(status=204)


async def report(request: web.Request) -> web.Response:
    """``POST /worker/v1/report``: the end of a lease. The worker need not know what came of it."""
    services = request.app[SERVICES]
    await authenticate_worker(request)
    said = await read_message(request, Report, limit_bytes=MAX_REPORT_BYTES)
    actor = await authenticate_worker(request)  # it may have been revoked while it sent that
    judgement = await verdicts.record(
        services.database, services.settings, worker=_reporter(actor), report=said
    )
    judging = judge_reported(services.database, services.blobs, said.digest, parsers=request.app[PARSERS])
    await tried("findings of an image", judging, done="judged")
    request.app[METRICS].reported(said, judgement)
    log.info(
        "report taken",
        worker=actor.name,
        digest=said.digest,
        verdict=judgement.verdict if judgement else "tried again",
    )
    return web.Response(status=204)


async def _job(
    request: web.Request, actor: Actor, claimed: queue.Claimed, *, mechanisms: Sequence[str]
) -> Job | None:
    """The job; ``None`` where its spec was stored by a version that took what this one does not, or names a
    secret or a service's image that is gone: then that is the verdict. What cannot be read now is put back at
    once, since no worker knows of the lease. Whoever claimed it may ask again."""
    try:
        return await _make_job(request, actor, claimed, mechanisms)
    except (SettingsError, SQLAlchemyError, OSError) as problem:
        log.error("job cannot be handed out", part=claimed.part, reason=repr(problem))
        message = "the registry could not read what the job needs; its log has the reason"
        error = ReportError(reason="worker-error", message=message, retryable=True)
    except RequestInvalidError as problem:
        log.warning("stored run spec cannot be carried out", part=claimed.part, reason=problem.message)
        error = ReportError(reason="spec-invalid", message=problem.message[:2000])
    await _end_unread(request, actor, claimed, error)
    return None


async def _make_job(
    request: web.Request, actor: Actor, claimed: queue.Claimed, mechanisms: Sequence[str]
) -> Job:
    services = request.app[SERVICES]
    settings = services.settings
    spec, secrets = None, None
    if claimed.run_spec is not None:
        spec = await request.app[PARSERS].run(parse_run_spec, claimed.run_spec)
        secrets = await values_for(
            services.database, services.secret_key, repository_id=claimed.repository_id, spec=spec
        )
    beside = await images_for(services.database, spec, platform=claimed.platform)
    attached = await read_attached(
        services.database,
        services.blobs,
        repository_id=claimed.repository_id,
        stored=claimed.image_specs,
    )
    image_specs = [
        AttachedSpec(digest=one.digest, spec=await request.app[PARSERS].run(one.parse)) for one in attached
    ]
    others: Sequence[JobScanner] = ()
    # For a worker that knows of none it would be a job that it cannot read: its scan is incomplete then.
    if claimed.scan and OTHER_SCANNERS in mechanisms:
        here = (claimed.repository_id, claimed.repository, claimed.platform)
        found = await wanted_in(services.database, *here)
        others = [one.job for one in found if one.job is not None][:MAX_OTHERS]
    lease = Lease(
        id=claimed.lease,
        repository=claimed.repository,
        digest=claimed.digest,
        services=(
            *((one.repository, one.digest) for one in beside),
            *((one.repository, one.digest) for one in others),
        ),
    )
    # The lease bounds the token's life; this only has to outlast the longest preparation.
    seconds = int(settings.prepare.seconds) + PULL_TOKEN_MARGIN_SECONDS
    return Job(
        protocol=PROTOCOL_VERSION,
        lease=claimed.lease,
        lease_seconds=settings.lease_seconds,
        trial=claimed.trial,
        part=claimed.part,
        attempt=claimed.attempt,
        repository=claimed.repository,
        digest=claimed.digest,
        platform=claimed.platform,
        spec=spec,
        image_spec_allowed=claimed.image_spec_allowed,
        limits=settings.limits,
        ceiling=settings.ceiling,
        prepare=settings.prepare,
        pull_token=await services.tokens.mint_for_lease(actor, lease, seconds=seconds),
        secrets=dict(secrets) if secrets else None,
        services=tuple(beside) or None,
        image_specs=tuple(image_specs) or None,
        scan=claimed.scan,
        scanners=tuple(others) or None,
    )


async def _end_unread(request: web.Request, actor: Actor, claimed: queue.Claimed, error: ReportError) -> None:
    services = request.app[SERVICES]
    report = Report(
        protocol=PROTOCOL_VERSION,
        lease=claimed.lease,
        digest=claimed.digest,
        platform=claimed.platform,
        tested="",
        runtime="",
        error=error,
    )
    # A lease that is over by now is taken up again, and ends here as well.
    with suppress(ConflictError):
        judgement = await verdicts.record(
            services.database, services.settings, worker=_reporter(actor), report=report
        )
        request.app[METRICS].reported(report, judgement)


def _reporter(actor: Actor) -> Reporter:
    assert actor.account_id is not None
    return Reporter(account_id=actor.account_id, name=actor.name)


def _json(text: str) -> web.Response:
    # Answers to a claim hold a token.
    return web.Response(text=text, content_type="application/json", headers={"Cache-Control": "no-store"})


async def _reaping(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(_reap_forever(app[SERVICES], app[METRICS]))
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _reap_forever(services: Services, metrics: Metrics) -> None:
    while True:
        try:
            metrics.stands(await read_backlog(services.database))
            if count := await queue.reap(services.database, services.settings):
                log.warning("leases of silent workers taken back", count=count)
        except (SQLAlchemyError, OSError) as error:
            log.warning("leases could not be looked at", reason=repr(error))
        await asyncio.sleep(REAP_SECONDS)


async def _end_long_polls(app: web.Application) -> None:
    app[SERVICES].database.bell.mute()
