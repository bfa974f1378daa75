"""What is known to be wrong with packages, how old that is, and how far images were told of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from registry.auth.policy import may_administer
from registry.http.api import advisories
from registry.http.api.routes import Call
from registry.pages.rendering import Lines, page
from registry.pages.serving import moved
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

OLD = timedelta(days=7)
"""A source that is older is marked: most of them change every day."""


async def show_advisories(call: Call) -> web.Response:
    """Each source with its age and what it tells of, and the matching."""
    found = await advisories.show_advisories(call)
    return page(
        call.request,
        "advisories.html",
        title=text("advisories.title"),
        found=found,
        old_before=datetime.now(UTC) - OLD,
        manages=may_administer(call.actor),
        lines=Lines(
            api=["GET /api/v1/advisories", "POST /api/v1/advisories/matchings"],
            cli=["seatrial advisories status", "seatrial advisories import", "seatrial advisories pull"],
        ),
    )


async def match_again(call: Call) -> web.Response:
    """Match all packages again, with the file of the host that answers."""
    await advisories.match_again(call)
    return moved(call, "/advisories")
