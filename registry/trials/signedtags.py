"""Which tags of a repository have the signatures that are required of them, and by which rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.db.content import manifests, repositories, tags
from registry.db.dialect import batches
from registry.db.signatures import signature_matches, signature_rules
from registry.trials.signatures import is_unsigned

if TYPE_CHECKING:
    from registry.content.repositories import Repository
    from registry.db.engine import Database


@dataclass(frozen=True, slots=True)
class SignedTag:
    """A tag, and whether its image has all signatures that are required of it, also on namespaces above.
    ``rules`` names the rules that a signature of the image itself meets."""

    tag: str
    digest: str
    signed: bool
    rules: Sequence[str]


async def list_signed_tags(
    database: Database, repository: Repository, *, limit: int, after: str | None
) -> Sequence[SignedTag]:
    """At most ``limit`` tags of a repository that the caller may pull from, by name, those after ``after``.
    Where nothing is required all are signed enough."""
    query = (
        select(tags.c.name, manifests.c.digest, is_unsigned().label("is_unsigned"))
        .join(manifests, manifests.c.id == tags.c.manifest_id)
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .where(tags.c.repository_id == repository.id, tags.c.name > (after or ""))
        .order_by(tags.c.name)
        .limit(limit)
    )
    met: dict[str, list[str]] = {}
    async with database.read() as connection:
        rows = (await connection.execute(query)).all()
        for batch in batches(sorted({row.digest for row in rows})):
            which = (
                select(signature_matches.c.subject_digest, signature_rules.c.name)
                .join(signature_rules, signature_rules.c.id == signature_matches.c.rule_id)
                .where(
                    signature_matches.c.repository_id == repository.id,
                    signature_matches.c.subject_digest.in_(batch),
                )
                .distinct()
                .order_by(signature_rules.c.name)
            )
            for row in await connection.execute(which):
                met.setdefault(row.subject_digest, []).append(row.name)
    return [SignedTag(row.name, row.digest, not row.is_unsigned, met.get(row.digest, [])) for row in rows]
