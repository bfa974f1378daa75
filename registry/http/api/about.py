"""``/api/v1/version``: what runs here."""

from __future__ import annotations

from importlib.metadata import version

from registry.contract import PROTOCOL_VERSION
from registry.http.api.routes import Call, Route


async def show_version(call: Call) -> object:
    """The version, and that of the protocol that workers speak."""
    call.query()
    return {"version": version("seatrial"), "protocol": PROTOCOL_VERSION}


ROUTES = (Route("GET", "/version", "user", show_version),)
