"""Who must have signed what is pulled from a repository, and which tags are."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from registry.auth.policy import decide
from registry.content.administration import find
from registry.http.api import signatures as api
from registry.http.api.models import PageQuery
from registry.http.api.routes import Call, read_query
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import (
    CursorQuery,
    field,
    given_body,
    moved,
    read_form,
    require_here,
    require_sure,
)
from registry.pages.texts import text
from registry.trials.signaturerules import NAME_MAX, list_counting

if TYPE_CHECKING:
    from aiohttp import web

SHOWN = 50


async def show_signatures(call: Call) -> web.Response:
    """The rules that count in the repository, which tags meet all that count, and a form for another rule."""
    name = call.request.match_info["name"]
    cursor = read_query(call.request, CursorQuery, leaves_out_empty=True).cursor
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
        name_max=NAME_MAX,
        manages=decide(call.actor, "configure", name, None).allowed,
        next_path=path + chosen([("cursor", found.next)]) if found.next else None,
        first_path=path if cursor else None,
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


async def require_signature(call: Call) -> web.Response:
    """Require a signature, by a key or of an identity."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    fields = read_form(call)
    wanted = given_body(
        api.NewSignatureRule,
        on=name,
        name=field(fields, "name"),
        public_pem=fields.get("public_pem"),
        issuer=fields.get("issuer"),
        subject=fields.get("subject"),
    )
    await api.create_signature_rule(call, wanted)
    return moved(call, f"/r/{name}/-/signatures")


async def remove_rule(call: Call) -> web.Response:
    """Require a signature no longer."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    fields = read_form(call)
    number = field(fields, "rule")
    here = await api.list_signature_rules(call, api.SignatureRulesQuery(on=name))
    whose = next((one.name for one in here if str(one.id) == number), None)
    require_here(is_here=whose is not None, what="rule")
    require_sure(fields, text("sure.signature", name=whose), comes_to=text("sure.signature.then"))
    await api.delete_signature_rule(call, number)
    return moved(call, f"/r/{name}/-/signatures")
