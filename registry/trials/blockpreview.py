"""What a block would refuse, before it is made: nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select, union_all

from registry.auth.access import require_admin
from registry.auth.places import parse_place
from registry.auth.policy import may_audit
from registry.content.administration import require_place
from registry.content.blocks import concerned
from registry.db.content import manifests, repositories, tags
from registry.db.dialect import portions
from registry.db.scans import components, image_scans, scan_components
from registry.trials.blocking import EVERYWHERE

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.auth.policy import Action
    from registry.db.engine import Database
    from registry.trials.blocking import Target
    from registry.trials.packageblocks import PackageRange

TAGS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Hit:
    """An image that a block would refuse, with the first tags that name it; ``blocked``: one refuses it
    already. ``packages`` are those that its scan found and the block names, as ``NAME VERSION``."""

    repository: str
    digest: str
    tags: Sequence[str]
    blocked: bool
    packages: Sequence[str]
    cursor: str


async def preview(
    database: Database, *, actor: Actor, on: str, target: Target, limit: int, after: int
) -> Sequence[Hit]:
    """At most ``limit`` images that a block would refuse in a repository, a namespace (with a slash at its
    end) or everywhere (``*``), those with a number above ``after``; for who may make it, and auditors.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer there; of everywhere, no administrator.
        NameInvalidError: outside the grammar.
        NameUnknownError, NotFoundError: there is no such repository or namespace.
    """
    if on == EVERYWHERE:
        if not may_audit(actor):
            require_admin(actor)
        place = None
    else:
        place = parse_place(on)
        action: Action = "pull" if may_audit(actor) else "configure"
        await require_place(database, actor=actor, action=action, on=on)
    here = [*concerned(place, target.kind, target.digest), manifests.c.id > after]
    async with database.read() as connection:
        if target.package is None:
            rows = (await connection.execute(_images().where(*here).limit(limit))).all()
            held: dict[int, list[str]] = {}
        else:
            named = await _components(connection, target.package)
            rows, held = await _holders(connection, named, here, limit)
        named_by = await _tags(connection, [row.id for row in rows])
        return [
            Hit(
                row.name,
                row.digest,
                named_by.get(row.id, []),
                row.blocked_reason is not None,
                held.get(row.id, []),
                str(row.id),
            )
            for row in rows
        ]


async def _components(connection: AsyncConnection, package: PackageRange) -> dict[int, str]:
    """The components that a package in some versions is, each as people read it."""
    alike = [components.c.name == package.name, components.c.source == package.name]
    if package.ecosystem == "PyPI":
        # Of Python a package has several spellings.
        alike.append(components.c.ecosystem == "PyPI")
    columns = ("id", "ecosystem", "name", "version", "source", "source_version")
    query = select(*(components.c[name] for name in columns)).where(or_(*alike))
    return {
        row.id: f"{row.name} {row.version}"
        for row in await connection.execute(query)
        if package.names(
            row.ecosystem, row.name, row.version, source=row.source, source_version=row.source_version
        )
    }


async def _holders(
    connection: AsyncConnection, named: dict[int, str], here: Sequence[ColumnElement[bool]], limit: int
) -> tuple[Sequence[Any], dict[int, list[str]]]:
    """The first images whose newest scans found any of these components, and which of them."""
    found: dict[int, Any] = {}
    held: dict[int, list[str]] = {}
    for batch in portions(sorted(named)):
        holding = (
            select(image_scans.c.manifest_id)
            .join(scan_components, scan_components.c.scan_id == image_scans.c.scan_id)
            .where(scan_components.c.component_id.in_(batch))
        )
        query = _images().where(*here, manifests.c.id.in_(holding)).limit(limit)
        found |= {row.id: row for row in await connection.execute(query)}
    shown = [found[number] for number in sorted(found)[:limit]]
    for batch in portions([row.id for row in shown]):
        which = (
            select(image_scans.c.manifest_id, scan_components.c.component_id)
            .join(scan_components, scan_components.c.scan_id == image_scans.c.scan_id)
            .where(image_scans.c.manifest_id.in_(batch))
        )
        for row in await connection.execute(which):
            if row.component_id in named:
                held.setdefault(row.manifest_id, []).append(named[row.component_id])
    return shown, {number: sorted(set(several)) for number, several in held.items()}


async def _tags(connection: AsyncConnection, manifest_ids: Sequence[int]) -> dict[int, list[str]]:
    """The first tags of each image; a statement for each 100."""
    found: dict[int, list[str]] = {}
    for some in portions(manifest_ids, 100):
        of_each = []
        for number in some:
            its = select(tags.c.manifest_id, tags.c.name).where(tags.c.manifest_id == number)
            of_each.append(select(its.order_by(tags.c.name).limit(TAGS_SHOWN).subquery()))
        for row in await connection.execute(union_all(*of_each)):
            found.setdefault(row.manifest_id, []).append(row.name)
    return {number: sorted(names) for number, names in found.items()}


def _images() -> Select[Any]:
    columns = (manifests.c.id, repositories.c.name, manifests.c.digest, manifests.c.blocked_reason)
    joined = select(*columns).join(repositories, repositories.c.id == manifests.c.repository_id)
    return joined.order_by(manifests.c.id)
