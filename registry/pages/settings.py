"""What the registry was started with, for administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from registry.http.api import settings
from registry.http.api.models import Query
from registry.http.api.routes import Call, read_query
from registry.pages.rendering import Lines, page
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web


class SettingsQuery(Query):
    """Which settings."""

    which: Literal["changed", "all"] = "changed"


async def show_settings(call: Call) -> web.Response:
    """Those that are not as they are by default, or all."""
    which = read_query(call.request, SettingsQuery, leaves_out_empty=True).which
    found = (await settings.list_settings(call)).items
    return page(
        call.request,
        "registry-settings.html",
        title=text("administration.settings"),
        which=which,
        settings=[one for one in found if which == "all" or not one.is_default],
        lines=Lines(api=["GET /api/v1/settings"], cli=["seatrial settings --changed"]),
    )
