"""The keys that the registry signs with: which there are, and new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from registry.auth.keyring import KEEP, SETTLE, Ring
from registry.http.api import keys
from registry.http.api.routes import Call
from registry.pages.rendering import Lines, page
from registry.pages.serving import field, given_body, moved, read_form, require_confirmed
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

PATH = "/administration/keys"
SHOWN = 50


async def show_keys(call: Call) -> web.Response:
    """Keys, the newest first, and forms for a new one."""
    found = (await keys.list_keys(call)).items
    return page(
        call.request,
        "keys.html",
        title=text("administration.keys"),
        keys=found[:SHOWN],
        more=max(0, len(found) - SHOWN),
        rings=get_args(Ring),
        settle=int(SETTLE.total_seconds()),
        keep=int(KEEP.total_seconds()) // 3600,
        lines=Lines(
            api=["GET /api/v1/keys", "POST /api/v1/keys/rotate"],
            cli=["seatrial keys list", "seatrial keys rotate"],
        ),
    )


async def rotate_keys(call: Call) -> web.Response:
    """Make a new key, which takes the place of the one that signs."""
    wanted = given_body(keys.KeyRotation, ring=field(read_form(call), "ring"))
    await keys.rotate_keys(call, wanted)
    return moved(call, PATH)


async def replace_keys(call: Call) -> web.Response:
    """Make a new key, and let all older ones be worth nothing; the ring was typed."""
    fields = read_form(call)
    ring = field(fields, "ring")
    require_confirmed(fields, ring)
    await keys.rotate_keys(call, given_body(keys.KeyRotation, ring=ring, at_once=True))
    return moved(call, PATH)
