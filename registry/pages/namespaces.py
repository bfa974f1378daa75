"""Namespaces: where roles are given, and what new repositories are like there."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args
from urllib.parse import quote

from registry.auth.owners import require_or_tell
from registry.auth.policy import Visibility, decide, may_administer, may_audit, role_allows
from registry.http.api import namespaces
from registry.http.api.models import PageQuery
from registry.http.api.routes import Call, read_query
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

    from registry.auth.actor import Actor
    from registry.auth.policy import Action

SHOWN = 50
LIST = "/namespaces"
SWITCHES = ("create_on_push", "scan", "waivers_by_two", "promotions_by_two")
CAPS = ("trial_queue_max", "trial_seconds_per_hour")
_SAID = {"yes": True, "no": False}


def makes_repositories(actor: Actor) -> bool:
    """Whether there is a place where the actor makes repositories, by hand."""
    held = (role for on, role in actor.roles.items() if on.endswith("/"))
    return actor.is_admin or any(role_allows(role, "configure") for role in held)


def pushes_somewhere(actor: Actor) -> bool:
    """Whether there is a place where the actor pushes, as far as his roles say."""
    return actor.is_admin or any(role_allows(role, "push") for role in actor.roles.values())


async def show_namespaces(call: Call) -> web.Response:
    """Those that the visitor has a role on, by name, and a form for another one."""
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    found = await namespaces.list_namespaces(call, PageQuery(limit=SHOWN, cursor=query.cursor))
    owns = "owner" in (role for on, role in call.actor.roles.items() if on.endswith("/"))
    return page(
        call.request,
        "namespaces.html",
        title=text("namespaces.title"),
        namespaces=found.items,
        makes=call.actor.is_admin or owns,
        next_path=LIST + chosen([("cursor", found.next)]) if found.next else None,
        first_path=LIST if query.cursor else None,
        lines=Lines(
            api=["GET /api/v1/namespaces", "POST /api/v1/namespaces"],
            cli=["seatrial namespace list", "seatrial namespace create NAME"],
        ),
    )


async def create_namespace(call: Call) -> web.Response:
    """Make a namespace, before there is a repository in it."""
    name = field(read_form(call), "name")
    await namespaces.create_namespace(call, given_body(namespaces.NewNamespace, name=name))
    return moved(call, f"/n/{name}")


async def show_namespace(call: Call) -> web.Response:
    """What is below a namespace, and what it says of new repositories."""
    name = call.request.match_info["name"]
    found = await namespaces.show_namespace(call, name)
    return page(
        call.request,
        "namespace.html",
        title=name,
        name=name,
        here_tab="overview",
        namespace=found,
        switches=SWITCHES,
        caps=CAPS,
        tabs=tabs_of(call.actor, name),
        makes=may_on(call.actor, "configure", name),
        lines=Lines(
            api=[
                f"GET /api/v1/namespaces/{quote(name, '')}",
                f"GET /api/v1/repositories?namespace={quote(name, '')}",
            ],
            cli=[f"seatrial namespace show {name}", f"seatrial repo list --namespace {name}"],
        ),
    )


async def show_settings(call: Call) -> web.Response:
    """Forms for what a namespace says; for its owners also to rename and to delete it."""
    name = await own_name(call, "configure")
    return page(
        call.request,
        "namespace-settings.html",
        title=text("namespaces.settings_of", name=name),
        name=name,
        here_tab="settings",
        tabs=tabs_of(call.actor, name),
        owns=may_on(call.actor, "administer", name),
        namespace=await namespaces.show_namespace(call, name),
        visibilities=get_args(Visibility),
        gates=get_args(Gate),
        switches=SWITCHES,
        caps=CAPS,
        administers_all=may_administer(call.actor),
        lines=Lines(
            api=[f"PATCH /api/v1/namespaces/{quote(name, '')}"],
            cli=[f"seatrial namespace set {name} --visibility private --gate enforce"],
        ),
    )


async def change_settings(call: Call) -> web.Response:
    """Change what a namespace says of new repositories; what is left empty is said above it."""
    name = await own_name(call, "configure")
    fields = read_form(call)
    said: dict[str, object] = {part: fields.get(part) for part in ("visibility", "gate")}
    said |= {switch: _SAID.get(fields.get(switch, "")) for switch in SWITCHES}
    if may_administer(call.actor):
        said |= {cap: whole_number(fields, cap, most=namespaces.CAP_MAX) for cap in CAPS}
    # Null is said and not left out: it lets one above say.
    wanted = as_body(namespaces.NamespaceChange, said)
    await namespaces.change_namespace(call, name, wanted, as_seen(call))
    return moved(call, f"/n/{name}/-/settings")


async def rename_namespace(call: Call) -> web.Response:
    """Give a namespace another name, and with it all that is below it."""
    name = await own_name(call, "administer")
    to = field(read_form(call), "name")
    await namespaces.rename_namespace(call, name, given_body(namespaces.NewName, name=to))
    return moved(call, f"/n/{to}")


async def delete_namespace(call: Call) -> web.Response:
    """Remove a namespace; with all that is below it where that is said."""
    name = await own_name(call, "administer")
    fields = read_form(call)
    require_confirmed(fields, name)
    await namespaces.delete_namespace(
        call, name, namespaces.Deletion(with_content=fields.get("with_content") == "yes")
    )
    return moved(call, LIST)


def tabs_of(actor: Actor, name: str) -> tuple[str, ...]:
    """Which pages of a namespace the actor may see."""
    sees_people = may_audit(actor) or may_on(actor, "administer", name)
    people = ("members", "robots") if sees_people else ()
    return ("overview", *people, *(("settings",) if may_on(actor, "configure", name) else ()))


async def own_name(call: Call, action: Action) -> str:
    """The namespace's name, if the visitor may do that there: before what he sent is looked at.

    Raises:
        UnauthorizedError, DeniedError: he may not.
    """
    name = call.request.match_info["name"]
    await require_or_tell(call.services.database, call.actor, action, f"{name}/", None)
    return name


def may_on(actor: Actor, action: Action, name: str) -> bool:
    """Whether the actor may do that on a namespace."""
    return decide(actor, action, f"{name}/", None).allowed
