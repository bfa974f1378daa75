"""What is done for the bytes of the registry: collections, scrubs, and blobs in quarantine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.content.scrubs import RATE_LEAST
from registry.contract.sizes import parse_size_bytes
from registry.errors import RequestInvalidError
from registry.http.api import collections, scrubs
from registry.http.api.models import PageQuery
from registry.http.api.routes import Call, read_query
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import CursorQuery, as_body, given_body, moved, read_form
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

SHOWN = 10
DAMAGED_SHOWN = 50
_PORTIONS = 2
"""A page looks at so many: one of blobs and one of manifests where there is no more."""


async def show_storage(call: Call) -> web.Response:
    """The last collections and scrubs, those that go on, and what is in quarantine."""
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    damaged = await scrubs.list_damaged_blobs(call, PageQuery(limit=DAMAGED_SHOWN, cursor=query.cursor))
    return page(
        call.request,
        "storage.html",
        title=text("storage.title"),
        collections=await collections.list_collections(call, collections.CollectionsQuery(limit=SHOWN)),
        scrubs=await scrubs.list_scrubs(call, scrubs.ScrubsQuery(limit=SHOWN)),
        damaged=damaged.items,
        next_path="/storage" + chosen([("cursor", damaged.next)]) if damaged.next else None,
        first_path="/storage" if query.cursor else None,
        lines=Lines(
            api=["GET /api/v1/collections", "GET /api/v1/scrubs", "GET /api/v1/scrubs/damaged"],
            cli=["seatrial gc", "seatrial scrub run", "seatrial scrub damaged", "seatrial fsck"],
        ),
    )


async def show_candidates(call: Call) -> web.Response:
    """What the next collections will remove, and why."""
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    wanted = as_body(collections.PreviewQuery, {"limit": DAMAGED_SHOWN, "cursor": query.cursor})
    found = await collections.preview(call, wanted, portions=_PORTIONS)
    path = "/storage/preview"
    return page(
        call.request,
        "candidates.html",
        title=text("storage.preview"),
        candidates=found.candidates,
        most=DAMAGED_SHOWN,
        next_path=path + chosen([("cursor", found.following)]) if found.following else None,
        first_path=path if query.cursor else None,
        lines=Lines(api=["GET /api/v1/collections/preview"], cli=["seatrial gc --dry-run"]),
    )


async def begin_collection(call: Call) -> web.Response:
    """Begin a collection now."""
    await collections.ask_collection(call)
    return moved(call, "/storage")


async def begin_scrub(call: Call) -> web.Response:
    """Read all blobs now, at a rate, if one is given."""
    words = read_form(call).get("rate", "").replace(" ", "").removesuffix("/s")
    rate = parse_size_bytes(words) if words else None
    if rate is not None and rate < RATE_LEAST:
        raise RequestInvalidError(f"rate: {RATE_LEAST} bytes a second at the least")
    await scrubs.ask_scrub(call, given_body(scrubs.ScrubAsked, bytes_per_second=rate))
    return moved(call, "/storage")


async def stop_scrub(call: Call) -> web.Response:
    """End a scrub before its end."""
    await scrubs.stop_scrub(call, call.request.match_info["scrub_id"])
    return moved(call, "/storage")
