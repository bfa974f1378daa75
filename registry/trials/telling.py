"""What is told of an image whose matches changed: all that changed in it since it was told last, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, literal, select

from registry.auth.actor import REGISTRY
from registry.contract.scan import WORST_FIRST
from registry.db.content import manifests, repositories
from registry.db.dialect import in_turn
from registry.db.matchings import changed_images, finding_changes
from registry.db.outbox import record_all
from registry.db.scans import components, image_scans, scan_components
from registry.db.sweeping import sweep
from registry.db.types import Id
from registry.trials.attesting import attest_matches_again
from registry.trials.rejudging import ask_again

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.engine import Database

IMAGES_AT_ONCE = 100
"""How many images are told in one transaction."""
NAMED = 10
"""How many matches of each sort an event names; it counts them all."""
_SORTS = ("new", "gone", "changed")


@dataclass(frozen=True, slots=True)
class Told:
    """How many images were looked at, and of how many of them there is an event."""

    images: int
    events: int


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one match of one package of an image."""

    sort: str
    severity: str
    fixed_version: str | None


@dataclass(frozen=True, slots=True)
class Named:
    """A match of a package, as advisories name that."""

    id: str
    package: str
    version: str


async def tell_some(connection: AsyncConnection) -> Told:
    """Tell the next images, and ask for them to be judged again."""
    # Nothing is written down meanwhile that would be forgotten with the image's row.
    await in_turn(connection, "matching")
    query = (
        select(changed_images.c.manifest_id, manifests.c.digest, repositories.c.name)
        .join(manifests, manifests.c.id == changed_images.c.manifest_id)
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .order_by(changed_images.c.manifest_id)
        .limit(IMAGES_AT_ONCE)
        # Who deletes one of them takes it first, and what goes with it in another order.
        .with_for_update(read=True, key_share=True, of=manifests)
    )
    images = (await connection.execute(query)).all()
    if not images:
        return Told(0, 0)
    ids = [image.manifest_id for image in images]
    changes = await _changes(connection, ids)
    told: dict[str, list[dict[str, object]]] = {}
    told_of: list[int] = []
    for image in images:
        said = says(changes.get(image.manifest_id, {}))
        if said is not None:
            told.setdefault(image.name, []).append({"digest": image.digest, **said})
            told_of.append(image.manifest_id)
    for repository, events in told.items():
        await record_all(connection, "image.findings_changed", repository, REGISTRY, events)
    await attest_matches_again(connection, told_of)
    await ask_again(connection, manifests.c.id.in_([one for one in ids if changes.get(one)]))
    await connection.execute(delete(changed_images).where(changed_images.c.manifest_id.in_(ids)))
    return Told(len(images), sum(len(events) for events in told.values()))


async def forget_told(database: Database) -> int:
    """Remove what all images were told of; how many changes."""
    first = select(func.coalesce(func.min(changed_images.c.first_change), literal(1 << 62, Id)))
    over = finding_changes.c.id < first.scalar_subquery()
    async with database.read_once() as connection:
        if (await connection.execute(select(finding_changes.c.id).where(over).limit(1))).first() is None:
            return 0
    return await sweep(database, finding_changes.c.id, over)


async def _changes(
    connection: AsyncConnection, manifest_ids: Sequence[int]
) -> Mapping[int, Mapping[Named, Change]]:
    query = (
        select(
            image_scans.c.manifest_id,
            finding_changes.c.component_id,
            finding_changes.c.advisory,
            components.c.source,
            components.c.source_version,
            *(finding_changes.c[name] for name in ("change", "severity", "fixed_version")),
        )
        .select_from(changed_images)
        .join(image_scans, image_scans.c.manifest_id == changed_images.c.manifest_id)
        .join(scan_components, scan_components.c.scan_id == image_scans.c.scan_id)
        .join(finding_changes, finding_changes.c.component_id == scan_components.c.component_id)
        .join(components, components.c.id == finding_changes.c.component_id)
        .where(
            changed_images.c.manifest_id.in_(manifest_ids),
            scan_components.c.owned.is_(False),
            finding_changes.c.id >= changed_images.c.first_change,
        )
        .order_by(finding_changes.c.component_id, finding_changes.c.id)
    )
    found: dict[int, dict[tuple[int, Named], Change]] = {}
    for row in await connection.execute(query):
        of_image = found.setdefault(row.manifest_id, {})
        key = (row.component_id, Named(row.advisory, row.source, row.source_version))
        before = of_image.pop(key, None)
        sort = row.change if before is None else folded(before.sort, row.change)
        if sort is not None:
            of_image[key] = Change(sort, row.severity, row.fixed_version)
    # Of two packages of one source all is the same.
    return {
        image: {named: change for (_, named), change in of_image.items()} for image, of_image in found.items()
    }


def folded(before: str, after: str) -> str | None:
    """What two changes of one match come to, one after the other; ``None``: to nothing."""
    match before, after:
        case "new", "gone":
            return None
        case "new", _:
            return "new"
        case "gone", "new":
            return "changed"
        case "changed", "minor":
            return "changed"
    return after


def says(changes: Mapping[Named, Change]) -> dict[str, Any] | None:
    """What an event says of them, the worst first; ``None`` where nothing in them is to be told."""
    said: dict[str, Any] = {}
    for sort in _SORTS:
        of_sort = [(named, change) for named, change in changes.items() if change.sort == sort]
        of_sort.sort(key=lambda one: (_rank(one[1].severity), one[0].id, one[0].package, one[0].version))
        said[f"{sort}_count"] = len(of_sort)
        said[sort] = [
            {
                "id": named.id,
                "package": named.package,
                "version": named.version,
                "severity": change.severity,
                "fixed_version": change.fixed_version,
            }
            for named, change in of_sort[:NAMED]
        ]
    return said if any(said[sort] for sort in _SORTS) else None


def _rank(severity: str) -> int:
    return [str(one) for one in WORST_FIRST].index(severity)
