"""``/api/v1/…/members``: who holds which role on a repository or a namespace."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, field_validator

from registry.auth import grants as use
from registry.auth.actor import Role
from registry.auth.places import Place, namespace, repository
from registry.errors import NameUnknownError, NotFoundError
from registry.http.api.fields import MemberName, NamespaceName, RepositoryName
from registry.http.api.models import Answer, Body, Page, PageQuery, Stored
from registry.http.api.routes import Call, Route


class WantedRole(Body):
    """The role that a member is to hold."""

    role: Role


class Grant(Answer):
    """A role, who holds it (``user:alice``, ``robot:team+ci`` or ``group:devs``), and what it was given on: a
    repository, or a namespace, with a slash at its end."""

    member: str
    role: Role
    on: str
    created_at: datetime
    id: int = Field(exclude=True)

    @field_validator("member", mode="before")
    @classmethod
    def _as_text(cls, member: object) -> str:
        return str(member)


class Member(Grant):
    """A role as it holds somewhere; ``inherited``: it was given on a namespace above."""

    inherited: bool


async def list_members_of_repository(call: Call, name: RepositoryName, query: PageQuery) -> Page[Member]:
    """The roles that hold in a repository, with those given on namespaces above, by age."""
    return await _list(call, repository(name), query)


async def give_role_on_repository(
    call: Call, name: RepositoryName, member: MemberName, body: WantedRole
) -> Stored[Grant]:
    """Let somebody hold a role on a repository."""
    return await _give(call, repository(name), member, body)


async def take_role_on_repository(call: Call, name: RepositoryName, member: MemberName) -> None:
    """Take the role that somebody was given on a repository."""
    await _take(call, repository(name), member)


async def list_members_of_namespace(call: Call, name: NamespaceName, query: PageQuery) -> Page[Member]:
    """The roles that hold in a namespace, with those given on namespaces above, by age."""
    return await _list(call, namespace(name), query)


async def give_role_on_namespace(
    call: Call, name: NamespaceName, member: MemberName, body: WantedRole
) -> Stored[Grant]:
    """Let somebody hold a role on a namespace and all that lies below it."""
    return await _give(call, namespace(name), member, body)


async def take_role_on_namespace(call: Call, name: NamespaceName, member: MemberName) -> None:
    """Take the role that somebody was given on a namespace."""
    await _take(call, namespace(name), member)


async def _list(call: Call, place: Place, query: PageQuery) -> Page[Member]:
    found = await use.list_members(
        call.services.database,
        actor=call.actor,
        place=place,
        limit=query.limit + 1,
        after=query.number or 0,
    )
    shown = [
        Member(
            id=grant.id,
            member=str(grant.member),
            role=grant.role,
            on=grant.on,
            created_at=grant.created_at,
            inherited=grant.on != place.key,
        )
        for grant in found
    ]
    return query.page(shown, key=lambda grant: str(grant.id))


async def _give(call: Call, place: Place, member: str, body: WantedRole) -> Stored[Grant]:
    grant, is_new = await use.give(
        call.services.database,
        actor=call.actor,
        place=place,
        member=use.parse_member(member),
        role=body.role,
    )
    return Stored(Grant.of(grant), is_new)


async def _take(call: Call, place: Place, member: str) -> None:
    await use.take(call.services.database, actor=call.actor, place=place, member=use.parse_member(member))


_ERRORS = (NotFoundError, NameUnknownError)
_ON_REPOSITORY, _ON_NAMESPACE = "/repositories/{name}/members", "/namespaces/{name}/members"
ROUTES = (
    Route("GET", _ON_REPOSITORY, "anyone", list_members_of_repository, errors=_ERRORS),
    Route("PUT", f"{_ON_REPOSITORY}/{{member}}", "anyone", give_role_on_repository, errors=_ERRORS),
    Route("DELETE", f"{_ON_REPOSITORY}/{{member}}", "anyone", take_role_on_repository, errors=_ERRORS),
    Route("GET", _ON_NAMESPACE, "anyone", list_members_of_namespace, errors=(NotFoundError,)),
    Route("PUT", f"{_ON_NAMESPACE}/{{member}}", "anyone", give_role_on_namespace, errors=(NotFoundError,)),
    Route("DELETE", f"{_ON_NAMESPACE}/{{member}}", "anyone", take_role_on_namespace, errors=(NotFoundError,)),
)
