"""``/api/v1/sessions``: people signed in by a cookie. The cookie itself is in no answer's body."""

from __future__ import annotations

import json

from aiohttp import web

from registry.auth import sessions as use
from registry.errors import RequestInvalidError, UnauthorizedError
from registry.http.api.routes import Body, Call, Route, page, shown_time
from registry.http.cookies import clear_session, client_of, require_own_page, session_secret, set_session
from registry.http.middleware import ACTOR_SHOWN
from registry.http.proxies import client_address


class SignIn(Body):
    """Who signs in: a user's name and password. An API token that may do all that its account may is a
    password too."""

    name: str
    password: str


async def sign_in(call: Call) -> object:
    """Begin a session; the answer sets its cookie. One that the caller had before ends."""
    call.query()
    body = await call.body(SignIn)
    services, request = call.services, call.request
    made = await use.sign_in(
        services.database,
        services.settings,
        services.tokens.credentials,
        name=body.name,
        password=body.password,
        address=client_address(request, services.settings),
        client=client_of(request),
        replaced=session_secret(request),
    )
    request[ACTOR_SHOWN] = made.account
    response = web.Response(
        status=201,
        body=json.dumps({"id": made.id, "account": made.account}).encode(),
        content_type="application/json",
    )
    set_session(request, response, made.secret)
    return response


async def sign_out(call: Call) -> object:
    """End the session of the cookie that the request has, and let the browser forget it."""
    call.query()
    require_own_page(call.request)
    secret = session_secret(call.request)
    if secret is None:
        raise UnauthorizedError("there is no session to end: the request has no cookie")
    await use.sign_out(call.services.database, secret)
    response = web.Response(status=204)
    clear_session(call.request, response)
    return response


async def list_sessions(call: Call) -> object:
    """An administrator's view of all sessions, or of one account's; else one's own."""
    query = call.query("limit", "cursor", "account")
    asked = page(query)
    found = await use.list_sessions(
        call.services.database,
        actor=call.actor,
        account=query.get("account"),
        limit=asked.limit + 1,
        after=asked.after,
    )

    def show(session: use.Session) -> dict[str, object]:
        return {
            "id": session.id,
            "account": session.account,
            "created_at": shown_time(session.created_at),
            "last_used_at": shown_time(session.last_used_at),
            "expires_at": shown_time(session.expires_at),
            "address": session.address,
            "client": session.client,
            "current": session.id == call.actor.session_id,
        }

    return asked.answer(found, key=lambda session: session.id, show=show)


async def revoke_session(call: Call) -> object:
    """End one session."""
    call.query()
    await use.revoke_session(call.services.database, actor=call.actor, session_id=call.path("id"))
    return None


async def revoke_sessions(call: Call) -> object:
    """End all sessions of an account."""
    account = call.query("account").get("account")
    if account is None:
        raise RequestInvalidError("say whose sessions with ?account=NAME")
    ended = await use.revoke_sessions(call.services.database, actor=call.actor, account=account)
    return {"ended": ended}


ROUTES = (
    Route("POST", "/sessions", "signing", sign_in, status=201),
    Route("GET", "/sessions", "user", list_sessions),
    Route("DELETE", "/sessions/current", "signing", sign_out),
    Route("DELETE", "/sessions/{id}", "user", revoke_session),
    Route("DELETE", "/sessions", "user", revoke_sessions),
)
