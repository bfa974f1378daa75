"""Webhooks of a place: made, changed, tested, disabled and deleted, and what became of each delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args
from urllib.parse import urlencode

from registry.content.administration import find
from registry.events.envelopes import Format
from registry.http.api import webhooks
from registry.http.api.fields import PlaceKey
from registry.http.api.places import PlaceQuery
from registry.http.api.routes import Call, read_query
from registry.oci.conditions import NO_CONDITIONS
from registry.pages.once import show_once
from registry.pages.places import named_on
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import (
    CursorQuery,
    as_seen,
    field,
    given_body,
    moved,
    read_form,
    require_sure,
    switches_off,
    utc_time,
)
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

    from registry.http.api.webhooks import WebhookSecret

SHOWN = 50


class WebhooksQuery(CursorQuery):
    """Of which namespace, or of all."""

    on: PlaceKey | None = None


async def show_webhooks(call: Call) -> web.Response:
    """Webhooks of a repository, and a form for another one."""
    return await _webhooks(call, call.request.match_info["name"])


async def create_webhook(call: Call) -> web.Response:
    """Make a webhook of a repository, and show its secret this once."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    return await _create(call, name)


async def show_webhooks_on(call: Call) -> web.Response:
    """Webhooks of a namespace; without one those of all places, for administrators."""
    on = read_query(call.request, WebhooksQuery, leaves_out_empty=True).on
    return await _webhooks(call, on)


async def create_webhook_on(call: Call) -> web.Response:
    """Make a webhook of a namespace, or of everything, and show its secret this once."""
    return await _create(call, read_form(call).get("on"))


async def _create(call: Call, on: str | None) -> web.Response:
    fields = read_form(call)
    wanted = given_body(
        webhooks.NewWebhook,
        url=field(fields, "url"),
        kinds=fields["kinds"].split() if "kinds" in fields else None,
        format=fields.get("format"),
        **({} if on is None else named_on(on)),
    )
    made = await webhooks.create_webhook(call, wanted)
    return _secret_once(call, made, title=text("webhooks.made"), hint=text("webhooks.signed"), back=_path(on))


async def rotate_webhook(call: Call) -> web.Response:
    """Replace its secret, and show the new one this once."""
    webhook_id = call.request.match_info["webhook_id"]
    made = await webhooks.rotate_webhook(call, webhook_id, webhooks.WebhookRotation())
    hint = text("webhooks.rotate_hint")
    return _secret_once(call, made, title=text("webhooks.rotated"), hint=hint, back=f"/webhooks/{webhook_id}")


def _secret_once(call: Call, made: WebhookSecret, *, title: str, hint: str, back: str) -> web.Response:
    secrets = [("", made.secret)]
    return show_once(call, title=title, once=text("tokens.once"), secrets=secrets, hint=hint, back=back)


async def show_webhook(call: Call) -> web.Response:
    """One webhook with its deliveries, the newest first."""
    webhook_id = call.request.match_info["webhook_id"]
    query = read_query(call.request, CursorQuery, leaves_out_empty=True)
    webhook = await webhooks.show_webhook(call, webhook_id)
    found = await webhooks.list_deliveries(
        call, webhook_id, webhooks.DeliveriesQuery(limit=SHOWN, cursor=query.cursor)
    )
    path = f"/webhooks/{webhook.id}"
    return page(
        call.request,
        "webhook.html",
        title=text("webhooks.one"),
        webhook=webhook,
        list_path=_path(webhook.place),
        formats=get_args(Format),
        path=path,
        deliveries=found.items,
        next_path=path + chosen([("cursor", found.next)]) if found.next else None,
        first_path=path if query.cursor else None,
        lines=Lines(
            api=[f"GET /api/v1/webhooks/{webhook.id}/deliveries"],
            cli=[f"seatrial webhook deliveries {webhook.id}", f"seatrial webhook test {webhook.id}"],
        ),
    )


