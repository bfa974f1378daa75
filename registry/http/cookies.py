"""The cookie of a session: found, set, taken away; and what proves that our own pages sent a request.

It is out of reach for scripts, goes to this host alone, and over HTTPS carries the prefix ``__Host-``, with
which no other host and no plain HTTP can set it (RFC 6265bis). A browser adds it to what other sites' pages
send, too: a request that changes something has to say where it comes from.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from registry.errors import DeniedError, UnauthorizedError
from registry.http.authentication import authenticate, base_url
from registry.http.caller import know
from registry.http.headers import client_of
from registry.http.proxies import client_address
from registry.http.services import SERVICES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from registry.auth.actor import Actor

NAME = "seatrial"
SECURE_NAME = f"__Host-{NAME}"
SAFE = frozenset({"GET", "HEAD"})
OWN_SITES = frozenset({"same-origin", "none"})
"""What a browser says in ``Sec-Fetch-Site`` of our own pages, and of what a person typed."""
_DEFAULT_PORTS: Mapping[str, str] = MappingProxyType({"http": ":80", "https": ":443"})


async def authenticate_caller(request: web.Request) -> Actor:
    """The actor of a request to ``/api/`` or to a page: by Authorization if it has that, else by the cookie.

    Raises:
        UnauthorizedError, RequestInvalidError: as :func:`~registry.http.authentication.authenticate`; or the
            session has ended.
        DeniedError: the cookie's request would change something, and no page of ours sent it.
    """
    secret = None if "Authorization" in request.headers else session_secret(request)
    if secret is None:
        return await authenticate(request)
    require_own_page(request)
    services = request.app[SERVICES]
    address = client_address(request, services.settings)
    client = client_of(request)
    actor = await services.sessions.actor_of(secret, address=address, client=client)
    actor = replace(actor, address=address, client=client)
    know(request, actor)
    return actor


def session_secret(request: web.Request) -> str | None:
    """The value of the session's cookie, if the request has one.

    Raises:
        UnauthorizedError: it has two; another host of the domain may have added one.
    """
    name, _ = _cookie(request)
    found = []
    for line in request.headers.getall("Cookie", ()):
        for pair in line.split(";"):
            given, _, value = pair.strip().partition("=")
            if given == name:
                found.append(value)
    if len(found) > 1:
        raise UnauthorizedError(f"the request has the cookie {name} twice; clear the cookies of this site")
    return found[0] if found else None


def set_session(request: web.Request, response: web.StreamResponse, secret: str) -> None:
    """Let the browser keep the session's cookie; the server decides how long it is worth anything."""
    name, secure = _cookie(request)
    response.set_cookie(
        name,
        secret,
        max_age=request.app[SERVICES].settings.session_max_seconds,
        path="/",
        secure=secure,
        httponly=True,
        samesite="Lax",
    )
    response.headers["Cache-Control"] = "no-store"


def clear_session(request: web.Request, response: web.StreamResponse) -> None:
    """Let the browser forget the session's cookie."""
    name, secure = _cookie(request)
    response.del_cookie(name, path="/", secure=secure, httponly=True, samesite="Lax")
    response.headers["Cache-Control"] = "no-store"


def is_from_own_page(request: web.Request) -> bool | None:
    """Whether a page of this registry sent the request; ``None`` where it does not say what page did.

    Browsers say so in ``Sec-Fetch-Site``, and in ``Origin`` where they do not trust the connection enough for
    that (plain HTTP).
    """
    sites = request.headers.getall("Sec-Fetch-Site", ())
    if sites:
        return len(sites) == 1 and sites[0] in OWN_SITES
    origins = request.headers.getall("Origin", ())
    if not origins:
        return None
    return len(origins) == 1 and _origin(origins[0]) == _origin(base_url(request))


def require_own_page(request: web.Request) -> None:
    """Let a request that a cookie signs change something only where it says that our own page sent it.

    Raises:
        DeniedError: it does not.
    """
    if request.method not in SAFE and not is_from_own_page(request):
        raise DeniedError(
            "a request that a cookie signs and that changes something must come from a page of this "
            f"registry: Sec-Fetch-Site: same-origin, or Origin: {base_url(request)}"
        )


def _cookie(request: web.Request) -> tuple[str, bool]:
    secure = base_url(request).startswith("https://")
    return (SECURE_NAME if secure else NAME), secure


def _origin(url: str) -> str:
    scheme, _, host = url.lower().partition("://")
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, '/'))}"
