"""First start: the administrator and the token that opens everything, once per database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils import uuid7

from registry.auth.actor import HOST
from registry.auth.apitokens import is_token, new_token, token_hash
from registry.auth.privatefiles import write_private
from registry.db.accounts import accounts, tokens
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import Database, move_epoch
from registry.db.outbox import record
from registry.db.types import db_time
from registry.settings import Settings, SettingsError

ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class FirstStart:
    """What was made, for the lines to copy."""

    account: str
    token_file: Path


def admin_token_file(settings: Settings) -> Path:
    """Where first start leaves the administrator's token."""
    return settings.admin_token_file or settings.data / "admin.token"


async def ensure_admin(database: Database, settings: Settings) -> FirstStart | None:
    """Make the account ``admin`` and its token where there is none; ``None`` where there was.

    The token is durable in its file before its row commits: a crash between the two finds it there at the
    next start and uses it. Of several processes that start at once the database lets one make the account.

    Raises:
        SettingsError: the token file cannot be written, or holds something else.
    """
    async with database.read() as connection:
        if await _has_users(connection):
            return None
    path = admin_token_file(settings)
    async with database.write() as connection:
        # Somebody may have deleted 'admin' in favour of others: it does not come back by a restart.
        account_id = None if await _has_users(connection) else await _insert_admin(connection)
        if account_id is None:
            return None
        await _insert_token(connection, account_id, _token_text(path), name="first start")
        await record(connection, "user.created", None, HOST, {"admin": True}, target=ADMIN)
        await move_epoch(connection, "access")
    return FirstStart(account=ADMIN, token_file=path)


async def _insert_token(connection: AsyncConnection, account_id: int, text: str, *, name: str) -> None:
    await connection.execute(
        tokens.insert().values(
            id=str(uuid7()),
            account_id=account_id,
            name=name,
            secret_hash=token_hash(text),
            scopes=None,
            created_at=db_time(),
        )
    )


async def _has_users(connection: AsyncConnection) -> bool:
    users = select(accounts.c.id).where(accounts.c.kind == "user").limit(1)
    return (await connection.execute(users)).first() is not None


async def _insert_admin(connection: AsyncConnection) -> int | None:
    values = {"name": ADMIN, "kind": "user", "is_admin": True, "created_at": db_time()}
    made = await connection.execute(
        insert_ignoring_conflict(connection, accounts, values).returning(accounts.c.id)
    )
    account_id: int | None = made.scalar_one_or_none()
    return account_id


def _token_text(path: Path) -> str:
    try:
        if not path.exists():
            write_private(path, new_token())
        text = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise SettingsError(f"admin_token_file: {path} cannot be used: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    if not is_token(text):
        raise SettingsError(f"admin_token_file: {path} exists and holds no API token; move it away")
    return text
