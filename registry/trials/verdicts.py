"""From a worker's report to verdicts: of the part, of each trial that links it, of each image they concern.

Everything happens in one transaction. Rows are locked in one order: repository, parts, trials.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.content import repositories as repos
from registry.contract.asked import asked_by
from registry.contract.judge import Judgement, judge
from registry.contract.report import RUN_NEWS, Report
from registry.contract.runspec import SCAN_ALONE_SPEC
from registry.db.accounts import workers
from registry.db.engine import Database, move_epoch
from registry.db.trials import is_leased, parts, runs, trial_parts, trials
from registry.db.types import db_time
from registry.errors import ConflictError, RequestInvalidError
from registry.settings import Settings
from registry.trials import livelog
from registry.trials.caps import spend
from registry.trials.findingspolicies import counting_in
from registry.trials.reusing import ran_with
from registry.trials.scanalone import judge_scan
from registry.trials.scanned import parse_scanned
from registry.trials.settling import settle_image, settle_trials
from registry.trials.specs import required_by
from registry.trials.states import REASON_MAX, plain_text

BACKOFF_SECONDS = 2
BACKOFF_MAX_SECONDS = 60


@dataclass(frozen=True, slots=True)
class _Part:
    id: str
    repository_id: int
    digest: str
    platform: str
    attempts: int
    run_spec: str | None
    scan: str | None

    @property
    def is_scan_alone(self) -> bool:
        """Whether nothing of its image was to be run."""
        return self.run_spec == SCAN_ALONE_SPEC


@dataclass(frozen=True, slots=True)
class Reporter:
    """The worker that reports."""

    account_id: int
    name: str


async def record(
    database: Database, settings: Settings, *, worker: Reporter, report: Report
) -> Judgement | None:
    """Take the report that ends a lease; returns the verdict, or ``None`` where the part is tried again.

    Raises:
        ConflictError: the lease is another's, over, or already reported on; nothing changes.
        RequestInvalidError: the report is for another image, or claims an end without having run anything, or
            has a run where none was asked for.
    """
    async with database.write() as connection:
        part = await _lock_leased(connection, worker, report.lease)
        if part.digest != report.digest or part.platform != report.platform:
            raise RequestInvalidError(
                f"the lease is for {part.digest} on {part.platform}, the report for "
                f"{report.digest[:100]} on {report.platform[:100]}"
            )
        _require_what_was_asked(part, report)
        seconds = sum(run.all_seconds() for run in report.runs)
        if report.error is not None and report.error.retryable and part.attempts < settings.trial_attempts:
            await put_back(connection, part.id, part.attempts, reason=plain_text(report.error.message))
            await spend(connection, settings, part.id, seconds)
            return None
        if part.is_scan_alone:
            by_policy = await counting_in(connection, part.repository_id) is not None
            judgement = judge_scan(report, parse_scanned(part.scan), by_policy=by_policy)
        else:
            judgement = judge(report, required=required_by(part.run_spec), asked=asked_by(part.run_spec))
        log_bytes = await _store_runs(connection, part, report)
        kept = json.dumps(_kept(report))
        await finish_part(connection, part.id, judgement, record=kept, log_bytes=log_bytes)
        await spend(connection, settings, part.id, seconds)
        await move_epoch(connection, "gate")
    if report.runtime:
        await _note_ran_with(database, worker, ran_with(report))
    return judgement


def _require_what_was_asked(part: _Part, report: Report) -> None:
    if part.is_scan_alone and report.runs:
        raise RequestInvalidError("the report holds a run, and the run spec asks for the scan alone")
    if part.is_scan_alone or report.error is not None:
        return
    if not any(run.observations for run in report.runs):
        raise RequestInvalidError(
            "a report without an error must hold at least one run with at least one observation"
        )


async def _note_ran_with(database: Database, worker: Reporter, used: str) -> None:
    """Keep what the worker runs with now. In a transaction of its own: who claims holds the worker's row
    first, and then trials."""
    other = (workers.c.account_id == worker.account_id, workers.c.ran_with.is_distinct_from(used))
    async with database.read_once() as connection:
        is_other = (await connection.execute(select(workers.c.account_id).where(*other))).first() is not None
    if is_other:
        async with database.write() as connection:
            await connection.execute(update(workers).where(*other).values(ran_with=used))


def _kept(report: Report) -> dict[str, object]:
    """What of a report is one value: all but what its runs have columns for."""
    kept = report.model_dump(mode="json", exclude={"runs", "lease", "protocol", "digest"})
    runs_of = [run.model_dump(mode="json", include={"name", *RUN_NEWS}) for run in report.runs]
    return {**kept, "runs": runs_of}


async def put_back(connection: AsyncConnection, part_id: str, attempts: int, *, reason: str) -> None:
    """End the lease of a part and let it be claimed again, later with each attempt."""
    pause = min(BACKOFF_SECONDS * 2 ** (attempts - 1), BACKOFF_MAX_SECONDS)
    await connection.execute(
        update(parts)
        .where(parts.c.id == part_id)
        .values(
            state="queued",
            run_after=db_time(timedelta(seconds=pause)),
            lease=None,
            lease_account_id=None,
            lease_expires_at=None,
            limits_digest=None,
            reason=reason[:REASON_MAX],
        )
    )
    await livelog.forget(connection, part_id)
    await settle_trials(connection, await _open_trials(connection, part_id))


async def finish_part(
    connection: AsyncConnection,
    part_id: str,
    judgement: Judgement,
    *,
    record: str | None,
    log_bytes: int = 0,
) -> None:
    """Write the verdict of a locked part, and let it decide for its image, its trials and their images."""
    await connection.execute(
        update(parts)
        .where(parts.c.id == part_id)
        .values(
            state="done",
            verdict=judgement.verdict,
            reason=plain_text(judgement.reason)[:REASON_MAX],
            record=record,
            flaky=judgement.flaky or None,
            log_bytes=log_bytes or None,
            lease=None,
            lease_account_id=None,
            lease_expires_at=None,
            finished_at=db_time(),
        )
    )
    await livelog.forget(connection, part_id)
    await settle_image(connection, part_id)
    await settle_trials(connection, await _open_trials(connection, part_id))


async def _lock_leased(connection: AsyncConnection, worker: Reporter, lease: str) -> _Part:
    repository = select(parts.c.repository_id).where(is_leased(lease, worker.account_id))
    repository_id = (await connection.execute(repository)).scalar_one_or_none()
    if repository_id is not None:
        await repos.lock(connection, repository_id)
        # Again under the lock: it may have been taken back meanwhile.
        query = select(*(parts.c[name] for name in _Part.__dataclass_fields__)).where(
            is_leased(lease, worker.account_id)
        )
        part = (await connection.execute(query.with_for_update())).first()
        if part is not None:
            return _Part(*part)
    raise ConflictError(
        "this lease is not a live one of this worker: it has run out, was reported on, or is another's"
    )


async def _store_runs(connection: AsyncConnection, part: _Part, report: Report) -> int:
    """Returns how many bytes the logs have."""
    log_bytes = 0
    for run in report.runs:
        # PostgreSQL's text has no NUL.
        log = run.log.replace("\0", "\N{REPLACEMENT CHARACTER}")
        log_bytes += len(log.encode())
        await connection.execute(
            insert(runs).values(
                part_id=part.id,
                attempt=part.attempts,
                name=plain_text(run.name),
                case_name=None if run.case is None else plain_text(run.case),
                case_attempt=run.attempt,
                command=json.dumps(run.command),
                exit_code=run.exit_code,
                signal=run.signal,
                reason=run.reason,
                oom_killed=run.oom_killed,
                seconds=run.seconds,
                cpu_seconds=run.cpu_seconds,
                memory_peak_bytes=run.memory_peak_bytes,
                log=log,
                log_truncated=run.log_truncated,
                observations=json.dumps([one.model_dump(mode="json") for one in run.observations]),
                finished_at=db_time(),
            )
        )
    return log_bytes


async def _open_trials(connection: AsyncConnection, part_id: str) -> Sequence[str]:
    query = (
        select(trials.c.id)
        .join(trial_parts, trial_parts.c.trial_id == trials.c.id)
        .where(trial_parts.c.part_id == part_id, trials.c.state != "done")
        .order_by(trials.c.id)
    )
    return (await connection.execute(query)).scalars().all()
