"""Who may do what in a repository, and what a verdict does there: its visibility, its gate, its members."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args
from urllib.parse import quote

from registry.auth.actor import Role
from registry.auth.policy import Visibility
from registry.content.administration import find
from registry.http.api import members
from registry.http.api.models import PageQuery
from registry.http.api.repositories import RepositoryChange, change_repository, show_repository
from registry.http.api.routes import Call, read_query
from registry.oci.conditions import NO_CONDITIONS
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import CursorQuery, field, given_body, moved, read_form
from registry.pages.texts import text
from registry.settings import Gate

if TYPE_CHECKING:
    from aiohttp import web

    from registry.auth.policy import Action

SHOWN = 100


async def show_settings(call: Call) -> web.Response:
    """What holds in the repository, how much it holds, and forms to change it."""
    name = await _name(call, "configure")
    return page(
        call.request,
        "settings.html",
        title=text("settings.title", name=name),
        name=name,
        here_tab="settings",
        repository=await show_repository(call, name),
        visibilities=get_args(Visibility),
        gates=get_args(Gate),
        lines=Lines(
            api=[f"PATCH /api/v1/repositories/{quote(name, '')}"],
            cli=[f"seatrial repo set {name} --visibility private --gate enforce"],
        ),
    )


async def change_settings(call: Call) -> web.Response:
    """Change visibility and gate."""
    name = await _name(call, "configure")
    fields = read_form(call)
    wanted = given_body(RepositoryChange, visibility=field(fields, "visibility"), gate=field(fields, "gate"))
    await change_repository(call, name, wanted, NO_CONDITIONS)
    return moved(call, f"/r/{name}/-/settings")


async def show_members(call: Call) -> web.Response:
    """Who holds which role, also from above, and a form for another one."""
    name = call.request.match_info["name"]
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    found = await members.list_members_of_repository(call, name, PageQuery(limit=SHOWN, cursor=query.cursor))
    path = f"/r/{name}/-/members"
    return page(
        call.request,
        "members.html",
        title=text("members.title", name=name),
        name=name,
        here_tab="members",
        members=found.items,
        roles=get_args(Role),
        path=path,
        next_path=path + chosen([("cursor", found.next)]) if found.next else None,
        first_path=path if query.cursor else None,
        lines=Lines(
            api=[f"PUT /api/v1/repositories/{quote(name, '')}/members/user:NAME"],
            cli=[f"seatrial member list {name}", f"seatrial member set {name} user:NAME reader"],
        ),
    )


async def give_role(call: Call) -> web.Response:
    """Let somebody hold a role."""
    name = await _name(call, "administer")
    fields = read_form(call)
    wanted = given_body(members.WantedRole, role=field(fields, "role"))
    await members.give_role_on_repository(call, name, field(fields, "member"), wanted)
    return moved(call, f"/r/{name}/-/members")


async def take_role(call: Call) -> web.Response:
    """Take the role that somebody was given here."""
    name = await _name(call, "administer")
    await members.take_role_on_repository(call, name, field(read_form(call), "member"))
    return moved(call, f"/r/{name}/-/members")


async def _name(call: Call, action: Action) -> str:
    """The repository's name, if the visitor may do that there: before what he sent is looked at."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action=action, name=name)
    return name
