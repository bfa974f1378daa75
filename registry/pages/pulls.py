"""Who pulled an image, by day."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from registry.http.api.audit import PullsQuery, list_pulls
from registry.http.api.images import find_image
from registry.http.api.routes import Call, read_query
from registry.pages.image import Of
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import CursorQuery, as_body
from registry.pages.texts import text
from registry.trials.asking import may_read_log

if TYPE_CHECKING:
    from aiohttp import web

SHOWN = 50


async def show_pulls(call: Call) -> web.Response:
    """By day and by who it was, the newest day first."""
    matched = call.request.match_info
    name, digest = matched["name"], matched["digest"]
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    wanted = {"digest": digest, "repository": name, "limit": SHOWN, "cursor": query.cursor}
    found = await list_pulls(call, as_body(PullsQuery, wanted))
    repository, manifest, _ = await find_image(call, f"{name}@{digest}", "pull")
    reads = may_read_log(call.actor, repository=name, visibility=repository.visibility)
    of = Of(repository, manifest, None, reads, True)
    path = f"{of.path}/pulls"
    return page(
        call.request,
        "pulls.html",
        title=text("pulls.title", image=of.titled),
        of=of,
        here_tab="pulls",
        pulls=found.items,
        next_path=path + chosen([("cursor", found.next)]) if found.next else None,
        first_path=path if query.cursor else None,
        lines=Lines(
            api=[f"GET /api/v1/audit/pulls?digest={quote(digest, '')}&repository={quote(name, '')}"],
            cli=[f"seatrial audit pulls {digest} --repository {name}"],
        ),
    )
