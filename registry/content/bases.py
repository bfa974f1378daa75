"""The base of an image, and what is built on it, by the chain IDs of their layers.

Nobody is told of an image that he may not pull. What an image says of its base by itself is a claim and stays
apart from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, exists, func, literal, select, true, union, union_all

from registry.auth.policy import decide
from registry.content.pullable import pullable_ids
from registry.db.content import chain_prefixes, edges, manifests, repositories, tag_history, tags

if TYPE_CHECKING:
    from sqlalchemy import CompoundSelect, Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.content.manifests import StoredManifest
    from registry.db.engine import Database

_CANDIDATES = 100
_OF_IMAGE = ("id", "digest", "platform", "chain_id", "base_name", "base_digest")
# Made once: their columns cost more than a query.
_BUILT, _LISTING, _NOW = (manifests.alias(name) for name in ("built", "listing", "now"))
_LISTED = edges.alias("listed")
_TAGS = 50
"""How many tags of a base are named."""


@dataclass(frozen=True, slots=True)
class MovedTag:
    """A tag that named a base and names something else now."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class Base:
    """An image that is the lowest ``layers`` layers of another. ``tags`` name it, or an index that lists it,
    and ``moved`` did."""

    repository: str
    digest: str
    layers: int
    tags: tuple[str, ...]
    moved: tuple[MovedTag, ...]


@dataclass(frozen=True, slots=True)
class BuiltOn:
    """What an image was built on. ``base``: the image here that is most of its layers, as far as the asker
    may pull it. ``claimed_name`` and ``claimed_digest`` are what it says itself. ``is_known`` is false while
    its layers were not looked at."""

    digest: str
    platform: str
    is_known: bool
    base: Base | None
    claimed_name: str | None
    claimed_digest: str | None


@dataclass(frozen=True, slots=True)
class Child:
    """An image that is built on another, directly or not, of which its lowest ``layers`` are."""

    repository: str
    digest: str
    platform: str
    layers: int
    manifest_id: int


async def list_bases(database: Database, actor: Actor, manifest: StoredManifest) -> Sequence[BuiltOn]:
    """What an image was built on; of an index what the images that it lists were, by platform."""
    # Not "it, or what it lists": for that all manifests of the repository would be read.
    of_it = _itself_and_listed(manifest)
    query = (
        select(*(manifests.c[name] for name in _OF_IMAGE))
        .where(
            manifests.c.repository_id == manifest.repository_id,
            manifests.c.platform.is_not(None),
            manifests.c.digest.in_(of_it),
        )
        .order_by(manifests.c.platform, manifests.c.digest)
    )
    async with database.read() as connection:
        return [
            BuiltOn(
                digest=row.digest,
                platform=row.platform,
                is_known=bool(row.chain_id),
                base=await _base(connection, actor, row.id, is_sqlite=database.is_sqlite),
                claimed_name=row.base_name,
                claimed_digest=row.base_digest,
            )
            for row in (await connection.execute(query)).all()
        ]


async def find_base(database: Database, actor: Actor, manifest: StoredManifest) -> Base | None:
    """The base of one image, as far as the actor may pull it; an index has none."""
    async with database.read() as connection:
        return await _base(connection, actor, manifest.id, is_sqlite=database.is_sqlite)


async def list_children(
    database: Database, actor: Actor, manifest: StoredManifest, *, limit: int, after: int | None
) -> Sequence[Child]:
    """Images that are built on an image, or on one that an index lists, the last pushed first: at most
    ``limit`` of those after the number of one."""
    lower = manifests.alias("lower")
    depth = func.max(chain_prefixes.c.depth)
    query = (
        select(
            repositories.c.name,
            manifests.c.digest,
            manifests.c.platform,
            depth.label("layers"),
            manifests.c.id,
            repositories.c.visibility,
        )
        .select_from(lower)
        .join(chain_prefixes, chain_prefixes.c.chain_id == lower.c.chain_id)
        .join(manifests, manifests.c.id == chain_prefixes.c.manifest_id)
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .where(
            lower.c.repository_id == manifest.repository_id,
            lower.c.chain_id != "",
            lower.c.digest.in_(_itself_and_listed(manifest)),
        )
        .group_by(manifests.c.id, repositories.c.id)
        .order_by(manifests.c.id.desc())
        .limit(limit)
    )
    query = _pullable(query, actor, is_sqlite=database.is_sqlite)
    found: list[Child] = []
    async with database.read() as connection:
        while len(found) < limit:
            page = query if after is None else query.where(manifests.c.id < after)
            rows = (await connection.execute(page)).all()
            # It is the policy that decides, and the query only finds.
            found += [
                Child(*row[:-1]) for row in rows if decide(actor, "pull", row.name, row.visibility).allowed
            ]
            if len(rows) < limit:
                break
            after = rows[-1].id
    return found[:limit]


