"""Upload sessions: bytes first, row second.

The blob store holds the bytes and alone knows how many there are; the row says whose they are and how long
they wait. A crash anywhere leaves an offset that is true: what the store made durable.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import uuid_utils
from sqlalchemy import delete, func, insert, select, update

from registry.content import blobs as blob_use
from registry.content import quotas
from registry.content import repositories as repos
from registry.db.accounts import accounts
from registry.db.content import upload_sessions
from registry.db.types import db_time
from registry.errors import (
    BlobUploadInvalidError,
    BlobUploadUnknownError,
    ConflictError,
    ContentTooLargeError,
    DeniedError,
    DigestInvalidError,
    RangeInvalidError,
    SeatrialError,
    TooManyRequestsError,
    UnauthorizedError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.content.repositories import Repository
    from registry.db.engine import Database
    from registry.oci.digest import Digest
    from registry.settings import Settings
    from registry.storage.store import BlobStore

_RETRY_SECONDS = 10
_COUNTED = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Session:
    """An open upload. ``stale`` tells that its expiry should be moved on at the next sign of life."""

    id: str
    repository_id: int
    locator: str
    algorithm: str
    stale: bool = False


async def start(
    database: Database, store: BlobStore, name: str, *, settings: Settings, actor: Actor, algorithm: str
) -> Session:
    """Open an upload session in the repository ``name``, which the first push makes.

    Raises:
        TooManyRequestsError: the account, or the API token it uses, has as many open as it may, on all
            replicas together; or as many are open as a quota allows.
        UnauthorizedError: the account was disabled or deleted since the request came.
        DeniedError: there is no such repository, and the push makes none.
    """
    database.require_room()
    locator = await store.start_upload()
    session_id = uuid_utils.uuid7().hex
    try:
        async with database.write() as connection:
            await _require_room(connection, actor, settings.uploads_per_account)
            repository = await repos.find_or_create(connection, name, settings=settings, actor=actor)
            await connection.execute(
                insert(upload_sessions).values(
                    id=session_id,
                    repository_id=repository.id,
                    account_id=actor.account_id,
                    token_id=actor.token_id,
                    locator=locator,
                    digest_algorithm=algorithm,
                    created_at=db_time(),
                    expires_at=db_time(timedelta(seconds=settings.upload_ttl_seconds)),
                )
            )
            await quotas.enforce(connection, repository.id, quotas.Amounts(uploads=1))
    except (TooManyRequestsError, UnauthorizedError, DeniedError):
        await store.delete(locator)
        raise
    return Session(session_id, repository.id, locator, algorithm)


async def start_own(
    database: Database, store: BlobStore, repository_id: int, *, algorithm: str, life: timedelta
) -> Session:
    """Open a session for what the registry itself stores in a repository: of no account, swept after ``life``
    if it is not finished."""
    locator = await store.start_upload()
    session_id = uuid_utils.uuid7().hex
    async with database.write() as connection:
        await connection.execute(
            insert(upload_sessions).values(
                id=session_id,
                repository_id=repository_id,
                locator=locator,
                digest_algorithm=algorithm,
                created_at=db_time(),
                expires_at=db_time(life),
            )
        )
    return Session(session_id, repository_id, locator, algorithm)


async def find(
    database: Database, repository: Repository | None, session_id: str, *, settings: Settings, actor: Actor
) -> Session:
    """The session, if it is of this repository and this account and has not expired.

    Raises:
        BlobUploadUnknownError: otherwise.
    """
    if repository is None:
        raise unknown()
    half = timedelta(seconds=settings.upload_ttl_seconds / 2)
    async with database.read_once() as connection:
        rows = await connection.execute(
            select(
                upload_sessions.c.locator,
                upload_sessions.c.digest_algorithm,
                (upload_sessions.c.expires_at < db_time(half)).label("stale"),
            ).where(
                upload_sessions.c.id == session_id,
                upload_sessions.c.repository_id == repository.id,
                upload_sessions.c.account_id == actor.account_id,
                upload_sessions.c.expires_at > db_time(),
            )
        )
        row = rows.first()
    if row is None:
        raise unknown()
    return Session(session_id, repository.id, row.locator, row.digest_algorithm, bool(row.stale))


async def offset(store: BlobStore, session: Session) -> int:
    """Bytes received and durable so far."""
    return await store.upload_size(session.locator)


async def append(
    database: Database,
    store: BlobStore,
    session: Session,
    chunks: AsyncIterable[bytes],
    *,
    repository: Repository | None,
    length: int | None,
    at: int | None,
    closing: bool,
    settings: Settings,
) -> int:
    """Append ``chunks`` and return the new offset. The caller may say how many bytes they have, ``length``,
    and where they belong, ``at``; what is known to be too much is refused before any of it is taken.
    ``closing``: the request is the upload's last.

    Beyond a limit it can never become a blob: the session is dropped, holds no room, and no client tries it
    again; but not where nothing was taken of a closing request. Whatever else ends it early, what was
    received is kept and the offset tells how much that is.

    Raises:
        RangeInvalidError: ``at`` is not where the upload stands; ``detail["offset"]`` is.
        ConflictError: another request is writing to this upload.
        ContentTooLargeError: the blob would be larger than the limit.
        DeniedError: the ``repository``, or a namespace above, would hold more than its quota.
    """
    begun = False
    try:
        if (length or 0) > settings.blob_max_bytes:
            raise _too_large(settings.blob_max_bytes, length)
        standing = await store.upload_size(session.locator)
        if at is not None and at != standing:
            raise RangeInvalidError(
                f"the upload stands at byte {standing}, not {at}", detail={"offset": standing}
            )
        begun = standing > 0
        quota = None
        if repository is not None:
            quota = await quotas.require_room(database, repository, standing + length if length else 0)
        begun = True
        chunks = _capped(chunks, settings.blob_max_bytes, quota, standing)
        return await _append(database, store, session, chunks, standing=standing, settings=settings)
    except (ContentTooLargeError, DeniedError):
        # regctl sends in chunks what was refused in one piece, and prints what it is told then.
        if begun or not closing:
            await drop(database, store, session)
        raise


async def _append(
    database: Database,
    store: BlobStore,
    session: Session,
    chunks: AsyncIterable[bytes],
    *,
    standing: int,
    settings: Settings,
) -> int:
    database.require_room()
    if session.stale:
        await _touch(database, session, settings)
    try:
        return await store.append(session.locator, chunks, offset=standing, algorithm=session.algorithm)
    except BlobUploadInvalidError as error:
        raise ConflictError(error.message) from None


async def finish(database: Database, store: BlobStore, session: Session, *, digest: Digest) -> None:
    """Make the upload a blob of its repository. Of several that try at once exactly one succeeds.

    Raises:
        DigestInvalidError: the bytes have another digest; the session is dropped, nothing is stored.
        DeniedError: the repository, or a namespace above, would hold more than its quota; the session is
            dropped, nothing is stored.
        ConflictError: another request is writing to or finishing this upload.
        BlobUploadUnknownError: it was finished, cancelled or swept meanwhile.
    """
    try:
        size = await store.finish(session.locator, digest)
    except DigestInvalidError:
        await drop(database, store, session)
        raise
    except BlobUploadInvalidError as error:
        raise ConflictError(error.message) from None
    await name(database, store, session, digest=digest, size=size)


async def name(database: Database, store: BlobStore, session: Session, *, digest: Digest, size: int) -> None:
    """Have the rows of an upload whose bytes are durable and verified.

    Raises:
        DeniedError, BlobUploadUnknownError: as :func:`finish`.
    """
    try:
        async with database.write() as connection:
            # First, as who removes the repository: that has it, and then waits for the session.
            if not await repos.hold(connection, session.repository_id):
                raise unknown()
            # Whoever removes the row has finished the upload; the bytes are durable and named nowhere yet.
            ended = await connection.execute(
                delete(upload_sessions)
                .where(upload_sessions.c.id == session.id)
                .returning(upload_sessions.c.id)
            )
            if ended.first() is None:
                raise unknown()
            blob_id, locator = await blob_use.store_row(
                connection, digest, size=size, locator=session.locator
            )
            await blob_use.link_within_quota(connection, session.repository_id, blob_id, size=size)
    except DeniedError:
        await drop(database, store, session)
        raise
    if locator != session.locator:
        await store.delete(session.locator)


async def cancel(database: Database, store: BlobStore, session: Session) -> None:
    """Drop the session and its bytes.

    Raises:
        BlobUploadUnknownError: it was finished, cancelled or swept meanwhile.
    """
    async with database.write() as connection:
        ended = await connection.execute(
            delete(upload_sessions).where(upload_sessions.c.id == session.id).returning(upload_sessions.c.id)
        )
        if ended.first() is None:
            raise unknown()
    await store.delete(session.locator)


async def drop(database: Database, store: BlobStore, session: Session) -> None:
    """Drop a session that something else has ended: that is told, and the sweep takes what stays."""
    with suppress(SeatrialError):
        await cancel(database, store, session)


async def sweep_expired(database: Database, store: BlobStore) -> int:
    """Drop every session whose time is over, and its bytes; returns how many."""
    async with database.write() as connection:
        ended = await connection.execute(
            delete(upload_sessions)
            .where(upload_sessions.c.expires_at <= db_time())
            .returning(upload_sessions.c.locator)
        )
        locators = [row.locator for row in ended]
    for locator in locators:
        await store.delete(locator)
    return len(locators)


def unknown() -> BlobUploadUnknownError:
    """The error for a session that is not there, or is another repository's or account's."""
    return BlobUploadUnknownError("there is no such upload in this repository; it may have ended or expired")


def too_many(limit: int) -> TooManyRequestsError:
    """The error for an account, or an API token of it, with as many uploads as it may have."""
    return TooManyRequestsError(
        f"this account or token has {limit} uploads open, which is the limit; finish or cancel some, or wait",
        headers={"Retry-After": str(_RETRY_SECONDS)},
    )


async def _require_room(connection: AsyncConnection, actor: Actor, limit: int) -> None:
    # The lock lets nobody else count before this one's row is there. It stands in no other's way: what refers
    # to the account only needs its key.
    held = await connection.execute(
        select(accounts.c.id)
        .where(accounts.c.id == actor.account_id, accounts.c.disabled_at.is_(None))
        .with_for_update(key_share=True)
    )
    if held.first() is None:
        raise UnauthorizedError(f"{actor.shown} has just been disabled or deleted")
    rows = await connection.execute(
        select(func.count())
        .select_from(upload_sessions)
        .where(
            upload_sessions.c.account_id == actor.account_id,
            # Each token by itself: who was given one must not stop those who have the others.
            upload_sessions.c.token_id.is_not_distinct_from(actor.token_id),
            upload_sessions.c.expires_at > db_time(),
            # Those of jobs that broke off this morning are nobody's flood.
            upload_sessions.c.created_at > db_time(-_COUNTED),
        )
    )
    if rows.scalar_one() >= limit:
        raise too_many(limit)


def _too_large(limit: int, length: int | None) -> ContentTooLargeError:
    size = "more" if length is None else f"{length} bytes"
    return ContentTooLargeError(
        f"this blob has {size} and {limit} are the limit; make it smaller, or ask the registry's operator to "
        "raise SEATRIAL_BLOB_MAX_BYTES"
    )


async def _touch(database: Database, session: Session, settings: Settings) -> None:
    async with database.write() as connection:
        await connection.execute(
            update(upload_sessions)
            .where(upload_sessions.c.id == session.id)
            .values(expires_at=db_time(timedelta(seconds=settings.upload_ttl_seconds)))
        )


async def _capped(
    chunks: AsyncIterable[bytes], limit: int, quota: quotas.Quota | None, length: int
) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        length += len(chunk)
        if length > limit:
            raise _too_large(limit, None)
        if quota is not None:
            quotas.require_possible(quota, length)
        yield chunk
