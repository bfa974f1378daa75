"""From a worker's report to verdicts: of the part, of each trial that links it, of each image they concern.

Everything happens in one transaction. Rows are locked in one order: repository, parts, trials.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.actor import Actor
from registry.content import repositories as repos
from registry.contract.judge import Judgement, Verdict, judge, worst
from registry.contract.report import Report
from registry.db.content import manifests, repositories
from registry.db.engine import Database, move_epoch
from registry.db.trials import parts, runs, trial_parts, trials
from registry.db.types import db_time
from registry.errors import ConflictError, RequestInvalidError
from registry.events import outbox
from registry.events.outbox import EventKind
from registry.settings import Settings
from registry.trials.gate import ADMITTED
from registry.trials.specs import spec_digest
from registry.trials.states import REASON_MAX

_REGISTRY = Actor(kind="user", name="registry")
"""Who judges: the worker only reports."""
BACKOFF_SECONDS = 2
BACKOFF_MAX_SECONDS = 60


@dataclass(frozen=True, slots=True)
class _Part:
    id: str
    digest: str
    platform: str
    attempts: int


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
        RequestInvalidError: the report is for another image, or claims an end without having run anything.
    """
    if report.error is None and not any(run.observations for run in report.runs):
        raise RequestInvalidError(
            "a report without an error must hold at least one run with at least one observation"
        )
    async with database.write() as connection:
        part = await _lock_leased(connection, worker, report.lease)
        if part.digest != report.digest or part.platform != report.platform:
            raise RequestInvalidError(
                f"the lease is for {part.digest} on {part.platform}, the report for "
                f"{report.digest[:100]} on {report.platform[:100]}"
            )
        if report.error is not None and report.error.retryable and part.attempts < settings.trial_attempts:
            await put_back(connection, part.id, part.attempts, reason=plain_text(report.error.message))
            return None
        judgement = judge(report)
        await _store_runs(connection, part, report)
        kept = report.model_dump(mode="json", exclude={"runs", "lease", "protocol", "digest"})
        await finish_part(connection, part.id, judgement, record=json.dumps(kept))
        await move_epoch(connection, "gate")
    return judgement


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
            reason=reason[:REASON_MAX],
        )
    )
    for trial_id in await _open_trials(connection, part_id):
        await settle_trial(connection, trial_id)


async def finish_part(
    connection: AsyncConnection, part_id: str, judgement: Judgement, *, record: str | None
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
            lease=None,
            lease_account_id=None,
            lease_expires_at=None,
            finished_at=db_time(),
        )
    )
    await settle_image(connection, part_id)
    for trial_id in await _open_trials(connection, part_id):
        await settle_trial(connection, trial_id)


async def settle_image(connection: AsyncConnection, part_id: str) -> None:
    """Bring the state of a part's own image in line with the part."""
    part = (await connection.execute(select(parts).where(parts.c.id == part_id))).one()
    if not await _decides(connection, part.repository_id, part.spec_digest, part.policy_version):
        return
    state = part.verdict if part.state == "done" else "pending"
    reason = part.reason if part.state == "done" else ""
    await set_state(connection, part.repository_id, part.digest, state, reason)


async def settle_trial(connection: AsyncConnection, trial_id: str) -> None:
    """Bring a trial and the state of its image in line with its parts.

    An index is as good as the worst platform that is run; platforms that no worker runs count only where
    there is no other.
    """
    trial = (await connection.execute(select(trials).where(trials.c.id == trial_id).with_for_update())).one()
    linked = (
        await connection.execute(
            select(parts.c.platform, parts.c.state, parts.c.verdict, parts.c.reason)
            .join(trial_parts, trial_parts.c.part_id == parts.c.id)
            .where(trial_parts.c.trial_id == trial_id)
            .order_by(parts.c.platform, parts.c.digest)
        )
    ).all()
    decides = await _decides(connection, trial.repository_id, trial.spec_digest, trial.policy_version)
    if any(part.state != "done" for part in linked):
        state = "running" if any(part.state == "leased" for part in linked) else "queued"
        await connection.execute(update(trials).where(trials.c.id == trial_id).values(state=state))
        if decides:
            await set_state(connection, trial.repository_id, trial.digest, "pending", "")
        return
    run = [part for part in linked if part.verdict != "unsupported"]
    if run:
        judgement = worst(
            [_judgement(part.platform, part.verdict, part.reason, several=len(linked) > 1) for part in run]
        )
    else:
        judgement = Judgement("error", linked[0].reason)
    await connection.execute(
        update(trials)
        .where(trials.c.id == trial_id)
        .values(state="done", verdict=judgement.verdict, reason=judgement.reason, finished_at=db_time())
    )
    data = {
        "trial": trial_id,
        "digest": trial.digest,
        "verdict": judgement.verdict,
        "reason": judgement.reason,
    }
    await _tell(connection, trial.repository_id, "trial.finished", data)
    if decides:
        state = judgement.verdict if run else "unsupported"
        await set_state(connection, trial.repository_id, trial.digest, state, judgement.reason)


