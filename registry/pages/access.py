"""Who may do what, and why: a question as a form, and the policy's answer taken apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from pydantic import Field

from registry.auth.policy import Action
from registry.http.api.access import Question, explain_access
from registry.http.api.models import Query
from registry.http.api.routes import Call, read_query
from registry.pages.rendering import Lines, page
from registry.pages.serving import as_body
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web


class AccessQuery(Query):
    """What is asked; nothing is, until there is a place."""

    actor: str | None = Field(default=None, max_length=300)
    action: Action | None = None
    target: str | None = Field(default=None, max_length=300)
    token: str | None = Field(default=None, max_length=100)


async def show_access(call: Call) -> web.Response:
    """A form to ask who may do what, and the answer where it was asked."""
    query = read_query(call.request, AccessQuery, leaves_out_empty=True)
    asked = {
        "actor": query.actor or call.actor.name,
        "action": query.action or "pull",
        "target": query.target,
        "token": query.token,
    }
    answer = None
    if query.target and query.action:
        answer = await explain_access(call, as_body(Question, asked))
    return page(
        call.request,
        "access.html",
        title=text("administration.access"),
        asked=asked,
        actions=get_args(Action),
        answer=answer,
        lines=Lines(
            api=["GET /api/v1/access/explain?actor=NAME&action=ACTION&target=PLACE"],
            cli=["seatrial access explain NAME ACTION PLACE"],
        ),
    )
