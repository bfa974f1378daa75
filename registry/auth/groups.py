"""Groups of users, which roles can be given to. Administrators make them; some of their members are taken
and given at sign-ins by an issuer, and are that issuer's to change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import delete, or_, select

from registry.auth.access import LOOKING, require_admin, require_auditor
from registry.auth.accountnames import after_prefix, is_prefix, parse_group_name
from registry.auth.accounts import no_user
from registry.auth.ceilings import is_full
from registry.db.access import group_members, groups
from registry.db.accounts import accounts
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import Database, move_epoch
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import ConflictError, DeniedError, NotFoundError, RequestInvalidError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.settings import Settings

BY_HAND = ""
"""The source of members whom an administrator made such; others have an issuer's name."""
_COLUMNS = select(groups.c.id, groups.c.name, groups.c.created_at)


@dataclass(frozen=True, slots=True)
class Group:
    """A group as its row says."""

    id: int
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A user in a group. ``source`` is the issuer that says so, or ``None``: it was done by hand. Who is in
    it by several is listed by each."""

    user: str
    source: str | None
    cursor: str


async def put_group(database: Database, *, actor: Actor, name: str) -> tuple[Group, bool]:
    """Have a group; and whether it is new.

    Raises:
        DeniedError: the actor is no administrator.
        RequestInvalidError: a name that is not allowed.
    """
    require_admin(actor)
    parse_group_name(name)
    async with database.write() as connection:
        values = {"name": name, "created_at": db_time()}
        made = await connection.execute(
            insert_ignoring_conflict(connection, groups, values).returning(groups.c.id)
        )
        is_new = made.first() is not None
        if is_new:
            await record(connection, "group.created", None, actor, {}, target=name)
        row = (await connection.execute(_COLUMNS.where(groups.c.name == name))).one()
        return Group(**row._asdict()), is_new


async def list_groups(
    database: Database, *, actor: Actor, limit: int, after: str | None, prefix: str = ""
) -> list[Group]:
    """At most ``limit`` groups by name, those after ``after`` whose names begin with ``prefix``.

    Raises:
        DeniedError: the actor is neither administrator nor auditor.
    """
    require_auditor(actor, LOOKING)
    if not is_prefix(prefix):
        return []
    query = _COLUMNS.where(groups.c.name > (after or ""), groups.c.name >= prefix)
    query = query.where(groups.c.name < after_prefix(prefix)).order_by(groups.c.name).limit(limit)
    async with database.read_once() as connection:
        return [Group(**row._asdict()) for row in await connection.execute(query)]


async def show_group(database: Database, *, actor: Actor, name: str) -> Group:
    """One group.

    Raises:
        DeniedError: the actor is neither administrator nor auditor.
        NotFoundError: there is no such group.
    """
    require_auditor(actor, LOOKING)
    async with database.read_once() as connection:
        row = (await connection.execute(_COLUMNS.where(groups.c.name == name))).one_or_none()
    if row is None:
        raise no_group(name)
    return Group(**row._asdict())


async def delete_group(database: Database, *, actor: Actor, name: str) -> None:
    """Remove a group: its members lose the roles that they had by it.

    Raises:
        DeniedError: the actor is no administrator.
        NotFoundError: there is no such group.
    """
    require_admin(actor)
    async with database.write() as connection:
        done = await connection.execute(delete(groups).where(groups.c.name == name))
        if done.rowcount == 0:
            raise no_group(name)
        await record(connection, "group.deleted", None, actor, {}, target=name)
        await move_epoch(connection, "access")


async def list_members(
    database: Database, *, actor: Actor, name: str, limit: int, after: str | None
) -> list[GroupMember]:
    """At most ``limit`` members of a group by the age of their accounts, those after the cursor ``after``.

    Raises:
        DeniedError: the actor is neither administrator nor auditor.
        NotFoundError: there is no such group.
        RequestInvalidError: a cursor that is none.
    """
    group = await show_group(database, actor=actor, name=name)
    number, source = _parsed_cursor(after)
    query = (
        select(accounts.c.id, accounts.c.name, group_members.c.source)
        .select_from(group_members)
        .join(accounts, accounts.c.id == group_members.c.account_id)
        .where(
            group_members.c.group_id == group.id,
            group_members.c.account_id >= number,
            or_(group_members.c.account_id > number, group_members.c.source > source),
        )
        .order_by(group_members.c.account_id, group_members.c.source)
        .limit(limit)
    )
    async with database.read_once() as connection:
        rows = (await connection.execute(query)).all()
    return [GroupMember(row.name, row.source or None, f"{row.id}:{row.source}") for row in rows]


async def add_member(database: Database, settings: Settings, *, actor: Actor, name: str, user: str) -> bool:
    """Have a user in a group by hand; whether that is new.

    Raises:
        DeniedError: the actor is no administrator, or the group has as many as it may.
        NotFoundError: there is no such group, or no such user.
    """
    require_admin(actor)
    async with database.write() as connection:
        group_id = await _held(connection, name)
        account = await connection.execute(
            select(accounts.c.id)
            .where(accounts.c.name == user, accounts.c.kind == "user")
            .with_for_update(read=True, key_share=True)
        )
        account_id = account.scalar_one_or_none()
        if account_id is None:
            raise no_user(user)
        values = {"group_id": group_id, "account_id": account_id, "source": BY_HAND}
        mine = select(group_members.c.account_id).where(group_members.c.group_id == group_id)
        theirs = mine.where(group_members.c.account_id == account_id, group_members.c.source == BY_HAND)
        most = settings.members_per_group
        if (await connection.execute(theirs)).first() is None and await is_full(
            connection, mine, most, of=f"members of {group_id}"
        ):
            raise DeniedError(
                f"the group {name} has {most} members, which is the limit (SEATRIAL_MEMBERS_PER_GROUP); take "
                "some out first, or make another group"
            )
        added = await connection.execute(
            insert_ignoring_conflict(connection, group_members, values).returning(group_members.c.group_id)
        )
        is_new = added.first() is not None
        if is_new:
            await record(connection, "member.added", None, actor, {"group": name}, target=user)
            await move_epoch(connection, "access")
        return is_new


async def remove_member(database: Database, *, actor: Actor, name: str, user: str) -> None:
    """Take a user out of a group, where it is by hand.

    Raises:
        DeniedError: the actor is no administrator.
        NotFoundError: there is no such group, or the user is not in it.
        ConflictError: it is an issuer that says so.
    """
    require_admin(actor)
    async with database.write() as connection:
        group_id = await _held(connection, name)
        account_id = select(accounts.c.id).where(accounts.c.name == user).scalar_subquery()
        mine = (group_members.c.group_id == group_id, group_members.c.account_id == account_id)
        sources = set((await connection.execute(select(group_members.c.source).where(*mine))).scalars())
        if not sources:
            raise NotFoundError(f"{user[:80]!r} is not in the group {name}")
        if BY_HAND not in sources:
            said = ", ".join(sorted(sources))
            raise ConflictError(f"{user} is in the group {name} because {said} says so; change it there")
        await connection.execute(delete(group_members).where(*mine, group_members.c.source == BY_HAND))
        await record(connection, "member.removed", None, actor, {"group": name}, target=user)
        await move_epoch(connection, "access")


def no_group(name: str) -> NotFoundError:
    """The error for a group that there is not."""
    return NotFoundError(f"there is no group {name[:80]!r}")


async def _held(connection: AsyncConnection, name: str) -> int:
    found = await connection.execute(
        select(groups.c.id).where(groups.c.name == name).with_for_update(read=True, key_share=True)
    )
    group_id: int | None = found.scalar_one_or_none()
    if group_id is None:
        raise no_group(name)
    return group_id


def _parsed_cursor(text: str | None) -> tuple[int, str]:
    if text is None:
        return 0, ""
    number, colon, source = text.partition(":")
    if not (colon and number.isascii() and number.isdigit() and len(number) < 19):
        raise RequestInvalidError(f"{text[:80]!r} is no cursor of this list")
    return int(number), source
