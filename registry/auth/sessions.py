"""Cookie sessions: how people who signed in stay known to pages and to ``/api/``.

A session acts as its account, with all that it may do. What it rests on is looked at under the access epoch:
it ends at once on every replica when it is ended, when its account is disabled or deleted, gets another
password or a new ``credentials_after``, and when the API token that it began with is revoked.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Row, delete, select
from uuid_utils import uuid7

from registry.auth.access import whose
from registry.auth.actor import Actor
from registry.db.accounts import accounts, tokens
from registry.db.engine import Database, move_epoch
from registry.db.outbox import record
from registry.db.sessions import sessions
from registry.db.sweeping import sweep
from registry.db.types import db_time
from registry.errors import DeniedError, NotFoundError, UnauthorizedError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.credentials import Credentials
    from registry.settings import Settings

MAX_PER_ACCOUNT = 100
"""Whoever signs in more often than that loses the oldest session."""
ENDED = "the session has ended; sign in again"
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Session:
    """A session as its row says; what opens it is not among it."""

    id: str
    account: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    address: str | None
    client: str | None


@dataclass(frozen=True, slots=True, repr=False)
class NewSession:
    """A session just begun; ``secret`` is the cookie's value, which nobody can read again."""

    id: str
    account: str
    secret: str


def hash_of_secret(secret: str) -> str | None:
    """What the row has of a cookie's value; ``None`` for what can be none."""
    return hashlib.sha256(secret.encode()).hexdigest() if _SECRET.fullmatch(secret) else None


async def start_session(
    connection: AsyncConnection,
    settings: Settings,
    *,
    account_id: int,
    address: str | None,
    client: str | None,
    token_id: str | None = None,
    replaced: str | None = None,
) -> NewSession:
    """Begin a session of a user whom the caller has just seen to be who he says, in the caller's transaction.

    ``address`` and ``client`` are for his list of sessions. ``token_id`` is the API token that he gave for a
    password. ``replaced`` is the cookie that he came with: its session ends, and its value is never used
    again.

    Raises:
        UnauthorizedError: the account is no user, or is disabled.
    """
    found = await connection.execute(
        select(accounts.c.id, accounts.c.name, accounts.c.is_admin)
        .where(accounts.c.id == account_id, accounts.c.kind == "user", accounts.c.disabled_at.is_(None))
        .with_for_update(read=True)
    )
    account = found.one_or_none()
    if account is None:
        raise UnauthorizedError("this account cannot sign in")
    gone = await _of_account(connection, account_id)
    ended = await _end(connection, sessions.c.id.in_(gone[MAX_PER_ACCOUNT - 1 :])) if gone else []
    if replaced is not None and (hashed := hash_of_secret(replaced)) is not None:
        ended += await _end(connection, sessions.c.secret_hash == hashed)
    secret, session_id = secrets.token_urlsafe(32), str(uuid7())
    lives = min(settings.session_idle_seconds, settings.session_max_seconds)
    await connection.execute(
        sessions.insert().values(
            id=session_id,
            account_id=account_id,
            token_id=token_id,
            secret_hash=hash_of_secret(secret),
            created_at=db_time(),
            last_used_at=db_time(),
            expires_at=db_time(timedelta(seconds=lives)),
            address=address,
            client=client,
        )
    )
    person = _person(account, address=address, client=client, token_id=token_id)
    await record(connection, "session.started", None, person, {}, target=session_id)
    for gone_id in ended:
        await record(connection, "session.ended", None, person, {"by": "another sign-in"}, target=gone_id)
    if ended:
        await move_epoch(connection, "access")
    return NewSession(id=session_id, account=account.name, secret=secret)


async def sign_in(
    database: Database,
    settings: Settings,
    credentials: Credentials,
    *,
    name: str,
    password: str,
    address: str | None,
    client: str | None,
    replaced: str | None,
) -> NewSession:
    """Begin a session by user name and password, or by an API token in place of the password that may do all
    that its account may.

    Raises:
        UnauthorizedError: not valid.
        DeniedError: the API token is limited, or no person's.
        TooManyRequestsError: too many passwords were wrong; this one was not looked at.
    """
    actor, password_hash = await credentials.for_session(name, password, address=address)
    if actor.kind != "user" or actor.scopes is not None:
        raise DeniedError(f"the token of {actor.shown} opens no session; sign in with a password")
    assert actor.account_id is not None
    # What was true while the password was hashed must still be true: it may have been changed meanwhile.
    still = select(accounts.c.id).where(accounts.c.id == actor.account_id)
    if actor.token_id is None:
        still = still.where(accounts.c.password_hash == password_hash)
    else:
        still = still.where(
            select(tokens.c.id).where(tokens.c.id == actor.token_id, tokens.c.revoked_at.is_(None)).exists()
        )
    async with database.write() as connection:
        locked = still.with_for_update(read=True, of=accounts)
        if (await connection.execute(locked)).first() is None:
            raise UnauthorizedError("the password has just been changed; sign in again")
        return await start_session(
            connection,
            settings,
            account_id=actor.account_id,
            address=address,
            client=client,
            token_id=actor.token_id,
            replaced=replaced,
        )


