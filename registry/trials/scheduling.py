"""In which order parts are claimed.

Pushes, and what people ask for, go before what the registry asks itself. Among those of one urgency and
platform each repository has an equal share, whatever it has queued: a part gets its turn when it is queued,
one share after the last one of its repository, or with the first that waits (self-clocked fair queueing). A
large image costs as many shares as many small ones do.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Float,
    ScalarSelect,
    Select,
    and_,
    cast,
    func,
    literal_column,
    or_,
    select,
)

from registry.auth.bindings import Binding
from registry.content.nameranges import like
from registry.contract.scan import SCANS
from registry.db.accounts import workers
from registry.db.content import edges, manifests, repositories
from registry.db.dialect import batches
from registry.db.trials import parts
from registry.db.types import db_time
from registry.trials.demands import met, stored_demand
from registry.trials.platforms import is_run
from registry.trials.room import has_room

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

PUSHED = 0
"""The urgency of what somebody waits for."""
SCHEDULED = 1
"""The urgency of what the registry asks by itself: it is claimed where nothing else waits."""
LARGE_BYTES = 1 << 30
"""An image whose layers, as they are stored, are larger is large."""
LARGE_SHARES = 20
_SIZE_MAX = 1 << 62
_SCAN_ALONE = stored_demand([SCANS])
"""What is demanded for a scan alone, and for nothing else."""

# Written out, so that SQLite sees that the partial indexes hold all of them.
QUEUED = parts.c.state == literal_column("'queued'")
_BEGUN = parts.c.state != literal_column("'queued'")
# Made once: with each claim they would be a tenth of its time.
_DUE = (
    select(parts.c.id)
    .where(QUEUED, parts.c.run_after <= db_time())
    .order_by(parts.c.urgency, parts.c.turn, parts.c.id)
)
_HELD = parts.alias("held")
_BLOCKED = (
    select(manifests.c.id)
    .where(
        manifests.c.repository_id == parts.c.repository_id,
        manifests.c.digest == parts.c.digest,
        manifests.c.blocked_reason.is_not(None),
    )
    .exists()
)


def shares(size_bytes: int) -> int:
    """How many shares of the workers' time an image with layers of so many bytes costs."""
    return LARGE_SHARES if size_bytes > LARGE_BYTES else 1


