"""What proxies in front say about the client: believed from trusted ones, and from nobody else.

One family of headers is read, the one that the trusted proxy sets: the other would come through it as the
client sent it. RFC 7239 for ``Forwarded``.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.auth.networks import is_in
from registry.http.services import SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aiohttp import web

    from registry.settings import Network, Settings

HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)
_PAIR = re.compile(r'\s*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^\s;,"]+)\s*(?:;|$)')
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_ELEMENTS = re.compile(rf"(?:{_ELEMENT.pattern})?(?:,(?:{_ELEMENT.pattern})?)*")
_HOPS_MAX = 32


@dataclass(frozen=True, slots=True)
class Told:
    """What the nearest trusted proxy says that the client asked for; ``None`` where it says nothing that can
    be used."""

    scheme: str | None = None
    host: str | None = None


def client_address(request: web.BaseRequest, settings: Settings) -> str | None:
    """The client's address: the last hop, from the near end, that is no trusted proxy."""
    peer = request.remote
    if not settings.trusted_proxies or not is_in(peer, settings.trusted_proxies):
        return peer
    if settings.forwarded_headers == "forwarded":
        hops = [_node(element.get("for", "")) for element in _forwarded(request)]
    else:
        hops = [_node(hop) for hop in _values(request, "X-Forwarded-For")]
    return rightmost_untrusted(peer, hops, settings.trusted_proxies)


def told(request: web.Request) -> Told:
    """Scheme and host as the client knows them, where a trusted proxy tells them."""
    settings = request.app[SERVICES].settings
    if not settings.trusted_proxies or not is_in(request.remote, settings.trusted_proxies):
        return Told()
    if settings.forwarded_headers == "forwarded":
        elements = _forwarded(request)
        scheme, host = (elements[-1].get(name, "") for name in ("proto", "host")) if elements else ("", "")
    else:
        # A proxy that appends has put its own word last.
        scheme, host = (
            (_values(request, name) or [""])[-1] for name in ("X-Forwarded-Proto", "X-Forwarded-Host")
        )
    scheme = scheme.lower()
    return Told(
        scheme=scheme if scheme in ("http", "https") else None,
        host=host if HOST.fullmatch(host) else None,
    )


def rightmost_untrusted(
    peer: str | None, hops: Sequence[str | None], trusted: Iterable[Network]
) -> str | None:
    """Walk from the near end, ``peer``, over ``hops`` (far end first) to the first who is not trusted.

    What cannot be read (``None``) hides what is beyond it: the last readable one counts.
    """
    found = peer
    for hop in reversed(hops[-_HOPS_MAX:]):
        if not is_in(found, trusted) or hop is None:
            break
        found = hop
    return found


def _values(request: web.BaseRequest, name: str) -> list[str]:
    lines = request.headers.getall(name, [])
    return [value.strip() for line in lines for value in line.split(",")]


def _forwarded(request: web.BaseRequest) -> list[dict[str, str]]:
    """The elements of ``Forwarded``, far end first; one that breaks the grammar is empty."""
    text = ",".join(request.headers.getall("Forwarded", []))
    if not _ELEMENTS.fullmatch(text):
        return [{}]
    return [_pairs(element) for element in _ELEMENT.findall(text)]


def _pairs(element: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    position = 0
    while position < len(element):
        match = _PAIR.match(element, position)
        if match is None or match[1].lower() in pairs:
            return {}
        value = match[2]
        pairs[match[1].lower()] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value[0] == '"' else value
        position = match.end()
    return pairs


def _node(text: str) -> str | None:
    """The address in a hop as proxies write it: bare, with a port, or an IPv6 address in brackets."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
