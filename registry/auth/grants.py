"""Grants: who holds which role on a repository or a namespace, given by its owners and administrators.

Nobody gives more than he has: to give needs the highest role, or an administrator. An owner may take the last
owner's role, his own too; administrators can always give another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal, cast

from sqlalchemy import ColumnElement, delete, func, select, union_all, update

from registry.auth.access import LOOKING, require_auditor
from registry.auth.accountnames import namespace_of_robot, parse_robot_name
from registry.auth.accounts import no_user
from registry.auth.groups import no_group
from registry.auth.places import Place, find_place, hold_place, require_manager
from registry.auth.policy import may_audit
from registry.auth.robots import no_robot, require_reader_of_robot
from registry.db.access import grants, group_members, groups, namespaces
from registry.db.accounts import accounts
from registry.db.content import repositories
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import Database, move_epoch
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import NotFoundError, RequestInvalidError

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor, Role

MemberKind = Literal["user", "robot", "group"]


@dataclass(frozen=True, slots=True)
class Member:
    """Who holds a role, as text ``user:alice``, ``robot:team+ci`` or ``group:devs``."""

    kind: MemberKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class Grant:
    """A role, who holds it, and the key of the place that it was given on (:class:`Place`)."""

    id: int
    member: Member
    role: Role
    on: str
    created_at: datetime


def parse_member(text: str) -> Member:
    """Read ``user:NAME``, ``robot:NAMESPACE+NAME`` or ``group:NAME``.

    Raises:
        RequestInvalidError: it is none of them.
    """
    kind, _, name = text.partition(":")
    if kind not in ("user", "robot", "group") or not name:
        raise RequestInvalidError(
            f"{text[:80]!r} is no member: user:NAME, robot:NAMESPACE+NAME or group:NAME"
        )
    if kind == "robot":
        parse_robot_name(name)
    return Member(cast("MemberKind", kind), name)


async def give(
    database: Database, *, actor: Actor, place: Place, member: Member, role: Role
) -> tuple[Grant, bool]:
    """Let a member hold a role at a place, instead of the one it holds there; and whether it held none.

    Raises:
        UnauthorizedError, DeniedError: the actor does not manage the place.
        NotFoundError, NameUnknownError: there is no such place, or no such member.
        RequestInvalidError: a robot, and the place is not in its namespace.
    """
    require_manager(actor, place)
    if member.kind == "robot" and not f"{place.key}/".startswith(f"{namespace_of_robot(member.name)}/"):
        raise RequestInvalidError(
            f"the robot {member.name} holds roles on {namespace_of_robot(member.name)} and what lies below "
            f"it, and {place.name} does not"
        )
    async with database.write() as connection:
        place_id = await hold_place(connection, place)
        at = {place.column: place_id}
        at |= await _holder(connection, member)
        values = {**at, "role": role, "created_at": db_time()}
        mine = _GRANT.where(*(grants.c[column] == value for column, value in at.items()))
        held = None
        while held is None:  # one that stood in the way may be taken before it is held
            made = await connection.execute(
                insert_ignoring_conflict(connection, grants, values).returning(grants.c.id)
            )
            is_new = made.first() is not None
            held = (await connection.execute(mine.with_for_update(of=grants))).one_or_none()
        if is_new or held.role != role:
            await connection.execute(update(grants).where(grants.c.id == held.id).values(role=role))
            change = {"role": [None if is_new else held.role, role]}
            await record(connection, "grant.given", place.key, actor, change, target=str(member))
            await move_epoch(connection, "access")
        return replace(_grant(held._asdict()), role=role), is_new


async def take(database: Database, *, actor: Actor, place: Place, member: Member) -> None:
    """Take the role that a member was given at a place; what it holds there by another way stays.

    Raises:
        UnauthorizedError, DeniedError: the actor does not manage the place.
        NotFoundError, NameUnknownError: there is no such place, or the member was given none there.
    """
    require_manager(actor, place)
    async with database.write() as connection:
        place_id = await hold_place(connection, place)
        column = grants.c[place.column]
        taken = await connection.execute(
            delete(grants).where(column == place_id, _of_member(member)).returning(grants.c.role)
        )
        role = taken.scalar_one_or_none()
        if role is None:
            raise NotFoundError(
                f"{str(member)[:80]} was given no role on {place.name} itself; one that it has by a group or "
                "a namespace above is taken there"
            )
        await record(connection, "grant.taken", place.key, actor, {"role": [role, None]}, target=str(member))
        await move_epoch(connection, "access")


async def list_members(
    database: Database, *, actor: Actor, place: Place, limit: int, after: int
) -> list[Grant]:
    """At most ``limit`` grants that hold at a place, given on it or on a namespace above, by age: those after
    the number ``after``.

    Raises:
        UnauthorizedError, DeniedError: the actor neither manages the place nor may look at all.
        NotFoundError, NameUnknownError: there is no such place.
    """
    if not may_audit(actor):
        require_manager(actor, place)
    async with database.read() as connection:
        place_id = await find_place(connection, place)
        own = grants.c[place.column]
        above = await connection.execute(select(namespaces.c.id).where(namespaces.c.name.in_(place.above)))
        where = [own == place_id, *(grants.c.namespace_id == number for number in above.scalars())]
        return await _page(connection, where, limit=limit, after=after)


async def list_grants(
    database: Database, *, actor: Actor, member: Member, limit: int, after: int
) -> list[Grant]:
    """At most ``limit`` grants that a member holds, by itself or by a group, by age: those after the number
    ``after``. People and robots see their own, administrators and auditors all, and owners of a namespace
    those of its robots.

    Raises:
        UnauthorizedError, DeniedError: the actor may not look at them.
        NotFoundError: there is no such member.
    """
    if member.kind == "robot":
        require_reader_of_robot(actor, member.name)
    elif (member.kind, member.name) != (actor.kind, actor.name):
        require_auditor(actor, LOOKING)
    async with database.read() as connection:
        holder = await _holder(connection, member, held=False)
        where = [grants.c[column] == value for column, value in holder.items()]
        if member.kind == "user":
            mine = select(group_members.c.group_id).where(group_members.c.account_id == holder["account_id"])
            where.append(grants.c.group_id.in_(mine))
        return await _page(connection, where, limit=limit, after=after)


async def _page(
    connection: AsyncConnection, where: list[ColumnElement[bool]], *, limit: int, after: int
) -> list[Grant]:
    """The first grants, by number, of those that one of the conditions is true of; each has an index."""
    pages = [
        select(
            select(grants.c.id)
            .where(condition, grants.c.id > after)
            .order_by(grants.c.id)
            .limit(limit)
            .subquery()
        )
        for condition in where
    ]
    found = union_all(*pages).subquery("found")
    query = _GRANT.where(grants.c.id.in_(select(found.c.id))).order_by(grants.c.id).limit(limit)
    return [_grant(row._asdict()) for row in await connection.execute(query)]


async def _holder(connection: AsyncConnection, member: Member, *, held: bool = True) -> dict[str, int]:
    """The column of a grant that names a member, and the value there."""
    table = groups if member.kind == "group" else accounts
    query = select(table.c.id).where(table.c.name == member.name)
    if member.kind != "group":
        query = query.where(accounts.c.kind == member.kind)
    if held:
        query = query.with_for_update(read=True, key_share=True)
    number = (await connection.execute(query)).scalar_one_or_none()
    if number is None:
        raise {"user": no_user, "robot": no_robot, "group": no_group}[member.kind](member.name)
    return {"group_id" if member.kind == "group" else "account_id": number}


def _of_member(member: Member) -> ColumnElement[bool]:
    if member.kind == "group":
        return grants.c.group_id == select(groups.c.id).where(groups.c.name == member.name).scalar_subquery()
    named = select(accounts.c.id).where(accounts.c.name == member.name, accounts.c.kind == member.kind)
    return grants.c.account_id == named.scalar_subquery()


_GRANT = (
    select(
        grants.c.id,
        grants.c.role,
        grants.c.created_at,
        func.coalesce(accounts.c.kind, "group").label("kind"),
        func.coalesce(accounts.c.name, groups.c.name).label("name"),
        func.coalesce(repositories.c.name, namespaces.c.name + "/").label("on"),
    )
    .select_from(grants)
    .outerjoin(accounts, accounts.c.id == grants.c.account_id)
    .outerjoin(groups, groups.c.id == grants.c.group_id)
    .outerjoin(namespaces, namespaces.c.id == grants.c.namespace_id)
    .outerjoin(repositories, repositories.c.id == grants.c.repository_id)
)


def _grant(row: dict[str, Any]) -> Grant:
    return Grant(member=Member(row.pop("kind"), row.pop("name")), **row)