def large_at_once(room: int) -> int:
    """How many of the leases that a worker may have can be of large images: half, so that small ones pass."""
    return max(1, room // 2)


async def sizes_of(
    connection: AsyncConnection, repository_id: int, digests: Collection[str]
) -> dict[str, int]:
    """The bytes of the layers of images, as their manifests state them. What is stated may add up to more
    than a database counts to."""
    layers = (
        select(manifests.c.digest, func.sum(cast(edges.c.size, Float)))
        .join(edges, edges.c.manifest_id == manifests.c.id)
        .where(manifests.c.repository_id == repository_id, edges.c.kind == "layer")
        .group_by(manifests.c.digest)
    )
    sizes: dict[str, int] = {}
    for batch in batches(digests):
        for digest, size in await connection.execute(layers.where(manifests.c.digest.in_(batch))):
            sizes[digest] = int(min(size, _SIZE_MAX))
    return sizes


async def turns(
    connection: AsyncConnection, repository_id: int, urgency: int, queued: Sequence[tuple[str, int]]
) -> Sequence[int]:
    """The turns of parts of these platforms and sizes that a repository queues now, in their order. The
    caller holds the repository's lock."""
    bases: dict[str, int] = {}
    found = []
    for platform, size in queued:
        if platform not in bases:
            bases[platform] = await _base(connection, repository_id, urgency, platform)
        bases[platform] += shares(size)
        found.append(bases[platform])
    return found


async def _base(connection: AsyncConnection, repository_id: int, urgency: int, platform: str) -> int:
    """The turn after which the next part of a repository comes."""
    alike = parts.c.urgency == urgency
    # An expression, so that the queue is walked in its order, and not all of the platform sorted.
    of_platform = parts.c.platform.concat("") == platform
    turn = select(parts.c.turn).limit(1)
    waiting = turn.where(QUEUED, alike, of_platform)
    last = waiting.where(parts.c.repository_id == repository_id).order_by(parts.c.turn.desc())
    first = func.coalesce(
        waiting.order_by(parts.c.turn).scalar_subquery(),
        select(func.min(parts.c.turn)).where(QUEUED, alike).scalar_subquery(),
    )
    begun = select(func.max(parts.c.turn)).where(_BEGUN, alike)
    open_to_all = select(workers.c.account_id).where(
        workers.c.account_id == parts.c.lease_account_id, workers.c.namespaces.is_(None)
    )
    running = select(func.max(parts.c.turn)).where(
        parts.c.lease_account_id.is_not(None), alike, of_platform, open_to_all.exists()
    )
    asked = select(last.scalar_subquery(), begun.scalar_subquery(), running.scalar_subquery(), first)
    of_last, of_begun, of_running, of_first = (await connection.execute(asked)).one()
    if of_first is None:
        return of_begun or 0
    # What was begun may be far ahead of what waits, where workers of one platform or namespace are quick, and
    # far behind, where it is gone with its repository. The first that waits may be one that no worker takes:
    # then what runs says how far the others are.
    base: int = max(of_last or 0, of_running or 0, min(of_begun or 0, of_first - 1), of_first - LARGE_SHARES)
    return base


def queued_kinds(column: ColumnElement[Any]) -> ScalarSelect[Any]:
    """What a column of the parts says of those that are queued, each value a line; null: nothing. A few looks
    into an index, however long the queue is: there are few platforms and demands."""
    name = column.name
    least = select(func.min(column)).where(QUEUED, column.is_not(None))
    steps = select(least.scalar_subquery().label("value")).cte(f"{name}s", recursive=True)
    after = least.where(column > steps.c.value).scalar_subquery()
    steps = steps.union_all(select(after).where(steps.c.value.is_not(None)))
    return select(func.aggregate_strings(steps.c.value, "\n")).scalar_subquery()


def runnable_kinds(
    queued_platforms: str | None,
    queued_demands: str | None,
    *,
    platforms: Sequence[str],
    mechanisms: Collection[str],
) -> ColumnElement[bool] | None:
    """What of the queue a worker with these platforms and mechanisms can run or scan; ``None``: nothing. What
    is queued is as :func:`queued_kinds` found it."""
    mine = [one for one in (queued_platforms or "").splitlines() if is_run(one, platforms)]
    demands = [one for one in (queued_demands or "").splitlines() if met(one, mechanisms)]
    runnable = and_(
        parts.c.platform.in_(mine), or_(parts.c.required.is_(None), parts.c.required.in_(demands))
    )
    if _SCAN_ALONE in demands:
        # Nothing of it is run, so it is no matter on what.
        return or_(runnable, parts.c.required == _SCAN_ALONE) if mine else parts.c.required == _SCAN_ALONE
    return runnable if mine else None


def due_parts(runnable: ColumnElement[bool], binding: Binding) -> Select[Any]:
    """The parts that a worker could try, in their turn, be there room for them or not, blocked ones too."""
    return _DUE.where(runnable, _open_to(binding))


def next_part(runnable: ColumnElement[bool], binding: Binding, *, disk_bytes: int | None) -> Select[Any]:
    """The part whose turn it is of those that a worker with so much disk for one more image may have."""
    return due_parts(runnable, binding).where(~_BLOCKED, has_room(disk_bytes)).limit(1)


def has_slot(account_id: int, room: int) -> ColumnElement[bool]:
    """Whether a worker that may have ``room`` leases at once may have one more, of this part."""
    leases = select(func.count()).where(_HELD.c.lease_account_id == account_id, _HELD.c.state == "leased")
    large = leases.where(_is_large(_HELD.c.size_bytes)).scalar_subquery()
    may_be_large = or_(~_is_large(parts.c.size_bytes), large < large_at_once(room))
    return and_(leases.scalar_subquery() < room, may_be_large)


def _is_large(size_bytes: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a part is of a large image. A version before does not say how large one is."""
    return func.coalesce(size_bytes, 0) > LARGE_BYTES


def _open_to(binding: Binding) -> ColumnElement[bool]:
    """Whether a worker may try what is in the repository: it has the label that is demanded, and is bound to
    the namespace, or to one above it."""
    label = repositories.c.worker_label
    open_here = or_(label.is_(None), label.in_(binding.labels))
    if binding.namespaces is not None and "*" not in binding.namespaces:
        within = (like(repositories.c.name, f"{pattern}/*") for pattern in binding.namespaces)
        open_here = and_(open_here, or_(*within))
    here = select(repositories.c.id).where(repositories.c.id == parts.c.repository_id, open_here)
    return here.exists()
