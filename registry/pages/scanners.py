"""Other scanners that look at the images of a place: looked at before they are set, set, removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.content.administration import require_place
from registry.http.api import scanners
from registry.http.api.routes import Call, read_query
from registry.pages.places import OnQuery, may, path_on
from registry.pages.rendering import Lines, page
from registry.pages.serving import as_body, field, given_body, moved, read_form
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

    from registry.trials.scanners import ScannerPreview


async def show_scanners(call: Call) -> web.Response:
    """The scanners that look at the images of a place, also from above, and a form for another one."""
    on = read_query(call.request, OnQuery, leaves_out_empty=True).on
    return await _scanners(call, on, None)


async def preview_scanner(call: Call) -> web.Response:
    """Say what setting a scanner would do, and which workers could run it; nothing is changed."""
    wanted = await _wanted(call)
    return await _scanners(call, wanted.on, await scanners.preview_scanner(call, wanted))


async def set_scanner(call: Call) -> web.Response:
    """Have an image look at those of a place that are scanned from now on."""
    wanted = await _wanted(call)
    await scanners.put_scanner(call, wanted)
    return moved(call, path_on("/scanners", wanted.on))


async def remove_scanner(call: Call) -> web.Response:
    """Have a scanner look no longer at the images of a place where it was set."""
    fields = read_form(call)
    on = field(fields, "on")
    wanted = as_body(scanners.ScannerQuery, {"on": on, "name": field(fields, "name")})
    await scanners.remove_scanner(call, wanted)
    return moved(call, path_on("/scanners", on))


async def _wanted(call: Call) -> scanners.NewScanner:
    fields = read_form(call)
    on = field(fields, "on")
    # Before what he sent is looked at: whoever may not set one is told nothing of images.
    await require_place(call.services.database, actor=call.actor, action="configure", on=on)
    return given_body(scanners.NewScanner, on=on, name=field(fields, "name"), image=field(fields, "image"))


async def _scanners(call: Call, on: str, preview: ScannerPreview | None) -> web.Response:
    found = await scanners.list_scanners(call, scanners.ScannersQuery(on=on))
    return page(
        call.request,
        "scanners.html",
        title=text("scanners.title", on=on),
        on=on,
        here_tab="scanners",
        scanners=found.items,
        preview=preview,
        manages=may(call, "configure", on),
        lines=Lines(
            api=[f"GET /api/v1/scanners?on={on}", "POST /api/v1/scanners/preview", "PUT /api/v1/scanners"],
            cli=[
                f"seatrial scanner list {on}",
                f"seatrial scanner set {on} NAME IMAGE --dry-run",
                f"seatrial scanner remove {on} NAME",
            ],
        ),
    )
