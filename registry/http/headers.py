"""Headers that every response has, whichever way it is made."""

from __future__ import annotations

import re

import uuid_utils

REQUEST_ID_HEADER = "X-Request-Id"
_GIVEN_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def fixed_headers(path: str) -> dict[str, str]:
    """Those that depend on nothing but where the request went."""
    headers = {"Server": "seatrial", "X-Content-Type-Options": "nosniff"}
    if path.startswith("/v2"):
        headers["Docker-Distribution-API-Version"] = "registry/2.0"
    return headers


def request_id_of(given: str | None) -> str:
    """The id of a request: the one that came with it if it is harmless, else a new one."""
    return given if given and _GIVEN_ID.fullmatch(given) else uuid_utils.uuid7().hex