async def sign_out(database: Database, secret: str, *, address: str | None, client: str | None) -> None:
    """End the session of a cookie; fine when it has ended before."""
    hashed = hash_of_secret(secret)
    if hashed is None:
        return
    owner = (
        select(accounts.c.id, accounts.c.name, accounts.c.is_admin)
        .join(sessions, sessions.c.account_id == accounts.c.id)
        .where(sessions.c.secret_hash == hashed)
    )
    async with database.write() as connection:
        account = (await connection.execute(owner)).one_or_none()
        ended = await _end(connection, sessions.c.secret_hash == hashed)
        if account is None or not ended:
            return
        person = _person(account, address=address, client=client)
        await record(connection, "session.ended", None, person, {}, target=ended[0])
        await move_epoch(connection, "access")


async def list_sessions(
    database: Database, *, actor: Actor, account: str | None, limit: int, after: str | None
) -> list[Session]:
    """At most ``limit`` sessions by age, those after the id ``after``: for an administrator all, or those of
    ``account``; else own.

    Raises:
        DeniedError: the actor's credential is limited, or the account is another's.
    """
    query = _SHOWN.where(sessions.c.id > (after or ""), sessions.c.expires_at > db_time())
    owner = whose(actor, account, "sessions")
    if owner is not None:
        query = query.where(accounts.c.name == owner)
    async with database.read() as connection:
        rows = await connection.execute(query.order_by(sessions.c.id).limit(limit))
        return [Session(**row._asdict()) for row in rows]


async def revoke_session(
    database: Database, *, actor: Actor, session_id: str, account_id: int | None = None
) -> None:
    """End one session: an administrator's choice of all, or of those of an account; else an own one.

    Raises:
        DeniedError: the actor's credential is limited.
        NotFoundError: there is no such session, or it is another's.
    """
    which = sessions.c.id == session_id
    if whose(actor, None, "sessions") is not None:
        which &= sessions.c.account_id == actor.account_id
    if account_id is not None:
        which &= sessions.c.account_id == account_id
    async with database.write() as connection:
        if not await _end(connection, which):
            raise NotFoundError(f"there is no session {session_id[:80]!r}")
        await record(connection, "session.ended", None, actor, {}, target=session_id)
        await move_epoch(connection, "access")


async def revoke_sessions(database: Database, *, actor: Actor, account: str) -> int:
    """End all sessions of an account, and tell how many.

    Raises:
        DeniedError: the actor's credential is limited, or the account is another's.
        NotFoundError: there is no such account.
    """
    owner = whose(actor, account, "sessions")
    async with database.write() as connection:
        found = await connection.execute(select(accounts.c.id).where(accounts.c.name == owner))
        if found.first() is None:
            raise NotFoundError(f"there is no account {account[:80]!r}")
        ended = await end_sessions(connection, account)
        await record(connection, "session.ended", None, actor, {"sessions": ended}, target=account)
        await move_epoch(connection, "access")
        return ended


async def end_sessions(connection: AsyncConnection, account: str) -> int:
    """End all sessions of an account, in a transaction that moves the access epoch; how many there were.

    To be called after the account's own row was changed: a sign-in that holds that row until it commits is
    then seen, and one that comes later sees the change.
    """
    owner = select(accounts.c.id).where(accounts.c.name == account).scalar_subquery()
    return len(await _end(connection, sessions.c.account_id == owner))


async def sweep_expired(database: Database) -> int:
    """Forget what has expired; how many rows."""
    return await sweep(database, sessions.c.id, sessions.c.expires_at <= db_time())


_SHOWN = select(
    sessions.c.id,
    accounts.c.name.label("account"),
    sessions.c.created_at,
    sessions.c.last_used_at,
    sessions.c.expires_at,
    sessions.c.address,
    sessions.c.client,
).join(accounts, accounts.c.id == sessions.c.account_id)


def _person(
    account: Row[*tuple[Any, ...]], *, address: str | None, client: str | None, token_id: str | None = None
) -> Actor:
    """Who begins or ends a session, for the trail."""
    return Actor(
        kind="user",
        name=account.name,
        account_id=account.id,
        is_admin=account.is_admin,
        token_id=token_id,
        address=address,
        client=client,
    )


async def _of_account(connection: AsyncConnection, account_id: int) -> list[str]:
    """The newest sessions of an account, the newest first."""
    query = select(sessions.c.id).where(sessions.c.account_id == account_id).order_by(sessions.c.id.desc())
    return list((await connection.execute(query.limit(2 * MAX_PER_ACCOUNT))).scalars())


async def _end(connection: AsyncConnection, which: ColumnElement[bool]) -> list[str]:
    """The ids of those that there were."""
    return list((await connection.execute(delete(sessions).where(which).returning(sessions.c.id))).scalars())
