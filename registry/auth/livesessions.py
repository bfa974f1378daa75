"""The session of a cookie, as it stands now. One look at the rows is good until the access epoch moves."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, bindparam, case, select, type_coerce, update

from registry.auth.epochcache import EpochCache
from registry.auth.sessions import ENDED, hash_of_secret
from registry.auth.standing import require_place, still_good
from registry.auth.uses import Use, Uses
from registry.db.accounts import accounts
from registry.db.sessions import sessions
from registry.db.types import UtcTime, db_time
from registry.errors import UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.auth.actor import Actor
    from registry.auth.credentials import Credentials
    from registry.db.engine import Database
    from registry.settings import Settings

CACHED_SECONDS = 60.0

_LIVING = (
    select(
        sessions.c.id,
        sessions.c.account_id,
        sessions.c.token_id,
        (type_coerce(sessions.c.expires_at, BigInteger) - type_coerce(db_time(), BigInteger)).label(
            "microseconds_left"
        ),
    )
    .join(accounts, accounts.c.id == sessions.c.account_id)
    .where(
        sessions.c.secret_hash == bindparam("secret_hash"),
        sessions.c.expires_at > db_time(),
        still_good(sessions.c.created_at),
    )
)


class LiveSessions:
    """One per process."""

    def __init__(self, database: Database, settings: Settings, *, credentials: Credentials) -> None:
        self._database = database
        self._credentials = credentials
        self._cache: EpochCache[Actor] = EpochCache()
        self._using = _using(settings)
        self._uses = Uses("session", self._write_uses)

    async def actor_of(self, secret: str, *, address: str | None, client: str | None) -> Actor:
        """The actor of a cookie's value; that it was used, from ``address`` by ``client``, is noted.

        Raises:
            UnauthorizedError: there is no such session, or no longer; or the API token that it began with may
                not be used from ``address``.
        """
        hashed = hash_of_secret(secret)
        if hashed is None:
            raise UnauthorizedError(ENDED)
        key = hashed.encode()
        epoch = (await self._database.epochs()).access
        found = self._cache.get(key, epoch=epoch)
        actor = await self._look(hashed, key=key, epoch=epoch) if found is None else found[0]
        require_place(actor, address)
        assert actor.session_id is not None
        self._uses.note(actor.session_id, address=address, client=client)
        return actor

    async def close(self) -> None:
        """Write the uses that are not yet written."""
        await self._uses.close()

    async def _look(self, hashed: str, *, key: bytes, epoch: int) -> Actor:
        async with self._database.read_once() as connection:
            row = (await connection.execute(_LIVING, {"secret_hash": hashed})).one_or_none()
        if row is None:
            raise UnauthorizedError(ENDED)
        try:
            actor = await self._credentials.actor_of(row.account_id, row.token_id, epoch=epoch)
        except UnauthorizedError:
            raise UnauthorizedError(ENDED) from None
        if actor.kind != "user" or actor.scopes is not None:
            raise UnauthorizedError(ENDED)
        seconds = min(CACHED_SECONDS, row.microseconds_left / 1e6)
        until = min(time.monotonic() + seconds, actor.until)
        actor = replace(actor, session_id=row.id, until=until)
        self._cache.put(key, actor, epoch=epoch, seconds=until - time.monotonic())
        return actor

    async def _write_uses(self, uses: Mapping[str, Use]) -> None:
        rows = [
            {"which": session_id, "seen_address": use.address, "seen_client": use.client}
            for session_id, use in sorted(uses.items())
        ]
        async with self._database.write() as connection:
            await connection.execute(self._using, rows)


def _using(settings: Settings) -> Any:
    """Put off the end of a session that is used, up to the longest life that one may have."""
    longest = timedelta(seconds=settings.session_max_seconds) // timedelta(microseconds=1)
    latest = type_coerce(type_coerce(sessions.c.created_at, BigInteger) + longest, UtcTime)
    idle = db_time(timedelta(seconds=settings.session_idle_seconds))
    return (
        update(sessions)
        .where(sessions.c.id == bindparam("which"), sessions.c.expires_at > db_time())
        .values(
            last_used_at=db_time(),
            expires_at=case((latest < idle, latest), else_=idle),
            address=bindparam("seen_address"),
            client=bindparam("seen_client"),
        )
    )
