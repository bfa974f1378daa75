"""The history of a tag, and back to where it stood."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from pydantic import Field

from registry.auth.policy import decide
from registry.content.administration import find
from registry.content.tagmoves import NOWHERE
from registry.http.api import tags
from registry.http.api.fields import ContentDigest
from registry.http.api.models import PageQuery, Query
from registry.http.api.reasons import REASON_MAX
from registry.http.api.routes import Call, read_query
from registry.oci.digest import parse_content_digest
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import CursorQuery, field, given_body, moved, read_form
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

SHOWN = 50


class RollbackQuery(Query):
    """Where to."""

    to: ContentDigest = Field()


async def show_tag_history(call: Call) -> web.Response:
    """The moves of a tag, the last one first, each with a way back for those who may push."""
    name, tag = call.request.match_info["name"], call.request.match_info["tag"]
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    found = await tags.show_history(call, name, tag, PageQuery(limit=SHOWN, cursor=query.cursor))
    path = _path(name, tag)
    return page(
        call.request,
        "history.html",
        title=text("history.title", image=f"{name}:{tag}"),
        name=name,
        tag=tag,
        path=path,
        moves=found.items,
        stands_at=found.items[0].new_digest if found.items and not query.cursor else None,
        pushes=decide(call.actor, "push", name, None).allowed,
        deletes=decide(call.actor, "delete", name, None).allowed,
        next_path=path + chosen([("cursor", found.next)]) if found.next else None,
        first_path=path if query.cursor else None,
        lines=Lines(
            api=[f"GET {_api(name, tag)}/history"],
            cli=[f"seatrial tag history {name}:{tag}", f"seatrial tag rollback {name}:{tag}"],
        ),
    )


async def confirm_rollback(call: Call) -> web.Response:
    """Where the tag stands and where it would, and why that is wanted."""
    name, tag = call.request.match_info["name"], call.request.match_info["tag"]
    await find(call.services.database, actor=call.actor, action="push", name=name)
    to = str(parse_content_digest(read_query(call.request, RollbackQuery).to))
    standing = await tags.show_history(call, name, tag, PageQuery(limit=1))
    return page(
        call.request,
        "rollback.html",
        title=text("history.back_title", image=f"{name}:{tag}"),
        name=name,
        tag=tag,
        path=_path(name, tag),
        to=to,
        stands_at=standing.items[0].new_digest if standing.items else None,
        nowhere=NOWHERE,
        reason_max=REASON_MAX,
        lines=Lines(
            api=[f"POST {_api(name, tag)}/rollback"], cli=[f"seatrial tag rollback {name}:{tag} --to {to}"]
        ),
    )


async def roll_back(call: Call) -> web.Response:
    """Point the tag at where it stood, and show its history."""
    name, tag = call.request.match_info["name"], call.request.match_info["tag"]
    await find(call.services.database, actor=call.actor, action="push", name=name)
    fields = read_form(call)
    wanted = given_body(
        tags.Rollback, to=field(fields, "to"), reason=fields.get("reason"), stands_at=fields.get("seen")
    )
    await tags.roll_back(call, name, tag, wanted)
    return moved(call, _path(name, tag))


def _path(name: str, tag: str) -> str:
    return f"/r/{name}/-/history/{tag}"


def _api(name: str, tag: str) -> str:
    return f"/api/v1/repositories/{quote(name, '')}/tags/{tag}"
