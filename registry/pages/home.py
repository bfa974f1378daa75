"""The first page: the repositories that the visitor may pull from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.auth.policy import may_administer
from registry.http.api.attention import list_attention
from registry.http.api.fields import NamespaceName
from registry.http.api.models import PageQuery
from registry.http.api.repositories import RepositoriesQuery, list_repositories
from registry.http.api.routes import Call, read_query
from registry.http.api.workers import list_workers
from registry.pages.namespaces import makes_repositories, pushes_somewhere
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import CursorQuery
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

SHOWN = 50


class HomeQuery(CursorQuery):
    """Which repositories."""

    namespace: NamespaceName | None = None


async def show_home(call: Call) -> web.Response:
    """What the visitor should look at, and repositories by name, so many on a page."""
    query = read_query(call.request, HomeQuery, leaves_out_empty=True)
    wanted = RepositoriesQuery(limit=SHOWN, cursor=query.cursor, namespace=query.namespace)
    found = await list_repositories(call, wanted)
    pushes = pushes_somewhere(call.actor)
    has_worker = True
    if not found.items and pushes and may_administer(call.actor):
        has_worker = bool((await list_workers(call, PageQuery(limit=1))).items)
    is_first = query.namespace is None and query.cursor is None and call.actor.kind != "anonymous"
    kept = [("namespace", query.namespace)]
    return page(
        call.request,
        "home.html",
        title=text("home.below", name=query.namespace) if query.namespace else text("home.title"),
        repositories=found.items,
        attention=await list_attention(call) if is_first else (),
        namespace=query.namespace,
        makes=makes_repositories(call.actor),
        pushes=pushes,
        has_worker=has_worker,
        next_path=f"/{chosen([*kept, ('cursor', found.next)])}" if found.next else None,
        first_path=f"/{chosen(kept)}" if query.cursor else None,
        lines=Lines(api=["GET /api/v1/repositories"], cli=["seatrial repo list", "seatrial attention"]),
    )
