"""Who sends this request: Basic, Bearer or nobody; and the challenge for those who may try again.

Basic is taken everywhere beside Bearer, and an API token as either. RFC 7617, RFC 6750, and Docker's token
documents for the challenge.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import replace

from aiohttp import web

from registry.auth.actor import ANONYMOUS, Actor
from registry.auth.apitokens import looks_like_api_token
from registry.auth.scopes import Scope
from registry.auth.tokenservice import SERVICE
from registry.errors import RequestInvalidError, UnauthorizedError
from registry.http.caller import TRIED_NAME, know
from registry.http.headers import client_of
from registry.http.proxies import HOST, client_address, told
from registry.http.services import SERVICES

_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104  (compared with, not listened on)
_PUSH_READS = frozenset({"pull", "push"})


async def authenticate(request: web.Request, *, scopes: Iterable[Scope] = ()) -> Actor:
    """The actor of a request to ``/v2/`` or ``/api/``. ``scopes`` go into the challenge.

    Raises:
        UnauthorizedError: credentials that are not valid, or a worker's own token, which opens only the
            worker API; with a challenge.
        RequestInvalidError: two Authorization headers.
    """
    try:
        actor = await _identify(request)
        if actor.kind == "worker" and actor.lease is None:
            raise UnauthorizedError("a worker's token opens the worker API and nothing else")
    except UnauthorizedError as error:
        scheme = _authorization(request)[0]
        reason = "invalid_token" if scheme == "bearer" else None
        raise _challenged(error, challenge(request, scopes, error=reason)) from None
    know(request, actor)
    return actor


async def authenticate_worker(request: web.Request) -> Actor:
    """The worker of a request to the worker API: its API token, as Bearer or as a password.

    Raises:
        UnauthorizedError: anything else.
        RequestInvalidError: two Authorization headers.
    """
    try:
        actor = await _identify(request)
        if actor.kind != "worker" or actor.lease is not None:
            raise UnauthorizedError(
                "the worker API takes a worker's token; make one with 'token create --worker'"
            )
    except UnauthorizedError as error:
        raise _challenged(error, {"WWW-Authenticate": 'Bearer realm="seatrial worker API"'}) from None
    know(request, actor)
    return actor


async def authenticate_account(request: web.Request) -> Actor:
    """As :func:`authenticate`, without registry tokens: for ``/token``, where one must not prolong itself.

    Raises:
        UnauthorizedError, RequestInvalidError: as there.
    """
    try:
        actor = await _identify(request)
        if actor.from_registry_token or actor.kind == "worker":
            raise UnauthorizedError("sign in with a user name and password, or an API token as the password")
    except UnauthorizedError as error:
        raise _challenged(error, {"WWW-Authenticate": f'Basic realm="{SERVICE}", charset="UTF-8"'}) from None
    know(request, actor)
    return actor


def challenge(
    request: web.Request, scopes: Iterable[Scope] = (), *, error: str | None = None
) -> dict[str, str]:
    """The header that tells a client where to get a token for ``scopes``.

    The realm is absolute: most clients cannot follow a relative one. ``error`` is ``invalid_token`` or
    ``insufficient_scope``.
    """
    parts = [f'realm="{base_url(request)}/token"', f'service="{SERVICE}"']
    wanted = " ".join(str(_readable(scope)) for scope in scopes)
    if wanted:
        parts.append(f'scope="{wanted}"')
    if error:
        parts.append(f'error="{error}"')
    return {"WWW-Authenticate": "Bearer " + ",".join(parts)}


def base_url(request: web.Request) -> str:
    """The registry's address for clients: as set, else what a trusted proxy says, else where it listens, or
    what a checked Host says where that is a wildcard."""
    settings = request.app[SERVICES].settings
    if settings.external_url:
        return settings.external_url
    asked = told(request)
    scheme = asked.scheme or settings.scheme
    if asked.host:
        return f"{scheme}://{asked.host}"
    if settings.listen_host in _WILDCARDS and HOST.fullmatch(request.host):
        return f"{scheme}://{request.host}"
    host, port = settings.listen_host, settings.listen_port
    transport = request.transport
    if transport is not None and (port == 0 or host in _WILDCARDS):
        address = transport.get_extra_info("sockname")
        host, port = (address[0] if host in _WILDCARDS else host), address[1]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def _identify(request: web.Request) -> Actor:
    address = client_address(request, request.app[SERVICES].settings)
    return came_from(request, await _from_credential(request, address), address)


def came_from(request: web.Request, actor: Actor, address: str | None) -> Actor:
    """The actor with where it came from, whose token's use is noted."""
    client = client_of(request)
    if actor.token_id is not None:
        uses = request.app[SERVICES].tokens.credentials.uses
        uses.note(actor.token_id, address=address, client=client)
    return replace(actor, address=address, client=client)


async def _from_credential(request: web.Request, address: str | None) -> Actor:
    scheme, value = _authorization(request)
    if not scheme:
        return ANONYMOUS
    request[TRIED_NAME] = ""
    tokens = request.app[SERVICES].tokens
    if scheme == "basic":
        username, password = _basic(value)
        request[TRIED_NAME] = username
        return await tokens.credentials.from_basic(username, password, address=address)
    if scheme != "bearer" or not value:
        raise UnauthorizedError("the Authorization header is neither Basic nor Bearer")
    if looks_like_api_token(value):
        return await tokens.credentials.from_api_token(value, address=address)
    return await tokens.verify(value, address=address)


def _authorization(request: web.Request) -> tuple[str, str]:
    headers = request.headers.getall("Authorization", [])
    if len(headers) > 1:
        raise RequestInvalidError("two Authorization headers in one request")
    scheme, _, value = (headers[0] if headers else "").strip().partition(" ")
    return scheme.lower(), value.strip()


def _basic(value: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise UnauthorizedError("the Basic credentials are not base64 of UTF-8 text") from None
    username, colon, password = text.partition(":")
    if not colon:
        raise UnauthorizedError("the Basic credentials have no ':' between user name and password")
    return username, password


def _readable(scope: Scope) -> Scope:
    # A client that pushes reads too: whether a blob is there already, and where its upload stands.
    return Scope(scope.type, scope.name, _PUSH_READS) if "push" in scope.actions else scope


def _challenged(error: UnauthorizedError, headers: Mapping[str, str]) -> UnauthorizedError:
    return UnauthorizedError(error.message, detail=error.detail, headers=headers)
