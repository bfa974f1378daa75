"""Refresh tokens: what a client keeps in the place of a password, and only ``/token`` takes.

Opaque; ``seatrialrt_``, 256 random bits and a checksum, at rest the SHA-256 (as API tokens). One stands for
its account, and for the API token that it was made with, whose scopes and end it shares. Each use puts off
its own end. This registry is one service, so all are of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Row, and_, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils import uuid7

from registry.auth.access import whose
from registry.auth.actor import Actor
from registry.auth.apitokens import REFRESH_PREFIX, is_token, new_token, token_hash
from registry.auth.credentials import Credentials
from registry.auth.epochcache import EpochCache
from registry.auth.standing import hold_account, require_place, still_good
from registry.db.accounts import accounts, refresh_tokens
from registry.db.engine import Database, move_epoch
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import NotFoundError, UnauthorizedError
from registry.oci.printable import printable

MAX_CLIENT_ID = 100
_USE_NOTED_EVERY = timedelta(hours=1)
_INVALID = "the refresh token is not valid, or no longer; sign in again"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token as its row says. ``client`` is what the client called itself; ``token`` the id of the
    API token it was made with, ``None`` for a password."""

    id: str
    account: str
    token: str | None
    client: str
    address: str | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


# Put together once: a client redeems one for each of its pulls.
_LIVING = (
    select(
        refresh_tokens.c.id,
        refresh_tokens.c.account_id,
        refresh_tokens.c.token_id,
        (refresh_tokens.c.last_used_at > db_time(-_USE_NOTED_EVERY)).label("noted"),
    )
    .join(accounts, accounts.c.id == refresh_tokens.c.account_id)
    .where(
        refresh_tokens.c.secret_hash == bindparam("secret_hash"),
        refresh_tokens.c.expires_at > db_time(),
        still_good(refresh_tokens.c.created_at),
    )
)


class RefreshTokens:
    """One per process: makes them, and finds the actor of one.

    Each sign-in of a client makes one: of more than ``most``, made with one API token or with the password,
    that longest not used goes. Whoever has a weak token ends nothing that was made with another.
    """

    def __init__(self, database: Database, credentials: Credentials, *, life: timedelta, most: int) -> None:
        self._database = database
        self._credentials = credentials
        self._life = life
        self._most = most
        self._cache: EpochCache[tuple[int, str | None]] = EpochCache()

    async def issue(self, actor: Actor, *, client: str) -> str:
        """A new one for the credential that ``actor`` signed in with.

        Raises:
            UnauthorizedError: nobody, or a registry token; or disabled or with new credentials since the
                request came.
        """
        if actor.account_id is None or actor.kind == "worker" or actor.from_registry_token:
            raise UnauthorizedError("sign in with a user name and password to get a refresh token")
        secret = new_token(REFRESH_PREFIX)
        values = {
            "id": str(uuid7()),
            "account_id": actor.account_id,
            "token_id": actor.token_id,
            "secret_hash": token_hash(secret),
            "client": printable(client[:MAX_CLIENT_ID]),
            "address": actor.address,
            "created_at": db_time(),
            "expires_at": db_time(self._life),
        }
        async with self._database.write() as connection:
            if not await hold_account(connection, actor):
                raise UnauthorizedError(_INVALID)
            await _make_room(connection, actor, self._most)
            await connection.execute(insert(refresh_tokens).values(values))
            said = {"client": values["client"]}
            await record(connection, "refresh_token.created", None, actor, said, target=str(values["id"]))
        return secret

    async def redeem(self, text: str, *, address: str | None) -> Actor:
        """The actor of a refresh token, as its account and API token stand now.

        Raises:
            UnauthorizedError: not valid, revoked, expired, older than the account's new password, its account
                is disabled, or its API token may not be used from ``address``.
        """
        if not is_token(text, REFRESH_PREFIX):
            raise UnauthorizedError(_INVALID)
        hashed = token_hash(text)
        epoch = (await self._database.epochs()).access
        known = self._cache.get(hashed.encode(), epoch=epoch)
        if known is None:
            row = await self._living(hashed)
            self._cache.put(hashed.encode(), (row.account_id, row.token_id), epoch=epoch, seconds=60)
            account_id, token_id = row.account_id, row.token_id
        else:
            account_id, token_id = known[0]
        try:
            actor = await self._credentials.actor_of(account_id, token_id, epoch=epoch)
        except UnauthorizedError:
            raise UnauthorizedError(_INVALID) from None
        require_place(actor, address)
        return actor

    async def _living(self, hashed: str) -> Row[Any]:
        async with self._database.read_once() as connection:
            row = (await connection.execute(_LIVING, {"secret_hash": hashed})).one_or_none()
        if row is None:
            raise UnauthorizedError(_INVALID)
        if not row.noted:
            await self._note_use(row.id)
        return row

    async def _note_use(self, token_id: str) -> None:
        noting = update(refresh_tokens).where(refresh_tokens.c.id == token_id)
        try:
            async with self._database.write() as connection:
                await connection.execute(
                    noting.values(last_used_at=db_time(), expires_at=db_time(self._life))
                )
        except DBAPIError as error:
            # A full disk must not keep anyone from pulling or deleting.
            _log.warning("refresh_token.use_not_noted", token=token_id, error=type(error.orig).__name__)


