"""What refers to an image, and what refers to that: signatures, attestations, SBOMs; and who signed each, as
far as the registry knows.

Nothing is verified here. What a referrer is was found when it was pushed, or when a rule was made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, select

from registry.content import manifests as manifest_use
from registry.content.administration import find
from registry.db.access import namespaces
from registry.db.content import attestations, manifests
from registry.db.signatures import signature_matches, signature_rules, signatures
from registry.oci.digest import parse_content_digest

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.content.repositories import Repository
    from registry.db.engine import Database

BELOW_MAX = 200
"""Of what refers to the referrers of a page; the page of each has the rest."""
ANNOTATIONS_MAX = 16 * 1024
"""Characters of those of one referrer, as JSON; what has more is told without them."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed, as it was verified: the registry (``kid``), holders of the ``rules``' keys or whom these
    name, or whom a trusted certificate names (``issuer``, ``subject``). All are empty where a bare key
    signed that no rule here has: then nothing is verified."""

    kid: str | None = None
    rules: tuple[str, ...] = ()
    issuer: str | None = None
    subject: str | None = None

    @property
    def is_verified(self) -> bool:
        """Whether it is known who signed."""
        return bool(self.kid or self.rules or self.issuer)


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that names another as its subject. ``signer``: of signatures that the registry has read;
    ``None`` for all else, of which nobody here says who made it. ``referrers`` is what refers to it, one
    level down."""

    digest: str
    media_type: str
    artifact_type: str | None
    size: int
    annotations: Mapping[str, str]
    pushed_at: datetime
    is_verified: bool
    signer: Signer | None
    referrers: Sequence[Referrer] = ()


@dataclass(frozen=True, slots=True)
class Referrers:
    """So many of what refers to an image, oldest first; ``next_after`` where there are more. ``is_cut``: not
    all of the second level is there."""

    items: Sequence[Referrer]
    next_after: int | None
    is_cut: bool


async def list_referrers(
    database: Database, *, actor: Actor, name: str, digest: str, limit: int, after: int
) -> Referrers:
    """What refers to an image of a repository, which has to be there.

    Raises:
        UnauthorizedError, DeniedError, NameUnknownError: as :func:`find`, for who pulls.
        ManifestUnknownError: there is no such image.
    """
    repository = await find(database, actor=actor, action="pull", name=name)
    await manifest_use.get(database, repository, parse_content_digest(digest))
    return await read_referrers(database, repository, digest, limit=limit, after=after)


async def read_referrers(
    database: Database, repository: Repository, digest: str, *, limit: int, after: int
) -> Referrers:
    """As :func:`list_referrers`, of an image that was found for an actor who may pull it."""
    of = _REFERRERS.where(manifests.c.repository_id == repository.id)
    async with database.read() as connection:
        first = of.where(manifests.c.subject_digest == digest, manifests.c.id > after).limit(limit + 1)
        top = (await connection.execute(first)).all()
        shown = top[:limit]
        below: Sequence[Any] = ()
        if shown:
            held = [row.digest for row in shown]
            second = of.where(manifests.c.subject_digest.in_(held)).limit(BELOW_MAX + 1)
            below = (await connection.execute(second)).all()
        met = await _rules_met(connection, [row.id for row in (*shown, *below[:BELOW_MAX])])
    children: dict[str, list[Referrer]] = {}
    for row in below[:BELOW_MAX]:
        children.setdefault(row.subject_digest, []).append(_referrer(row, met, ()))
    return Referrers(
        [_referrer(row, met, children.get(row.digest, ())) for row in shown],
        shown[-1].id if len(top) > limit else None,
        len(below) > BELOW_MAX,
    )


async def _rules_met(connection: AsyncConnection, manifest_ids: Sequence[int]) -> Mapping[int, list[str]]:
    """The names of the rules that signatures meet, by their manifests."""
    query: Select[Any] = (
        select(signature_matches.c.manifest_id, signature_rules.c.name, namespaces.c.name.label("namespace"))
        .join(signature_rules, signature_rules.c.id == signature_matches.c.rule_id)
        .outerjoin(namespaces, namespaces.c.id == signature_rules.c.namespace_id)
        .where(signature_matches.c.manifest_id.in_(manifest_ids))
        .order_by(signature_rules.c.id)
    )
    found: dict[int, list[str]] = {}
    for row in await connection.execute(query) if manifest_ids else ():
        place = "" if row.namespace is None else f" ({row.namespace}/)"
        found.setdefault(row.manifest_id, []).append(f"{row.name}{place}")
    return found


def _referrer(row: Any, met: Mapping[int, list[str]], below: Sequence[Referrer]) -> Referrer:
    signer = None
    if row.kid is not None:
        signer = Signer(kid=row.kid)
    elif row.signature_id is not None:
        signer = Signer(rules=tuple(met.get(row.id, ())), issuer=row.issuer, subject=row.subject)
    return Referrer(
        digest=row.digest,
        media_type=row.media_type,
        artifact_type=row.artifact_type,
        size=row.size,
        annotations=json.loads(row.annotations),
        pushed_at=row.pushed_at,
        is_verified=signer is not None and signer.is_verified,
        signer=signer,
        referrers=below,
    )


_REFERRERS: Select[Any] = (
    select(
        manifests.c.id,
        manifests.c.digest,
        manifests.c.media_type,
        manifests.c.artifact_type,
        manifests.c.size,
        manifests.c.subject_digest,
        manifests.c.pushed_at,
        case(
            (func.length(manifests.c.annotations) <= ANNOTATIONS_MAX, manifests.c.annotations), else_="{}"
        ).label("annotations"),
        signatures.c.manifest_id.label("signature_id"),
        signatures.c.issuer,
        signatures.c.subject,
        attestations.c.kid,
    )
    .outerjoin(signatures, signatures.c.manifest_id == manifests.c.id)
    .outerjoin(attestations, attestations.c.id == manifests.c.attestation_id)
    .order_by(manifests.c.id)
)
