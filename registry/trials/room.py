"""Which images a worker's disk has room for, and what is said of those that no worker has room for."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Float, Select, cast, func, select, true

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
from registry.trials.present import ASKING, GETTING_JOBS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

LARGER_WAIT_SECONDS = 60
"""So long a part that no worker can ever hold waits for a larger worker to come."""
KNOWN_SECONDS = 3600
"""So long a worker that is away counts as one that comes back."""
COUNTED_MAX = 1000
_NAMED_MAX = 3

# As floats: what a manifest says of its layers may add up to more than a database counts to. Added up where a
# version before queued the part.
NEEDED = (
    func.coalesce(
        cast(parts.c.size_bytes, Float),
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
_NEEDING = select(
    parts.c.id,
    parts.c.platform,
    parts.c.required,
    repositories.c.name,
    repositories.c.worker_label,
    NEEDED.label("needed"),
).join(repositories)


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
    """Parts of images for which so much disk will do."""
    return true() if disk_bytes is None else float(disk_bytes) >= NEEDED


async def find_too_large(connection: AsyncConnection, waiting: Select[Any]) -> str | None:
    """The first of the parts that ``waiting`` finds that has waited for a while, and that none of the workers
    that could try it can ever hold. Whoever gets it says what it lacks, and that is the verdict."""
    known = select(workers).join(accounts, accounts.c.id == workers.c.account_id)
    seen = workers.c.last_seen_at >= db_time(timedelta(seconds=-KNOWN_SECONDS))
    there = (await connection.execute(known.where(*GETTING_JOBS, seen))).all()
    found = waiting.limit(COUNTED_MAX).subquery()
    waited = parts.c.run_after <= db_time(timedelta(seconds=-LARGER_WAIT_SECONDS))
    large = _NEEDING.join(found, found.c.id == parts.c.id).where(waited)
    for part in await connection.execute(large.order_by(parts.c.urgency, parts.c.turn, parts.c.id)):
        if not any(_could_try(row, part) and _holds(row.disk_most_bytes, part.needed) for row in there):
            return str(part.id)
    return None


async def find_shortages(
    connection: AsyncConnection, part_ids: Collection[str] | None = None
) -> Sequence[Shortage]:
    """The queued parts that wait as no worker that could try them has the disk; at most ``COUNTED_MAX``.
    ``part_ids``: only of these."""
    query = (
        select(accounts.c.name, workers)
        # Each worker has an account; with an inner join SQLite walks all accounts to find the few workers.
        .outerjoin(accounts, accounts.c.id == workers.c.account_id)
        .where(*ASKING)
        .order_by(workers.c.account_id)
    )
    asking = (await connection.execute(query)).all()
    said = [row.disk_bytes for row in asking if row.disk_bytes is not None]
    if not said:
        return ()
    large = (
        _NEEDING.where(parts.c.state == "queued", float(min(said)) < NEEDED)
        .order_by(parts.c.id)
        .limit(COUNTED_MAX)
    )
    asked = [large] if part_ids is None else [large.where(parts.c.id.in_(some)) for some in batches(part_ids)]
    found = []
    for one in asked:
        for part in await connection.execute(one):
            able = [row for row in asking if _could_try(row, part)]
            if able and not any(_holds(row.disk_bytes, part.needed) for row in able):
                disks = [Disk(row.name, row.disk_bytes, row.disk_most_bytes) for row in able]
                disks.sort(key=lambda disk: (-disk.room_bytes, disk.worker))
                found.append(Shortage(part.id, min(int(part.needed), 2**63 - 1), disks))
    return found


async def why_no_room(connection: AsyncConnection, part_ids: Collection[str]) -> Mapping[str, str]:
    """For each of these parts that waits for room on a disk: that it does, in words."""
    return {one.part: str(one) for one in await find_shortages(connection, part_ids)}


def _could_try(worker: Any, part: Any) -> bool:
    """Whether the worker of a row can run the part of another and is bound to it, whatever its disk."""
    return (
        is_run(part.platform, parse_demand(worker.platforms))
        and met(part.required, parse_demand(worker.mechanisms))
        and Binding.of(worker).opens(part.name, part.worker_label)
    )


def _holds(disk_bytes: int | None, needed: float) -> bool:
    """``None``: the worker does not say, and is taken to have enough."""
    return disk_bytes is None or disk_bytes >= needed


def _most(disk: Disk) -> float:
    return math.inf if disk.most_bytes is None else disk.most_bytes
