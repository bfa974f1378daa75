"""The README of a repository, and a form in which it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from registry.auth.policy import decide
from registry.content import readmes as use
from registry.content.administration import find
from registry.errors import PreconditionFailedError, RequestInvalidError
from registry.http.api import readmes
from registry.http.api.routes import Call
from registry.http.parsers import PARSERS
from registry.oci.conditions import Conditions, EntityTags
from registry.pages.markdown import drawn
from registry.pages.rendering import Lines, page
from registry.pages.serving import given_body, moved, read_form, unchanged
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

    from registry.content.repositories import Repository
    from registry.errors import SeatrialError


async def show_readme(call: Call) -> web.Response:
    """The README, and for those who may push a form to write it."""
    name = call.request.match_info["name"]
    return await _page(call, await find(call.services.database, actor=call.actor, action="pull", name=name))


async def _page(
    call: Call, repository: Repository, typed: str = "", refused: SeatrialError | None = None
) -> web.Response:
    """``typed`` is what was refused: it is not lost."""
    name = repository.name
    readme, shown = await read_drawn(call, repository)
    return page(
        call.request,
        "readme.html",
        title=text("readme.title", name=name),
        name=name,
        here_tab="readme",
        readme=readme,
        shown=shown,
        typed=typed if refused or readme is None else readme.text,
        refused=refused.message if refused else "",
        most=use.README_MAX_BYTES,
        manages=decide(call.actor, "configure", name, repository.visibility).allowed,
        pushes=decide(call.actor, "push", name, repository.visibility).allowed,
        status=refused.status if refused else 200,
        lines=Lines(
            api=[f"PUT /api/v1/repositories/{quote(name, '')}/readme"],
            cli=[f"seatrial repo readme {name}", f"seatrial repo readme {name} --set README.md"],
        ),
    )


async def write_readme(call: Call) -> web.Response:
    """Let a text be the README, or take it away where the text is empty; unless another one was written
    since the form was drawn."""
    name = call.request.match_info["name"]
    repository = await find(call.services.database, actor=call.actor, action="push", name=name)
    fields = read_form(call)
    wanted, seen = fields.get("text", ""), fields.get("seen")
    conditions = unchanged(seen) if seen else Conditions(if_none_match=_any())
    try:
        if wanted.strip():
            body = given_body(readmes.NewReadme, text=wanted)
            await readmes.put_readme(call, name, body, conditions)
        elif seen:
            await readmes.clear_readme(call, name, conditions)
    except (RequestInvalidError, PreconditionFailedError) as error:
        return await _page(call, repository, wanted, error)
    return moved(call, f"/r/{name}/-/readme")


async def read_drawn(call: Call, repository: Repository) -> tuple[use.Readme | None, str]:
    """The README, and as a part of a page; empty where there is none."""
    readme = await use.read(call.services.database, repository)
    if readme is None:
        return None, ""
    return readme, await call.request.app[PARSERS].run(drawn, readme.text)


def _any() -> EntityTags:
    return EntityTags(is_any=True, strong=frozenset(), weak=frozenset())
