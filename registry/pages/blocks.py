"""Blocks of a repository: an image, a layer or a package refused to everybody, seen before it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from pydantic import Field

from registry.auth.policy import decide, may_administer, may_audit, namespaces_above
from registry.content.administration import find
from registry.http.api import gate
from registry.http.api.routes import Call, read_query
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import (
    CursorQuery,
    Fields,
    field,
    given_body,
    moved,
    needed_number,
    read_form,
    require_here,
)
from registry.pages.texts import text
from registry.trials.blocking import EVERYWHERE, BlockKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from registry.auth.policy import Action
    from registry.http.api.models import Page
    from registry.trials.blockpreview import Hit

SHOWN = 20
_NUMBERS = 10**18 - 1


class BlocksQuery(CursorQuery):
    """What the form begins with."""

    kind: BlockKind = "image"
    what: str = Field(default="", max_length=300)


async def show_blocks(call: Call) -> web.Response:
    """The blocks on the repository, and a form for another one."""
    query = read_query(call.request, BlocksQuery, leaves_out_empty=True)
    name = await _allowed(call)
    return await _page(call, name, {"kind": query.kind, "what": query.what}, cursor=query.cursor)


async def preview_block(call: Call) -> web.Response:
    """Which images a block would refuse; nothing is changed."""
    name = await _allowed(call)
    fields = read_form(call)
    found = await gate.preview_block(
        call, given_body(gate.PreviewedBlock, **_target(fields), cursor=fields.get("cursor"))
    )
    return await _page(call, name, fields, hits=found)


async def create_block(call: Call) -> web.Response:
    """Refuse them to everybody."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    fields = read_form(call)
    wanted = given_body(gate.NewBlock, **_target(fields), reason=field(fields, "reason"))
    await gate.create_block(call, wanted)
    return moved(call, f"/r/{name}/-/blocks")


async def lift_block(call: Call) -> web.Response:
    """Take a block back; what another one refuses stays refused."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    number = needed_number(read_form(call), "block", least=1, most=_NUMBERS)
    here = await gate.list_blocks(call, gate.BlocksQuery(on=name, limit=1, cursor=str(number - 1)))
    require_here(is_here=number in [one.id for one in here.items], what="block")
    await gate.delete_block(call, str(number))
    return moved(call, f"/r/{name}/-/blocks")


def _target(fields: Fields) -> Mapping[str, object]:
    kind, what = fields.get("kind", "image"), field(fields, "what").strip()
    if kind == "package":
        return {"on": field(fields, "on"), "package": what}
    return {"on": field(fields, "on"), "digest": what, "layer": kind == "layer"}


async def _allowed(call: Call) -> str:
    name = call.request.match_info["name"]
    action: Action = "pull" if may_audit(call.actor) else "configure"
    await find(call.services.database, actor=call.actor, action=action, name=name)
    return name


async def _page(
    call: Call,
    name: str,
    typed: Fields,
    *,
    cursor: str | None = None,
    hits: Page[Hit] | None = None,
) -> web.Response:
    found = await gate.list_blocks(call, gate.BlocksQuery(on=name, limit=SHOWN, cursor=cursor))
    wider = [f"{one}/" for one in namespaces_above(name)]
    path = f"/r/{name}/-/blocks"
    return page(
        call.request,
        "blocks.html",
        title=text("blocks.title", name=name),
        name=name,
        here_tab="gate",
        here_part="blocks",
        path=path,
        blocks=found.items,
        kinds=get_args(BlockKind),
        places=[
            name,
            *(one for one in wider if decide(call.actor, "configure", one, None).allowed),
            *([EVERYWHERE] if may_administer(call.actor) else []),
        ],
        typed=typed,
        hits=hits,
        manages=decide(call.actor, "configure", name, None).allowed,
        next_path=path + chosen([("cursor", found.next)]) if found.next else None,
        first_path=path if cursor else None,
        lines=Lines(
            api=[f"GET /api/v1/gate/blocks?on={name}", "POST /api/v1/gate/blocks/preview"],
            cli=[
                f"seatrial gate list {name}",
                f"seatrial gate block --package ECOSYSTEM/NAME --in {name} --reason WHY --dry-run",
                "seatrial image holding NAME",
            ],
        ),
    )
