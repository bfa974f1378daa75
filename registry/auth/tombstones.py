"""Tombstones: names of repositories that were given up, by deleting, renaming or moving away.

What names one of them exactly and is older than that opens nothing there, whoever has the name now: neither
an API token nor a registry token. Patterns and roles are not concerned: they speak of a place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.epochcache import EpochCache
from registry.auth.scopes import Scope
from registry.db.access import tombstones
from registry.db.accounts import tokens
from registry.db.dialect import batches, insert
from registry.db.engine import Database
from registry.db.events import epochs
from registry.db.types import db_time

_SECONDS = 3600.0


async def bury(connection: AsyncConnection, *names: str) -> None:
    """Write down that the names were given up, in the transaction that did it and after that has taken hold
    of the access epoch: nobody else moves it until the transaction ends."""
    if not names:
        return
    epoch = (await connection.execute(select(epochs.c.access))).scalar_one()
    values = {"deleted_at": db_time(), "epoch": epoch}
    burying = insert(connection, tombstones).values(name=bindparam("buried"), **values)
    await connection.execute(
        burying.on_conflict_do_update(index_elements=["name"], set_=values),
        [{"buried": name} for name in names],
    )


def names_of(scopes: Iterable[Scope]) -> frozenset[str]:
    """The repositories that these scopes name exactly."""
    return frozenset(scope.name for scope in scopes if scope.type == "repository" and "*" not in scope.name)


async def given_up_since_made(database: Database, token_id: str, names: Collection[str]) -> frozenset[str]:
    """Those of the names that were given up after the API token had been made."""
    query = (
        select(tombstones.c.name)
        .join(tokens, tokens.c.created_at <= tombstones.c.deleted_at)
        .where(tokens.c.id == token_id)
    )
    return await _among(database, query, names)


@dataclass(frozen=True, slots=True)
class Tombstones:
    """What registry tokens are held against: one per process. Nothing is asked while nothing was given up."""

    database: Database
    _newest: EpochCache[int]

    async def since(self, signed: int, names: Collection[str], *, epoch: int) -> frozenset[str]:
        """Those of the names that were given up after the access epoch ``signed``; ``epoch`` is the present
        one, read just now."""
        if not names:
            return frozenset()
        known = self._newest.get(b"", epoch=epoch)
        if known is None:
            async with self.database.read_once() as connection:
                newest = (await connection.execute(select(func.max(tombstones.c.epoch)))).scalar() or 0
            self._newest.put(b"", newest, epoch=epoch, seconds=_SECONDS)
        else:
            newest = known[0]
        if signed >= newest:
            return frozenset()
        query = select(tombstones.c.name).where(tombstones.c.epoch > signed)
        return await _among(self.database, query, names)


async def _among(database: Database, query: Select[tuple[str]], names: Collection[str]) -> frozenset[str]:
    found: set[str] = set()
    async with database.read() as connection:
        for batch in batches(names):
            rows = await connection.execute(query.where(tombstones.c.name.in_(batch)))
            found |= {row.name for row in rows}
    return frozenset(found)
