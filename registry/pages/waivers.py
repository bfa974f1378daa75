"""Waivers: asked for by those who push, granted and ended by those who manage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, get_args

from pydantic import Field

from registry.auth.policy import decide
from registry.content.administration import find
from registry.http.api import waivers
from registry.http.api.fields import ContentDigest
from registry.http.api.routes import Call, read_query
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import CursorQuery, field, given_body, moved, needed_number, read_form
from registry.pages.texts import text
from registry.trials.waiving import WaivedState

if TYPE_CHECKING:
    from aiohttp import web

SHOWN = 50
DAYS_MAX = 3650


class WaiversQuery(CursorQuery):
    """What to ask for, to begin with."""

    digest: ContentDigest | None = Field(default=None)
    finding: str = Field(default="", max_length=300)
    package: str = Field(default="", max_length=300)


async def show_waivers(call: Call) -> web.Response:
    """Waivers of a repository, the newest first, with what may be done about them, and a form to ask."""
    name = call.request.match_info["name"]
    query = read_query(call.request, WaiversQuery, leaves_out_empty=True)
    repository = await find(call.services.database, actor=call.actor, action="pull", name=name)
    found = await waivers.list_waivers(
        call, waivers.WaiversQuery(repository=name, limit=SHOWN, cursor=query.cursor)
    )
    path = f"/r/{name}/-/waivers"
    return page(
        call.request,
        "waivers.html",
        title=text("waivers.title", name=name),
        name=name,
        here_tab="waivers",
        path=path,
        waivers=found.items,
        states=get_args(WaivedState),
        digest=query.digest or "",
        finding=query.finding,
        package=query.package,
        pushes=decide(call.actor, "push", name, repository.visibility).allowed,
        manages=decide(call.actor, "configure", name, repository.visibility).allowed,
        next_path=path + chosen([("cursor", found.next)]) if found.next else None,
        first_path=path if query.cursor else None,
        lines=Lines(
            api=[f"GET /api/v1/waivers?repository={name}", "POST /api/v1/waivers"],
            cli=[
                f"seatrial waiver list {name}",
                f"seatrial waiver request {name}@DIGEST --state fail --for 7d --reason WHY",
                "seatrial waiver grant ID",
            ],
        ),
    )


async def request_waiver(call: Call) -> web.Response:
    """Ask for a waiver: of an image in some states, or of one finding."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="push", name=name)
    fields = read_form(call)
    digest = fields.get("digest")
    days = needed_number(fields, "days", least=1, most=DAYS_MAX)
    wanted = given_body(
        waivers.NewWaiver,
        image=f"{name}@{digest}" if digest else name,
        states=[state for state in get_args(WaivedState) if f"state-{state}" in fields],
        finding=fields.get("finding"),
        package=fields.get("package"),
        reason=field(fields, "reason"),
        expires_at=datetime.now(UTC) + timedelta(days=days),
    )
    await waivers.request_waiver(call, wanted)
    return moved(call, f"/r/{name}/-/waivers")


async def grant_waiver(call: Call) -> web.Response:
    """Let a waiver count."""
    granted = await waivers.grant_waiver(call, call.request.match_info["waiver_id"])
    return moved(call, f"/r/{granted.repository}/-/waivers")


async def revoke_waiver(call: Call) -> web.Response:
    """Refuse a waiver, or end it."""
    ended = await waivers.revoke_waiver(call, call.request.match_info["waiver_id"])
    return moved(call, f"/r/{ended.repository}/-/waivers")
