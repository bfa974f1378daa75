"""An image with all that belongs to it: what it lists, what refers to it; and into another repository.

Nothing is read from the store: rows are copied by a bounded number of statements for each five hundred of
them, and blobs are linked. What the registry itself attests belongs to a repository and does not go along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, case, exists, func, literal, select
from sqlalchemy import insert as sql_insert

from registry.db.content import blob_links, blobs, edges, manifests
from registry.db.dialect import batches, insert, portions
from registry.db.types import Id, UtcTime, db_time
from registry.errors import ConflictError
from registry.oci.mediatypes import INDEXES, MANIFESTS, is_foreign_layer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor

MEMBERS_MAX = 20_000
"""How many manifests belong to one image at most."""
DEPTH_MAX = 8
"""How many times an index lists an index, and a referrer has a referrer."""
_ALONG = ("pass", "warn", "not-applicable")
"""What a referrer must be to go along with its image: what can be run is judged by itself."""


@dataclass(frozen=True, slots=True)
class Member:
    """A manifest that belongs to an image. ``refers``: it, or the index that lists it, is a referrer."""

    id: int
    digest: str
    artifact_type: str | None
    runnable: bool
    is_index: bool
    blocked_reason: str | None
    refers: bool


@dataclass(frozen=True, slots=True)
class Copied:
    """What came into a repository: manifests by digest, and how many blobs that were not there, with their
    bytes and those of the manifests."""

    created: Mapping[str, int]
    blobs: int
    bytes: int


async def gather(connection: AsyncConnection, repository_id: int, digest: str) -> Sequence[Member]:
    """The manifest, first, and all that belongs to it and can be read; empty: there is no such manifest, or
    it is what the registry attests of another. Of referrers that can be run only those that were found good.

    Raises:
        ConflictError: it is more than :data:`MEMBERS_MAX`, or deeper than :data:`DEPTH_MAX`.
    """
    found: dict[str, Member] = {}
    fresh = await _descend(connection, repository_id, [digest], found, refers=False)
    for _ in range(DEPTH_MAX):
        referrers = await _referrers(connection, repository_id, fresh)
        fresh = await _descend(connection, repository_id, referrers, found, refers=True)
        if not fresh:
            return tuple(found.values())
    raise _too_deep(digest)


async def copy(
    connection: AsyncConnection, members: Sequence[Member], *, source_id: int, into_id: int, actor: Actor
) -> Copied:
    """Make what was gathered in one repository visible in another, each image as one that was never tried.
    The caller holds the locks of both."""
    created: dict[str, int] = {}
    linked: list[int] = []
    # In the order in which they came: so lists of referrers have them.
    for ids in portions(sorted(member.id for member in members)):
        made = await connection.execute(_manifests(connection, ids, into_id=into_id, actor=actor))
        new = {row.digest: row.id for row in made}
        created |= new
        if new:
            await connection.execute(_edges(list(new.values()), source_id=source_id))
        links = await connection.execute(_links(connection, ids, source_id=source_id, into_id=into_id))
        linked += [row.blob_id for row in links]
    added = 0
    for table, new_ids in ((manifests, list(created.values())), (blobs, linked)):
        for portion in portions(new_ids):
            added += await _bytes_of(connection, table, portion)
    return Copied(created, len(linked), added)


async def missing_of(connection: AsyncConnection, repository_id: int, ids: Iterable[int]) -> Sequence[str]:
    """Blobs that these manifests are made of and the repository does not have, some of them. Images that an
    index lists are none."""
    here = exists().where(
        blob_links.c.repository_id == repository_id,
        blob_links.c.blob_id == blobs.c.id,
        blobs.c.digest == edges.c.digest,
    )
    listed = (edges.c.kind == "child") & edges.c.media_type.in_(sorted(MANIFESTS | INDEXES))
    lost: set[str] = set()
    for portion in portions(list(ids)):
        query = select(edges.c.digest, edges.c.media_type).distinct()
        query = query.where(edges.c.manifest_id.in_(portion), ~listed, ~here)
        rows = await connection.execute(query)
        lost |= {row.digest for row in rows if not is_foreign_layer(row.media_type)}
    for batch in batches(sorted(lost)):
        held = select(manifests.c.digest).where(
            manifests.c.repository_id == repository_id, manifests.c.digest.in_(batch)
        )
        lost -= set((await connection.execute(held)).scalars())
    return sorted(lost)


async def _descend(
    connection: AsyncConnection,
    repository_id: int,
    digests: Iterable[str],
    found: dict[str, Member],
    *,
    refers: bool,
) -> Sequence[str]:
    """Add these manifests, and all that they list, to ``found``; returns those that are new in it."""
    fresh: list[str] = []
    level = [digest for digest in digests if digest not in found]
    for _ in range(DEPTH_MAX):
        rows = await _rows(connection, repository_id, level)
        for row in rows:
            index = row.media_type in INDEXES
            found[row.digest] = Member(
                row.id, row.digest, row.artifact_type, row.runnable, index, row.blocked_reason, refers
            )
            fresh.append(row.digest)
        if len(found) > MEMBERS_MAX:
            raise ConflictError(f"more than {MEMBERS_MAX} manifests belong to {next(iter(found))}")
        listed = await _listed(connection, [row.id for row in rows if row.media_type in INDEXES])
        level = [digest for digest in listed if digest not in found]
        if not level:
            return fresh
    raise _too_deep(next(iter(found)))


async def _rows(connection: AsyncConnection, repository_id: int, digests: Sequence[str]) -> list[Any]:
    query = select(
        manifests.c.id,
        manifests.c.digest,
        manifests.c.media_type,
        manifests.c.artifact_type,
        manifests.c.runnable,
        manifests.c.blocked_reason,
    ).where(manifests.c.repository_id == repository_id, manifests.c.attestation_id.is_(None))
    rows: list[Any] = []
    for batch in batches(digests):
        rows += await connection.execute(query.where(manifests.c.digest.in_(batch)))
    return rows


async def _listed(connection: AsyncConnection, ids: Sequence[int]) -> Sequence[str]:
    digests: list[str] = []
    for portion in portions(ids):
        query = select(edges.c.digest).distinct()
        query = query.where(edges.c.manifest_id.in_(portion), edges.c.kind == "child")
        digests += (await connection.execute(query.limit(MEMBERS_MAX + 1))).scalars()
    return sorted(set(digests))


async def _referrers(
    connection: AsyncConnection, repository_id: int, subjects: Collection[str]
) -> Sequence[str]:
    digests: list[str] = []
    for batch in batches(subjects):
        query = select(manifests.c.digest).where(
            manifests.c.repository_id == repository_id,
            manifests.c.subject_digest.in_(batch),
            manifests.c.attestation_id.is_(None),
            manifests.c.blocked_reason.is_(None),
            manifests.c.state.in_(_ALONG),
        )
        digests += (await connection.execute(query.order_by(manifests.c.id).limit(MEMBERS_MAX + 1))).scalars()
    return digests


def _manifests(connection: AsyncConnection, ids: Sequence[int], *, into_id: int, actor: Actor) -> Any:
    is_tried = manifests.c.runnable | manifests.c.media_type.in_(sorted(INDEXES))
    values = {
        "repository_id": literal(into_id, Id),
        **{name: manifests.c[name] for name in _SAME},
        "state": case((is_tried, "untried"), else_="not-applicable"),
        "state_reason": literal("", Text),
        "state_at": db_time(),
        "pushed_by": literal(actor.shown, Text),
        "workload": literal(actor.workload_text, Text),
        "pushed_at": db_time(),
    }
    taken = select(*values.values()).where(manifests.c.id.in_(ids)).order_by(manifests.c.id)
    made = insert(connection, manifests).from_select(list(values), taken, include_defaults=False)
    return made.on_conflict_do_nothing().returning(manifests.c.id, manifests.c.digest)


def _edges(new_ids: Sequence[int], *, source_id: int) -> Any:
    old, new = manifests.alias("old"), manifests.alias("new")
    names = ("position", "kind", "digest", "media_type", "size")
    taken = (
        select(new.c.id, *(edges.c[name] for name in names))
        .join(old, old.c.id == edges.c.manifest_id)
        .join(new, new.c.digest == old.c.digest)
        .where(old.c.repository_id == source_id, new.c.id.in_(new_ids))
    )
    return sql_insert(edges).from_select(["manifest_id", *names], taken)


def _links(connection: AsyncConnection, ids: Sequence[int], *, source_id: int, into_id: int) -> Any:
    made_of = select(edges.c.digest).where(edges.c.manifest_id.in_(ids)).distinct().subquery()
    taken = (
        select(literal(into_id, Id), blob_links.c.blob_id, db_time(), literal(None, UtcTime))
        .join(blobs, blobs.c.id == blob_links.c.blob_id)
        .join(made_of, made_of.c.digest == blobs.c.digest)
        .where(blob_links.c.repository_id == source_id)
    )
    made = insert(connection, blob_links).from_select(
        ["repository_id", "blob_id", "created_at", "review_at"], taken, include_defaults=False
    )
    return made.on_conflict_do_nothing().returning(blob_links.c.blob_id)


async def _bytes_of(connection: AsyncConnection, table: Any, ids: Sequence[int]) -> int:
    query = select(func.coalesce(func.sum(table.c.size), 0)).where(table.c.id.in_(ids))
    return int((await connection.execute(query)).scalar_one())


def _too_deep(digest: str) -> ConflictError:
    return ConflictError(f"what belongs to {digest} lists or refers to one another too deeply")


_SAME = (
    *("digest", "media_type", "size", "artifact_type", "annotations", "subject_digest"),
    *("runnable", "platform", "source", "revision", "labels"),
)
"""What a row says of the content, wherever it is."""