async def list_refresh_tokens(
    database: Database, *, actor: Actor, account: str | None, limit: int, after: str | None
) -> list[RefreshToken]:
    """At most ``limit`` that have not ended, by age, those after the id ``after``: of one account, by default
    the actor's own.

    Raises:
        DeniedError: another's, and the actor is no administrator; or a limited token asks.
    """
    owner = whose(actor, account or actor.name, "refresh tokens")
    query = (
        select(
            refresh_tokens.c.id,
            accounts.c.name.label("account"),
            refresh_tokens.c.token_id.label("token"),
            refresh_tokens.c.client,
            refresh_tokens.c.address,
            refresh_tokens.c.created_at,
            refresh_tokens.c.expires_at,
            refresh_tokens.c.last_used_at,
        )
        .join(accounts, accounts.c.id == refresh_tokens.c.account_id)
        .where(accounts.c.name == owner, refresh_tokens.c.id > (after or ""))
        .where(refresh_tokens.c.expires_at > db_time())
        .order_by(refresh_tokens.c.id)
        .limit(limit)
    )
    async with database.read() as connection:
        return [RefreshToken(**row._asdict()) for row in await connection.execute(query)]


async def revoke_refresh_token(
    database: Database, *, actor: Actor, token_id: str, account_id: int | None = None
) -> None:
    """Let one open nothing from now on; with ``account_id`` one of that account.

    Raises:
        NotFoundError: there is none, or it is another's and the actor no administrator.
        DeniedError: a limited token asks.
    """
    revoking = delete(refresh_tokens).where(refresh_tokens.c.id == token_id)
    if whose(actor, None, "refresh tokens") is not None:
        revoking = revoking.where(refresh_tokens.c.account_id == actor.account_id)
    if account_id is not None:
        revoking = revoking.where(refresh_tokens.c.account_id == account_id)
    async with database.write() as connection:
        if (await connection.execute(revoking)).rowcount == 0:
            raise NotFoundError(f"there is no refresh token {token_id[:80]!r}")
        await record(connection, "refresh_token.revoked", None, actor, {}, target=token_id)
        await move_epoch(connection, "access")


async def _make_room(connection: AsyncConnection, actor: Actor, most: int) -> None:
    """Remove those of the credential that have ended, and what is too many."""
    own = and_(refresh_tokens.c.account_id == actor.account_id, refresh_tokens.c.token_id == actor.token_id)
    await connection.execute(delete(refresh_tokens).where(own, refresh_tokens.c.expires_at <= db_time()))
    used = func.coalesce(refresh_tokens.c.last_used_at, refresh_tokens.c.created_at)
    kept = select(refresh_tokens.c.id).where(own).order_by(used.desc()).limit(most - 1)
    await connection.execute(delete(refresh_tokens).where(own, refresh_tokens.c.id.not_in(kept)))
