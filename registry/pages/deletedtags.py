"""A tag, deleted, and those that were: brought back as long as their images are there."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from registry.auth.policy import decide
from registry.content.administration import find
from registry.http.api import tags
from registry.http.api.models import PageQuery
from registry.http.api.reasons import REASON_MAX
from registry.http.api.routes import Call, read_query
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import CursorQuery, as_body, as_seen, field, given_body, moved, read_form
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

SHOWN = 50


async def show_deleted_tags(call: Call) -> web.Response:
    """Tags that were deleted and not made again, the last one first, each with a way back."""
    name = call.request.match_info["name"]
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    found = await tags.list_deleted_tags(call, name, PageQuery(limit=SHOWN, cursor=query.cursor))
    path = _path(name)
    return page(
        call.request,
        "deleted-tags.html",
        title=text("deleted.title", name=name),
        name=name,
        deleted=found.items,
        pushes=decide(call.actor, "push", name, None).allowed,
        deletes=decide(call.actor, "delete", name, None).allowed,
        path=path,
        next_path=path + chosen([("cursor", found.next)]) if found.next else None,
        first_path=path if query.cursor else None,
        lines=Lines(
            api=[
                f"GET /api/v1/repositories/{quote(name, '')}/deleted-tags",
                f"POST /api/v1/repositories/{quote(name, '')}/tags/TAG/restore",
            ],
            cli=[f"seatrial tag list {name} --deleted", f"seatrial tag restore {name}:TAG"],
        ),
    )


async def restore_tag(call: Call) -> web.Response:
    """Bring a tag back to where it stood when it was deleted."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="push", name=name)
    tag = field(read_form(call), "tag")
    await tags.restore_tag(call, name, tag, given_body(tags.Restoration))
    return moved(call, f"/r/{name}/-/history/{tag}")


async def confirm_deletion(call: Call) -> web.Response:
    """A form to delete a tag, with why."""
    name, tag = call.request.match_info["name"], call.request.match_info["tag"]
    await find(call.services.database, actor=call.actor, action="delete", name=name)
    standing = await tags.show_tag(call, name, tag, tags.TagQuery())
    return page(
        call.request,
        "delete-tag.html",
        title=text("deleted.delete_title", image=f"{name}:{tag}"),
        name=name,
        tag=tag,
        stands_at=standing.digest,
        reason_max=REASON_MAX,
        lines=Lines(
            api=[f"DELETE /api/v1/repositories/{quote(name, '')}/tags/{tag}"],
            cli=[f"seatrial tag delete {name}:{tag}"],
        ),
    )


async def delete_tag(call: Call) -> web.Response:
    """Remove a tag and nothing else, if it still stands where that was asked."""
    name, tag = call.request.match_info["name"], call.request.match_info["tag"]
    await find(call.services.database, actor=call.actor, action="delete", name=name)
    fields = read_form(call)
    wanted = as_body(tags.DeletionQuery, {"reason": fields.get("reason")})
    await tags.delete_tag(call, name, tag, wanted, as_seen(call))
    return moved(call, _path(name))


def _path(name: str) -> str:
    return f"/r/{name}/-/deleted"
