"""Who sent a request, as far as that is known: for its log line and for what is recorded of it."""

from __future__ import annotations

from aiohttp import web

from registry.auth.actor import Actor

ACTOR_SHOWN = web.RequestKey("actor_shown", str)
"""How the log line names who sent the request."""

ACTOR = web.RequestKey("actor", Actor)
"""Who sent the request, once that has been proved."""

TRIED_NAME = web.RequestKey("tried_name", str)
"""The user name that came with a credential, empty where none did; set before the credential is looked at. A
request without it asks for nothing but a challenge."""


def know(request: web.Request, actor: Actor) -> None:
    """Keep who sent the request."""
    request[ACTOR_SHOWN] = actor.shown
    request[ACTOR] = actor
