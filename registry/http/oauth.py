"""``/oauth/login`` and ``/oauth/callback/ISSUER``: a person signs in with an OIDC issuer, in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from registry.auth.oidc import flow
from registry.errors import RequestInvalidError, UnauthorizedError
from registry.http.authentication import base_url
from registry.http.caller import ACTOR_SHOWN
from registry.http.cookies import session_secret, set_session
from registry.http.headers import client_of
from registry.http.proxies import client_address
from registry.http.services import SERVICES

if TYPE_CHECKING:
    from multidict import MultiMapping

_COOKIE = "seatrial-sign-in"
_PATH = "/oauth"
_ANSWER = ("code", "state", "iss", "error", "error_description", "error_uri", "session_state", "scope")


def add_routes(app: web.Application) -> None:
    """Serve them."""
    app.router.add_get(f"{_PATH}/login", begin, allow_head=False)
    app.router.add_get(f"{_PATH}/callback/{{issuer}}", finish, allow_head=False)


async def begin(request: web.Request) -> web.Response:
    """Send the browser to the issuer named in the query; ``next`` is where it goes in the end."""
    asked = _once(request.query, ("issuer", "next"))
    if "issuer" not in asked:
        raise RequestInvalidError("issuer is missing: /oauth/login?issuer=NAME")
    begun = await flow.begin(
        request.app[SERVICES].oidc,
        issuer=asked["issuer"],
        redirect_uri=_redirect_uri(request, asked["issuer"]),
        next_path=asked.get("next", "/"),
    )
    response = _moved(begun.address)
    name, secure = _cookie(request)
    response.set_cookie(
        name,
        begun.sealed,
        max_age=flow.LIFE_SECONDS,
        path="/",
        secure=secure,
        httponly=True,
        # The issuer's page sends the browser back with a plain link, with which Lax goes.
        samesite="Lax",
    )
    return response


async def finish(request: web.Request) -> web.Response:
    """Take what the issuer gave, begin a session and send the browser on."""
    services, issuer = request.app[SERVICES], request.match_info["issuer"]
    done = await flow.finish(
        services.oidc,
        services.settings,
        issuer=issuer,
        sealed=request.cookies.get(_cookie(request)[0]),
        answer=_once(request.query, _ANSWER),
        redirect_uri=_redirect_uri(request, issuer),
        address=client_address(request, services.settings),
        client=client_of(request),
        replaced=_session_before(request),
    )
    request[ACTOR_SHOWN] = done.session.account
    response = _moved(done.next_path)
    name, secure = _cookie(request)
    response.del_cookie(name, path="/", secure=secure, httponly=True, samesite="Lax")
    set_session(request, response, done.session.secret)
    return response


def _redirect_uri(request: web.Request, issuer: str) -> str:
    return f"{base_url(request)}{_PATH}/callback/{issuer}"


def _cookie(request: web.Request) -> tuple[str, bool]:
    # With the prefix no other host of the domain can put its own sign-in into this browser (RFC 6265bis).
    secure = base_url(request).startswith("https://")
    return (f"__Host-{_COOKIE}" if secure else _COOKIE), secure


def _moved(address: str) -> web.Response:
    headers = {"Location": address, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return web.Response(status=303, headers=headers)


def _once(query: MultiMapping[str], known: tuple[str, ...]) -> dict[str, str]:
    """The parameters that are known; what else an issuer adds is nobody's business (RFC 6749, 4.1.2)."""
    found: dict[str, str] = {}
    for name in known:
        values = query.getall(name, [])
        if len(values) > 1 or any("\0" in value for value in values):
            raise RequestInvalidError(f"the parameter {name} is given twice, or has a NUL")
        if values:
            found[name] = values[0]
    return found


def _session_before(request: web.Request) -> str | None:
    try:
        return session_secret(request)
    except UnauthorizedError:  # two cookies of that name: neither is believed
        return None
