"""Secrets that the run specs of a place name: kept, given another value, forgotten; never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.contract.secrets import MAX_BYTES
from registry.errors import NotFoundError
from registry.http.api import secrets
from registry.http.api.places import PlaceQuery
from registry.http.api.routes import Call, read_query
from registry.pages.places import OnQuery, named_on, path_on
from registry.pages.rendering import Lines, page
from registry.pages.serving import field, given_body, moved, read_form, require_confirmed
from registry.pages.texts import text
from registry.trials.secrets import PER_PLACE

if TYPE_CHECKING:
    from aiohttp import web


async def show_secrets(call: Call) -> web.Response:
    """The secrets of a place by name, with what uses each, and forms to keep and to forget one."""
    on = read_query(call.request, OnQuery, leaves_out_empty=True).on
    found = await secrets.list_secrets(call, PlaceQuery(limit=PER_PLACE, **named_on(on)))
    option = f"--namespace {on.removesuffix('/')}" if on.endswith("/") else f"--repository {on}"
    return page(
        call.request,
        "secrets.html",
        title=text("secrets.title", on=on),
        on=on,
        here_tab="secrets",
        secrets=found.items,
        value_max=MAX_BYTES,
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
    await secrets.rotate_secret(call, (await _secret_on(call, on)).id, wanted)
    return moved(call, path_on("/secrets", on))


async def delete_secret(call: Call) -> web.Response:
    """Forget a secret, whose name was typed."""
    fields = read_form(call)
    on = field(fields, "on")
    secret = await _secret_on(call, on)
    require_confirmed(fields, secret.name)
    await secrets.delete_secret(call, secret.id)
    return moved(call, path_on("/secrets", on))


async def _secret_on(call: Call, on: str) -> secrets.Secret:
    """The secret that the address names, if it is one of the place, which has no more than a page shows."""
    here = (await secrets.list_secrets(call, PlaceQuery(limit=PER_PLACE, **named_on(on)))).items
    found = next((one for one in here if one.id == call.request.match_info["secret_id"]), None)
    if found is None:
        raise NotFoundError("there is no such secret here")
    return found
