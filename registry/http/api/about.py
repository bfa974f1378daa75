"""``/api/v1/version``: what runs here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from registry.contract import PROTOCOL_VERSION
from registry.http.api.routes import Call, Route


@dataclass(frozen=True, slots=True)
class Version:
    """``version`` of the registry, ``protocol`` that of what it speaks with workers."""

    version: str
    protocol: int


async def show_version(call: Call) -> Version:
    """What runs here."""
    return Version(version=version("seatrial"), protocol=PROTOCOL_VERSION)


ROUTES = (Route("GET", "/version", "user", show_version),)
