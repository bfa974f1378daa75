"""Promotions into a repository: looked at before, asked for, granted, refused and undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from registry.auth.policy import decide
from registry.content.tagmoves import NOWHERE
from registry.http.api import promotions
from registry.http.api.fields import PlaceKey
from registry.http.api.reasons import REASON_MAX
from registry.http.api.routes import Call, read_query
from registry.pages.places import path_on
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import CursorQuery, field, given_body, moved, read_form
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

SHOWN = 50


class PromotionsQuery(CursorQuery):
    """Into which repository; left out, for auditors, into all."""

    on: PlaceKey | None = None


class WantedQuery(CursorQuery):
    """What somebody thinks of promoting."""

    on: PlaceKey
    source: str = Field(min_length=1, max_length=500)
    tag: str = Field(default="", max_length=128)
    reason: str = Field(default="", max_length=REASON_MAX)


async def show_promotions(call: Call) -> web.Response:
    """Promotions and requests for some, the newest first, with what may be done about them."""
    query = read_query(call.request, PromotionsQuery, leaves_out_empty=True)
    found = await promotions.list_promotions(
        call, promotions.PromotionsQuery(repository=query.on, limit=SHOWN, cursor=query.cursor)
    )
    path, on = "/promotions", query.on
    return page(
        call.request,
        "promotions.html",
        title=text("promotions.title", on=on) if on else text("promotions.all"),
        on=on,
        here_tab="promotions",
        promotions=found.items,
        pushes={one.repository: _pushes(call, one.repository) for one in found.items},
        promotes=on is not None and _pushes(call, on),
        manages=on is not None and decide(call.actor, "configure", on, None).allowed,
        next_path=path + chosen([("on", on), ("cursor", found.next)]) if found.next else None,
        first_path=path + chosen([("on", on)]) if query.cursor else None,
        reason_max=REASON_MAX,
        lines=Lines(
            api=["GET /api/v1/promotions", "POST /api/v1/promotions"],
            cli=["seatrial promotion list", "seatrial promote SOURCE TO"],
        ),
    )


async def preview_promotion(call: Call) -> web.Response:
    """What a promotion would do, and why it would be refused; with a button that does it."""
    query = read_query(call.request, WantedQuery, leaves_out_empty=True)
    found = await promotions.preview_promotion(call, _wanted(query.on, query.source, query.tag, query.reason))
    return page(
        call.request,
        "promotion-preview.html",
        title=text("promotions.preview", on=query.on),
        on=query.on,
        here_tab="promotions",
        query=query,
        found=found,
        nowhere=NOWHERE,
        manages=decide(call.actor, "configure", query.on, None).allowed,
        lines=Lines(
            api=["POST /api/v1/promotions/preview"],
            cli=[f"seatrial promote {query.source} {query.on}:{found.tag} --dry-run"],
        ),
    )


async def promote(call: Call) -> web.Response:
    """Promote, or ask for it where the destination wants two people."""
    fields = read_form(call)
    on = field(fields, "on")
    source = field(fields, "source")
    if "seen-digest" in fields and "@" not in source:
        source = f"{source}@{fields['seen-digest']}"
    wanted = _wanted(
        on, source, fields.get("tag", ""), fields.get("reason", ""), stands_at=fields.get("seen")
    )
    await promotions.promote(call, wanted)
    return moved(call, path_on("/promotions", on))


async def grant_promotion(call: Call) -> web.Response:
    """Agree to what somebody else asked for."""
    done = await promotions.grant_promotion(call, call.request.match_info["promotion_id"])
    return moved(call, path_on("/promotions", done.repository))


async def end_promotion(call: Call) -> web.Response:
    """Refuse it, or take one's own request back."""
    done = await promotions.end_promotion(call, call.request.match_info["promotion_id"])
    return moved(call, path_on("/promotions", done.repository))


async def undo_promotion(call: Call) -> web.Response:
    """Take the tag back to where it stood before."""
    done = await promotions.undo_promotion(call, call.request.match_info["promotion_id"])
    return moved(call, path_on("/promotions", done.repository))


def _pushes(call: Call, name: str) -> bool:
    return decide(call.actor, "push", name, None).allowed


def _wanted(
    on: str, source: str, tag: str, reason: str, *, stands_at: str | None = None
) -> promotions.WantedPromotion:
    return given_body(
        promotions.WantedPromotion,
        source=source,
        to=f"{on}:{tag}" if tag else on,
        reason=reason or None,
        stands_at=stands_at,
    )
