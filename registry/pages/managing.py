"""A repository, made, renamed and deleted; who may what in it or a namespace; what a verdict does there."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, get_args
from urllib.parse import quote

from registry.auth.actor import Role
from registry.auth.policy import Visibility, decide, may_administer
from registry.content.administration import find
from registry.content.repositories import TurnedBad
from registry.content.taghistory import LINES_MAX
from registry.contract.sizes import parse_size_bytes
from registry.http.api import members
from registry.http.api import repositories as api
from registry.http.api.fields import NamespaceName
from registry.http.api.models import PageQuery, Query
from registry.http.api.routes import Call, read_query
from registry.oci.conditions import NO_CONDITIONS
from registry.pages.gates import is_narrower, is_stricter
from registry.pages.namespaces import own_name, tabs_of
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import (
    CursorQuery,
    as_body,
    as_seen,
    field,
    given_body,
    moved,
    read_form,
    require_confirmed,
    whole_number,
)
from registry.pages.texts import text
from registry.settings import Gate

if TYPE_CHECKING:
    from aiohttp import web

    from registry.auth.policy import Action
    from registry.http.api.members import Member
    from registry.http.api.models import Page

SHOWN = 100
SWITCHES = ("trial_on_push", "scan", "image_spec_allowed")
DAYS_MAX = 3650
KEPT = MappingProxyType(
    {"trial_keep_days": 36500, "history_keep_days": 36500, "history_keep_lines": LINES_MAX}
)
"""What is kept for how many days, or how many lines of it, and the most of each."""


class NewQuery(Query):
    """Where the new repository is to be, to begin with."""

    namespace: NamespaceName | None = None


async def show_new(call: Call) -> web.Response:
    """A form for a new repository."""
    query = read_query(call.request, NewQuery, leaves_out_empty=True)
    return page(
        call.request,
        "repository-new.html",
        title=text("repositories.new"),
        beginning=f"{query.namespace}/" if query.namespace else "",
        visibilities=get_args(Visibility),
        gates=get_args(Gate),
        lines=Lines(
            api=["POST /api/v1/repositories"],
            cli=["seatrial repo create team/app --visibility private --gate enforce"],
        ),
    )


async def create_repository(call: Call) -> web.Response:
    """Make an empty repository; what is left out is as the namespace and the settings say."""
    fields = read_form(call)
    wanted = given_body(
        api.NewRepository,
        name=field(fields, "name"),
        visibility=fields.get("visibility"),
        gate=fields.get("gate"),
    )
    made = await api.create_repository(call, wanted)
    return moved(call, f"/r/{made.name}")


async def show_settings(call: Call) -> web.Response:
    """What holds in the repository, how much it holds, and forms to change it; for its owners also to rename
    and to delete it."""
    name = await _name(call, "configure")
    return page(
        call.request,
        "settings.html",
        title=text("settings.title", name=name),
        name=name,
        here_tab="settings",
        repository=await api.show_repository(call, name),
        keeps=may_administer(call.actor),
        kept=tuple(KEPT),
        owns=decide(call.actor, "administer", name, None).allowed,
        visibilities=get_args(Visibility),
        gates=get_args(Gate),
        switches=SWITCHES,
        turns=get_args(TurnedBad),
        lines=Lines(
            api=[
                f"PATCH /api/v1/repositories/{quote(name, '')}",
                f"POST /api/v1/repositories/{quote(name, '')}/rename",
                f"DELETE /api/v1/repositories/{quote(name, '')}",
            ],
            cli=[
                f"seatrial repo set {name} --visibility private --gate enforce",
                f"seatrial repo rename {name} NEW_NAME",
                f"seatrial repo delete {name}",
            ],
        ),
    )


async def change_settings(call: Call) -> web.Response:
    """Change visibility and gate. Whom a stricter gate would have refused, or a narrower visibility keeps
    out, is looked at first."""
    name = await _name(call, "configure")
    fields = read_form(call)
    wanted = given_body(
        api.RepositoryChange, visibility=field(fields, "visibility"), gate=field(fields, "gate")
    )
    now = await api.show_repository(call, name)
    as_seen(call).require(now.etag, f"repository {name}")
    if is_stricter(field(fields, "gate"), now.gate) or is_narrower(
        field(fields, "visibility"), now.visibility
    ):
        asked = chosen([("gate", wanted.gate), ("visibility", wanted.visibility)])
        return moved(call, f"/r/{name}/-/gate{asked}")
    await api.change_repository(call, name, wanted, as_seen(call))
    return moved(call, f"/r/{name}/-/settings")


async def change_trials(call: Call) -> web.Response:
    """Change what is tried in it, and what becomes of an image that turns bad."""
    name = await _name(call, "configure")
    fields = read_form(call)
    # Null is said and not left out: all tags, any worker, as is usual.
    wanted = {
        **{switch: fields.get(switch) == "yes" for switch in SWITCHES},
        "trial_tags": fields["trial_tags"].split() if "trial_tags" in fields else None,
        "worker_label": fields.get("worker_label"),
        "turned_bad": fields.get("turned_bad"),
        "turned_bad_days": whole_number(fields, "turned_bad_days", most=DAYS_MAX),
    }
    await api.change_repository(call, name, as_body(api.RepositoryChange, wanted), as_seen(call))
    return moved(call, f"/r/{name}/-/settings")


async def change_keeping(call: Call) -> web.Response:
    """Change how long what the repository remembers is kept; what is left empty is as usual."""
    name = await _name(call, "configure")
    fields = read_form(call)
    size = fields.get("log_keep_bytes", "").replace(" ", "")
    wanted = {
        **{each: whole_number(fields, each, most=most) for each, most in KEPT.items()},
        "log_keep_bytes": parse_size_bytes(size) if size else None,
    }
    await api.change_repository(call, name, as_body(api.RepositoryChange, wanted), as_seen(call))
    return moved(call, f"/r/{name}/-/settings")


async def rename_repository(call: Call) -> web.Response:
    """Give it another name, in its namespace or in another one."""
    name = await _name(call, "administer")
    to = field(read_form(call), "name")
    await api.rename_repository(call, name, given_body(api.Rename, name=to))
    return moved(call, f"/r/{to}/-/settings")


async def delete_repository(call: Call) -> web.Response:
    """Remove it with all it holds."""
    name = await _name(call, "administer")
    require_confirmed(read_form(call), name)
    await api.delete_repository(call, name, NO_CONDITIONS)
    return moved(call, "/")


async def show_members(call: Call) -> web.Response:
    """Who holds which role, also from above, and a form for another one."""
    name = call.request.match_info["name"]
    return _members(call, name, None, await members.list_members_of_repository(call, name, _part(call)))


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


async def show_members_below(call: Call) -> web.Response:
    """The same of a namespace."""
    name = call.request.match_info["name"]
    found = await members.list_members_of_namespace(call, name, _part(call))
    return _members(call, name, tabs_of(call.actor, name), found)


async def give_role_below(call: Call) -> web.Response:
    """Let somebody hold a role on a namespace, and all that lies below it."""
    name = await own_name(call, "administer")
    fields = read_form(call)
    wanted = given_body(members.WantedRole, role=field(fields, "role"))
    await members.give_role_on_namespace(call, name, field(fields, "member"), wanted)
    return moved(call, f"/n/{name}/-/members")


async def take_role_below(call: Call) -> web.Response:
    """Take the role that somebody was given on a namespace."""
    name = await own_name(call, "administer")
    await members.take_role_on_namespace(call, name, field(read_form(call), "member"))
    return moved(call, f"/n/{name}/-/members")


def _part(call: Call) -> PageQuery:
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    return PageQuery(limit=SHOWN, cursor=query.cursor)


def _members(call: Call, name: str, tabs: tuple[str, ...] | None, found: Page[Member]) -> web.Response:
    """``tabs`` are those of a namespace, where it is one."""
    if tabs is None:
        place, path = name, f"/r/{name}/-/members"
        api_line = f"PUT /api/v1/repositories/{quote(name, '')}/members/user:NAME"
    else:
        place, path = f"{name}/", f"/n/{name}/-/members"
        api_line = f"PUT /api/v1/namespaces/{quote(name, '')}/members/user:NAME"
    return page(
        call.request,
        "members.html",
        title=text("members.title", name=name),
        name=name,
        here_tab="members",
        tabs=tabs,
        place=place,
        gives=decide(call.actor, "administer", place, None).allowed,
        members=found.items,
        roles=get_args(Role),
        path=path,
        next_path=path + chosen([("cursor", found.next)]) if found.next else None,
        first_path=path if "cursor" in call.request.query else None,
        lines=Lines(
            api=[api_line],
            cli=[f"seatrial member list {place}", f"seatrial member set {place} user:NAME reader"],
        ),
    )


async def _name(call: Call, action: Action) -> str:
    """The repository's name, if the visitor may do that there: before what he sent is looked at."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action=action, name=name)
    return name
