"""``/token`` with the grant ``token-exchange`` (RFC 8693): what an issuer gave a job, for a token of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from aiohttp import web

from registry.auth.oidc.exchange import USER, exchange
from registry.errors import RequestInvalidError
from registry.http.caller import TRIED_NAME, know
from registry.http.proxies import client_address
from registry.http.services import SERVICES

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105  (a name)
_TYPES = "urn:ietf:params:oauth:token-type:"
_TAKEN = (f"{_TYPES}jwt", f"{_TYPES}id_token")
_GIVEN = f"{_TYPES}access_token"
_NOT_TAKEN = ("scope", "resource", "audience", "actor_token", "actor_token_type")


async def exchange_token(request: web.Request, form: Mapping[str, Sequence[str]]) -> web.Response:
    """A short token for a job; what it opens is said by the rule that it meets."""
    for name in _NOT_TAKEN:
        if name in form:
            raise RequestInvalidError(f"{name} is not taken: a workload rule says what the token opens")
    if _one(form, "subject_token_type") not in _TAKEN:
        raise RequestInvalidError(f"subject_token_type must be {' or '.join(_TAKEN)}")
    if form.get("requested_token_type", [_GIVEN]) != [_GIVEN]:
        raise RequestInvalidError(f"requested_token_type must be {_GIVEN}")
    request[TRIED_NAME] = USER
    services = request.app[SERVICES]
    address = client_address(request, services.settings)
    made = await exchange(services.oidc, _one(form, "subject_token"), address=address)
    know(request, made.actor)
    document = {
        "access_token": made.text,
        "issued_token_type": _GIVEN,
        "token_type": "Bearer",
        "expires_in": made.seconds,
        "scope": " ".join(made.scopes),
    }
    return web.Response(
        body=json.dumps(document).encode(),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def _one(form: Mapping[str, Sequence[str]], name: str) -> str:
    values = form.get(name, ())
    if len(values) != 1:
        raise RequestInvalidError(f"the form needs {name!r} once")
    return values[0]
