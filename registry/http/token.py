"""``/token``: registry tokens for docker, podman and everyone else (Docker's token documents).

``GET`` with Basic or nobody's rights, ``POST`` with the password or the refresh grant. A refresh token is
given to a client that asks for one: by ``offline_token=true``, or ``access_type=offline``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import parse_qs

from aiohttp import web
from jwt import get_algorithm_by_name

from registry.auth.access import require_known_for_changes
from registry.auth.actor import Actor
from registry.auth.scopes import parse_requested_scopes
from registry.auth.tokenservice import SERVICE
from registry.errors import (
    MediaTypeUnsupportedError,
    RequestInvalidError,
    UnauthorizedError,
)
from registry.http.authentication import authenticate_account, came_from
from registry.http.body import leave_expectation, read_all
from registry.http.caller import TRIED_NAME, know
from registry.http.exchange import TOKEN_EXCHANGE, exchange_token
from registry.http.proxies import client_address
from registry.http.services import SERVICES

MAX_FORM_BYTES = 64 * 1024
KEYS_SECONDS = 300
_FORM = "application/x-www-form-urlencoded"


def add_routes(app: web.Application) -> None:
    """Serve ``/token``."""
    app.router.add_get("/token", give_token, allow_head=False)
    app.router.add_post("/token", give_token_for_form, expect_handler=leave_expectation)
    app.router.add_get("/token/keys", show_keys)


async def give_token(request: web.Request) -> web.Response:
    """A token for the intersection of what is asked and what the caller may: lacking rights is no error."""
    _check_service(request.query.getall("service", []))
    actor = await authenticate_account(request)
    offline = request.query.get("offline_token") == "true" and actor.kind != "anonymous"
    refresh = await _issue(request, actor, request.query.get("client_id", "")) if offline else None
    return await _answer(request, actor, request.query.getall("scope", []), refresh_token=refresh)


async def give_token_for_form(request: web.Request) -> web.Response:
    """The same for the OAuth 2 grants ``password`` and ``refresh_token``."""
    form = await _read_form(request)
    grant = _one(form, "grant_type")
    _check_service(form.get("service", []))
    if grant == TOKEN_EXCHANGE:
        return await exchange_token(request, form)
    if grant == "refresh_token":
        actor, refresh = await _refreshed(request, form)
    elif grant == "password":
        actor, refresh = await _signed_in(request, form), None
    else:
        raise RequestInvalidError(f"grant_type must be 'password', 'refresh_token' or {TOKEN_EXCHANGE!r}")
    know(request, actor)
    if refresh is None and form.get("access_type") == ["offline"]:
        refresh = await _issue(request, actor, form.get("client_id", [""])[0])
    return await _answer(request, actor, form.get("scope", []), refresh_token=refresh)


async def show_keys(request: web.Request) -> web.Response:
    """The public keys that registry tokens are verified with, as a JWK set (RFC 7517)."""
    verifiers = await request.app[SERVICES].tokens.verifiers()
    shown = [
        {
            **get_algorithm_by_name(verifier.algorithm).to_jwk(verifier.public, as_dict=True),
            "kid": kid,
            "alg": verifier.algorithm,
            "use": "sig",
        }
        for kid, verifier in verifiers.items()
    ]
    return web.Response(
        body=json.dumps({"keys": shown}).encode(),
        content_type="application/jwk-set+json",
        headers={"Cache-Control": f"public, max-age={KEYS_SECONDS}"},
    )


async def _signed_in(request: web.Request, form: dict[str, list[str]]) -> Actor:
    address = client_address(request, request.app[SERVICES].settings)
    username = _one(form, "username")
    request[TRIED_NAME] = username
    actor = await request.app[SERVICES].tokens.credentials.from_basic(
        username, _one(form, "password"), address=address
    )
    if actor.kind == "worker":
        raise UnauthorizedError("a worker's token opens the worker API and nothing else")
    return came_from(request, actor, address)


async def _refreshed(request: web.Request, form: dict[str, list[str]]) -> tuple[Actor, str]:
    services = request.app[SERVICES]
    text = _one(form, "refresh_token")
    request[TRIED_NAME] = ""
    address = client_address(request, services.settings)
    actor = await services.tokens.refresh_tokens.redeem(text, address=address)
    return came_from(request, actor, address), text


async def _issue(request: web.Request, actor: Actor, client: str) -> str:
    named = client or actor.client or ""
    return await request.app[SERVICES].tokens.refresh_tokens.issue(actor, client=named)


async def _answer(
    request: web.Request, actor: Actor, scopes: Sequence[str], *, refresh_token: str | None
) -> web.Response:
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
    if refresh_token is not None:
        document["refresh_token"] = refresh_token
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
