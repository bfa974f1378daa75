"""Groups of users, and what issuers say of who is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.auth.policy import may_administer
from registry.http.api import groups, issuers
from registry.http.api.models import PageQuery
from registry.http.api.routes import Call, read_query
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import CursorQuery, field, moved, read_form, require_confirmed
from registry.pages.texts import text
from registry.pages.users import UsersQuery

if TYPE_CHECKING:
    from aiohttp import web

SHOWN = 50
ISSUERS_MAX = 100
"""So many are looked through for what they say of a group."""
LIST = "/administration/groups"


async def show_groups(call: Call) -> web.Response:
    """All groups by name, and a form for another one."""
    query = read_query(call.request, UsersQuery, leaves_out_empty=True)
    wanted = groups.GroupsQuery(limit=SHOWN, cursor=query.cursor, prefix=query.prefix)
    found = await groups.list_groups(call, wanted)
    kept = [("prefix", query.prefix)]
    return page(
        call.request,
        "groups.html",
        title=text("administration.groups"),
        groups=found.items,
        prefix=query.prefix,
        manages=may_administer(call.actor),
        next_path=LIST + chosen([*kept, ("cursor", found.next)]) if found.next else None,
        first_path=LIST + chosen(kept) if query.cursor else None,
        lines=Lines(
            api=["GET /api/v1/groups", "PUT /api/v1/groups/NAME"],
            cli=["seatrial group list", "seatrial group create NAME"],
        ),
    )


async def create_group(call: Call) -> web.Response:
    """Have a group of that name."""
    name = field(read_form(call), "name")
    await groups.put_group(call, name)
    return moved(call, f"{LIST}/{name}")


async def show_group(call: Call) -> web.Response:
    """Who is in a group and by whose word, which roles it holds, and which issuers put people into it."""
    name = _name(call)
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    found = await groups.list_members_of_group(call, name, PageQuery(limit=SHOWN, cursor=query.cursor))
    held = await groups.list_roles_of_group(call, name, PageQuery(limit=SHOWN))
    manages = may_administer(call.actor)
    trusted = (await issuers.list_issuers(call, PageQuery(limit=ISSUERS_MAX))).items if manages else ()
    path = f"{LIST}/{name}"
    return page(
        call.request,
        "group.html",
        title=name,
        members=found.items,
        grants=held.items,
        has_more=held.next is not None,
        mapped=[
            (issuer.name, value)
            for issuer in trusted
            for value, group in sorted(issuer.groups.items())
            if group == name
        ],
        manages=manages,
        path=path,
        next_path=path + chosen([("cursor", found.next)]) if found.next else None,
        first_path=path if query.cursor else None,
        lines=Lines(
            api=[f"GET /api/v1/groups/{name}/members", f"PUT /api/v1/groups/{name}/members/USER"],
            cli=[f"seatrial group show {name}", f"seatrial group add {name} USER"],
        ),
    )


async def add_member(call: Call) -> web.Response:
    """Put a user into a group."""
    user = field(read_form(call), "user")
    await groups.add_to_group(call, _name(call), user)
    return moved(call, f"{LIST}/{_name(call)}")


async def remove_member(call: Call) -> web.Response:
    """Take a user out of a group."""
    user = field(read_form(call), "user")
    await groups.remove_from_group(call, _name(call), user)
    return moved(call, f"{LIST}/{_name(call)}")


async def delete_group(call: Call) -> web.Response:
    """Remove a group, and the roles that its members have by it."""
    require_confirmed(read_form(call), _name(call))
    await groups.delete_group(call, _name(call))
    return moved(call, LIST)


def _name(call: Call) -> str:
    return call.request.match_info["group"]
