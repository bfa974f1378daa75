"""Errors as people read them: a page with the sentence, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from registry.auth.oidc.issuers import list_for_people
from registry.errors import SeatrialError
from registry.http.caller import ACTOR
from registry.http.cookies import authenticate_caller, session_secret
from registry.http.services import SERVICES
from registry.pages.rendering import page
from registry.pages.serving import FORM
from registry.pages.texts import has_text, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

SIGN_IN = "/sign-in"
ISSUERS_MAX = 20
_FOR_PROGRAMS = ("api", "v2", "worker", "hooks", "token", "layout", "healthz", "readyz", "metrics", "assets")
"""What comes first in the addresses that people do not read."""


def wants_page(request: web.BaseRequest) -> bool:
    """Whether an error is answered with a page: to who asks for HTML, of what has pages."""
    first = request.path.split("/", 2)[1] if request.path.startswith("/") else ""
    accepted = ",".join(request.headers.getall("Accept", ())).lower()
    return first not in _FOR_PROGRAMS and not request.path.endswith(".svg") and "text/html" in accepted


async def error_page(request: web.Request, error: SeatrialError, request_id: str) -> web.Response:
    """The page for ``error``; where signing in may help, with the form for it."""
    if error.status in (404, 405):
        await _look_who(request)
    fields = request.get(FORM, {})
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
        next=request.rel_url.raw_path_qs if reads else fields.get("next", "/"),
        # Other forms have a field of that name as well, for another name.
        name=fields.get("name", "") if request.path == SIGN_IN else "",
        issuers=await _issuers(request) if signs_in else (),
        status=error.status,
    )
    for name, value in error.headers.items():
        response.headers[name] = value.replace("\r", " ").replace("\n", " ")
    return response


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
