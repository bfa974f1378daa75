"""Workers: listed, shown, drained and revoked. A worker is an account of its own kind, made with its first
token."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.access import require_admin
from registry.auth.actor import Actor
from registry.db.accounts import accounts, tokens, workers
from registry.db.engine import Database, move_epoch
from registry.db.outbox import record
from registry.db.trials import parts
from registry.db.types import db_time
from registry.errors import NotFoundError
from registry.oci.conditions import entity_tag


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as its rows say; ``mechanisms`` are the isolation that its runs can have, and what it knows of
    run specs that not every worker does (``None``: it does not say); ``disk_bytes`` is what one more image
    may take on its disk, ``disk_most_bytes`` with nothing else there (``None``: it does not say);
    ``drain_at`` is since when it gets no more jobs. For ``namespaces`` to ``slots`` see
    :mod:`registry.auth.bindings`; ``leases`` are those that it holds."""

    name: str
    platforms: tuple[str, ...]
    mechanisms: tuple[str, ...] | None
    disk_bytes: int | None
    disk_most_bytes: int | None
    address: str | None
    last_seen_at: datetime | None
    drain_at: datetime | None
    revoked_at: datetime | None
    namespaces: tuple[str, ...] | None
    labels: tuple[str, ...]
    networks: tuple[str, ...] | None
    slots: int | None
    leases: int
    waiting_parts: int = 0
    """Parts that wait for room on its disk, as no other worker has it."""
    needed_bytes: int | None = None
    """The most that one of them needs."""

    @property
    def etag(self) -> str:
        """The entity tag of what it is bound to."""
        return entity_tag(self.name, self.namespaces, self.labels, self.networks, self.slots)


async def list_workers(database: Database, *, actor: Actor, limit: int, after: str | None) -> list[Worker]:
    """At most ``limit`` workers by name, those after ``after``.

    Raises:
        DeniedError: the actor is no administrator.
    """
    require_admin(actor)
    query = _SHOWN.where(accounts.c.name > (after or "")).order_by(accounts.c.name).limit(limit)
    async with database.read() as connection:
        return [_worker(row._asdict()) for row in await connection.execute(query)]


async def show_worker(database: Database, *, actor: Actor, name: str) -> Worker:
    """One worker.

    Raises:
        DeniedError: the actor is no administrator.
        NotFoundError: there is no such worker.
    """
    require_admin(actor)
    async with database.read() as connection:
        return await show(connection, name)


async def set_drained(database: Database, *, actor: Actor, name: str, drained: bool) -> None:
    """Give a worker no more jobs, or jobs again; what it has, it ends.

    Raises:
        DeniedError: the actor is no administrator.
        NotFoundError: there is no such worker.
    """
    require_admin(actor)
    async with database.write() as connection:
        account_id = await find_worker(connection, name)
        at = func.coalesce(workers.c.drain_at, db_time()) if drained else None
        await connection.execute(
            update(workers).where(workers.c.account_id == account_id).values(drain_at=at)
        )
        await record(
            connection, "worker.drained" if drained else "worker.resumed", None, actor, {}, target=name
        )


async def revoke_worker(database: Database, *, actor: Actor, name: str) -> None:
    """Let a worker and all its tokens open nothing from now on; what it has leased is tried elsewhere.

    Raises:
        DeniedError: the actor is no administrator.
        NotFoundError: there is no such worker.
    """
    require_admin(actor)
    async with database.write() as connection:
        account_id = await find_worker(connection, name)
        await connection.execute(
            update(accounts)
            .where(accounts.c.id == account_id)
            .values(disabled_at=func.coalesce(accounts.c.disabled_at, db_time()))
        )
        await connection.execute(
            update(tokens)
            .where(tokens.c.account_id == account_id, tokens.c.revoked_at.is_(None))
            .values(revoked_at=db_time())
        )
        # A claim that waits since before looks at this.
        await connection.execute(
            update(workers)
            .where(workers.c.account_id == account_id)
            .values(drain_at=func.coalesce(workers.c.drain_at, db_time()))
        )
        await record(connection, "worker.revoked", None, actor, {}, target=name)
        await move_epoch(connection, "access")


async def show(connection: AsyncConnection, name: str) -> Worker:
    """One worker, in a transaction.

    Raises:
        NotFoundError: there is no such worker.
    """
    row = (await connection.execute(_SHOWN.where(accounts.c.name == name))).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no worker {name[:80]!r}")
    return _worker(row._asdict())


async def find_worker(connection: AsyncConnection, name: str) -> int:
    """The account of a worker, whose row is held.

    Raises:
        NotFoundError: there is no such worker.
    """
    found = await connection.execute(
        select(accounts.c.id).where(accounts.c.name == name, accounts.c.kind == "worker").with_for_update()
    )
    account_id: int | None = found.scalar_one_or_none()
    if account_id is None:
        raise NotFoundError(f"there is no worker {name[:80]!r}")
    return account_id


_SHOWN = select(
    accounts.c.name,
    workers.c.platforms,
    workers.c.mechanisms,
    workers.c.disk_bytes,
    workers.c.disk_most_bytes,
    workers.c.address,
    workers.c.last_seen_at,
    workers.c.drain_at,
    accounts.c.disabled_at.label("revoked_at"),
    workers.c.namespaces,
    workers.c.labels,
    workers.c.networks,
    workers.c.slots,
    select(func.count())
    .where(parts.c.lease_account_id == accounts.c.id)
    .correlate(accounts)
    .scalar_subquery()
    .label("leases"),
).join(workers, workers.c.account_id == accounts.c.id)
_LISTS = ("platforms", "mechanisms", "namespaces", "labels", "networks")


def _worker(row: dict[str, Any]) -> Worker:
    lists = {name: None if row[name] is None else tuple(json.loads(row[name])) for name in _LISTS}
    return Worker(**{**row, **lists})
