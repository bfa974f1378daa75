"""Referrers: manifests of a repository that name another as their subject (distribution-spec, "Listing
Referrers")."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.db.content import manifests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.content.repositories import Repository
    from registry.db.engine import Database
    from registry.oci.digest import Digest

_ROWS = 1000
PAGE_BYTES = 4 * 1024 * 1024 - 4096
"""Descriptors that a page may hold: clients read no more than 4 MiB of a manifest, and this is one."""


@dataclass(frozen=True, slots=True)
class ReferrersPage:
    """Descriptors of referrers, oldest first, and where the next page starts if there is one."""

    descriptors: tuple[dict[str, object], ...]
    next_after: int | None


async def list_page(
    database: Database,
    repository: Repository | None,
    subject: Digest,
    *,
    artifact_types: Sequence[str] = (),
    after: int = 0,
) -> ReferrersPage:
    """Referrers of ``subject``, which need not exist; of these artifact types, where any are given."""
    if repository is None:
        return ReferrersPage((), None)
    query = select(
        manifests.c.id,
        manifests.c.media_type,
        manifests.c.digest,
        manifests.c.size,
        manifests.c.artifact_type,
        manifests.c.annotations,
    ).where(
        manifests.c.repository_id == repository.id,
        manifests.c.subject_digest == str(subject),
        manifests.c.id > after,
    )
    if artifact_types:
        query = query.where(manifests.c.artifact_type.in_(artifact_types))
    async with database.read() as connection:
        rows = (await connection.execute(query.order_by(manifests.c.id).limit(_ROWS + 1))).all()
    descriptors: list[dict[str, object]] = []
    room, last = PAGE_BYTES, after
    for row in rows[:_ROWS]:
        annotations = json.loads(row.annotations)
        descriptor = {"mediaType": row.media_type, "digest": row.digest, "size": row.size}
        if row.artifact_type is not None:
            descriptor["artifactType"] = row.artifact_type
        if annotations:
            descriptor["annotations"] = annotations
        room -= len(json.dumps(descriptor)) + 1
        if room < 0 and descriptors:
            break
        descriptors.append(descriptor)
        last = row.id
    return ReferrersPage(tuple(descriptors), last if len(descriptors) < len(rows) else None)
