"""Robots: the accounts of programs, with their tokens, whose secrets are shown once."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from registry.errors import ConflictError, PreconditionFailedError
from registry.http.api import robots, tokens
from registry.http.api.models import PageQuery
from registry.http.api.routes import Call, read_query
from registry.oci.conditions import NO_CONDITIONS
from registry.pages.account import LIVES, revoke_one, token_of, wanted_token
from registry.pages.namespaces import may_on, own_name, tabs_of
from registry.pages.once import show_token_once
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import (
    IS_NEW,
    CursorQuery,
    field,
    given_body,
    moved,
    read_form,
    require_confirmed,
    switches_off,
)
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

SHOWN = 50
ALL = "/administration/robots"


async def show_robots(call: Call) -> web.Response:
    """The robots of a namespace, and a form for another one."""
    name = call.request.match_info["name"]
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    wanted = robots.RobotsQuery(namespace=name, limit=SHOWN, cursor=query.cursor)
    found = await robots.list_robots(call, wanted)
    path = f"/n/{name}/-/robots"
    return page(
        call.request,
        "robots.html",
        title=text("robots.title", name=name),
        name=name,
        here_tab="robots",
        tabs=tabs_of(call.actor, name),
        manages=may_on(call.actor, "administer", name),
        robots=found.items,
        path=path,
        next_path=path + chosen([("cursor", found.next)]) if found.next else None,
        first_path=path if query.cursor else None,
        lines=Lines(
            api=[f"GET /api/v1/robots?namespace={quote(name, '')}", "PUT /api/v1/robots/NAMESPACE+NAME"],
            cli=[f"seatrial robot list --namespace {name}", f"seatrial robot create {name}+NAME"],
        ),
    )


async def show_all_robots(call: Call) -> web.Response:
    """The robots of all namespaces."""
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    found = await robots.list_robots(call, robots.RobotsQuery(limit=SHOWN, cursor=query.cursor))
    return page(
        call.request,
        "robots.html",
        title=text("administration.robots"),
        name=None,
        manages=False,
        robots=found.items,
        path=ALL,
        next_path=ALL + chosen([("cursor", found.next)]) if found.next else None,
        first_path=ALL if query.cursor else None,
        lines=Lines(api=["GET /api/v1/robots"], cli=["seatrial robot list"]),
    )


async def create_robot(call: Call) -> web.Response:
    """Make a robot; its page has the form for its first token."""
    name = await own_name(call, "administer")
    own = field(read_form(call), "name")
    wanted = given_body(robots.WantedRobot, disabled=False)
    try:
        await robots.put_robot(call, f"{name}+{own}", wanted, IS_NEW)
    except PreconditionFailedError:
        raise ConflictError(f"there is a robot {name}+{own} already") from None
    return moved(call, _path(name, own))


async def show_robot(call: Call) -> web.Response:
    """A robot with its roles and its tokens."""
    matched = call.request.match_info
    account, path = f"{matched['name']}+{matched['robot']}", _own_path(call)
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    robot = await robots.show_robot(call, account)
    manages = may_on(call.actor, "administer", matched["name"])
    held = await robots.list_roles_of_robot(call, account, PageQuery(limit=SHOWN))
    found = None
    if manages:
        wanted = tokens.TokenQuery(account=account, limit=SHOWN, cursor=query.cursor)
        found = await tokens.list_tokens(call, wanted)
    return page(
        call.request,
        "robot.html",
        title=account,
        name=matched["name"],
        own=matched["robot"],
        manages=manages,
        robot=robot,
        grants=held.items,
        has_more=held.next is not None,
        tokens=found.items if found else (),
        lives=tuple(LIVES),
        path=path,
        next_path=path + chosen([("cursor", found.next)]) if found and found.next else None,
        first_path=path if query.cursor else None,
        lines=Lines(
            api=[f"GET /api/v1/robots/{quote(account, '')}", "POST /api/v1/tokens"],
            cli=[
                f"seatrial robot show {account}",
                f"seatrial token create --name NAME --account {account} --scope repository:NAME:pull",
                f"seatrial robot disable {account}",
            ],
        ),
    )


async def create_token(call: Call) -> web.Response:
    """Make a token of a robot, and show its secret this once."""
    account = await _account(call)
    made = await tokens.create_token(call, wanted_token(read_form(call), account=account))
    return show_token_once(call, made, back=_own_path(call))


async def rotate_token(call: Call) -> web.Response:
    """Replace a token, and show the new secret this once; the old one works for some time more."""
    token = await token_of(call, await _account(call))
    made = await tokens.rotate_token(call, token.id, tokens.TokenRotation())
    return show_token_once(call, made, back=_own_path(call))


async def revoke_token(call: Call) -> web.Response:
    """Let a token open nothing any more."""
    await revoke_one(call, await token_of(call, await _account(call)))
    return moved(call, _own_path(call))


async def switch_robot(call: Call) -> web.Response:
    """Disable a robot, or enable it again."""
    account = await _account(call)
    await robots.show_robot(call, account)  # it is made by none of this
    change = robots.WantedRobot(disabled=switches_off(read_form(call)))
    await robots.put_robot(call, account, change, NO_CONDITIONS)
    return moved(call, _own_path(call))


async def delete_robot(call: Call) -> web.Response:
    """Remove a robot with its tokens and roles."""
    account = await _account(call)
    require_confirmed(read_form(call), account)
    await robots.delete_robot(call, account, NO_CONDITIONS)
    return moved(call, f"/n/{call.request.match_info['name']}/-/robots")


async def _account(call: Call) -> str:
    """The robot's name, if the visitor manages its namespace."""
    return f"{await own_name(call, 'administer')}+{call.request.match_info['robot']}"


def _own_path(call: Call) -> str:
    return _path(call.request.match_info["name"], call.request.match_info["robot"])


def _path(name: str, own: str) -> str:
    return f"/n/{name}/-/robots/{own}"