def plain_text(text: str) -> str:
    """``text`` of a worker as one line that is safe to print: what an image wrote must not move a cursor."""
    return "".join(c if c.isprintable() else " " for c in text)


def _judgement(platform: str, verdict: str, reason: str, *, several: bool) -> Judgement:
    said = f"{platform}: {reason}" if several else reason
    return Judgement(cast(Verdict, verdict), said[:REASON_MAX])


async def _lock_leased(connection: AsyncConnection, worker: Reporter, lease: str) -> _Part:
    mine = (parts.c.lease == lease, parts.c.lease_account_id == worker.account_id, parts.c.state == "leased")
    repository = select(parts.c.repository_id).where(*mine)
    repository_id = (await connection.execute(repository)).scalar_one_or_none()
    if repository_id is not None:
        await repos.lock(connection, repository_id)
        query = select(*(parts.c[name] for name in _Part.__dataclass_fields__)).where(
            *mine, parts.c.lease_expires_at > db_time()
        )
        part = (await connection.execute(query.with_for_update())).first()
        if part is not None:
            return _Part(*part)
    raise ConflictError(
        "this lease is not a live one of this worker: it has run out, was reported on, or is another's"
    )


async def _store_runs(connection: AsyncConnection, part: _Part, report: Report) -> None:
    for run in report.runs:
        await connection.execute(
            insert(runs).values(
                part_id=part.id,
                attempt=part.attempts,
                name=plain_text(run.name),
                command=json.dumps(run.command),
                exit_code=run.exit_code,
                signal=run.signal,
                reason=run.reason,
                oom_killed=run.oom_killed,
                seconds=run.seconds,
                cpu_seconds=run.cpu_seconds,
                memory_peak_bytes=run.memory_peak_bytes,
                # PostgreSQL's text has no NUL.
                log=run.log.replace("\0", "\N{REPLACEMENT CHARACTER}"),
                log_truncated=run.log_truncated,
                observations=json.dumps([one.model_dump(mode="json") for one in run.observations]),
                finished_at=db_time(),
            )
        )


async def _open_trials(connection: AsyncConnection, part_id: str) -> Sequence[str]:
    query = (
        select(trials.c.id)
        .join(trial_parts, trial_parts.c.trial_id == trials.c.id)
        .where(trial_parts.c.part_id == part_id, trials.c.state != "done")
        .order_by(trials.c.id)
    )
    return (await connection.execute(query)).scalars().all()


async def _decides(connection: AsyncConnection, repository_id: int, digest: str, policy_version: int) -> bool:
    """Whether a verdict under this spec counts for the gate: a repository's own spec yields to no other."""
    query = select(repositories.c.run_spec, repositories.c.policy_version)
    policy = (await connection.execute(query.where(repositories.c.id == repository_id))).one()
    own = policy.run_spec is None or spec_digest(policy.run_spec) == digest
    return own and policy.policy_version == policy_version


async def set_state(
    connection: AsyncConnection, repository_id: int, digest: str, state: str, reason: str
) -> None:
    """Let an image of a repository stand in this state, and tell of it; an admitted one is not made pending.

    An image that is gone has none.
    """
    where = (manifests.c.repository_id == repository_id, manifests.c.digest == digest)
    image = (await connection.execute(select(manifests.c.state).where(*where))).first()
    if image is None or (state == "pending" and image.state in (*ADMITTED, "pending")):
        # An admitted image stays so until it is judged again.
        return
    await connection.execute(
        update(manifests).where(*where).values(state=state, state_reason=reason, state_at=db_time())
    )
    if state not in ("pending", image.state):
        data = {"digest": digest, "from": image.state, "to": state, "reason": reason}
        await _tell(connection, repository_id, "verdict.changed", data)


async def _tell(
    connection: AsyncConnection, repository_id: int, kind: EventKind, data: dict[str, str]
) -> None:
    name = select(repositories.c.name).where(repositories.c.id == repository_id)
    await outbox.record(connection, kind, (await connection.execute(name)).scalar_one(), _REGISTRY, data)
