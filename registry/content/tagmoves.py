"""Tags as a person moves them: back to where they stood, to another image of the repository, and back to
life."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.actor import Actor
from registry.content import manifests as manifest_use
from registry.content import quotas, taghistory
from registry.content import repositories as repos
from registry.content import tags as tag_use
from registry.content.effects import Effects
from registry.content.manifests import Arrival
from registry.content.repositories import Repository
from registry.content.restoring import find_deleted
from registry.db.content import TagAction, manifests, tag_history, tags
from registry.db.engine import Database, hold_epochs, leave_epochs, move_epoch
from registry.db.outbox import record
from registry.errors import ConflictError, DeniedError, ManifestUnknownError, NameUnknownError
from registry.oci.digest import Digest, parse_digest
from registry.settings import Settings
from registry.storage.store import BlobStore
from registry.storage.threads import Threads


@dataclass(frozen=True, slots=True)
class TagDetails:
    """Where a tag stands, or stood, since when and by whom; ``media_type`` and ``size`` (bytes) of the
    manifest, ``None`` where that is no longer there."""

    name: str
    digest: str
    media_type: str | None
    size: int | None
    updated_at: datetime
    updated_by: str

    @property
    def etag(self) -> str:
        """Where it stands."""
        return self.digest


NOWHERE = "nowhere"
"""Where a tag stands that there is not."""


@dataclass(frozen=True, slots=True)
class Mover:
    """Who moves tags in which repository, why, with what is needed for that. ``brings_back``: also images
    that were deleted. With ``dry_run`` all is tried, and nothing of it stays."""

    database: Database
    store: BlobStore
    settings: Settings
    effects: Effects
    parsers: Threads
    repository: Repository
    actor: Actor
    brings_back: bool
    reason: str | None = None
    dry_run: bool = False


async def show(database: Database, repository: Repository, tag: str) -> TagDetails:
    """Where one tag stands.

    Raises:
        ManifestUnknownError: there is no such tag.
    """
    async with database.read() as connection:
        return await _details(connection, repository, tag)


async def show_at(database: Database, repository: Repository, tag: str, at: datetime) -> TagDetails:
    """Where a tag stood at a time.

    Raises:
        ManifestUnknownError: nowhere, or that is no longer known.
    """
    async with database.read() as connection:
        line = await taghistory.line_at(connection, repository, tag, at)
        assert line.new_digest is not None, "a line that says where the tag stands"
        held = select(manifests.c.media_type, manifests.c.size).where(
            manifests.c.repository_id == repository.id, manifests.c.digest == line.new_digest
        )
        row = (await connection.execute(held)).one_or_none()
    media_type, size = (None, None) if row is None else row
    return TagDetails(tag, line.new_digest, media_type, size, line.at, line.actor)


async def roll_back(mover: Mover, tag: str, *, to: Digest | None, stands_at: str | None = None) -> TagDetails:
    """Point the tag at where it stood before its last move, or at ``to``, one of where it ever stood. A tag
    that was deleted comes back, and an image that was, within the grace. ``stands_at`` is where somebody saw
    it stand: a digest, or :data:`NOWHERE`.

    Raises:
        NameUnknownError: the repository is gone.
        ManifestUnknownError: the tag never was.
        ConflictError: it stood nowhere else, never at ``to``, or that image is gone; or it does not stand at
            ``stands_at``.
        DeniedError: that image was deleted, and the mover brings none back.
    """

    async def target(connection: AsyncConnection) -> Digest:
        moves = await _moves(connection, mover.repository, tag)
        require_standing(f"{mover.repository.name}:{tag}", moves[0][1], stands_at)
        if to is not None:
            _require_stood(mover.repository, tag, moves, to)
            return to
        if moves[0][0] is None:
            raise ConflictError(f"{mover.repository.name}:{tag} stood nowhere before")
        return parse_digest(moves[0][0])

    return await _move(mover, tag, target, action="rollback")


def require_standing(image: str, now: str | None, expected: str | None) -> None:
    """Let a tag, ``image``, be set that stands at ``now``, where ``expected`` is where somebody saw it: a
    digest, :data:`NOWHERE`, or ``None`` where he did not look.

    Raises:
        ConflictError: it stands elsewhere.
    """
    if expected is not None and expected != (now or NOWHERE):
        raise ConflictError(
            f"{image} stands {'nowhere' if now is None else f'at {now}'}, and not "
            f"{expected if expected == NOWHERE else f'at {expected}'}; look at it again"
        )


async def restore(mover: Mover, tag: str, *, to: Digest | None) -> TagDetails:
    """Bring back a tag that was deleted, to where it stood last, or to ``to``, one of where it ever stood;
    and its image, where that was deleted within the grace.

    Raises:
        NameUnknownError, ManifestUnknownError: as :func:`roll_back`.
        ConflictError: the tag stands somewhere, or its image is gone.
        DeniedError: as there.
    """

    async def target(connection: AsyncConnection) -> Digest:
        moves = await _moves(connection, mover.repository, tag)
        last, now = moves[0]
        if now is not None:
            raise ConflictError(
                f"{mover.repository.name}:{tag} was not deleted; it stands at {now}, and "
                "seatrial tag rollback takes it to where it stood before"
            )
        if to is not None:
            _require_stood(mover.repository, tag, moves, to)
            return to
        assert last is not None, "a tag that was deleted stood somewhere"
        return parse_digest(last)

    return await _move(mover, tag, target, action="restore")


async def bring_back(mover: Mover, digest: Digest) -> None:
    """Bring back an image that was deleted, without a tag; one that is there is left alone.

    Raises:
        NameUnknownError: the repository is gone.
        ConflictError: the image is gone.
        DeniedError: the mover brings none back.
    """
    repository = mover.repository
    arrival = await _deleted(mover, digest)
    async with mover.database.write() as connection:
        if not await repos.lock(connection, repository.id):
            raise NameUnknownError(f"there is no repository {repository.name}")
        await _set(connection, mover, None, digest, arrival, action="restore")


async def move(mover: Mover, tag: str, *, to: str | Digest, stands_at: str | None = None) -> TagDetails:
    """Point a tag that there is at another image of its repository: by digest, or where another tag stands.
    ``stands_at`` is where somebody saw the tag stand that is moved.

    Raises:
        NameUnknownError: the repository is gone.
        ManifestUnknownError: there is no such tag, or no such image.
        ConflictError: the tag does not stand at ``stands_at``.
    """

    async def target(connection: AsyncConnection) -> Digest:
        now = await _require_tag(connection, mover.repository, tag)
        require_standing(f"{mover.repository.name}:{tag}", now, stands_at)
        return await _digest_of(connection, mover.repository, to)

    return await _move(mover, tag, target, action="move")


async def copy(mover: Mover, tag: str, *, to: str) -> TagDetails:
    """Make another tag ``to`` that stands where ``tag`` does.

    Raises:
        NameUnknownError: the repository is gone.
        ManifestUnknownError: there is no such tag.
        ConflictError: ``to`` stands elsewhere.
    """

    async def target(connection: AsyncConnection) -> Digest:
        digest = await _digest_of(connection, mover.repository, tag)
        standing = await _standing(connection, mover.repository, to)
        if standing not in (None, str(digest)):
            raise ConflictError(
                f"{mover.repository.name}:{to} stands at {standing}; seatrial tag move moves it"
            )
        return digest

    return await _move(mover, to, target, action="copy")


Target = Callable[[AsyncConnection], Awaitable[Digest]]


async def _move(mover: Mover, tag: str, target: Target, *, action: TagAction) -> TagDetails:
    database, repository = mover.database, mover.repository
    async with database.read() as connection:
        expected = await target(connection)
        is_there = await _manifest(connection, repository, expected) is not None
    arrival = None if is_there else await _deleted(mover, expected)
    async with database.write() as connection:
        if not await repos.lock(connection, repository.id):
            raise NameUnknownError(f"there is no repository {repository.name}")
        digest = await target(connection)
        if digest != expected:
            raise ConflictError(f"{repository.name}:{tag} was moved at the same time; try again")
        tried = await connection.begin_nested() if mover.dry_run else None
        if tried is not None:
            leave_epochs(connection)
        await _set(connection, mover, tag, digest, arrival, action=action)
        details = await _details(connection, repository, tag)
        if tried is not None:
            await tried.rollback()
    return details


async def _set(
    connection: AsyncConnection,
    mover: Mover,
    tag: str | None,
    digest: Digest,
    arrival: Arrival | None,
    *,
    action: TagAction,
) -> None:
    repository, actor, effects = mover.repository, mover.actor, mover.effects
    manifest_id = await _manifest(connection, repository, digest)
    created = False
    if manifest_id is None:
        if arrival is None:
            raise ConflictError(f"{digest} was deleted from {repository.name}; push it again first")
        manifest_id, created = await manifest_use.take_in(
            connection,
            mover.settings,
            repository,
            arrival,
            actor=actor,
            effects=effects,
            tag_names=[] if tag is None else [tag],
        )
        await record(connection, "manifest.restored", repository.name, actor, {"digest": str(digest)})
    moved = None
    if tag is not None:
        moved = await tag_use.move(
            connection, repository, tag, manifest_id, digest, actor=actor, action=action, reason=mover.reason
        )
        if not created:
            await effects.tag_moved(connection, repository.id, manifest_id, actor)
    added = quotas.Amounts(
        bytes=len(arrival.raw) if created and arrival is not None else 0,
        tags=moved is not None and moved.is_new,
    )
    await quotas.enforce(connection, repository.id, added)
    await (hold_epochs if created else move_epoch)(connection, "content")
    if created and arrival is not None:
        await manifest_use.catch_blocked(connection, repository, arrival, manifest_id, effects=effects)


async def _deleted(mover: Mover, digest: Digest) -> Arrival | None:
    mover.database.require_room()
    found = await find_deleted(
        mover.database,
        mover.store,
        mover.repository,
        digest,
        grace=timedelta(seconds=mover.settings.collection_grace_seconds),
        parsers=mover.parsers,
    )
    if found is not None and not mover.brings_back:
        raise DeniedError(
            f"{digest} was deleted from {mover.repository.name}; whoever may delete there can bring it back "
            "with the tag"
        )
    return found


async def _manifest(connection: AsyncConnection, repository: Repository, digest: Digest) -> int | None:
    query = select(manifests.c.id).where(
        manifests.c.repository_id == repository.id, manifests.c.digest == str(digest)
    )
    number: int | None = (await connection.execute(query)).scalar_one_or_none()
    return number


async def _digest_of(connection: AsyncConnection, repository: Repository, reference: str | Digest) -> Digest:
    if isinstance(reference, Digest):
        if await _manifest(connection, repository, reference) is None:
            raise ManifestUnknownError(f"there is no {reference} in {repository.name}")
        return reference
    return parse_digest(await _require_tag(connection, repository, reference))


async def _require_tag(connection: AsyncConnection, repository: Repository, tag: str) -> str:
    standing = await _standing(connection, repository, tag)
    if standing is None:
        raise _unknown(repository, tag)
    return standing


async def _standing(connection: AsyncConnection, repository: Repository, tag: str) -> str | None:
    query = (
        select(manifests.c.digest)
        .join(tags, tags.c.manifest_id == manifests.c.id)
        .where(tags.c.repository_id == repository.id, tags.c.name == tag)
    )
    digest: str | None = (await connection.execute(query)).scalar_one_or_none()
    return digest


async def _moves(
    connection: AsyncConnection, repository: Repository, tag: str
) -> list[tuple[str | None, str | None]]:
    """Its old and new digests, newest first: at least one pair."""
    query = (
        select(tag_history.c.old_digest, tag_history.c.new_digest)
        .where(tag_history.c.repository_id == repository.id, tag_history.c.name == tag)
        .order_by(tag_history.c.id.desc())
        .limit(taghistory.LINES_MAX)
    )
    moves = [(row.old_digest, row.new_digest) for row in await connection.execute(query)]
    if not moves:
        raise _unknown(repository, tag)
    return moves


def _require_stood(
    repository: Repository, tag: str, moves: list[tuple[str | None, str | None]], to: Digest
) -> None:
    # Also where the oldest line that is kept says that it came from.
    if str(to) not in {digest for move in moves for digest in move}:
        raise ConflictError(f"{repository.name}:{tag} never stood at {to}")


def _unknown(repository: Repository, tag: str) -> ManifestUnknownError:
    return ManifestUnknownError(f"there is no tag {tag} in {repository.name}")


async def _details(connection: AsyncConnection, repository: Repository, tag: str) -> TagDetails:
    query = _DETAILS.where(tags.c.repository_id == repository.id, tags.c.name == tag)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise _unknown(repository, tag)
    return TagDetails(**row._asdict())


_DETAILS = select(
    tags.c.name,
    manifests.c.digest,
    manifests.c.media_type,
    manifests.c.size,
    tags.c.updated_at,
    tags.c.updated_by,
).join(manifests, manifests.c.id == tags.c.manifest_id)
