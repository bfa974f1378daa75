"""API tokens that will expire: told once, a week before, and not by a pipeline that fails."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, select, type_coerce, update

from registry.auth.accountnames import namespace_of_robot
from registry.auth.actor import REGISTRY
from registry.db.accounts import accounts, tokens
from registry.db.outbox import record
from registry.db.types import db_time

if TYPE_CHECKING:
    from registry.db.engine import Database

BEFORE = timedelta(days=7)
_AT_ONCE = 200


async def tell_expiring(database: Database) -> int:
    """Tell of tokens that end within :data:`BEFORE` and were made for longer; how many."""
    told = 0
    while True:
        count = await _tell_some(database)
        told += count
        if count < _AT_ONCE:
            return told


async def _tell_some(database: Database) -> int:
    life = type_coerce(tokens.c.expires_at, BigInteger) - type_coerce(tokens.c.created_at, BigInteger)
    soon = (
        select(
            tokens.c.id, tokens.c.name, tokens.c.expires_at, accounts.c.name.label("account"), accounts.c.kind
        )
        .join(accounts, accounts.c.id == tokens.c.account_id)
        .where(
            tokens.c.revoked_at.is_(None),
            tokens.c.expiry_told_at.is_(None),
            tokens.c.expires_at > db_time(),
            tokens.c.expires_at <= db_time(BEFORE),
            life > BEFORE // timedelta(microseconds=1),
            accounts.c.disabled_at.is_(None),
        )
        .order_by(tokens.c.expires_at)
        .limit(_AT_ONCE)
    )
    async with database.read_once() as connection:
        if (await connection.execute(soon.limit(1))).first() is None:
            return 0
    async with database.write() as connection:
        rows = (await connection.execute(soon.with_for_update(of=tokens, skip_locked=True))).all()
        for row in rows:
            place = f"{namespace_of_robot(row.account)}/" if row.kind == "robot" else None
            said = {"name": row.name, "account": row.account, "expires_at": row.expires_at.isoformat()}
            await record(connection, "token.expiring", place, REGISTRY, said, target=row.id)
        await connection.execute(
            update(tokens).where(tokens.c.id.in_([row.id for row in rows])).values(expiry_told_at=db_time())
        )
    return len(rows)
