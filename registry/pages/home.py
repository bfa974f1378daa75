"""The first page: the repositories that the visitor may pull from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.http.api.models import PageQuery
from registry.http.api.repositories import list_repositories
from registry.http.api.routes import Call, read_query
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import CursorQuery
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

SHOWN = 50


async def show_home(call: Call) -> web.Response:
    """Repositories by name, so many on a page."""
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    found = await list_repositories(call, PageQuery(limit=SHOWN, cursor=query.cursor))
    return page(
        call.request,
        "home.html",
        title=text("home.title"),
        repositories=found.items,
        next_path=f"/{chosen([('cursor', found.next)])}" if found.next else None,
        first_path="/" if query.cursor else None,
        lines=Lines(api=["GET /api/v1/repositories"], cli=["seatrial repo list"]),
    )
