"""What is attested of an image, as its readers see it, and whether it is what the database says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, exists, literal, or_, select, union

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
from registry.db.trials import parts, trials
from registry.errors import DeniedError, NotFoundError, RequestInvalidError
from registry.trials.asking import is_writer
from registry.trials.specs import spec_digest
from registry.trials.statements import JUDGED, OF_SCANS, PREDICATES
from registry.trials.unattested import unattested_parts, unattested_trials

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select

    from registry.auth.actor import Actor
    from registry.db.engine import Database

_GONE = "it was signed, and its referrer is gone or not whole"
_DIFFERENCES = (
    (PREDICATES["result"], "the verdict is not attested"),
    (PREDICATES["result"], _GONE),
    (PREDICATES["summary"], _GONE),
    (PREDICATES["summary"], "the summary is not what the gate makes of the image"),
    *((PREDICATES[kind], _GONE) for kind in OF_SCANS),
)
_GONE_OF: Mapping[str, int] = MappingProxyType(
    {"result": 1, "summary": 2, **{kind: number for number, kind in enumerate(OF_SCANS, 4)}}
)
"""Which of the differences it is that an attestation of a kind is gone."""


@dataclass(frozen=True, slots=True)
class Attested:
    """One signed statement about an image. ``verdict`` is that of a result, the state of a summary, ``None``
    of what is said of a scan. ``referrer`` is the digest of the manifest that holds it, ``None`` as long as
    it is not signed; ``left_out`` says why it is not to be. One with a referrer and without ``signed_at`` is
    about to be replaced."""

    id: int
    digest: str
    predicate: str
    spec_digest: str | None
    verdict: str | None
    made_at: datetime
    signed_at: datetime | None
    kid: str | None
    referrer: str | None
    left_out: str | None


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
    """At most ``limit`` verdicts of a repository that are not attested, attestations that are not whole, and
    summaries that do not say what the gate makes of an image; those after the cursor. What waits to be signed
    is no difference.

    Raises:
        UnauthorizedError, DeniedError, NameUnknownError: as :func:`list_attested`.
        RequestInvalidError: no cursor.
    """
    held = await find(database, actor=actor, action="pull", name=repository)
    lost = select(attestations.c.digest, case(dict(_GONE_OF), value=attestations.c.kind)).where(
        attestations.c.repository_id == held.id, attestations.c.signed_at.is_not(None), ~_stands_whole()
    )
    found = union(
        unattested_parts()
        .where(parts.c.repository_id == held.id)
        .with_only_columns(parts.c.digest.label("digest"), literal(0).label("number")),
        unattested_trials()
        .where(trials.c.repository_id == held.id)
        .with_only_columns(trials.c.digest, literal(0)),
        lost,
        _is_not_summarised(held.id),
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
    if not digest or number not in map(str, range(len(_DIFFERENCES))):
        raise RequestInvalidError(f"{cursor[:80]!r} is no cursor of this list")
    return digest, int(number)


def _attested(row: Any) -> Attested:
    found = json.loads(row.found)
    return Attested(
        id=row.id,
        digest=row.digest,
        predicate=PREDICATES[row.kind],
        spec_digest=row.spec_digest or None,
        verdict=found.get("verdict") or found.get("state"),
        made_at=row.made_at,
        signed_at=row.signed_at,
        kid=row.kid,
        referrer=row.referrer,
        left_out=row.left_out,
    )


def _is_not_summarised(repository_id: int) -> Select[Any]:
    """Images of which the summary is not what the gate makes of them, is missing, or stands though nothing is
    known. While an image is tried again the last one stands."""
    summary = attestations.alias("summary")
    expected = case(
        (manifests.c.blocked_reason.is_not(None), "blocked"),
        (manifests.c.state.in_(JUDGED), manifests.c.state),
        else_=None,
    )
    # The last member, as they are sorted: no reason looks like it.
    says_so = summary.c.found.endswith(literal('"state":"') + expected + '"}')
    differs = case(
        (expected.is_not(None), or_(summary.c.id.is_(None), ~says_so)),
        else_=and_(manifests.c.state != "pending", summary.c.id.is_not(None)),
    )
    same = and_(
        summary.c.repository_id == manifests.c.repository_id,
        summary.c.digest == manifests.c.digest,
        summary.c.kind == "summary",
    )
    return (
        select(manifests.c.digest, literal(3))
        .outerjoin(summary, same)
        .where(manifests.c.repository_id == repository_id, differs)
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
