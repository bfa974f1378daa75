"""Webhooks of a repository: made, tested, disabled and deleted, and what became of each delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from registry.content.administration import find
from registry.events.envelopes import Format
from registry.http.api import webhooks
from registry.http.api.places import PlaceQuery
from registry.http.api.routes import Call, read_query
from registry.oci.conditions import NO_CONDITIONS
from registry.pages.rendering import Lines, chosen, page
from registry.pages.serving import CursorQuery, field, given_body, moved, read_form, switches_off
from registry.pages.texts import text

if TYPE_CHECKING:
    from aiohttp import web

    from registry.http.api.webhooks import WebhookSecret

SHOWN = 50


async def show_webhooks(call: Call) -> web.Response:
    """Webhooks of a repository, and a form for another one."""
    return await _webhooks(call, None)


async def create_webhook(call: Call) -> web.Response:
    """Make a webhook, and show its secret this once."""
    name = call.request.match_info["name"]
    await find(call.services.database, actor=call.actor, action="configure", name=name)
    fields = read_form(call)
    wanted = given_body(
        webhooks.NewWebhook,
        repository=name,
        url=field(fields, "url"),
        kinds=fields["kinds"].split() if "kinds" in fields else None,
        format=fields.get("format"),
    )
    return await _webhooks(call, await webhooks.create_webhook(call, wanted))


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


async def redeliver(call: Call) -> web.Response:
    """Send a delivery again."""
    matched = call.request.match_info
    await webhooks.redeliver(call, matched["webhook_id"], matched["delivery_id"])
    return moved(call, f"/webhooks/{matched['webhook_id']}")


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
    await webhooks.delete_webhook(call, webhook_id, NO_CONDITIONS)
    is_repository = webhook.place is not None and not webhook.place.endswith("/")
    return moved(call, f"/r/{webhook.place}/-/webhooks" if is_repository else "/")


async def _webhooks(call: Call, made: WebhookSecret | None) -> web.Response:
    name = call.request.match_info["name"]
    cursor = None if made else read_query(call.request, CursorQuery, leaves_out_empty=True).cursor
    found = await webhooks.list_webhooks(call, PlaceQuery(repository=name, limit=SHOWN, cursor=cursor))
    path = f"/r/{name}/-/webhooks"
    return page(
        call.request,
        "webhooks.html",
        title=text("webhooks.title", name=name),
        name=name,
        here_tab="webhooks",
        path=path,
        webhooks=found.items,
        made=made,
        formats=get_args(Format),
        next_path=path + chosen([("cursor", found.next)]) if found.next else None,
        first_path=path if cursor else None,
        status=200 if made is None else 201,
        lines=Lines(
            api=[f"GET /api/v1/webhooks?repository={name}", "POST /api/v1/webhooks"],
            cli=[f"seatrial webhook list --repository {name}"],
        ),
    )
