"""Robots: accounts for programs, which belong to a namespace and go with it.

A robot has API tokens and no password, holds roles on its namespace and below it only, and signs in to no
page. Owners of the namespace make, disable and delete it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.auth import voiding
from registry.auth.access import LOOKING, require_auditor
from registry.auth.accountnames import after_prefix, namespace_of_robot, parse_robot_name
from registry.auth.ceilings import is_full
from registry.auth.places import Place, hold_place, namespace, require_manager
from registry.auth.policy import may_audit
from registry.db.accounts import accounts
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import Database, move_epoch
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import DeniedError, NotFoundError

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.oci.conditions import Conditions
    from registry.settings import Settings
    from registry.storage.store import BlobStore

_COLUMNS = select(accounts.c.id, accounts.c.name, accounts.c.created_at, accounts.c.disabled_at).where(
    accounts.c.kind == "robot"
)


@dataclass(frozen=True, slots=True)
class Robot:
    """A robot as its row says; ``name`` is whole, ``team/app+ci``."""

    id: int
    name: str
    namespace: str
    created_at: datetime
    disabled_at: datetime | None

    @property
    def etag(self) -> str:
        """The entity tag of what :func:`put_robot` changes."""
        return f"{self.id}-{int(self.disabled_at is not None)}"


async def put_robot(
    database: Database,
    blobs: BlobStore,
    settings: Settings,
    *,
    actor: Actor,
    name: str,
    disabled: bool,
    conditions: Conditions,
) -> tuple[Robot, bool]:
    """Have a robot, disabled or not; and whether it is new. Who is disabled is refused at once, and its
    uploads end.

    Raises:
        UnauthorizedError, DeniedError: the actor does not manage its namespace, or that is full.
        NotFoundError: there is no such namespace.
        RequestInvalidError: a name that is not allowed.
        PreconditionFailedError: ``conditions`` do not hold.
    """
    place = namespace(parse_robot_name(name).namespace)
    require_manager(actor, place)
    async with database.write() as connection:
        namespace_id = await hold_place(connection, place)
        robot = await _held(connection, name)
        conditions.require(robot.etag if robot else None, f"robot {name}")
        most = settings.robots_per_namespace
        mine = select(accounts.c.id).where(accounts.c.namespace_id == namespace_id)
        if robot is None and await is_full(connection, mine, most, of=f"robots of {namespace_id}"):
            raise DeniedError(
                f"{place.name} has {most} robots, which is the limit (SEATRIAL_ROBOTS_PER_NAMESPACE); "
                "delete some first"
            )
        is_new = robot is None and await _insert(connection, name, namespace_id)
        if is_new:
            await record(connection, "robot.created", place.key, actor, {}, target=name)
        if robot is None:
            robot = await _held(connection, name)
            assert robot is not None  # nothing but a robot can have such a name
            if not is_new:  # made by another in this moment
                conditions.require(robot.etag, f"robot {name}")
        uploads: list[str] = []
        if disabled and robot.disabled_at is None:
            uploads = await voiding.disable(connection, robot.id, name)
            await record(connection, "robot.disabled", place.key, actor, {}, target=name)
        elif robot.disabled_at is not None and not disabled:
            await voiding.enable(connection, robot.id)
            await record(connection, "robot.enabled", place.key, actor, {}, target=name)
        if disabled is not (robot.disabled_at is not None):
            await move_epoch(connection, "access")
        robot = await _held(connection, name)
        assert robot is not None
    await voiding.forget(blobs, uploads)
    return robot, is_new


async def list_robots(
    database: Database, *, actor: Actor, namespace_name: str | None, limit: int, after: str | None
) -> list[Robot]:
    """At most ``limit`` robots by name, those after ``after``: of one namespace, not of those below it; or
    for administrators and auditors of all.

    Raises:
        UnauthorizedError, DeniedError: the actor may not look at them.
    """
    query = _COLUMNS.where(accounts.c.name > (after or "")).order_by(accounts.c.name).limit(limit)
    if namespace_name is None:
        require_auditor(actor, LOOKING)
    else:
        place = namespace(namespace_name)
        _require_reader(actor, place)
        prefix = f"{place.name}+"
        query = query.where(accounts.c.name >= prefix, accounts.c.name < after_prefix(prefix))
    async with database.read_once() as connection:
        return [_robot(row._asdict()) for row in await connection.execute(query)]


async def show_robot(database: Database, *, actor: Actor, name: str) -> Robot:
    """One robot, to those who manage its namespace, to administrators and auditors, and to itself.

    Raises:
        UnauthorizedError, DeniedError: the actor may not look at it.
        NotFoundError: there is no such robot.
        RequestInvalidError: a name that no robot has.
    """
    require_reader_of_robot(actor, name)
    async with database.read_once() as connection:
        row = (await connection.execute(_COLUMNS.where(accounts.c.name == name))).one_or_none()
    if row is None:
        raise no_robot(name)
    return _robot(row._asdict())


async def delete_robot(
    database: Database, blobs: BlobStore, *, actor: Actor, name: str, conditions: Conditions
) -> None:
    """Remove a robot with its tokens, uploads and roles. Histories keep its name.

    Raises:
        UnauthorizedError, DeniedError: the actor does not manage its namespace.
        NotFoundError: there is no such robot.
        RequestInvalidError: a name that no robot has.
        PreconditionFailedError: ``conditions`` do not hold.
    """
    place = namespace(parse_robot_name(name).namespace)
    require_manager(actor, place)
    async with database.write() as connection:
        robot = await _held(connection, name)
        if robot is None:
            raise no_robot(name)
        conditions.require(robot.etag, f"robot {name}")
        uploads = await voiding.remove(connection, robot.id)
        await record(connection, "robot.deleted", place.key, actor, {}, target=name)
        await move_epoch(connection, "access")
    await voiding.forget(blobs, uploads)


def require_reader_of_robot(actor: Actor, name: str) -> None:
    """Let ``actor`` look at a robot, whether or not there is one.

    Raises:
        UnauthorizedError, DeniedError: it may not.
        RequestInvalidError: a name that no robot has.
    """
    place = namespace(parse_robot_name(name).namespace)
    if actor.kind != "robot" or actor.name != name:
        _require_reader(actor, place)


def no_robot(name: str) -> NotFoundError:
    """The error for a robot that there is not."""
    return NotFoundError(f"there is no robot {name[:80]!r}")


def _require_reader(actor: Actor, place: Place) -> None:
    if not may_audit(actor):
        require_manager(actor, place)


async def _insert(connection: AsyncConnection, name: str, namespace_id: int) -> bool:
    values = {
        "name": name,
        "kind": "robot",
        "is_admin": False,
        "namespace_id": namespace_id,
        "created_at": db_time(),
    }
    made = await connection.execute(
        insert_ignoring_conflict(connection, accounts, values).returning(accounts.c.id)
    )
    return made.first() is not None


async def _held(connection: AsyncConnection, name: str) -> Robot | None:
    row = (await connection.execute(_COLUMNS.where(accounts.c.name == name).with_for_update())).one_or_none()
    return None if row is None else _robot(row._asdict())


def _robot(row: dict[str, Any]) -> Robot:
    return Robot(namespace=namespace_of_robot(row["name"]), **row)
