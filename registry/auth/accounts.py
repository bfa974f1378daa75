"""Accounts of people: made, listed, changed, disabled and deleted by administrators."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from registry.auth import voiding
from registry.auth.access import LOOKING, require_admin, require_auditor
from registry.auth.accountnames import after_prefix, is_prefix, parse_user_name
from registry.auth.administrators import hold_administrators, require_another, require_unlimited
from registry.db.accounts import accounts
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import Database, move_epoch
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.auth.passwords import Passwords
    from registry.oci.conditions import Conditions
    from registry.storage.store import BlobStore

_COLUMNS = select(
    accounts.c.id,
    accounts.c.name,
    accounts.c.is_admin,
    accounts.c.is_auditor,
    accounts.c.password_hash.is_not(None).label("has_password"),
    accounts.c.created_at,
    accounts.c.disabled_at,
).where(accounts.c.kind == "user")


@dataclass(frozen=True, slots=True)
class Account:
    """A person's account as its row says. ``is_auditor``: reads everything, changes nothing."""

    id: int
    name: str
    is_admin: bool
    is_auditor: bool
    has_password: bool
    created_at: datetime
    disabled_at: datetime | None

    @property
    def etag(self) -> str:
        """The entity tag of what :func:`change_user` changes."""
        flags = (self.is_admin, self.is_auditor, self.disabled_at is not None)
        return f"{self.id}-{''.join(str(int(flag)) for flag in flags)}"


@dataclass(frozen=True, slots=True)
class AccountChange:
    """What to change; ``None`` leaves it."""

    is_admin: bool | None = None
    is_auditor: bool | None = None
    is_disabled: bool | None = None


def new_password() -> str:
    """A password that nobody has to think of."""
    return secrets.token_urlsafe(24)


async def create_user(
    database: Database,
    passwords: Passwords,
    *,
    actor: Actor,
    name: str,
    password: str,
    is_admin: bool,
    is_auditor: bool = False,
) -> Account:
    """Make an account that signs in with ``password``.

    Raises:
        DeniedError: the actor is no administrator; or its token is limited, and the user would be one or
            an auditor.
        RequestInvalidError: a name or password that is not allowed.
        ConflictError: the name is taken.
    """
    require_admin(actor)
    parse_user_name(name)
    wanted = AccountChange(is_admin=is_admin, is_auditor=is_auditor)
    _require_may_give(actor, wanted)
    hashed = await passwords.hash(password)
    async with database.write() as connection:
        made = await _insert(connection, name, wanted, actor=actor, password_hash=hashed)
        if made is None:
            raise ConflictError(f"there is an account {name!r} already")
        return made


async def put_user(
    database: Database,
    blobs: BlobStore,
    *,
    actor: Actor,
    name: str,
    wanted: AccountChange,
    conditions: Conditions,
) -> tuple[Account, bool]:
    """Have a user as ``wanted``: a new one, who has no password yet, or one that there is; and whether it is
    new.

    Raises:
        DeniedError, RequestInvalidError, ConflictError: as :func:`create_user` and :func:`change_user`.
        PreconditionFailedError: ``conditions`` do not hold.
    """
    require_admin(actor)
    parse_user_name(name)
    _require_may_give(actor, wanted)
    async with database.write() as connection:
        held = await hold_administrators(connection, actor)
        account = await _held(connection, name)
        conditions.require(account.etag if account else None, f"user {name}")
        if account is None:
            made = await _insert(connection, name, wanted, actor=actor, password_hash=None)
            if made is not None:
                return made, True
            account = await _held(connection, name)  # made by an issuer in this moment
            conditions.require(account.etag if account else None, f"user {name}")
        if account is None:
            raise ConflictError(f"{name!r} is the name of an account that is no user's")
        changed, uploads = await _change(connection, account, wanted, held=held, actor=actor)
    await voiding.forget(blobs, uploads)
    return changed, False


async def list_users(
    database: Database, *, actor: Actor, limit: int, after: str | None, prefix: str = ""
) -> list[Account]:
    """At most ``limit`` accounts of people by name, those after ``after`` whose names begin with ``prefix``.

    Raises:
        DeniedError: the actor is neither administrator nor auditor.
    """
    require_auditor(actor, LOOKING)
    if not is_prefix(prefix):
        return []
    query = _COLUMNS.where(accounts.c.name > (after or ""), accounts.c.name >= prefix)
    query = query.where(accounts.c.name < after_prefix(prefix)).order_by(accounts.c.name).limit(limit)
    async with database.read_once() as connection:
        return [Account(**row._asdict()) for row in await connection.execute(query)]


async def show_user(database: Database, *, actor: Actor, name: str) -> Account:
    """One user: oneself, or anybody for administrators and auditors.

    Raises:
        DeniedError: it is another's account.
        NotFoundError: there is no such user.
    """
    if actor.kind != "user" or actor.name != name:
        require_auditor(actor, LOOKING)
    async with database.read_once() as connection:
        row = (await connection.execute(_COLUMNS.where(accounts.c.name == name))).one_or_none()
    if row is None:
        raise no_user(name)
    return Account(**row._asdict())


