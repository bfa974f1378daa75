"""What those who push do with one image: try it, give it another tag, point its tag at another image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.content.administration import find
from registry.http.api import tags
from registry.http.api.routes import Call
from registry.http.api.trials import Request, start_trial
from registry.oci.digest import parse_content_digest
from registry.pages.serving import field, given_body, moved, read_form

if TYPE_CHECKING:
    from aiohttp import web

    from registry.auth.policy import Action

TRIABLE = frozenset({"pass", "warn", "fail", "error", "expired", "grandfathered", "untried", "unsigned"})
"""States of an image that can be tried now. What is pending is tried already; a block is above a verdict."""


async def try_image(call: Call) -> web.Response:
    """Start a trial of an image, and go to it."""
    name = await _name(call, "trial")
    digest = parse_content_digest(call.request.match_info["digest"])
    begun = await start_trial(call, Request(image=f"{name}@{digest}"))
    return moved(call, f"/trials/{begun.id}")


async def copy_tag(call: Call) -> web.Response:
    """Make another tag that stands where this one does."""
    name = await _name(call, "push")
    fields = read_form(call)
    wanted = given_body(tags.TagCopy, to=field(fields, "to"), reason=fields.get("reason"))
    made = await tags.copy_tag(call, name, call.request.match_info["tag"], wanted)
    return moved(call, f"/r/{name}/-/tags/{made.name}")


async def move_tag(call: Call) -> web.Response:
    """Point a tag at another image of its repository, by tag or digest, if it stands where its page showed
    it."""
    name, tag = await _name(call, "push"), call.request.match_info["tag"]
    fields = read_form(call)
    wanted = given_body(
        tags.TagMovement, to=field(fields, "to"), reason=fields.get("reason"), stands_at=fields.get("seen")
    )
    await tags.move_tag(call, name, tag, wanted)
    return moved(call, f"/r/{name}/-/tags/{tag}")


async def _name(call: Call, action: Action) -> str:
    """The repository's name, if the visitor may do that there: before what he sent is looked at."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action=action, name=name)
    return name
