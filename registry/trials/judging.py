"""Judging images by their findings, aside from the transactions that ask for it, and without a run.

It is done by whoever comes to it first: the process that took the report, or the loop of any replica. Done
twice it comes to the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Delete, and_, delete, func, or_, select

from registry.content import repositories as repos
from registry.content.manifests import find_in
from registry.contract.specfile import parse_findings_policy
from registry.db.content import manifests, repositories
from registry.db.dialect import insert
from registry.db.engine import move_epoch
from registry.db.findings import findings_policies, image_findings
from registry.db.matchings import matchings, rejudgings
from registry.db.types import db_time
from registry.errors import BlobUnknownError
from registry.formats.excusing import excuse
from registry.oci.digest import parse_digest
from registry.trials.coming import stored_coming, tell_coming
from registry.trials.findingsjudge import Outcome, Reason, judge
from registry.trials.findingspolicies import Counting, counting_in
from registry.trials.findingswaivers import excused_in
from registry.trials.imagefindings import JUDGED
from registry.trials.matched import report_of
from registry.trials.rejudging import ask_again
from registry.trials.scanned import UNREADABLE
from registry.trials.scanners import wanted_of, with_unanswered
from registry.trials.settling import settle_again
from registry.trials.states import REASON_MAX, plain_text
from registry.trials.trustedvex import read_trusted

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from registry.advisories.report import Report
    from registry.db.engine import Database
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads

AT_ONCE = 50
log: FilteringBoundLogger = structlog.get_logger("seatrial.server")
KEPT_MAX = 500
"""So many findings that decide are kept of an image, the worst, and so many that are excused."""
_IS_ANY = select(or_(select(findings_policies.c.id).exists(), select(image_findings.c.manifest_id).exists()))
_ENDED = select(func.coalesce(func.max(matchings.c.id), 0)).where(matchings.c.ended_at.is_not(None))


@dataclass(frozen=True, slots=True)
class Looked:
    """What is known of an image before it is judged. ``problem`` says why its scan cannot be read."""

    repository_id: int
    digest: str
    asked_at: datetime | None
    policy: Counting | None
    document_digest: str | None
    matching: int
    report: Report | None
    problem: str
    is_judged: bool
    now: datetime


async def judge_due(database: Database, store: BlobStore, *, parsers: Threads) -> int:
    """Judge the next images that somebody asked for, and those whose time has come; how many were. Nothing is
    asked of the others where no policy counts anywhere."""
    is_asked = select(rejudgings.c.manifest_id).where(
        rejudgings.c.manifest_id == image_findings.c.manifest_id
    )
    later = (
        select(image_findings.c.manifest_id)
        .where(
            or_(
                image_findings.c.changes_at <= db_time(),
                and_(image_findings.c.waits, image_findings.c.matching < _ENDED.scalar_subquery()),
            ),
            ~is_asked.exists(),
        )
        .order_by(image_findings.c.manifest_id)
        .limit(AT_ONCE)
    )
    asked = select(rejudgings.c.manifest_id).order_by(rejudgings.c.asked_at, rejudgings.c.manifest_id)
    async with database.read_once() as connection:
        if not (await connection.execute(_IS_ANY)).scalar_one():
            return 0
    async with database.read_once() as connection:
        due = list((await connection.execute(asked.limit(AT_ONCE))).scalars())
    async with database.read_once() as connection:
        # However much is asked for: what excuses an image shall end when it was to.
        due += (await connection.execute(later)).scalars()
    judged = 0
    for manifest_id in due:
        try:
            await judge_image(database, store, manifest_id, parsers=parsers)
            judged += 1
        except Exception as error:  # whatever one image does, the others are judged
            log.warning("findings of an image not judged", image=manifest_id, reason=repr(error))
            await _put_last(database, manifest_id)
    return judged


async def _put_last(database: Database, manifest_id: int) -> None:
    """One that cannot be judged now lets the others go first."""
    async with database.write() as connection:
        await ask_again(connection, manifests.c.id == manifest_id)


async def judge_reported(database: Database, store: BlobStore, digest: str, *, parsers: Threads) -> int:
    """Judge the images of this digest that somebody asked for, ahead of all others: their report has come.
    How many."""
    asked = (
        select(rejudgings.c.manifest_id)
        .join(manifests, manifests.c.id == rejudgings.c.manifest_id)
        .where(manifests.c.digest == digest)
        .order_by(rejudgings.c.manifest_id)
        .limit(AT_ONCE)
    )
    async with database.read_once() as connection:
        if not (await connection.execute(_IS_ANY)).scalar_one():
            return 0
    async with database.read_once() as connection:
        due = (await connection.execute(asked)).scalars().all()
    for manifest_id in due:
        await judge_image(database, store, manifest_id, parsers=parsers)
    return len(due)


async def judge_image(database: Database, store: BlobStore, manifest_id: int, *, parsers: Threads) -> None:
    """Judge an image by what is known of it now, and bring all states in line that rest on it."""
    looked = await look(database, store, manifest_id, parsers=parsers)
    if looked is None:
        # It is none that is judged, and asked for it stays so.
        async with database.write() as connection:
            await connection.execute(delete(rejudgings).where(rejudgings.c.manifest_id == manifest_id))
        return
    answered = _answered(manifest_id, looked.asked_at)
    if looked.policy is None and not looked.is_judged:
        # No policy counts there, and its state rests on none.
        async with database.write() as connection:
            await connection.execute(answered)
        return
    outcome = None if looked.policy is None else await parsers.run(_judged, looked.policy, looked)
    async with database.write() as connection:
        if not await repos.lock(connection, looked.repository_id):
            return
        held = (await connection.execute(JUDGED.where(manifests.c.id == manifest_id))).first()
        policy = await counting_in(connection, looked.repository_id)
        if held is None or policy != looked.policy or held.newest != looked.document_digest:
            # Another scan or policy came meanwhile, and whoever brought it has asked again.
            return
        this = image_findings.c.manifest_id == manifest_id
        before = (await connection.execute(select(image_findings.c.coming).where(this))).scalar()
        await connection.execute(delete(image_findings).where(this))
        if outcome is not None and policy is not None:
            row = {
                "manifest_id": manifest_id,
                "policy_digest": policy.digest,
                "document_digest": looked.document_digest,
                "judged_at": db_time(),
                "matching": looked.matching,
                **_columns(outcome),
            }
            await connection.execute(insert(connection, image_findings).values(row))
            name = select(repositories.c.name).where(repositories.c.id == looked.repository_id)
            repository: str = (await connection.execute(name)).scalar_one()
            await tell_coming(connection, repository, looked.digest, row["coming"], before=before)
        await settle_again(connection, looked.repository_id, looked.digest)
        # Last: whoever asks for all of them has those that this asks for, and waits for this one.
        await connection.execute(answered)
        await move_epoch(connection, "gate")


def _answered(manifest_id: int, asked_at: datetime | None) -> Delete:
    """Forget that this was asked for. Whoever asks again just now is not waited for: that stays asked."""
    asked = select(rejudgings.c.manifest_id).where(
        rejudgings.c.manifest_id == manifest_id, rejudgings.c.asked_at == asked_at
    )
    return delete(rejudgings).where(rejudgings.c.manifest_id.in_(asked.with_for_update(skip_locked=True)))


async def look(
    database: Database, store: BlobStore, manifest_id: int, *, parsers: Threads, for_policy: bool = False
) -> Looked | None:
    """What is known of an image now; its report only where a policy counts, or ``for_policy`` one might."""
    async with database.read() as connection:
        asked_at = (
            await connection.execute(
                select(rejudgings.c.asked_at).where(rejudgings.c.manifest_id == manifest_id)
            )
        ).scalar()
        lies_in = select(repositories.c.name).where(repositories.c.id == manifests.c.repository_id)
        query = JUDGED.add_columns(
            manifests.c.repository_id,
            manifests.c.state,
            db_time().label("now"),
            lies_in.scalar_subquery().label("repository"),
        )
        image = (await connection.execute(query.where(manifests.c.id == manifest_id))).first()
        if image is None:
            return None
        policy = await counting_in(connection, image.repository_id)
        matching: int = (await connection.execute(_ENDED)).scalar_one()
        report, problem = None, ""
        if policy is not None or for_policy:
            try:
                report = await report_of(connection, store, manifest_id, parsers=parsers)
            except (BlobUnknownError, *UNREADABLE) as error:
                problem = f"its scan cannot be read: {type(error).__name__}"
        manifest = await find_in(connection, image.repository_id, parse_digest(image.digest))
        if report is not None:
            # It may be of elsewhere, where fewer were to look.
            scan = with_unanswered(report.scan, await wanted_of(connection, manifest_id))
            report = replace(report, scan=scan)
            waived = await excused_in(connection, image.repository_id, image.digest, report)
            report = replace(report, excused=(*report.excused, *waived))
    if report is not None and manifest is not None:
        # What clients call the image nobody knows here: statements name it by digest, or a package.
        stated = await read_trusted(database, store, manifest, name=image.repository, parsers=parsers)
        report = await parsers.run(excuse, report, stated, "") if stated else report
    return Looked(
        image.repository_id,
        image.digest,
        asked_at,
        policy,
        image.newest,
        matching,
        report,
        problem,
        # One that waits for it is to wait no longer where no policy counts any more.
        image.policy_digest is not None or image.state == "pending",
        image.now,
    )


def _judged(policy: Counting, looked: Looked) -> Outcome:
    if looked.problem:
        return Outcome("error", (Reason("error", "incomplete", "unknown", looked.problem),))
    return judge(parse_findings_policy(policy.document), looked.report, looked.now)


def _columns(outcome: Outcome) -> dict[str, Any]:
    return {
        "verdict": outcome.verdict,
        "reason": plain_text(outcome.sentence)[:REASON_MAX],
        "reasons": _stored(outcome.reasons),
        "excused": _stored(outcome.excused),
        "changes_at": outcome.changes_at,
        "coming": stored_coming(outcome),
        "waits": outcome.waits,
    }


def _stored(reasons: Sequence[Reason]) -> str:
    kept = [{name: plain_text(text) for name, text in asdict(one).items()} for one in reasons[:KEPT_MAX]]
    return json.dumps({"count": len(reasons), "first": kept})
