"""API tokens: made, listed and revoked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils import uuid7

from registry.auth.access import require_admin
from registry.auth.accountnames import parse_account_name
from registry.auth.actor import Actor
from registry.auth.apitokens import new_token, token_hash
from registry.auth.policy import may_administer
from registry.auth.scopes import parse_token_scope
from registry.db.accounts import accounts, tokens, workers
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import Database, move_epoch
from registry.db.types import db_time
from registry.errors import ConflictError, DeniedError, NotFoundError, RequestInvalidError

WORKER_SCOPE = "worker"
MAX_NAME = 100
MAX_SCOPES = 100
MAX_EXPIRES_SECONDS = 10 * 366 * 24 * 3600


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token as its row says; the secret is not among it. ``scopes`` ``None``: all its account may do."""

    id: str
    name: str
    account: str
    scopes: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, repr=False)
class NewToken:
    """A token just made, with the secret that nobody can read again."""

    token: ApiToken
    secret: str


async def create_token(
    database: Database,
    *,
    actor: Actor,
    name: str,
    scopes: Sequence[str],
    expires_seconds: int | None,
    account: str | None = None,
) -> NewToken:
    """Make a token for the actor's account, or as an administrator for another's.

    Raises:
        DeniedError: the actor's credential is itself limited, or the account is another's.
        NotFoundError: there is no such account, or it is disabled.
        RequestInvalidError: a scope, name or time that is not allowed.
    """
    if actor.kind != "user" or not (actor.scopes is None or may_administer(actor)):
        raise DeniedError(
            f"a limited token of {actor.shown} makes no other tokens; sign in with the password"
        )
    if account not in (None, actor.name) and not may_administer(actor):
        raise DeniedError(f"{actor.shown} makes no tokens for others; an administrator can")
    if not 1 <= len(scopes) <= MAX_SCOPES:
        raise RequestInvalidError(f"a token has 1 to {MAX_SCOPES} scopes")
    texts = [_canonical_scope(scope) for scope in scopes]
    if WORKER_SCOPE in texts:
        raise RequestInvalidError("a worker's token is made for a worker, not with a scope")
    async with database.write() as connection:
        found = await connection.execute(
            select(accounts.c.id, accounts.c.name, accounts.c.is_admin)
            .where(accounts.c.name == (account or actor.name), accounts.c.kind == "user")
            .where(accounts.c.disabled_at.is_(None))
            .with_for_update(read=True)
        )
        owner = found.one_or_none()
        if owner is None:
            raise NotFoundError(f"there is no account {account!r}, or it is disabled")
        if "admin" in texts and not owner.is_admin:
            raise RequestInvalidError(f"scope 'admin' needs an administrator, and {owner.name} is none")
        return await _insert(
            connection,
            account_id=owner.id,
            name=name,
            scopes=tuple(dict.fromkeys(texts)),
            expires_seconds=expires_seconds,
        )


async def create_worker_token(
    database: Database, *, actor: Actor, worker: str, expires_seconds: int | None
) -> NewToken:
    """Make a token for a worker, and the worker where there is none; a revoked one is let in again.

    Raises:
        DeniedError: the actor is no administrator.
        ConflictError: a person has that name.
        RequestInvalidError: a name or time that is not allowed.
    """
    require_admin(actor)
    async with database.write() as connection:
        return await add_worker_token(connection, worker=worker, expires_seconds=expires_seconds)


async def add_worker_token(
    connection: AsyncConnection, *, worker: str, expires_seconds: int | None
) -> NewToken:
    """As :func:`create_worker_token`, for whoever holds the database.

    Raises:
        ConflictError, RequestInvalidError: as there.
    """
    parse_account_name(worker)
    values = {"name": worker, "kind": "worker", "is_admin": False, "created_at": db_time()}
    await connection.execute(insert_ignoring_conflict(connection, accounts, values))
    found = await connection.execute(
        select(accounts.c.id, accounts.c.disabled_at)
        .where(accounts.c.name == worker, accounts.c.kind == "worker")
        .with_for_update()
    )
    account = found.one_or_none()
    if account is None:
        raise ConflictError(f"{worker!r} is the account of a person; give the worker another name")
    account_id = account.id
    await connection.execute(insert_ignoring_conflict(connection, workers, {"account_id": account_id}))
    if account.disabled_at is not None:
        # What revoking did to the worker; its tokens stay revoked.
        await connection.execute(update(accounts).where(accounts.c.id == account_id).values(disabled_at=None))
        await connection.execute(
            update(workers).where(workers.c.account_id == account_id).values(drain_at=None)
        )
    made = await _insert(
        connection,
        account_id=account_id,
        name=worker,
        scopes=(WORKER_SCOPE,),
        expires_seconds=expires_seconds,
    )
    await move_epoch(connection, "access")
    return made


