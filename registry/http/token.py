"""``/token``: registry tokens for docker, podman and everyone else (Docker's token documents).

``GET`` with Basic or nobody's rights, ``POST`` with the password grant. There are no refresh tokens: a
client that asks for one gets none and keeps using its password, and ``grant_type=refresh_token`` is answered
by 404, the one status on which every client falls back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import parse_qs

from aiohttp import web

from registry.auth.access import require_known_for_changes
from registry.auth.actor import Actor
from registry.auth.scopes import parse_requested_scopes
from registry.auth.tokenservice import SERVICE
from registry.errors import (
    MediaTypeUnsupportedError,
    NotFoundError,
    RequestInvalidError,
    UnauthorizedError,
)
from registry.http.authentication import authenticate_account
from registry.http.body import leave_expectation, read_all
from registry.http.middleware import ACTOR_SHOWN
from registry.http.proxies import client_address
from registry.http.services import SERVICES

MAX_FORM_BYTES = 64 * 1024
_FORM = "application/x-www-form-urlencoded"


def add_routes(app: web.Application) -> None:
    """Serve ``/token``."""
    app.router.add_get("/token", give_token, allow_head=False)
    app.router.add_post("/token", give_token_for_form, expect_handler=leave_expectation)


async def give_token(request: web.Request) -> web.Response:
    """A token for the intersection of what is asked and what the caller may: lacking rights is no error."""
    _check_service(request.query.getall("service", []))
    actor = await authenticate_account(request)
    return await _answer(request, actor, request.query.getall("scope", []))


async def give_token_for_form(request: web.Request) -> web.Response:
    """The same for an OAuth 2 password grant."""
    form = await _read_form(request)
    grant = _one(form, "grant_type")
    if grant == "refresh_token":
        raise NotFoundError("this registry has no refresh tokens; send the user name and password")
    if grant != "password":
        raise RequestInvalidError("grant_type must be 'password'")
    _check_service(form.get("service", []))
    actor = await request.app[SERVICES].tokens.credentials.from_basic(
        _one(form, "username"),
        _one(form, "password"),
        address=client_address(request, request.app[SERVICES].settings),
    )
    if actor.kind == "worker":
        raise UnauthorizedError("a worker's token opens the worker API and nothing else")
    request[ACTOR_SHOWN] = actor.shown
    return await _answer(request, actor, form.get("scope", []))


async def _answer(request: web.Request, actor: Actor, scopes: Sequence[str]) -> web.Response:
    asked = parse_requested_scopes(list(scopes))
    require_known_for_changes(actor, asked)
    token = await request.app[SERVICES].tokens.mint(actor, asked)
    document = {
        "token": token.text,
        "access_token": token.text,
        "scope": " ".join(str(scope) for scope in token.granted),
        "expires_in": token.seconds,
        "issued_at": token.issued_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return web.Response(
        body=json.dumps(document).encode(),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


async def _read_form(request: web.Request) -> dict[str, list[str]]:
    if request.content_type != _FORM or "Content-Encoding" in request.headers:
        raise MediaTypeUnsupportedError(f"the body must be {_FORM}, not compressed")
    raw = await read_all(request, MAX_FORM_BYTES)
    try:
        return parse_qs(raw.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=200)
    except ValueError as error:
        raise RequestInvalidError(f"the form cannot be read: {error}") from None


def _one(form: dict[str, list[str]], name: str) -> str:
    values = form.get(name, [])
    if len(values) != 1:
        raise RequestInvalidError(f"the form needs {name!r} once")
    return values[0]


def _check_service(services: Sequence[str]) -> None:
    if any(service not in (SERVICE, "") for service in services):
        raise RequestInvalidError(f"this registry's service is {SERVICE!r}")