async def send_test(call: Call) -> web.Response:
    """Send an event to see whether it comes."""
    webhook_id = call.request.match_info["webhook_id"]
    await webhooks.test_webhook(call, webhook_id)
    return moved(call, f"/webhooks/{webhook_id}")


async def change_webhook(call: Call) -> web.Response:
    """Send other events, or elsewhere, or in another form; as it was seen."""
    fields = read_form(call)
    webhook_id = call.request.match_info["webhook_id"]
    change = given_body(
        webhooks.WebhookChange,
        url=field(fields, "url"),
        kinds=field(fields, "kinds").split(),
        format=fields.get("format"),
        ordered=fields.get("ordered") == "yes",
    )
    await webhooks.change_webhook(call, webhook_id, change, as_seen(call))
    return moved(call, f"/webhooks/{webhook_id}")


async def redeliver(call: Call) -> web.Response:
    """Send a delivery again."""
    matched = call.request.match_info
    await webhooks.redeliver(call, matched["webhook_id"], matched["delivery_id"])
    return moved(call, f"/webhooks/{matched['webhook_id']}")


async def redeliver_since(call: Call) -> web.Response:
    """Send all deliveries since a time again, or those of them that were given up."""
    fields = read_form(call)
    webhook_id = call.request.match_info["webhook_id"]
    wanted = given_body(
        webhooks.Redelivery,
        since=utc_time(field(fields, "since")),
        only_failed=fields.get("only_failed") == "yes",
    )
    await webhooks.redeliver_since(call, webhook_id, wanted)
    return moved(call, f"/webhooks/{webhook_id}")


async def switch_webhook(call: Call) -> web.Response:
    """Disable a webhook, or enable it again."""
    webhook_id = call.request.match_info["webhook_id"]
    await webhooks.show_webhook(call, webhook_id)
    change = webhooks.WebhookChange(enabled=not switches_off(read_form(call)))
    await webhooks.change_webhook(call, webhook_id, change, NO_CONDITIONS)
    return moved(call, f"/webhooks/{webhook_id}")


async def delete_webhook(call: Call) -> web.Response:
    """Delete a webhook with its deliveries."""
    webhook_id = call.request.match_info["webhook_id"]
    webhook = await webhooks.show_webhook(call, webhook_id)
    require_sure(read_form(call), text("sure.webhook", url=webhook.url), comes_to=text("sure.webhook.then"))
    await webhooks.delete_webhook(call, webhook_id, NO_CONDITIONS)
    return moved(call, _path(webhook.place))


def _path(on: str | None) -> str:
    """The page that has the webhooks of a place."""
    if on is not None and not on.endswith("/"):
        return f"/r/{on}/-/webhooks"
    return "/webhooks" + chosen([("on", on)])


async def _webhooks(call: Call, on: str | None) -> web.Response:
    cursor = read_query(call.request, WebhooksQuery, leaves_out_empty=True).cursor
    place = {} if on is None else named_on(on)
    found = await webhooks.list_webhooks(call, PlaceQuery(limit=SHOWN, cursor=cursor, **place))
    path = _path(on)
    more = "&" if "?" in path else "?"
    option = "".join(f" --{kind} {name}" for kind, name in place.items())
    return page(
        call.request,
        "webhooks.html",
        title=text("administration.webhooks") if on is None else text("webhooks.title", name=on),
        on=on,
        here_tab="webhooks",
        path=path.partition("?")[0],
        webhooks=found.items,
        formats=get_args(Format),
        next_path=f"{path}{more}{urlencode([('cursor', found.next)])}" if found.next else None,
        first_path=path if cursor else None,
        lines=Lines(
            api=["GET /api/v1/webhooks" + chosen(place.items()), "POST /api/v1/webhooks"],
            cli=[f"seatrial webhook list{option}", f"seatrial webhook create URL{option}"],
        ),
    )
