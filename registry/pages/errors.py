"""Errors as people read them: a page with the sentence, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from registry.auth.oidc.flow import require_path
from registry.auth.oidc.issuers import list_for_people
from registry.errors import PreconditionFailedError, RequestInvalidError, SeatrialError
from registry.http.api.routes import Call
from registry.http.caller import ACTOR
from registry.http.cookies import authenticate_caller, session_secret
from registry.http.services import SERVICES
from registry.pages.refilling import SECRETS, SEEN, find_refused, without_user
from registry.pages.rendering import environment, page
from registry.pages.serving import SENT, FormInvalidError, UnsureError, find_visitor
from registry.pages.texts import has_text, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SIGN_IN = "/sign-in"
ISSUERS_MAX = 20
_CHANGED = (409, 412)
"""What tells somebody that what he was shown has changed meanwhile."""
_FOR_PROGRAMS = ("api", "v2", "worker", "hooks", "token", "layout", "healthz", "readyz", "metrics", "assets")
"""What comes first in the addresses that people do not read."""


def wants_page(request: web.BaseRequest) -> bool:
    """Whether an error is answered with a page: to who asks for HTML, of what has pages."""
    first = request.path.split("/", 2)[1] if request.path.startswith("/") else ""
    accepted = ",".join(request.headers.getall("Accept", ())).lower()
    return first not in _FOR_PROGRAMS and not request.path.endswith(".svg") and "text/html" in accepted


async def error_page(request: web.Request, error: SeatrialError, request_id: str) -> web.Response:
    """The page for ``error``: the one again that a refused form stands on, as it was sent; else one of its
    own, where signing in may help with the form for it."""
    sent = request.get(SENT)
    fields: Mapping[str, str] = {} if sent is None else sent.fields
    if isinstance(error, UnsureError):
        return _asked(request, fields, error)
    if error.status in (404, 405):
        await _look_who(request)
    again = await _same_page(request, error)
    if again is not None:
        return again
    reads = request.method in ("GET", "HEAD") and request.path != SIGN_IN
    actor = request.get(ACTOR)
    # What a stranger is told not to be there may be for somebody: a link that a client printed leads to it.
    is_hidden = error.status == 404 and reads and (actor is None or actor.kind == "anonymous")
    signs_in = error.status == 401 or request.path == SIGN_IN or is_hidden
    response = page(
        request,
        "error.html",
        title=text(f"error.{error.status}" if has_text(f"error.{error.status}") else "error.other"),
        sentence=error.message,
        advice=text(f"advice.{error.status}") if has_text(f"advice.{error.status}") else "",
        code=error.code,
        request_id=request_id,
        signs_in=signs_in,
        next=request.rel_url.raw_path_qs if reads else fields.get("next") or _came_from(request),
        name=fields.get("name", "") if request.path == SIGN_IN else "",
        typed=() if request.path == SIGN_IN else _typed(fields),
        issuers=await _issuers(request) if signs_in else (),
        status=error.status,
    )
    _head(response, error)
    return response


def _asked(request: web.Request, fields: Mapping[str, str], error: UnsureError) -> web.Response:
    """The page that asks whether it is meant."""
    return page(
        request,
        "sure.html",
        title=error.question,
        comes_to=error.comes_to,
        action=request.rel_url.raw_path,
        fields=fields,
        back=_came_from(request),
        status=error.status,
    )


def _came_from(request: web.Request) -> str:
    """The page that a form was sent from, as far as the browser says so."""
    said = urlsplit(request.headers.get("Referer", ""))
    back = f"{said.path}?{said.query}" if said.query else said.path
    try:
        require_path(back)
    except RequestInvalidError:
        return "/"
    return back


async def _same_page(request: web.Request, error: SeatrialError) -> web.Response | None:
    """The page again that a form stands on, with what was typed; ``None``: it does not stand there (any
    more), or the visitor may not see it."""
    sent = request.get(SENT)
    if sent is None or sent.route.stands_on is None or error.status == 401 or error.status >= 500:
        return None
    query = {name: sent.fields[name] for name in sent.route.asked if sent.fields.get(name)}
    asking = request.clone(method="GET", rel_url=request.rel_url.with_query(query))
    try:
        # He may have lost the right by which he would see it.
        actor, _ = await find_visitor(request, sent.route)
        call = Call(request=asking, response=web.Response(), services=request.app[SERVICES], actor=actor)
        drawn = await sent.route.stands_on(call)
    except (SeatrialError, SQLAlchemyError):
        return None
    assert isinstance(drawn, web.Response)
    refused = find_refused(drawn.text or "", request.path, request.method, sent.fields)
    if refused is None:
        return None
    is_changed = refused.is_stale and error.status in _CHANGED
    says_so = is_changed and isinstance(error, PreconditionFailedError)
    alert = environment().get_template("refused.html")
    drawn.text = refused.filled(
        title=text("refused.title"),
        alert=alert.render(
            sentence=text("refused.changed") if says_so else error.message,
            stands=list(refused.differing()) if is_changed else (),
            is_changed=is_changed,
        ),
        wrong=error.names if isinstance(error, FormInvalidError) else (),
        is_changed=is_changed,
    )
    drawn.set_status(error.status)
    _head(drawn, error)
    return drawn


def _head(response: web.Response, error: SeatrialError) -> None:
    for name, value in error.headers.items():
        response.headers[name] = value.replace("\r", " ").replace("\n", " ")


def _typed(fields: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    """What was sent, but for what is secret, also in an address, or was not typed: it can be copied from the
    page."""
    hidden = ("on", "next", "cursor", "confirm", "sure")
    return [
        (name, without_user(value))
        for name, value in fields.items()
        if value and name not in SECRETS and name not in hidden and not name.startswith(SEEN)
    ]


async def _look_who(request: web.Request) -> None:
    """Know the visitor also where nothing is: who is signed in is not asked to sign in."""
    try:
        if ACTOR not in request and "Authorization" not in request.headers and session_secret(request):
            await authenticate_caller(request)
    except (SeatrialError, SQLAlchemyError):
        return


async def _issuers(request: web.Request) -> Sequence[str]:
    """With whom people sign in besides; none where that cannot be told now: the error is to be seen."""
    try:
        return await list_for_people(request.app[SERVICES].database, limit=ISSUERS_MAX)
    except (SeatrialError, SQLAlchemyError):
        return ()
