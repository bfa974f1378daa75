"""Signing in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.auth.oidc.flow import require_path
from registry.auth.oidc.issuers import list_for_people
from registry.http.api import sessions
from registry.http.api.models import Query
from registry.http.api.routes import Call, read_query
from registry.pages.errors import ISSUERS_MAX
from registry.pages.rendering import Lines, host_of, page
from registry.pages.serving import field, moved, read_form
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web


class Next(Query):
    """Where to go after signing in."""

    next: str = "/"


async def show_sign_in(call: Call) -> web.Response:
    """The form, and the issuers that people sign in with."""
    following = read_query(call.request, Next, leaves_out_empty=True).next
    require_path(following)
    issuers = await list_for_people(call.services.database, limit=ISSUERS_MAX)
    return page(
        call.request,
        "sign-in.html",
        title=text("sign_in"),
        next=following,
        issuers=issuers,
        lines=Lines(api=["POST /api/v1/sessions"], cli=[f"seatrial login {host_of(call.request)}"]),
    )


async def sign_in(call: Call) -> web.Response:
    """Begin a session, and go on to where the visitor was."""
    fields = read_form(call)
    following = fields.get("next", "/")
    require_path(following)
    given = sessions.SignIn(name=field(fields, "name"), password=field(fields, "password"))
    await sessions.sign_in(call, given)
    return moved(call, following)


async def sign_out(call: Call) -> web.Response:
    """End the session."""
    await sessions.sign_out(call)
    return moved(call, "/")
