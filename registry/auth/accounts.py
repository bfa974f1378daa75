"""Accounts of people: made, listed, disabled, and given back to their owner."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update

from registry.auth.access import require_admin
from registry.auth.actor import Actor
from registry.auth.passwords import Passwords
from registry.auth.sessions import end_sessions
from registry.db.accounts import accounts, tokens
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import Database, move_epoch
from registry.db.types import db_time
from registry.errors import ConflictError, NotFoundError, RequestInvalidError

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_RESERVED = frozenset({"anonymous", "host", "oidc", "registry"})
_COLUMNS = select(
    accounts.c.id, accounts.c.name, accounts.c.is_admin, accounts.c.created_at, accounts.c.disabled_at
)


@dataclass(frozen=True, slots=True)
class Account:
    """A person's account as its row says."""

    id: int
    name: str
    is_admin: bool
    created_at: datetime
    disabled_at: datetime | None


def parse_account_name(text: str) -> str:
    """Check the name of a user or worker.

    Raises:
        RequestInvalidError: outside the grammar.
    """
    if not _NAME.fullmatch(text) or text in _RESERVED:
        raise RequestInvalidError(
            f"{text[:80]!r} is not a name for an account: 1 to 64 lower-case letters, digits, '.', '_', '-', "
            "the first and last a letter or digit"
        )
    return text


def new_password() -> str:
    """A password that nobody has to think of."""
    return secrets.token_urlsafe(24)


async def create_user(
    database: Database, passwords: Passwords, *, actor: Actor, name: str, password: str, is_admin: bool
) -> Account:
    """Make an account.

    Raises:
        DeniedError: the actor is no administrator.
        RequestInvalidError: a name or password that is not allowed.
        ConflictError: the name is taken.
    """
    require_admin(actor)
    parse_account_name(name)
    values = {
        "name": name,
        "kind": "user",
        "is_admin": is_admin,
        "password_hash": await passwords.hash(password),
        "created_at": db_time(),
    }
    async with database.write() as connection:
        made = await connection.execute(
            insert_ignoring_conflict(connection, accounts, values).returning(accounts.c.id)
        )
        account_id = made.scalar_one_or_none()
        if account_id is None:
            raise ConflictError(f"there is an account {name!r} already")
        row = (await connection.execute(_COLUMNS.where(accounts.c.id == account_id))).one()
        return Account(**row._asdict())


async def list_users(database: Database, *, actor: Actor, limit: int, after: str | None) -> list[Account]:
    """At most ``limit`` accounts of people by name, those after ``after``.

    Raises:
        DeniedError: the actor is no administrator.
    """
    require_admin(actor)
    query = _COLUMNS.where(accounts.c.kind == "user", accounts.c.name > (after or ""))
    async with database.read() as connection:
        rows = await connection.execute(query.order_by(accounts.c.name).limit(limit))
        return [Account(**row._asdict()) for row in rows]


async def disable_user(database: Database, *, actor: Actor, name: str) -> None:
    """Let an account do nothing from now on; its passwords, API tokens and registry tokens are refused.

    Raises:
        DeniedError: the actor is no administrator.
        NotFoundError: there is no such account.
        ConflictError: it is the last administrator that can sign in.
    """
    require_admin(actor)
    async with database.write() as connection:
        # All administrators' rows: two who disable each other at once must not both succeed.
        admins = await connection.execute(
            select(accounts.c.name)
            .where(accounts.c.is_admin, accounts.c.disabled_at.is_(None))
            .order_by(accounts.c.id)
            .with_for_update()
        )
        if set(admins.scalars()) == {name}:
            raise ConflictError(f"{name} is the last administrator; make another one first")
        done = await connection.execute(
            update(accounts)
            .where(accounts.c.name == name, accounts.c.kind == "user")
            .values(disabled_at=func.coalesce(accounts.c.disabled_at, db_time()), credentials_after=db_time())
        )
        if done.rowcount == 0:
            raise NotFoundError(f"there is no account {name!r}")
        await end_sessions(connection, name)
        await move_epoch(connection, "access")


async def set_password(database: Database, passwords: Passwords, *, name: str, password: str) -> None:
    """Give an account a new password, enable it, end its sessions, and revoke the tokens that may do all that
    it may.

    For whoever holds the data folder: nobody is asked for a right.

    Raises:
        NotFoundError: there is no such account.
        RequestInvalidError: a password that is not allowed.
    """
    hashed = await passwords.hash(password)
    async with database.write() as connection:
        found = await connection.execute(
            update(accounts)
            .where(accounts.c.name == name, accounts.c.kind == "user")
            .values(password_hash=hashed, disabled_at=None, credentials_after=db_time())
            .returning(accounts.c.id)
        )
        account_id = found.scalar_one_or_none()
        if account_id is None:
            raise NotFoundError(f"there is no account {name!r}")
        await connection.execute(
            update(tokens)
            .where(
                tokens.c.account_id == account_id, tokens.c.scopes.is_(None), tokens.c.revoked_at.is_(None)
            )
            .values(revoked_at=db_time())
        )
        await end_sessions(connection, name)
        await move_epoch(connection, "access")