def _itself_and_listed(manifest: StoredManifest) -> CompoundSelect[tuple[str]]:
    listed = select(edges.c.digest).where(edges.c.manifest_id == manifest.id, edges.c.kind == "child")
    return union_all(select(literal(str(manifest.digest))), listed)


async def _base(
    connection: AsyncConnection, actor: Actor, manifest_id: int, *, is_sqlite: bool
) -> Base | None:
    """The image with the most layers of those that are the lowest of this one; of several the one that it
    claims, else one that has a tag, else the first that was pushed."""
    claimed = select(_BUILT.c.base_digest).where(_BUILT.c.id == manifest_id).scalar_subquery()
    is_tagged = exists(select(tags.c.name).where(tags.c.manifest_id == manifests.c.id))
    is_listed = exists(
        select(_LISTED.c.digest).where(_LISTED.c.kind == "child", _LISTED.c.digest == manifests.c.digest)
    )
    found: Select[Any] = (
        select(
            manifests.c.id,
            manifests.c.repository_id,
            repositories.c.name,
            repositories.c.visibility,
            manifests.c.digest,
            chain_prefixes.c.depth,
        )
        .select_from(chain_prefixes)
        .join(manifests, manifests.c.chain_id == chain_prefixes.c.chain_id)
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .where(chain_prefixes.c.manifest_id == manifest_id)
        .order_by(
            chain_prefixes.c.depth.desc(),
            case((manifests.c.digest == claimed, 0), (is_tagged, 1), (is_listed, 2), else_=3),
            manifests.c.id,
        )
    )
    query = _pullable(found, actor, is_sqlite=is_sqlite)

    def may_pull(row: Row[Any]) -> bool:
        return decide(actor, "pull", row.name, row.visibility).allowed

    rows = (await connection.execute(_with_tags(query.limit(1)))).all()
    if not rows or may_pull(rows[0]):
        return _as_base(rows)
    for offset in count(0, _CANDIDATES):
        candidates = (await connection.execute(query.limit(_CANDIDATES).offset(offset))).all()
        if (first := next(filter(may_pull, candidates), None)) is not None:
            chosen = query.where(manifests.c.id == first.id).limit(1)
            return _as_base((await connection.execute(_with_tags(chosen))).all())
        if len(candidates) < _CANDIDATES:
            break
    return None


def _with_tags(base: Select[Any]) -> Select[Any]:
    """The row of a base, once for each tag that names it or an index that lists it, ``is_it``, or did and is
    elsewhere now; once without any."""
    its, listing, now = base.cte("base"), _LISTING, _NOW
    images = union_all(
        select(its.c.id, its.c.digest),
        select(listing.c.id, listing.c.digest)
        .select_from(its)
        .join(edges, and_(edges.c.digest == its.c.digest, edges.c.kind == "child"))
        .join(
            listing,
            and_(listing.c.id == edges.c.manifest_id, listing.c.repository_id == its.c.repository_id),
        ),
    ).cte("images")
    ids, digests = select(images.c.id), select(images.c.digest)
    named_once = select(tag_history.c.name).where(
        tag_history.c.repository_id == select(its.c.repository_id).scalar_subquery(),
        tag_history.c.new_digest.in_(digests),
    )
    told = union(
        select(tags.c.name, now.c.digest, literal(True).label("is_it"))
        .join(now, now.c.id == tags.c.manifest_id)
        .where(tags.c.manifest_id.in_(ids)),
        select(tags.c.name, now.c.digest, literal(False))
        .join(now, now.c.id == tags.c.manifest_id)
        .where(
            tags.c.repository_id == select(its.c.repository_id).scalar_subquery(),
            tags.c.name.in_(named_once),
            tags.c.manifest_id.not_in(ids),
        ),
    ).subquery("told")
    return (
        select(
            its.c.name,
            its.c.visibility,
            its.c.digest,
            its.c.depth,
            told.c.name.label("tag"),
            told.c.digest.label("stands_at"),
            told.c.is_it,
        )
        .select_from(its)
        .outerjoin(told, true())
        .order_by(told.c.name)
    )


def _as_base(rows: Sequence[Row[Any]]) -> Base | None:
    if not rows:
        return None
    named = tuple(row.tag for row in rows if row.is_it)
    moved = tuple(MovedTag(row.tag, row.stands_at) for row in rows if row.tag is not None and not row.is_it)
    return Base(rows[0].name, rows[0].digest, rows[0].depth, named[:_TAGS], moved[:_TAGS])


def _pullable(query: Select[Any], actor: Actor, *, is_sqlite: bool) -> Select[Any]:
    ids = pullable_ids(actor, is_sqlite=is_sqlite)
    return query if ids is None else query.where(repositories.c.id.in_(ids))
