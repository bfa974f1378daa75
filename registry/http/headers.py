"""Headers that every response has, whichever way it is made."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

import uuid_utils

from registry.http.services import SERVICES
from registry.oci.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
REQUEST_ID_HEADER = "X-Request-Id"
_CLIENT_MAX = 200
_GIVEN_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def fixed_headers(request: web.Request) -> dict[str, str]:
    """Those that depend on nothing but where the request went.

    Clients that take this registry for a mirror say with ``ns`` whose content they want. What is here is the
    registry's own and nobody else's, so the answer names that host alone (distribution-spec, "Registry
    Proxying").
    """
    headers = {"Server": "seatrial", "X-Content-Type-Options": "nosniff"}
    if request.path.startswith("/v2"):
        headers["Docker-Distribution-API-Version"] = "registry/2.0"
        if "ns=" in request.query_string:
            own = (request.app[SERVICES].settings.external_url or "").partition("://")[2]
            if own and request.query.get("ns") == own:
                headers["OCI-Namespace"] = own
    return headers


def request_id_of(given: str | None) -> str:
    """The id of a request: the one that came with it if it is harmless, else a new one."""
    return given if given and _GIVEN_ID.fullmatch(given) else uuid_utils.uuid7().hex


def client_of(request: web.BaseRequest) -> str | None:
    """The program that a client says it is: one line of printable characters, cut."""
    return printable(request.headers.get("User-Agent", "")[:_CLIENT_MAX]) or None
