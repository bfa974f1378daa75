"""What is attested of an image, as its readers see it, and whether it is what the database says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, exists, literal, or_, select, union

from registry.content import repositories as repos
from registry.content.administration import find
from registry.db.content import (
    attestations,
    blob_links,
    blobs,
    edges,
    kept_documents,
    manifests,
    repositories,
)
from registry.db.engine import move_epoch
from registry.db.trials import parts, trial_parts, trials
from registry.errors import DeniedError, NotFoundError, RequestInvalidError
from registry.trials.asking import is_writer
from registry.trials.attesting import attest_part, attest_states, attest_trials
from registry.trials.specs import spec_digest
from registry.trials.statements import JUDGED, PREDICATES

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select

    from registry.auth.actor import Actor
    from registry.db.engine import Database

_AT_ONCE = 200
_GONE = "it was signed, and its referrer is gone or not whole"
_DIFFERENCES = (
    (PREDICATES["result"], "the verdict is not attested"),
    (PREDICATES["result"], _GONE),
    (PREDICATES["summary"], _GONE),
)


@dataclass(frozen=True, slots=True)
class Attested:
    """One signed statement about an image. ``verdict`` is that of a result, the state of a summary;
    ``referrer`` is the digest of the manifest that holds it, ``None`` as long as it is not signed."""

    id: int
    digest: str
    predicate: str
    spec_digest: str | None
    verdict: str
    made_at: datetime
    signed_at: datetime | None
    kid: str | None
    referrer: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """Where what is attested is not what the database says."""

    digest: str
    predicate: str
    what: str

    def cursor(self) -> str:
        """What follows it in the list of differences."""
        return f"{self.digest}.{_DIFFERENCES.index((self.predicate, self.what))}"


async def list_attested(
    database: Database,
    *,
    actor: Actor,
    repository: str,
    digest: str | None,
    limit: int,
    after: int | None,
) -> Sequence[Attested]:
    """At most ``limit`` of what is attested in a repository, of one image or of all; those with an id above
    ``after``.

    Raises:
        UnauthorizedError, DeniedError: the actor may not pull from it.
        NameUnknownError: there is none.
    """
    held = await find(database, actor=actor, action="pull", name=repository)
    query = (
        select(attestations, manifests.c.digest.label("referrer"))
        .outerjoin(manifests, manifests.c.attestation_id == attestations.c.id)
        .where(attestations.c.repository_id == held.id)
        .order_by(attestations.c.id)
        .limit(limit)
    )
    if digest is not None:
        query = query.where(attestations.c.digest == digest)
    if after is not None:
        query = query.where(attestations.c.id > after)
    async with database.read_once() as connection:
        return [_attested(row) for row in await connection.execute(query)]


async def show_document(database: Database, *, actor: Actor, repository: str, digest: str) -> dict[str, Any]:
    """The run spec or policy that statements about images of a repository name by this digest. A run spec
    that is not the repository's own is for those who could have asked for a trial under it.

    Raises:
        UnauthorizedError, DeniedError, NameUnknownError: as :func:`list_attested`, or it is such a run spec.
        NotFoundError: none does.
    """
    held = await find(database, actor=actor, action="pull", name=repository)
    query = (
        select(kept_documents.c.content, repositories.c.run_spec)
        .join(repositories, repositories.c.id == kept_documents.c.repository_id)
        .where(kept_documents.c.repository_id == held.id, kept_documents.c.digest == digest)
    )
    async with database.read_once() as connection:
        row = (await connection.execute(query)).first()
    if row is None:
        raise NotFoundError(f"no verdict in {repository} names a document {digest}")
    document: dict[str, Any] = json.loads(row.content)
    is_public = "policy_version" in document or digest == spec_digest(row.run_spec)
    if not (is_public or actor.is_auditor or is_writer(actor, name=repository, visibility=held.visibility)):
        raise DeniedError(
            f"{digest} is a run spec that was given for one trial: it is for those who may start trials in "
            f"{repository}"
        )
    return document


async def list_differences(
    database: Database, *, actor: Actor, repository: str, limit: int, after: str | None
) -> Sequence[Difference]:
    """At most ``limit`` verdicts of a repository that are not attested, and attestations that are not whole,
    those after the cursor. What waits to be signed is no difference.

    Raises:
        UnauthorizedError, DeniedError, NameUnknownError: as :func:`list_attested`.
        RequestInvalidError: no cursor.
    """
    held = await find(database, actor=actor, action="pull", name=repository)
    lost = select(attestations.c.digest, case((attestations.c.kind == "result", 1), else_=2)).where(
        attestations.c.repository_id == held.id, attestations.c.signed_at.is_not(None), ~_stands_whole()
    )
    found = union(
        _unattested_parts()
        .where(parts.c.repository_id == held.id)
        .with_only_columns(parts.c.digest.label("digest"), literal(0).label("number")),
        _unattested_trials()
        .where(trials.c.repository_id == held.id)
        .with_only_columns(trials.c.digest, literal(0)),
        lost,
    ).subquery()
    query = select(found).order_by(found.c.digest, found.c.number).limit(limit)
    if after is not None:
        digest, number = _after(after)
        later = and_(found.c.digest == digest, found.c.number > number)
        query = query.where(or_(found.c.digest > digest, later))
    async with database.read() as connection:
        rows = await connection.execute(query)
        return [Difference(row.digest, *_DIFFERENCES[row.number]) for row in rows]


def _after(cursor: str) -> tuple[str, int]:
    digest, _, number = cursor.rpartition(".")
    if not digest or number not in ("0", "1", "2"):
        raise RequestInvalidError(f"{cursor[:80]!r} is no cursor of this list")
    return digest, int(number)


async def attest_missing(database: Database) -> int:
    """Have attested what is not: verdicts of a version before this one, or of one that runs beside it;
    returns how many. What is more than a transaction should hold is left for the next time."""
    of_parts = _unattested_parts().with_only_columns(parts.c.repository_id)
    of_trials = _unattested_trials().with_only_columns(trials.c.repository_id)
    async with database.read_once() as connection:
        repository_ids = sorted(
            set((await connection.execute(union(of_parts, of_trials).limit(_AT_ONCE))).scalars())
        )
    done = 0
    for repository_id in repository_ids:
        async with database.write() as connection:
            await repos.lock(connection, repository_id)
            here = _unattested_parts().where(parts.c.repository_id == repository_id)
            found = [row._asdict() for row in await connection.execute(here.limit(_AT_ONCE))]
            for part in found:
                await attest_part(connection, part)
            indexes = _unattested_trials().where(trials.c.repository_id == repository_id)
            left = [row._asdict() for row in await connection.execute(indexes.limit(_AT_ONCE))]
            await attest_trials(connection, [trial["id"] for trial in left])
            digests = {row["digest"] for row in (*found, *left)}
            await attest_states(connection, repository_id, sorted(digests))
            await move_epoch(connection, "content")
        done += len(found) + len(left)
    return done


def _attested(row: Any) -> Attested:
    found = json.loads(row.found)
    return Attested(
        id=row.id,
        digest=row.digest,
        predicate=PREDICATES[row.kind],
        spec_digest=row.spec_digest or None,
        verdict=found.get("verdict") or found["state"],
        made_at=row.made_at,
        signed_at=row.signed_at,
        kid=row.kid,
        referrer=row.referrer,
    )


def _is_held(table: Any) -> ColumnElement[bool]:
    return exists().where(
        manifests.c.repository_id == table.c.repository_id, manifests.c.digest == table.c.digest
    )


def _is_attested(table: Any) -> ColumnElement[bool]:
    """Whether the result about the same image under the same spec is this one, or a later one."""
    return exists().where(
        attestations.c.repository_id == table.c.repository_id,
        attestations.c.digest == table.c.digest,
        attestations.c.kind == "result",
        attestations.c.spec_digest == table.c.spec_digest,
        attestations.c.made_at >= table.c.finished_at,
    )


def _unattested_parts() -> Select[Any]:
    later = parts.alias("later")
    return select(parts).where(
        parts.c.state == "done",
        parts.c.verdict.in_(JUDGED),
        _is_held(parts),
        ~_is_attested(parts),
        ~exists().where(
            later.c.repository_id == parts.c.repository_id,
            later.c.digest == parts.c.digest,
            later.c.spec_digest == parts.c.spec_digest,
            later.c.verdict.in_(JUDGED),
            later.c.finished_at > parts.c.finished_at,
        ),
    )


def _unattested_trials() -> Select[Any]:
    """Of indexes, of which something was run."""
    later = trials.alias("later")
    its_parts = (trial_parts.c.trial_id == trials.c.id, parts.c.id == trial_parts.c.part_id)
    return select(trials).where(
        trials.c.state == "done",
        exists().where(*its_parts, parts.c.verdict.in_(JUDGED)),
        ~exists().where(*its_parts, parts.c.digest == trials.c.digest),
        _is_held(trials),
        ~_is_attested(trials),
        ~exists().where(
            later.c.repository_id == trials.c.repository_id,
            later.c.digest == trials.c.digest,
            later.c.spec_digest == trials.c.spec_digest,
            later.c.finished_at > trials.c.finished_at,
        ),
    )


def _stands_whole() -> ColumnElement[bool]:
    linked = exists().where(
        edges.c.manifest_id == manifests.c.id,
        edges.c.kind == "layer",
        blobs.c.digest == edges.c.digest,
        blob_links.c.blob_id == blobs.c.id,
        blob_links.c.repository_id == attestations.c.repository_id,
    )
    return exists().where(manifests.c.attestation_id == attestations.c.id, linked)
