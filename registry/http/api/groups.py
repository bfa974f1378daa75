"""``/api/v1/groups``: groups of users, which roles can be given to."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from registry.auth import grants
from registry.auth import groups as use
from registry.errors import ConflictError, NotFoundError
from registry.http.api.fields import AccountName, GroupName
from registry.http.api.members import Grant
from registry.http.api.models import Answer, Page, PageQuery, Stored
from registry.http.api.routes import Call, Route


class GroupsQuery(PageQuery):
    """Which groups."""

    prefix: str = Field(default="", max_length=64, description="What their names begin with.")


class Group(Answer):
    """A group of users."""

    name: str
    created_at: datetime
    id: int = Field(exclude=True)


class GroupMember(Answer):
    """A user in a group; ``source`` is the issuer that says so, null: it was done by hand."""

    user: str
    source: str | None
    cursor: str = Field(default="", exclude=True)


async def put_group(call: Call, name: GroupName) -> Stored[Group]:
    """Have a group."""
    group, is_new = await use.put_group(call.services.database, actor=call.actor, name=name)
    return Stored(Group.of(group), is_new)


async def list_groups(call: Call, query: GroupsQuery) -> Page[Group]:
    """All groups, by name."""
    found = await use.list_groups(
        call.services.database,
        actor=call.actor,
        limit=query.limit + 1,
        after=query.cursor,
        prefix=query.prefix,
    )
    return query.page([Group.of(group) for group in found], key=lambda group: group.name)


async def show_group(call: Call, name: GroupName) -> Group:
    """One group."""
    return Group.of(await use.show_group(call.services.database, actor=call.actor, name=name))


async def delete_group(call: Call, name: GroupName) -> None:
    """Remove a group; its members lose the roles that they had by it."""
    await use.delete_group(call.services.database, actor=call.actor, name=name)


async def list_members_of_group(call: Call, name: GroupName, query: PageQuery) -> Page[GroupMember]:
    """The users in a group, by the age of their accounts; who is in it by several sources, once for each."""
    found = await use.list_members(
        call.services.database, actor=call.actor, name=name, limit=query.limit + 1, after=query.cursor
    )
    return query.page([GroupMember.of(member) for member in found], key=lambda member: member.cursor)


async def add_to_group(call: Call, name: GroupName, user: AccountName) -> Stored[GroupMember]:
    """Have a user in a group."""
    services = call.services
    is_new = await use.add_member(
        services.database, services.settings, actor=call.actor, name=name, user=user
    )
    return Stored(GroupMember(user=user, source=None), is_new)


async def remove_from_group(call: Call, name: GroupName, user: AccountName) -> None:
    """Take a user out of a group. Whom an issuer put there, only that takes out."""
    await use.remove_member(call.services.database, actor=call.actor, name=name, user=user)


async def list_roles_of_group(call: Call, name: GroupName, query: PageQuery) -> Page[Grant]:
    """The roles that a group was given, by age."""
    found = await grants.list_grants(
        call.services.database,
        actor=call.actor,
        member=grants.Member("group", name),
        limit=query.limit + 1,
        after=query.number or 0,
    )
    return query.page([Grant.of(grant) for grant in found], key=lambda grant: str(grant.id))


ROUTES = (
    Route("GET", "/groups", "user", list_groups),
    Route("GET", "/groups/{name}", "user", show_group, errors=(NotFoundError,)),
    Route("PUT", "/groups/{name}", "admin", put_group),
    Route("DELETE", "/groups/{name}", "admin", delete_group, errors=(NotFoundError,)),
    Route("GET", "/groups/{name}/members", "user", list_members_of_group, errors=(NotFoundError,)),
    Route("PUT", "/groups/{name}/members/{user}", "admin", add_to_group, errors=(NotFoundError,)),
    Route(
        "DELETE",
        "/groups/{name}/members/{user}",
        "admin",
        remove_from_group,
        errors=(NotFoundError, ConflictError),
    ),
    Route("GET", "/groups/{name}/grants", "user", list_roles_of_group, errors=(NotFoundError,)),
)
