"""Blocks on the rows of images: what a person forbids everybody to read, above every verdict and every gate.

A block names an image, or a layer of whatever image, or a package that an image's newest scan found, in a
repository, a namespace or everywhere. An index that lists the layer itself, as build caches do, counts as an
image with it, whatever it says of its type.
The reason stands on the row of each image that it concerns, so that a read looks nowhere else. Whoever blocks
and whoever pushes at the same time meet at the row of the epochs: it is held before the last look, and so
either the push is seen or the block.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, or_, select, update

from registry.auth.actor import REGISTRY
from registry.auth.places import counts_in
from registry.content.nameranges import NameRange
from registry.db.access import namespaces
from registry.db.content import edges, manifests, repositories
from registry.db.dialect import batches
from registry.db.gate import block_components, blocks
from registry.db.outbox import record, record_all
from registry.db.scans import image_scans, scan_components

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy import Column, ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.places import Place
    from registry.content.effects import Effects

    Blocked = Callable[[AsyncConnection, int, Sequence[str]], Awaitable[None]]
    """Told of images of a repository that nobody may read now, as ``Effects.images_blocked``."""

_HELD = (
    select(block_components.c.block_id, scan_components.c.scan_id)
    .join(scan_components, scan_components.c.component_id == block_components.c.component_id)
    .subquery("held")
)
"""Which scans found what which blocks name."""


async def catch(
    connection: AsyncConnection,
    *,
    repository_id: int,
    name: str,
    manifest_id: int,
    digests: Sequence[str],
    effects: Effects,
) -> None:
    """Refuse an image that has just been stored, if a block names it or a layer of it.

    ``digests`` has its own first. The caller holds the repository's lock and holds the epochs.
    """
    everywhere = blocks.c.repository_id.is_(None) & blocks.c.namespace_id.is_(None)
    counts_here = counts_in(blocks, repository_id, name) | everywhere
    for number, batch in enumerate(batches(digests)):
        named = blocks.c.digest.in_(batch) & (blocks.c.kind == "layer")
        if number == 0:
            named |= (blocks.c.digest == digests[0]) & (blocks.c.kind == "image")
        query = select(blocks.c.id, blocks.c.reason).where(counts_here, named)
        found = (await connection.execute(query.order_by(blocks.c.id).limit(1))).first()
        if found is None:
            continue
        this = (manifests.c.id == manifest_id, manifests.c.blocked_reason.is_(None))
        caught = await connection.execute(update(manifests).where(*this).values(blocked_reason=found.reason))
        if caught.rowcount:
            data = {"digest": digests[0], "reason": found.reason, "block": found.id}
            await record(connection, "image.blocked", name, REGISTRY, data)
            await effects.images_blocked(connection, repository_id, digests[:1])
        return


async def catch_all(connection: AsyncConnection, within: ColumnElement[bool], blocked: Blocked) -> bool:
    """Refuse what lies ``within`` and a block names, now that it lies in another namespace, or more is known
    of it; whether there was any. The caller holds the repositories' locks, and the epochs or the scans."""
    first = matching().with_only_columns(blocks.c.id).order_by(blocks.c.id).limit(1).scalar_subquery()
    caught = await connection.execute(
        select(manifests.c.digest, repositories.c.id.label("repository_id"), repositories.c.name)
        .add_columns(blocks.c.id.label("block"), blocks.c.reason)
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .join(blocks, blocks.c.id == first)
        .where(within, manifests.c.blocked_reason.is_(None))
        .order_by(repositories.c.id, blocks.c.id, manifests.c.digest)
    )
    any_caught = False
    for (repository_id, name, block, reason), rows in groupby(caught, key=itemgetter(1, 2, 3, 4)):
        any_caught = True
        digests = [row.digest for row in rows]
        for batch in batches(digests):
            here = (manifests.c.repository_id == repository_id, manifests.c.digest.in_(batch))
            await connection.execute(update(manifests).where(*here).values(blocked_reason=reason))
        told = [{"digest": digest, "reason": reason, "block": block} for digest in digests]
        await record_all(connection, "image.blocked", name, REGISTRY, told)
        await blocked(connection, repository_id, digests)
    return any_caught


def concerned(
    place: Place | None, kind: str, digest: str, block_id: int | None = None
) -> list[ColumnElement[bool]]:
    """That an image's row is one that the block refuses; without a place it counts everywhere. Of a package
    only the block itself knows which; without its number all of the place may be."""
    made_of = select(edges.c.manifest_id).where(edges.c.digest == digest)
    found: list[ColumnElement[bool]] = []
    if kind == "image":
        found.append(manifests.c.digest == digest)
    elif kind == "layer":
        found.append(manifests.c.id.in_(made_of))
    elif block_id is not None:
        of_scans = select(image_scans.c.manifest_id).join(_HELD, _HELD.c.scan_id == image_scans.c.scan_id)
        found.append(manifests.c.id.in_(of_scans.where(_HELD.c.block_id == block_id)))
    if place is not None:
        name = repositories.c.name
        here = below(name, place.key) if place.is_namespace else name == place.name
        found.append(manifests.c.repository_id.in_(select(repositories.c.id).where(here)))
    return found


def matching() -> Select[Any]:
    """The blocks that refuse the image of a row of ``manifests`` of the statement around this one."""
    its_repository, its_namespace = repositories.alias(), namespaces.alias()
    inside = (
        select(its_namespace.c.id)
        .join(
            its_repository,
            func.substr(its_repository.c.name, 1, func.length(its_namespace.c.name) + 1)
            == its_namespace.c.name + "/",
        )
        .where(its_repository.c.id == manifests.c.repository_id)
        .correlate(manifests)
    )
    made_of = select(edges.c.digest).where(edges.c.manifest_id == manifests.c.id).correlate(manifests)
    of_scan = (
        select(_HELD.c.block_id)
        .join(image_scans, image_scans.c.scan_id == _HELD.c.scan_id)
        .where(image_scans.c.manifest_id == manifests.c.id)
        .correlate(manifests)
    )
    return (
        select(blocks)
        .where(
            or_(
                blocks.c.repository_id == manifests.c.repository_id,
                blocks.c.namespace_id.in_(inside),
                blocks.c.repository_id.is_(None) & blocks.c.namespace_id.is_(None),
            ),
            or_(
                (blocks.c.kind == "image") & (blocks.c.digest == manifests.c.digest),
                (blocks.c.kind == "layer") & blocks.c.digest.in_(made_of),
                (blocks.c.kind == "package") & blocks.c.id.in_(of_scan),
            ),
        )
        .correlate(manifests)
    )


def below(name: Column[str], namespace: str) -> ColumnElement[bool]:
    """That a name lies in a namespace, which has a slash at its end."""
    conditions = NameRange(namespace).conditions(name, "")
    assert conditions is not None
    return and_(*conditions)
