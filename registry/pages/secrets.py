"""Secrets that the run specs of a place name: kept, given another value, forgotten; never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.contract.secrets import MAX_BYTES
from registry.http.api import secrets
from registry.http.api.places import PlaceQuery
from registry.http.api.routes import Call, read_query
from registry.pages.places import OnQuery, named_on, path_on
from registry.pages.rendering import Lines, page
from registry.pages.serving import field, given_body, moved, read_form, require_confirmed
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

SHOWN = 50


async def show_secrets(call: Call) -> web.Response:
    """The secrets of a place by name, with what uses each, and forms to keep and to forget one."""
    query = read_query(call.request, OnQuery, leaves_out_empty=True)
    on = query.on
    found = await secrets.list_secrets(call, PlaceQuery(limit=SHOWN, cursor=query.cursor, **named_on(on)))
    path = "/secrets"
    option = f"--namespace {on.removesuffix('/')}" if on.endswith("/") else f"--repository {on}"
    return page(
        call.request,
        "secrets.html",
        title=text("secrets.title", on=on),
        on=on,
        here_tab="secrets",
        secrets=found.items,
        value_max=MAX_BYTES,
        next_path=path_on(path, on, found.next) if found.next else None,
        first_path=path_on(path, on) if query.cursor else None,
        lines=Lines(
            api=["GET /api/v1/secrets", "POST /api/v1/secrets"],
            cli=[
                f"seatrial secret list {option}",
                f"seatrial secret create NAME {option} --value-file FILE",
                f"seatrial secret rotate NAME {option} --value-file FILE",
            ],
        ),
    )


async def create_secret(call: Call) -> web.Response:
    """Keep a value that the run specs of a place may name."""
    fields = read_form(call)
    on = field(fields, "on")
    wanted = given_body(
        secrets.SecretToKeep, name=field(fields, "name"), value=field(fields, "value"), **named_on(on)
    )
    await secrets.create_secret(call, wanted)
    return moved(call, path_on("/secrets", on))


async def rotate_secret(call: Call) -> web.Response:
    """Keep another value under the same name."""
    fields = read_form(call)
    on = field(fields, "on")
    wanted = given_body(secrets.Rotation, value=field(fields, "value"))
    await secrets.rotate_secret(call, call.request.match_info["secret_id"], wanted)
    return moved(call, path_on("/secrets", on))


async def delete_secret(call: Call) -> web.Response:
    """Forget a secret, whose name was typed."""
    fields = read_form(call)
    on = field(fields, "on")
    require_confirmed(fields, field(fields, "name"))
    secret_id = call.request.match_info["secret_id"]
    await secrets.delete_secret(call, secret_id)
    return moved(call, path_on("/secrets", on))
