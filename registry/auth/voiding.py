"""What ends with an account's rights, in the transaction that takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, func, update

from registry.auth.sessions import end_sessions
from registry.auth.standing import JUST_AFTER
from registry.db.accounts import accounts
from registry.db.content import upload_sessions
from registry.db.types import db_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.storage.store import BlobStore


async def void_credentials(connection: AsyncConnection, account_id: int, name: str) -> None:
    """Refuse the registry tokens, refresh tokens and sessions that an account has by now."""
    await connection.execute(
        update(accounts).where(accounts.c.id == account_id).values(credentials_after=db_time(JUST_AFTER))
    )
    await end_sessions(connection, name)


async def disable(connection: AsyncConnection, account_id: int, name: str) -> list[str]:
    """Let an account do nothing from now on; its uploads, for :func:`forget`."""
    await connection.execute(
        update(accounts)
        .where(accounts.c.id == account_id)
        .values(disabled_at=func.coalesce(accounts.c.disabled_at, db_time()))
    )
    await void_credentials(connection, account_id, name)
    return await _end_uploads(connection, account_id)


async def enable(connection: AsyncConnection, account_id: int) -> None:
    """Let an account sign in again, with its password and the API tokens that were not revoked."""
    await connection.execute(update(accounts).where(accounts.c.id == account_id).values(disabled_at=None))


async def remove(connection: AsyncConnection, account_id: int) -> list[str]:
    """Delete an account with all that is its own; its uploads, for :func:`forget`.

    What it did stays readable: events and histories have its name. Its number is never another account's.
    """
    uploads = await _end_uploads(connection, account_id)
    await connection.execute(delete(accounts).where(accounts.c.id == account_id))
    return uploads


async def forget(blobs: BlobStore, locators: Iterable[str]) -> None:
    """Delete the bytes of uploads that have ended, after the transaction."""
    for locator in locators:
        await blobs.delete(locator)


async def _end_uploads(connection: AsyncConnection, account_id: int) -> list[str]:
    ended = await connection.execute(
        delete(upload_sessions)
        .where(upload_sessions.c.account_id == account_id)
        .returning(upload_sessions.c.locator)
    )
    return [str(row.locator) for row in ended]