async def is_known_token(connection: AsyncConnection, hashed: str) -> bool:
    """Whether a token with this hash was ever made here, whatever became of it."""
    found = await connection.execute(select(tokens.c.id).where(tokens.c.secret_hash == hashed))
    return found.first() is not None


async def list_tokens(database: Database, *, actor: Actor, limit: int, after: str | None) -> list[ApiToken]:
    """At most ``limit`` tokens by age, those after the id ``after``: for an administrator all, else own, and
    with a limited token only that one."""
    query = _SHOWN.where(tokens.c.id > (after or "")).order_by(tokens.c.id).limit(limit)
    if not may_administer(actor):
        query = query.where(tokens.c.account_id == actor.account_id)
        if actor.scopes is not None:
            query = query.where(tokens.c.id == actor.token_id)
    async with database.read() as connection:
        return [_token(row._asdict()) for row in await connection.execute(query)]


async def revoke_token(database: Database, *, actor: Actor, token_id: str) -> None:
    """Let a token open nothing from now on, nor the registry tokens made with it.

    Raises:
        NotFoundError: there is no such token, or it is another's and the actor no administrator.
        DeniedError: the actor's credential is limited to other things.
    """
    if actor.scopes is not None and not may_administer(actor) and actor.token_id != token_id:
        raise DeniedError(f"a limited token of {actor.shown} revokes only itself")
    revoking = update(tokens).where(tokens.c.id == token_id)
    if not may_administer(actor):
        revoking = revoking.where(tokens.c.account_id == actor.account_id)
    async with database.write() as connection:
        done = await connection.execute(
            revoking.values(revoked_at=func.coalesce(tokens.c.revoked_at, db_time()))
        )
        if done.rowcount == 0:
            raise NotFoundError(f"there is no token {token_id[:80]!r}")
        await move_epoch(connection, "access")


async def _insert(
    connection: AsyncConnection,
    *,
    account_id: int,
    name: str,
    scopes: tuple[str, ...],
    expires_seconds: int | None,
) -> NewToken:
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise RequestInvalidError(f"the name of a token has 1 to {MAX_NAME} printable characters")
    if expires_seconds is not None and not 1 <= expires_seconds <= MAX_EXPIRES_SECONDS:
        raise RequestInvalidError("a token expires after 1 second at least and 10 years at most")
    secret, token_id = new_token(), str(uuid7())
    expires_at = None if expires_seconds is None else db_time(timedelta(seconds=expires_seconds))
    await connection.execute(
        tokens.insert().values(
            id=token_id,
            account_id=account_id,
            name=name,
            secret_hash=token_hash(secret),
            scopes=json.dumps(scopes),
            created_at=db_time(),
            expires_at=expires_at,
        )
    )
    row = (await connection.execute(_SHOWN.where(tokens.c.id == token_id))).one()
    return NewToken(token=_token(row._asdict()), secret=secret)


_SHOWN = select(
    tokens.c.id,
    tokens.c.name,
    accounts.c.name.label("account"),
    tokens.c.scopes,
    tokens.c.created_at,
    tokens.c.expires_at,
    tokens.c.revoked_at,
    tokens.c.last_used_at,
).join(accounts, accounts.c.id == tokens.c.account_id)


def _token(row: dict[str, Any]) -> ApiToken:
    scopes = None if row["scopes"] is None else tuple(json.loads(row["scopes"]))
    return ApiToken(**{**row, "scopes": scopes})


def _canonical_scope(text: str) -> str:
    scope = parse_token_scope(text)
    return text if scope.type != "repository" else str(scope)
