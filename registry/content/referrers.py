"""Referrers: manifests of a repository that name another as their subject (distribution-spec, "Listing
Referrers")."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.db.content import manifests

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.content.repositories import Repository
    from registry.db.engine import Database
    from registry.oci.digest import Digest

ROWS_MAX = 1000
PAGE_BYTES = 4 * 1024 * 1024 - 4096
"""Descriptors that a page may hold: clients read no more than 4 MiB of a manifest, and this is one."""
_READ_AT_ONCE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ReferrersPage:
    """Descriptors of referrers as JSON, oldest first, and where the next page starts if there is one."""

    descriptors: tuple[str, ...]
    next_after: int | None


async def list_page(
    database: Database,
    repository: Repository | None,
    subject: Digest,
    *,
    artifact_types: Sequence[str] = (),
    after: int = 0,
    limit: int = ROWS_MAX,
) -> ReferrersPage:
    """Referrers of ``subject``, which need not exist; of one of these artifact types, if some are given."""
    if repository is None or limit == 0:
        return ReferrersPage((), None)
    descriptors: list[str] = []
    room, last = PAGE_BYTES, after
    async with database.read() as connection:
        heads = await _heads(connection, repository.id, subject, artifact_types, after=after, limit=limit + 1)
        for ids in _portions(heads[:limit]):
            for row in await connection.execute(_ROWS.where(manifests.c.id.in_(ids))):
                descriptor = _descriptor(row)
                room -= len(descriptor.encode()) + 1
                if room < 0 and descriptors:
                    return ReferrersPage(tuple(descriptors), last)
                descriptors.append(descriptor)
                last = row.id
    return ReferrersPage(tuple(descriptors), last if len(heads) > limit else None)


async def _heads(
    connection: AsyncConnection,
    repository_id: int,
    subject: Digest,
    artifact_types: Sequence[str],
    *,
    after: int,
    limit: int,
) -> list[tuple[int, int]]:
    """Row and size of the manifests, in order: each artifact type is a range of the index by itself."""
    query = (
        select(manifests.c.id, manifests.c.size)
        .where(
            manifests.c.repository_id == repository_id,
            manifests.c.subject_digest == str(subject),
            manifests.c.id > after,
        )
        .order_by(manifests.c.id)
        .limit(limit)
    )
    if not artifact_types:
        return [(row.id, row.size) for row in await connection.execute(query)]
    found: list[tuple[int, int]] = []
    for artifact_type in dict.fromkeys(artifact_types):
        rows = await connection.execute(query.where(manifests.c.artifact_type == artifact_type))
        found += [(row.id, row.size) for row in rows]
    return sorted(found)[:limit]


def _portions(heads: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """So many at a time that their annotations, which are part of the manifests, fit into memory."""
    portion: list[int] = []
    size = 0
    for row_id, manifest_size in heads:
        if portion and size + manifest_size > _READ_AT_ONCE_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(row_id)
        size += manifest_size
    if portion:
        yield portion


def _descriptor(row: Row[Any, Any, Any, Any, Any, Any]) -> str:
    members = {"mediaType": row.media_type, "digest": row.digest, "size": row.size}
    if row.artifact_type is not None:
        members["artifactType"] = row.artifact_type
    text = json.dumps(members, ensure_ascii=False, separators=(",", ":"))
    annotations = row.annotations
    if "\\u" in annotations:
        # As it is stored a letter may take six bytes, and the page would be larger than its manifests.
        annotations = json.dumps(json.loads(annotations), ensure_ascii=False, separators=(",", ":"))
    return text if annotations == "{}" else f'{text[:-1]},"annotations":{annotations}}}'


_ROWS = select(
    manifests.c.id,
    manifests.c.media_type,
    manifests.c.digest,
    manifests.c.size,
    manifests.c.artifact_type,
    manifests.c.annotations,
).order_by(manifests.c.id)
