"""``/api/v1/version`` and ``/api/v1/whoami``: what runs here, and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from registry.auth.whoami import Whoami, whoami
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


async def show_whoami(call: Call) -> Whoami:
    """Who the caller is, and what its credential may do until when.

    Never the credential itself."""
    return await whoami(call.services.database, actor=call.actor)


ROUTES = (
    Route("GET", "/version", "user", show_version),
    Route("GET", "/whoami", "account", show_whoami),
)
