"""What a findings policy made of images, as part of their states.

A row of ``rejudgings`` asks for an image to be judged (:mod:`registry.trials.judging`), in the transaction of
whatever changed: its scan, its matches, a policy, a waiver. Until that is done an image that is new is
pending, and one that was judged before stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from registry.contract.runspec import SCAN_ALONE_SPEC
from registry.db.content import manifests, repositories
from registry.db.dialect import batches, insert
from registry.db.findings import image_findings
from registry.db.matchings import changed_images, rejudgings
from registry.db.scans import image_scans, scans
from registry.db.trials import parts
from registry.db.types import db_time
from registry.trials.coming import tell_coming
from registry.trials.findingspolicies import counting
from registry.trials.rejudging import ask
from registry.trials.scanalone import judge_scanned
from registry.trials.scanned import parse_scanned
from registry.trials.specs import SCAN_ALONE_DIGEST
from registry.trials.states import REASON_MAX

if TYPE_CHECKING:
    from sqlalchemy import Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

NOTHING = '{"count": 0, "first": []}'
"""No finding, as rows keep that."""
BEING_JUDGED = "what was found in it is being judged"
Wanted = tuple[str, str, str]
"""The digest of an image, its state, and why."""

JUDGED: Select[Any] = (
    select(
        manifests.c.id,
        manifests.c.digest,
        image_findings.c.policy_digest,
        image_findings.c.document_digest,
        image_findings.c.verdict,
        image_findings.c.reason,
        scans.c.document_digest.label("newest"),
    )
    .outerjoin(image_findings, image_findings.c.manifest_id == manifests.c.id)
    .outerjoin(image_scans, image_scans.c.manifest_id == manifests.c.id)
    .outerjoin(scans, scans.c.id == image_scans.c.scan_id)
    # What an index lists is judged by itself.
    .where(manifests.c.runnable)
)
"""Images with what was made of them, and the scan that counts now."""


async def with_findings(
    connection: AsyncConnection, repository_id: int, repository: str, wanted: Sequence[Wanted]
) -> Sequence[Wanted]:
    """The states that images come to with what the repository's findings policy makes of them. One that was
    not judged by it yet is pending, and is asked to be judged."""
    if not any(state in ("pass", "warn") for _, state, _ in wanted):
        return wanted
    policy = await counting(connection, repository_id, repository)
    if policy is None:
        return await _without_policy(connection, repository_id, wanted)
    found: dict[str, Row[Any]] = {}
    for batch in batches(digest for digest, _, _ in wanted):
        here = (manifests.c.repository_id == repository_id, manifests.c.digest.in_(batch))
        found |= {row.digest: row for row in await connection.execute(JUDGED.where(*here))}
    states: list[Wanted] = []
    missing: set[int] = set()
    for digest, state, reason in wanted:
        row = found.get(digest)
        if state not in ("pass", "warn") or row is None:
            states.append((digest, state, reason))
            continue
        if (row.policy_digest, row.document_digest) != (policy.digest, row.newest):
            row = await _taken_over(connection, repository, row, policy.digest) or row
        if (row.policy_digest, row.document_digest) != (policy.digest, row.newest):
            missing.add(row.id)
            states.append((digest, "pending", BEING_JUDGED))
        elif row.verdict == "pass":
            states.append((digest, state, reason))
        else:
            said = f"{row.reason}; {reason}" if state == row.verdict else row.reason
            states.append((digest, row.verdict, said[:REASON_MAX]))
    await ask(connection, missing)
    return states


async def _without_policy(
    connection: AsyncConnection, repository_id: int, wanted: Sequence[Wanted]
) -> Sequence[Wanted]:
    """The states where no policy counts: one of which nothing is run is as good as its scan is whole, and a
    policy that counted when it was scanned may have made more of it."""
    gaps: dict[str, str] = {}
    for batch in batches(digest for digest, _, _ in wanted):
        query = (
            select(parts.c.digest, parts.c.scan)
            .join(repositories, repositories.c.id == parts.c.repository_id)
            .where(
                parts.c.repository_id == repository_id,
                parts.c.digest.in_(batch),
                parts.c.spec_digest == SCAN_ALONE_DIGEST,
                parts.c.policy_version == repositories.c.policy_version,
                parts.c.state == "done",
                repositories.c.run_spec == SCAN_ALONE_SPEC,
            )
        )
        for row in await connection.execute(query):
            judged = judge_scanned(parse_scanned(row.scan))
            if judged.verdict == "error":
                gaps[row.digest] = judged.reason
    return [
        (digest, "error", gaps[digest])
        if state in ("pass", "warn") and digest in gaps
        else (digest, state, why)
        for digest, state, why in wanted
    ]


async def _taken_over(
    connection: AsyncConnection, repository: str, image: Row[Any], policy_digest: str
) -> Row[Any] | None:
    """What the same policy made of the same scan of the same image in another repository, where nobody
    excused anything, written down for this one; ``None``: nothing."""
    elsewhere = (
        select(*(column for column in image_findings.c if column.name != "manifest_id"))
        .join(manifests, manifests.c.id == image_findings.c.manifest_id)
        .where(
            manifests.c.digest == image.digest,
            image_findings.c.policy_digest == policy_digest,
            image_findings.c.document_digest == image.newest,
            image_findings.c.excused == NOTHING,
            or_(image_findings.c.changes_at.is_(None), image_findings.c.changes_at > db_time()),
            # What is going to be judged again there would never be here.
            ~select(rejudgings.c.manifest_id).where(rejudgings.c.manifest_id == manifests.c.id).exists(),
            ~select(changed_images.c.manifest_id)
            .where(changed_images.c.manifest_id == manifests.c.id)
            .exists(),
        )
        .limit(1)
    )
    held = (await connection.execute(elsewhere)).first()
    if held is None:
        return None
    values = {"manifest_id": image.id, **held._asdict()}
    mine = select(image_findings.c.coming).where(image_findings.c.manifest_id == image.id)
    before = (await connection.execute(mine)).scalar()
    await tell_coming(connection, repository, image.digest, held.coming, before=before)
    written = insert(connection, image_findings).values(values)
    await connection.execute(
        written.on_conflict_do_update(index_elements=[image_findings.c.manifest_id], set_=held._asdict())
    )
    taken: Row[Any] = (await connection.execute(JUDGED.where(manifests.c.id == image.id))).one()
    return taken
