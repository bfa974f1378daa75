"""Which images a worker's disk has room for, and what is said of those that no worker has room for."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Float, and_, cast, exists, func, or_, select, true

from registry.auth.bindings import Binding
from registry.contract.limits import UNPACKED_FACTOR
from registry.contract.sizes import shown_size
from registry.db.accounts import accounts, workers
from registry.db.content import edges, manifests, repositories
from registry.db.dialect import batches
from registry.db.trials import parts
from registry.db.types import db_time
from registry.trials.demands import met, parse_demand
from registry.trials.platforms import is_run
from registry.trials.present import ASKING

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

LARGER_WAIT_SECONDS = 60
"""So long a part that no worker can ever hold waits for a larger worker to come."""
KNOWN_SECONDS = 3600
"""So long a worker that is away counts as one that comes back."""
COUNTED_MAX = 1000
_NAMED_MAX = 3

# As floats: what a manifest says of its layers may add up to more than a database counts to.
NEEDED = (
    func.coalesce(
        select(func.sum(cast(edges.c.size, Float)))
        .join(manifests, manifests.c.id == edges.c.manifest_id)
        .where(
            manifests.c.repository_id == parts.c.repository_id,
            manifests.c.digest == parts.c.digest,
            edges.c.kind == "layer",
        )
        .correlate(parts)
        .scalar_subquery(),
        0.0,
    )
    * UNPACKED_FACTOR
)
"""How many bytes of a worker's disk the image of a part takes, about."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A worker's disk as it said: what one more image may take now, and with nothing else there (``None``: it
    does not say)."""

    worker: str
    room_bytes: int
    most_bytes: int | None


@dataclass(frozen=True, slots=True)
class Shortage:
    """A queued part that fits none of the workers that could try it: ``disks`` are all of theirs, the one
    with the most room first."""

    part: str
    needed_bytes: int
    disks: Sequence[Disk]

    def __str__(self) -> str:
        largest = max(self.disks, key=_most)
        if _most(largest) < self.needed_bytes:
            return (
                f"no worker is large enough: the image needs about {shown_size(self.needed_bytes)} of disk, "
                f"and {largest.worker}, the largest, holds {shown_size(largest.most_bytes or 0)} at most"
            )
        has = [f"{disk.worker} has {shown_size(disk.room_bytes)}" for disk in self.disks[:_NAMED_MAX]]
        more = len(self.disks) - len(has)
        return (
            f"waits for room on a worker's disk: the image needs about {shown_size(self.needed_bytes)}; "
            + ", ".join(has + ([f"{more} more have less"] if more else []))
        )


def has_room(disk_bytes: int | None) -> ColumnElement[bool]:
    """Parts of images for which so much disk will do, and those that no worker that is known can ever hold:
    whoever gets one of them says what it lacks, and that is the verdict."""
    if disk_bytes is None:
        return true()
    holds = exists(
        select(workers.c.account_id)
        .join(accounts, accounts.c.id == workers.c.account_id)
        .where(
            accounts.c.disabled_at.is_(None),
            workers.c.last_seen_at >= db_time(timedelta(seconds=-KNOWN_SECONDS)),
            or_(workers.c.disk_most_bytes.is_(None), cast(workers.c.disk_most_bytes, Float) >= NEEDED),
        )
        .correlate(parts)
    )
    waited = parts.c.run_after <= db_time(timedelta(seconds=-LARGER_WAIT_SECONDS))
    return or_(float(disk_bytes) >= NEEDED, and_(waited, ~holds))


async def find_shortages(
    connection: AsyncConnection, part_ids: Collection[str] | None = None
) -> Sequence[Shortage]:
    """The queued parts that wait as no worker that could try them has the disk; at most ``COUNTED_MAX``.
    ``part_ids``: only of these."""
    query = (
        select(accounts.c.name, workers)
        .join(accounts, accounts.c.id == workers.c.account_id)
        .where(*ASKING)
        .order_by(workers.c.account_id)
    )
    asking = (await connection.execute(query)).all()
    said = [row.disk_bytes for row in asking if row.disk_bytes is not None]
    if not said:
        return ()
    large = (
        select(
            parts.c.id,
            parts.c.platform,
            parts.c.required,
            repositories.c.name,
            repositories.c.worker_label,
            NEEDED.label("needed"),
        )
        .join(repositories)
        .where(parts.c.state == "queued", float(min(said)) < NEEDED)
        .order_by(parts.c.id)
        .limit(COUNTED_MAX)
    )
    asked = [large] if part_ids is None else [large.where(parts.c.id.in_(some)) for some in batches(part_ids)]
    found = []
    for one in asked:
        for part in await connection.execute(one):
            able = [
                row
                for row in asking
                if is_run(part.platform, parse_demand(row.platforms))
                and met(part.required, parse_demand(row.mechanisms))
                and Binding.of(row).opens(part.name, part.worker_label)
            ]
            if able and all(row.disk_bytes is not None and row.disk_bytes < part.needed for row in able):
                disks = [Disk(row.name, row.disk_bytes, row.disk_most_bytes) for row in able]
                disks.sort(key=lambda disk: (-disk.room_bytes, disk.worker))
                found.append(Shortage(part.id, min(int(part.needed), 2**63 - 1), disks))
    return found


async def why_no_room(connection: AsyncConnection, part_ids: Collection[str]) -> Mapping[str, str]:
    """For each of these parts that waits for room on a disk: that it does, in words."""
    return {one.part: str(one) for one in await find_shortages(connection, part_ids)}


def _most(disk: Disk) -> float:
    return math.inf if disk.most_bytes is None else disk.most_bytes
