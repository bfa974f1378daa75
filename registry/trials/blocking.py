"""Blocking by hand: an image, or all with a layer or a package, above every verdict and every gate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import delete, func, insert, literal, or_, select, union_all, update

from registry.auth.access import require_admin, require_auditor
from registry.auth.owners import require_or_tell
from registry.auth.places import Place, hold_place, parse_place
from registry.auth.policy import may_audit
from registry.content import repositories as repos
from registry.content.administration import require_place
from registry.content.blocks import below, concerned, matching
from registry.db.access import namespaces
from registry.db.content import manifests, repositories
from registry.db.dialect import portions
from registry.db.engine import hold_epochs, move_epoch
from registry.db.gate import blocks
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import ConflictError, ManifestUnknownError, NotFoundError
from registry.events.webhooks import may_manage
from registry.trials.attesting import attest_states
from registry.trials.packageblocks import PackageRange, hold_scans_of, link
from registry.trials.states import REASON_MAX

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import ColumnElement, Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.content.repositories import Repository
    from registry.db.engine import Database

BlockKind = Literal["image", "layer", "package"]
EVERYWHERE = "*"
COUNTED_MAX = 1000


@dataclass(frozen=True, slots=True)
class Block:
    """A block. ``on`` is a repository, a namespace with a slash at its end, or ``*``; ``images`` is how many
    images there are refused by it now, counted to 1000. One of a package has ``package`` and no digest."""

    id: int
    on: str
    kind: BlockKind
    digest: str
    package: str | None
    reason: str
    actor: str
    created_at: datetime
    images: int


@dataclass(frozen=True, slots=True)
class Target:
    """What is blocked: by its digest, or a package."""

    kind: BlockKind
    digest: str = ""
    package: PackageRange | None = None


async def add(database: Database, *, actor: Actor, on: str, target: Target, reason: str) -> Block:
    """Forbid everybody to read an image, or all images with a layer or a package, in a repository, a
    namespace (with a slash at its end) or everywhere (``*``): those that are there, and those that are pushed
    later, or of which it is known later that they hold the package.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer there; of everywhere, no administrator.
        NameInvalidError: outside the grammar.
        NameUnknownError, NotFoundError: there is no such repository or namespace.
    """
    await _require_right(database, actor, on)
    async with database.write() as connection:
        block_id = await _add(connection, _place(on), target, reason=reason, actor=actor)
        return await _show(connection, block_id)


async def block_image(
    database: Database, repository: Repository, *, digest: str, reason: str, actor: Actor
) -> None:
    """Forbid everybody to read an image that a repository has, for an actor whose right has been asked for.

    Raises:
        ManifestUnknownError: the repository has no such manifest.
    """
    async with database.write() as connection:
        held = select(manifests.c.id).where(_is(repository.id, digest))
        if (await connection.execute(held)).first() is None:
            raise ManifestUnknownError(f"{repository.name} has no manifest {digest}")
        place = Place(repository.name, is_namespace=False)
        await _add(connection, place, Target("image", digest), reason=reason, actor=actor)


async def unblock_image(database: Database, repository: Repository, *, digest: str, actor: Actor) -> None:
    """Let an image be what its verdict makes it, for an actor whose right has been asked for.

    Raises:
        ManifestUnknownError: the repository has no such manifest.
        ConflictError: a wider block refuses it, or one of a layer.
    """
    async with database.write() as connection:
        await repos.lock(connection, repository.id)
        found = await connection.execute(
            select(manifests.c.id, manifests.c.blocked_reason).where(_is(repository.id, digest))
        )
        image = found.first()
        if image is None:
            raise ManifestUnknownError(f"{repository.name} has no manifest {digest}")
        own = (blocks.c.repository_id == repository.id, blocks.c.kind == "image", blocks.c.digest == digest)
        await connection.execute(delete(blocks).where(*own))
        other = matching().with_only_columns(blocks.c.id).order_by(blocks.c.id).limit(1).scalar_subquery()
        by = await connection.execute(select(other).select_from(manifests).where(manifests.c.id == image.id))
        if (block_id := by.scalar_one()) is not None:
            block = await _show(connection, block_id)
            raise ConflictError(
                f"{repository.name}@{digest} is blocked by block {block_id} on {block.on}: {block.reason}"
            )
        await connection.execute(
            update(manifests).where(manifests.c.id == image.id).values(blocked_reason=None)
        )
        if image.blocked_reason is not None:
            data = {"digest": digest, "reason": None}
            await record(connection, "image.unblocked", repository.name, actor, data)
        await attest_states(connection, repository.id, [digest])
        await move_epoch(connection, "gate")


async def remove(database: Database, *, actor: Actor, block_id: int) -> None:
    """Take a block back. What another one forbids stays forbidden.

    Raises:
        NotFoundError: there is no such block, or the actor may make none there.
    """
    missing = NotFoundError(f"there is no block {block_id} that you manage")
    async with database.read_once() as connection:
        block = (await connection.execute(_BLOCKS.where(blocks.c.id == block_id))).first()
    if block is None:
        raise missing
    place = _place(block.on)
    # Who may not is not told so: the place may be a repository that is not for him to know.
    if not may_manage(actor, _told(place)):
        raise missing
    async with database.write() as connection:
        if place is not None:
            await hold_place(connection, place)
        gone = (
            await connection.execute(delete(blocks).where(blocks.c.id == block_id).returning(blocks))
        ).first()
        if gone is None:
            raise missing
        # A reason that is not this block's is another's, or an older version's.
        here = (*concerned(place, gone.kind, gone.digest), manifests.c.blocked_reason == gone.reason)
        other = matching().with_only_columns(blocks.c.reason).order_by(blocks.c.id).limit(1)
        await _rewrite(connection, here, other.scalar_subquery())
        await record(connection, "image.unblocked", _told(place), actor, _data(block, reason=None))


async def list_blocks(
    database: Database, *, actor: Actor, on: str | None, limit: int, after: int
) -> list[Block]:
    """At most ``limit`` blocks, those with an id above ``after``: of what lies at or below ``on``, or all.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer there; of all, no administrator or auditor.
    """
    if not may_audit(actor):
        if on is None or on == EVERYWHERE:
            require_auditor(actor, "see the blocks of all repositories")
        else:
            await require_or_tell(database, actor, "configure", on, None)
    query = _BLOCKS.where(blocks.c.id > after)
    if on == EVERYWHERE:
        query = query.where(blocks.c.repository_id.is_(None), blocks.c.namespace_id.is_(None))
    elif on is not None and on.endswith("/"):
        query = query.where(
            or_(
                below(repositories.c.name, on),
                below(namespaces.c.name, on),
                namespaces.c.name == on.removesuffix("/"),
            )
        )
    elif on is not None:
        query = query.where(repositories.c.name == on)
    async with database.read() as connection:
        rows = (await connection.execute(query.order_by(blocks.c.id).limit(limit))).all()
        return await _counted(connection, rows)


async def _require_right(database: Database, actor: Actor, on: str) -> None:
    if on == EVERYWHERE:
        require_admin(actor)
    else:
        await require_place(database, actor=actor, action="configure", on=on)


def _place(on: str) -> Place | None:
    """Where a block counts; ``None``: everywhere."""
    return None if on == EVERYWHERE else parse_place(on)


def _told(place: Place | None) -> str | None:
    """As events name it."""
    return None if place is None else place.key


async def _add(
    connection: AsyncConnection, place: Place | None, target: Target, *, reason: str, actor: Actor
) -> int:
    package = target.package
    # Who is refused reads which package.
    kept = (reason if package is None else f"it holds {package}: {reason}")[:REASON_MAX]
    keys: dict[str, int | None] = {"repository_id": None, "namespace_id": None}
    if place is not None:
        keys[place.column] = await hold_place(connection, place)
    named = {
        "kind": target.kind,
        "digest": target.digest,
        "ecosystem": None if package is None else package.ecosystem,
        "package": None if package is None else package.name,
        "versions": None if package is None else package.versions,
    }
    same = [blocks.c[name].is_not_distinct_from(value) for name, value in {**keys, **named}.items()]
    # Said again, it is another reason.
    before = (
        (await connection.execute(delete(blocks).where(*same).returning(blocks.c.reason))).scalars().all()
    )
    made = await connection.execute(
        insert(blocks)
        .values(**keys, **named, reason=kept, actor=actor.shown, created_at=db_time())
        .returning(blocks.c.id)
    )
    block_id: int = made.scalar_one()
    stands = manifests.c.blocked_reason
    here = (*concerned(place, target.kind, target.digest, block_id), stands.is_(None) | stands.in_(before))
    if package is not None:
        await link(connection, block_id)
    await _rewrite(connection, here, kept, of_package=None if package is None else block_id)
    row = (await connection.execute(_BLOCKS.where(blocks.c.id == block_id))).one()
    await record(connection, "image.blocked", _told(place), actor, _data(row, reason=kept))
    return block_id


def _data(block: Row[Any], *, reason: str | None) -> dict[str, Any]:
    """As events name it."""
    package = {} if block.package is None else {"package": block.package}
    return {"kind": block.kind, "digest": block.digest, **package, "reason": reason, "block": block.id}


async def _rewrite(
    connection: AsyncConnection,
    here: Sequence[ColumnElement[bool]],
    reason: Any,
    *,
    of_package: int | None = None,
) -> None:
    """Write this reason to the images that are ``here``, also to those that are being pushed, and have what
    the gate makes of them attested anew.

    Repositories first, then rows, then the epochs: whoever records a verdict takes them in this order. Until
    the epochs are held, more is pushed and moved to here, and scans bring what the block ``of_package``
    names: that is caught by the second write.
    """
    concerned_now = select(manifests.c.repository_id).where(*here)
    locked = select(repositories.c.id).where(repositories.c.id.in_(concerned_now)).order_by(repositories.c.id)
    await connection.execute(locked.with_for_update(key_share=True))
    if of_package is not None:
        await hold_scans_of(connection, of_package)
    written = await _write_reason(connection, here, reason, but=frozenset())
    await hold_epochs(connection, "gate")
    if of_package is not None:
        await link(connection, of_package)
    await _write_reason(connection, here, reason, but=written)


async def _write_reason(
    connection: AsyncConnection,
    here: Sequence[ColumnElement[bool]],
    reason: Any,
    *,
    but: Collection[tuple[int, str]],
) -> Collection[tuple[int, str]]:
    """Write the reason, and have all attested ``but`` what was; returns what it was written to."""
    change = update(manifests).where(*here).values(blocked_reason=reason)
    returned = await connection.execute(change.returning(manifests.c.repository_id, manifests.c.digest))
    written = {(row.repository_id, row.digest) for row in returned}
    for repository_id, rows in groupby(sorted(written.difference(but)), key=itemgetter(0)):
        await attest_states(connection, repository_id, [digest for _, digest in rows])
    return written


def _is(repository_id: int, digest: str) -> ColumnElement[bool]:
    return (manifests.c.repository_id == repository_id) & (manifests.c.digest == digest)


async def _show(connection: AsyncConnection, block_id: int) -> Block:
    row = (await connection.execute(_BLOCKS.where(blocks.c.id == block_id))).first()
    if row is None:
        raise NotFoundError(f"there is no block {block_id}")
    return (await _counted(connection, [row]))[0]


async def _counted(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> list[Block]:
    """Blocks with how many images each of them refuses; a statement for each 100."""
    images: dict[int, int] = {}
    for some in portions(rows, 100):
        counts = []
        for row in some:
            here = concerned(_place(row.on), row.kind, row.digest, row.id)
            found = select(manifests.c.id).where(*here).limit(COUNTED_MAX).subquery()
            counted = select(literal(row.id).label("id"), func.count().label("images"))
            counts.append(counted.select_from(found))
        images |= {row.id: row.images for row in await connection.execute(union_all(*counts))}
    return [Block(**row._asdict(), images=images[row.id]) for row in rows]


_BLOCKS: Select[Any] = (
    select(
        blocks.c.id,
        func.coalesce(repositories.c.name, namespaces.c.name + "/", EVERYWHERE).label("on"),
        blocks.c.kind,
        blocks.c.digest,
        (blocks.c.ecosystem + "/" + blocks.c.package + blocks.c.versions).label("package"),
        blocks.c.reason,
        blocks.c.actor,
        blocks.c.created_at,
    )
    .select_from(blocks)
    .outerjoin(repositories, repositories.c.id == blocks.c.repository_id)
    .outerjoin(namespaces, namespaces.c.id == blocks.c.namespace_id)
)
