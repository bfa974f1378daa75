"""Repositories: found by name, made by the first push to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import bindparam, func, select

from registry.auth.policy import may_create, namespace_of, namespaces_above
from registry.content import quotas
from registry.db.access import namespaces
from registry.db.content import repositories
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import move_epoch
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import DeniedError
from registry.settings import Gate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.auth.policy import Visibility
    from registry.db.engine import Database
    from registry.settings import Settings


TurnedBad = Literal["keep", "warn", "block"]


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository as its row says."""

    id: int
    name: str
    visibility: Visibility
    gate: Gate
    quota_bytes: int | None
    turned_bad: TurnedBad | None = None
    turned_bad_days: int | None = None
    history_keep_lines: int | None = None


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a new repository is like, and whether a push makes it."""

    visibility: Visibility
    create_on_push: bool
    gate: Gate
    scan: bool

    @property
    def columns(self) -> dict[str, Any]:
        """What of it stands on a repository's row."""
        return {"visibility": self.visibility, "gate": self.gate, "scan": self.scan}


COLUMNS: Select[Any] = select(
    repositories.c.id,
    repositories.c.name,
    repositories.c.visibility,
    repositories.c.gate,
    repositories.c.quota_bytes,
    repositories.c.turned_bad,
    repositories.c.turned_bad_days,
    repositories.c.history_keep_lines,
)


def _of_name_or_any() -> Select[Any]:
    named, any_ = repositories.alias("named"), repositories.alias("any")
    exact = select(named.c.id).where(named.c.name == bindparam("name")).scalar_subquery()
    first = select(func.min(any_.c.id)).scalar_subquery()
    return COLUMNS.where(repositories.c.id == func.coalesce(exact, first))


# Put together once: that takes longer than the query itself. Where there is no such name it reads another
# row, to throw it away: a stranger's clock could tell one row from none.
BY_NAME = _of_name_or_any()


async def find(database: Database, name: str) -> Repository | None:
    """The repository of that name, if there is one."""
    async with database.read_once() as connection:
        return await find_in(connection, name)


async def find_in(connection: AsyncConnection, name: str) -> Repository | None:
    """As :func:`find`, inside a transaction."""
    row = (await connection.execute(BY_NAME, {"name": name})).first()
    if row is None:
        return None
    found = from_row(row)
    return found if found.name == name else None


async def find_or_create(
    connection: AsyncConnection, name: str, *, settings: Settings, actor: Actor
) -> Repository:
    """The repository of that name, made with the default visibility and gate if this is the first push.

    It cannot be deleted or renamed before the caller's transaction ends.

    Raises:
        DeniedError: there is none, and a push by this actor makes none, or a quota allows no more.
    """
    held = COLUMNS.where(repositories.c.name == name).with_for_update(read=True, key_share=True)
    row = (await connection.execute(held)).first()
    if row is not None:
        return from_row(row)
    defaults = await defaults_for(connection, name, settings)
    if not may_create(actor, name, by_push=defaults.create_on_push):
        raise _no_creation(name)
    await insert(connection, name, defaults.columns, settings=settings, actor=actor)
    return from_row((await connection.execute(held)).one())


async def insert(
    connection: AsyncConnection, name: str, given: Mapping[str, Any], *, settings: Settings, actor: Actor
) -> bool:
    """Make a repository, and its namespace where that is new; ``given`` are its columns, of which the
    settings fill in the rest. False: there is one.

    Raises:
        DeniedError: a namespace above has as many as its quota allows.
    """
    await require_namespace(connection, namespace_of(name), actor=actor)
    values = {
        "name": name,
        "gate": settings.gate,
        "trial_on_push": settings.trial_on_push,
        "created_at": db_time(),
        **given,
    }
    made = await connection.execute(
        insert_ignoring_conflict(connection, repositories, values).returning(repositories.c.id)
    )
    if made.first() is None:
        return False
    await quotas.enforce_new(connection, name)
    await record(connection, "repository.created", name, actor, {"visibility": values["visibility"]})
    await move_epoch(connection, "access")
    return True


async def require_namespace(connection: AsyncConnection, name: str | None, *, actor: Actor) -> None:
    """Make the namespace where there is none; it cannot be deleted before the caller's transaction ends."""
    if name is None:
        return
    held = select(namespaces.c.id).where(namespaces.c.name == name).with_for_update(read=True, key_share=True)
    while (await connection.execute(held)).first() is None:
        await insert_namespace(connection, name, {}, actor=actor)


async def insert_namespace(
    connection: AsyncConnection, name: str, given: Mapping[str, Any], *, actor: Actor
) -> bool:
    """Make a namespace; ``given`` are its columns. False: there is one."""
    values = {"name": name, "created_at": db_time(), **given}
    made = await connection.execute(
        insert_ignoring_conflict(connection, namespaces, values).returning(namespaces.c.id)
    )
    if made.first() is None:
        return False
    await record(connection, "namespace.created", f"{name}/", actor, given)
    return True


async def defaults_for(connection: AsyncConnection, name: str, settings: Settings) -> Defaults:
    """What holds for a new repository of that name: what the nearest namespace says that says something."""
    above = namespaces_above(name)
    visibility, create_on_push, gate = settings.visibility, settings.create_on_push, settings.gate
    scan = True
    rows = await connection.execute(
        select(namespaces.c.visibility, namespaces.c.create_on_push, namespaces.c.gate, namespaces.c.scan)
        .where(namespaces.c.name.in_(above))
        .order_by(func.length(namespaces.c.name))
    )
    for row in rows:
        visibility = visibility if row.visibility is None else row.visibility
        create_on_push = create_on_push if row.create_on_push is None else row.create_on_push
        gate = gate if row.gate is None else row.gate
        scan = scan if row.scan is None else row.scan
    return Defaults(visibility, create_on_push=create_on_push, gate=gate, scan=scan)


def _no_creation(name: str) -> DeniedError:
    namespace = namespace_of(name)
    makes, who = (
        (f"a push makes none in {namespace}", f"a maintainer of {namespace} or an administrator")
        if namespace
        else ("only administrators make one without a namespace", "an administrator")
    )
    return DeniedError(
        f"there is no repository {name}, and {makes}; {who} can make it (seatrial repo create {name})"
    )


async def lock(connection: AsyncConnection, repository_id: int) -> bool:
    """Let no other transaction change this repository's manifests, tags and trials until this one ends.

    Uploads go on beside it: what refers to a repository takes a weaker lock. False: it is gone.
    """
    held = await connection.execute(
        select(repositories.c.id).where(repositories.c.id == repository_id).with_for_update(key_share=True)
    )
    return held.first() is not None


async def hold(connection: AsyncConnection, repository_id: int) -> bool:
    """Let nobody delete or rename this repository before the transaction ends; who changes what is in it goes
    on. False: it is gone."""
    this = select(repositories.c.id).where(repositories.c.id == repository_id)
    held = await connection.execute(this.with_for_update(read=True, key_share=True))
    return held.first() is not None


def from_row(row: Row[Any]) -> Repository:
    """The value of a row of :data:`COLUMNS`."""
    return Repository(**row._asdict())
