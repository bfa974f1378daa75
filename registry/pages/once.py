"""Secrets that are shown once: on a page of their own, which asks nothing of the database.

By then the secret is made, and what fails would lose it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.pages.rendering import host_of, page
from registry.pages.texts import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from registry.http.api.routes import Call
    from registry.http.api.tokens import MadeToken


def show_once(
    call: Call, *, title: str, once: str, secrets: Sequence[tuple[str, str]], back: str, hint: str = ""
) -> web.Response:
    """The page: each secret with what it is for, where there are several, or a command that takes it; and the
    way to ``back``."""
    return page(
        call.request, "once.html", title=title, once=once, secrets=secrets, hint=hint, back=back, status=201
    )


def show_token_once(call: Call, made: MadeToken, *, back: str) -> web.Response:
    """The same of an API token."""
    return show_once(
        call,
        title=text("tokens.made", name=made.name),
        once=text("tokens.once"),
        secrets=[("", made.token)],
        hint=text("tokens.use", host=host_of(call.request)),
        back=back,
    )
