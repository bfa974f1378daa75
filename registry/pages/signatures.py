"""Who must have signed what is pulled from a repository, and which tags are."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from markupsafe import escape

from registry.auth.policy import decide
from registry.content.administration import find
from registry.errors import ConflictError, RequestInvalidError
from registry.http.api import signatures as api
from registry.http.api.models import PageQuery
from registry.http.api.routes import Call, read_query
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import CursorQuery, Fields, field, given_body, moved, read_form
from registry.pages.texts import text
from registry.trials.signaturerules import NAME_MAX, list_counting

if TYPE_CHECKING:
    from aiohttp import web

    from registry.errors import SeatrialError

SHOWN = 50


async def show_signatures(call: Call) -> web.Response:
    """The rules that count in the repository, which tags meet all that count, and a form for another rule."""
    return await _page(call, {}, None)


async def require_signature(call: Call) -> web.Response:
    """Require a signature, by a key or of an identity."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    fields = read_form(call)
    try:
        wanted = given_body(
            api.NewSignatureRule,
            on=name,
            name=field(fields, "name"),
            public_pem=fields.get("public_pem"),
            issuer=fields.get("issuer"),
            subject=fields.get("subject"),
        )
        await api.create_signature_rule(call, wanted)
    except (RequestInvalidError, ConflictError) as error:
        return await _page(call, fields, error)
    return moved(call, f"/r/{name}/-/signatures")


async def remove_rule(call: Call) -> web.Response:
    """Require a signature no longer."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    await api.delete_signature_rule(call, field(read_form(call), "rule"))
    return moved(call, f"/r/{name}/-/signatures")


async def _page(call: Call, typed: Fields, refused: SeatrialError | None) -> web.Response:
    name = call.request.match_info["name"]
    cursor = None if refused else read_query(call.request, CursorQuery, leaves_out_empty=True).cursor
    repository = await find(call.services.database, actor=call.actor, action="pull", name=name)
    found = await api.list_signatures(call, name, PageQuery(limit=SHOWN, cursor=cursor))
    path = f"/r/{name}/-/signatures"
    return page(
        call.request,
        "signatures.html",
        title=text("signatures.title", name=name),
        name=name,
        here_tab="gate",
        here_part="signatures",
        path=path,
        rules=await list_counting(call.services.database, repository),
        tags=found.items,
        typed={key: escape(value) for key, value in typed.items()},
        refused=refused.message if refused else "",
        name_max=NAME_MAX,
        manages=decide(call.actor, "configure", name, None).allowed,
        next_path=path + chosen([("cursor", found.next)]) if found.next else None,
        first_path=path if cursor else None,
        status=refused.status if refused else 200,
        lines=Lines(
            api=[
                f"GET /api/v1/signature-rules?on={name}",
                "POST /api/v1/signature-rules",
                f"GET /api/v1/repositories/{quote(name, '')}/signatures",
            ],
            cli=[
                f"seatrial signature list {name}",
                f"seatrial signature require {name} --name WHOSE --key cosign.pub",
                f"seatrial signature tags {name} --unsigned",
            ],
        ),
    )
