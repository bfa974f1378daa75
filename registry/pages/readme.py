"""The README of a repository, and a form in which it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from registry.auth.policy import decide
from registry.content import readmes as use
from registry.content.administration import find
from registry.http.api import readmes
from registry.http.api.routes import Call
from registry.http.parsers import PARSERS
from registry.pages.markdown import drawn
from registry.pages.rendering import Lines, page
from registry.pages.serving import as_seen, given_body, moved, read_form
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

    from registry.content.repositories import Repository


async def show_readme(call: Call) -> web.Response:
    """The README, and for those who may push a form to write it."""
    name = call.request.match_info["name"]
    repository = await find(call.services.database, actor=call.actor, action="pull", name=name)
    readme, shown = await read_drawn(call, repository)
    return page(
        call.request,
        "readme.html",
        title=text("readme.title", name=name),
        name=name,
        here_tab="readme",
        readme=readme,
        shown=shown,
        most=use.README_MAX_BYTES,
        manages=decide(call.actor, "configure", name, repository.visibility).allowed,
        pushes=decide(call.actor, "push", name, repository.visibility).allowed,
        lines=Lines(
            api=[f"PUT /api/v1/repositories/{quote(name, '')}/readme"],
            cli=[f"seatrial repo readme {name}", f"seatrial repo readme {name} --set README.md"],
        ),
    )


async def write_readme(call: Call) -> web.Response:
    """Let a text be the README, or take it away where the text is empty; unless another one was written
    since the form was drawn."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="push", name=name)
    fields = read_form(call)
    wanted = fields.get("text", "")
    if wanted.strip():
        await readmes.put_readme(call, name, given_body(readmes.NewReadme, text=wanted), as_seen(call))
    elif "seen" in fields:
        await readmes.clear_readme(call, name, as_seen(call))
    return moved(call, f"/r/{name}/-/readme")


async def read_drawn(call: Call, repository: Repository) -> tuple[use.Readme | None, str]:
    """The README, and as a part of a page; empty where there is none."""
    readme = await use.read(call.services.database, repository)
    if readme is None:
        return None, ""
    return readme, await call.request.app[PARSERS].run(drawn, readme.text)