async def change_user(
    database: Database,
    blobs: BlobStore,
    *,
    actor: Actor,
    name: str,
    wanted: AccountChange,
    conditions: Conditions,
) -> Account:
    """Change what a user is, or whether it may do anything.

    Who is disabled is refused with password, tokens and sessions at once, and its uploads end. When it is
    enabled again, password and API tokens work again, sessions and registry tokens of before do not.

    Raises:
        DeniedError: the actor is no administrator; or its token is limited, and would make or enable one or
            an auditor.
        NotFoundError: there is no such user.
        ConflictError: it is the last administrator that can sign in.
        PreconditionFailedError: ``conditions`` do not hold.
    """
    require_admin(actor)
    _require_may_give(actor, wanted)
    async with database.write() as connection:
        held = await hold_administrators(connection, actor)
        account = await _held(connection, name)
        if account is None:
            raise no_user(name)
        conditions.require(account.etag, f"user {name}")
        changed, uploads = await _change(connection, account, wanted, held=held, actor=actor)
    await voiding.forget(blobs, uploads)
    return changed


async def delete_user(
    database: Database, blobs: BlobStore, *, actor: Actor, name: str, conditions: Conditions
) -> None:
    """Remove a user with its tokens, sessions, uploads, roles and memberships. Histories keep its name, and
    whoever has that name later inherits nothing.

    Raises:
        DeniedError: the actor is no administrator.
        NotFoundError: there is no such user.
        ConflictError: it is the last administrator that can sign in.
        PreconditionFailedError: ``conditions`` do not hold.
    """
    require_admin(actor)
    async with database.write() as connection:
        held = await hold_administrators(connection, actor)
        account = await _held(connection, name)
        if account is None:
            raise no_user(name)
        conditions.require(account.etag, f"user {name}")
        require_another(held, account.id, name)
        uploads = await voiding.remove(connection, account.id)
        await record(connection, "user.deleted", None, actor, {}, target=name)
        await move_epoch(connection, "access")
    await voiding.forget(blobs, uploads)


def no_user(name: str) -> NotFoundError:
    """The error for a user that there is not."""
    return NotFoundError(f"there is no user {name[:80]!r}")


def _require_may_give(actor: Actor, wanted: AccountChange) -> None:
    if wanted.is_admin or wanted.is_auditor:
        require_unlimited(actor, "makes no administrator and no auditor")


async def _held(connection: AsyncConnection, name: str) -> Account | None:
    query = _COLUMNS.where(accounts.c.name == name).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else Account(**row._asdict())


async def _insert(
    connection: AsyncConnection, name: str, wanted: AccountChange, *, actor: Actor, password_hash: str | None
) -> Account | None:
    values: dict[str, Any] = {
        "name": name,
        "kind": "user",
        "is_admin": bool(wanted.is_admin),
        "is_auditor": bool(wanted.is_auditor),
        "password_hash": password_hash,
        "created_at": db_time(),
        "disabled_at": db_time() if wanted.is_disabled else None,
    }
    inserted = await connection.execute(
        insert_ignoring_conflict(connection, accounts, values).returning(accounts.c.id)
    )
    account_id = inserted.scalar_one_or_none()
    if account_id is None:
        return None
    row = (await connection.execute(_COLUMNS.where(accounts.c.id == account_id))).one()
    made = Account(**row._asdict())
    data = {"admin": made.is_admin, "auditor": made.is_auditor, "disabled": made.disabled_at is not None}
    await record(connection, "user.created", None, actor, data, target=name)
    return made


async def _change(
    connection: AsyncConnection,
    account: Account,
    wanted: AccountChange,
    *,
    held: frozenset[int],
    actor: Actor,
) -> tuple[Account, list[str]]:
    is_admin = account.is_admin if wanted.is_admin is None else wanted.is_admin
    is_auditor = account.is_auditor if wanted.is_auditor is None else wanted.is_auditor
    was_disabled = account.disabled_at is not None
    is_disabled = was_disabled if wanted.is_disabled is None else wanted.is_disabled
    if account.id in held and (is_disabled or not is_admin):
        require_another(held, account.id, account.name)
    changes = {
        name: [old, new]
        for name, old, new in (
            ("admin", account.is_admin, is_admin),
            ("auditor", account.is_auditor, is_auditor),
        )
        if old is not new
    }
    if changes:
        await connection.execute(
            update(accounts)
            .where(accounts.c.id == account.id)
            .values(is_admin=is_admin, is_auditor=is_auditor)
        )
        await record(connection, "user.changed", None, actor, changes, target=account.name)
    uploads: list[str] = []
    if is_disabled and not was_disabled:
        uploads = await voiding.disable(connection, account.id, account.name)
        await record(connection, "user.disabled", None, actor, {}, target=account.name)
    if was_disabled and not is_disabled:
        if is_admin or is_auditor:
            require_unlimited(actor, f"enables no {account.name}, an administrator or auditor")
        await voiding.enable(connection, account.id)
        await record(connection, "user.enabled", None, actor, {}, target=account.name)
    if changes or is_disabled is not was_disabled:
        await move_epoch(connection, "access")
    row = (await connection.execute(_COLUMNS.where(accounts.c.id == account.id))).one()
    return Account(**row._asdict()), uploads
