"""Passwords of users: changed by their owners, reset by administrators and by whoever holds the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, update
from uuid_utils import uuid7

from registry.auth.access import require_admin
from registry.auth.accounts import no_user
from registry.auth.actor import HOST
from registry.auth.administrators import require_unlimited
from registry.auth.apitokens import looks_like_api_token, new_token, token_hash
from registry.auth.firststart import ADMIN
from registry.auth.privatefiles import write_private
from registry.auth.tokenchanges import revoke
from registry.auth.voiding import void_credentials
from registry.db.accounts import accounts, tokens
from registry.db.engine import Database, move_epoch
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import ConflictError, DeniedError, UnauthorizedError
from registry.settings import SettingsError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.auth.credentials import Credentials
    from registry.auth.passwords import Passwords


async def change_own_password(
    database: Database, credentials: Credentials, *, actor: Actor, old: str, new: str
) -> None:
    """Let a user have another password. Sessions and registry tokens of before end; API tokens stay.

    Raises:
        DeniedError: no user, or ``old`` is not the password.
        TooManyRequestsError: too many passwords were tried; this one was not looked at.
        RequestInvalidError: a password that is not allowed.
        ConflictError: it was changed by another meanwhile.
    """
    if actor.kind != "user":
        raise DeniedError(f"{actor.shown} has no password")
    refusal = DeniedError("the old password is not right, so it stays as it is")
    if looks_like_api_token(old):
        raise refusal
    try:
        owner, stored = await credentials.for_session(actor.name, old, address=actor.address)
    except UnauthorizedError:
        raise refusal from None
    hashed = await credentials.passwords.hash(new)
    async with database.write() as connection:
        still = await connection.execute(
            update(accounts)
            .where(accounts.c.id == owner.account_id, accounts.c.password_hash == stored)
            .values(password_hash=hashed)
            .returning(accounts.c.id)
        )
        account_id = still.scalar_one_or_none()
        if account_id is None:
            raise ConflictError("the password has just been changed by another; nothing was done")
        await void_credentials(connection, account_id, actor.name)
        await record(connection, "user.changed", None, actor, {"password": "changed"}, target=actor.name)
        await move_epoch(connection, "access")


async def reset_password(
    database: Database,
    passwords: Passwords,
    *,
    actor: Actor,
    name: str,
    password: str,
    keep_tokens: bool,
) -> None:
    """Give a user another password. Sessions, registry tokens and API tokens of before open nothing any more;
    ``keep_tokens`` lets the API tokens be.

    Raises:
        DeniedError: the actor is no administrator; or its token is limited, and the user one or an auditor.
        NotFoundError: there is no such user.
        RequestInvalidError: a password that is not allowed.
    """
    require_admin(actor)
    hashed = await passwords.hash(password)
    async with database.write() as connection:
        account = await _held(connection, name)
        if account.is_admin or account.is_auditor:
            require_unlimited(actor, f"resets no password of {name}, an administrator or auditor")
        await _reset(
            connection, account.id, name, {"password_hash": hashed}, actor=actor, keep_tokens=keep_tokens
        )


async def reset_on_host(
    database: Database,
    passwords: Passwords,
    *,
    name: str,
    password: str,
    keep_tokens: bool,
    file: Path | None,
) -> None:
    """As :func:`reset_password`, for whoever holds the data folder: nobody is asked for a right, and the
    account is enabled. The password is written to ``file``, before it is one.

    Raises:
        NotFoundError, RequestInvalidError: as there.
        SettingsError: the file cannot be written.
    """
    hashed = await passwords.hash(password)
    async with database.write() as connection:
        account = await _held(connection, name)
        values = {"password_hash": hashed, "disabled_at": None}
        await _reset(connection, account.id, name, values, actor=HOST, keep_tokens=keep_tokens)
        if file is not None:
            _write(file, password)


async def renew_admin_token(database: Database, *, path: Path, keep_tokens: bool) -> None:
    """Give ``admin`` a new token in the file ``path``, enable it, and let it be an administrator again if it
    was made none.

    For whoever holds the data folder. What it signed in with before opens nothing any more; ``keep_tokens``
    lets its limited API tokens be.

    Raises:
        NotFoundError: there is no ``admin``.
        SettingsError: the file cannot be written.
    """
    text = new_token()
    async with database.write() as connection:
        account = await _held(connection, ADMIN)
        await connection.execute(
            update(tokens)
            .where(
                tokens.c.account_id == account.id, tokens.c.scopes.is_(None), tokens.c.revoked_at.is_(None)
            )
            .values(revoked_at=db_time())
        )
        values = {"password_hash": None, "disabled_at": None, "is_admin": True}
        await _reset(connection, account.id, ADMIN, values, actor=HOST, keep_tokens=keep_tokens)
        await connection.execute(
            tokens.insert().values(
                id=str(uuid7()),
                account_id=account.id,
                name="reset",
                secret_hash=token_hash(text),
                scopes=None,
                created_at=db_time(),
            )
        )
        _write(path, text)


def _write(path: Path, secret: str) -> None:
    try:
        write_private(path, secret)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from None


async def _held(connection: AsyncConnection, name: str) -> Row[Any, Any, Any]:
    query = select(accounts.c.id, accounts.c.is_admin, accounts.c.is_auditor)
    query = query.where(accounts.c.name == name, accounts.c.kind == "user").with_for_update()
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise no_user(name)
    return row


async def _reset(
    connection: AsyncConnection,
    account_id: int,
    name: str,
    values: dict[str, Any],
    *,
    actor: Actor,
    keep_tokens: bool,
) -> None:
    await connection.execute(update(accounts).where(accounts.c.id == account_id).values(**values))
    await void_credentials(connection, account_id, name)
    mine = tokens.c.account_id == account_id
    revoked = 0 if keep_tokens else await revoke(connection, actor, mine)
    data = {"password": "reset", "tokens_revoked": revoked}
    await record(connection, "user.changed", None, actor, data, target=name)
    await move_epoch(connection, "access")
