"""``/api/v1/webhooks``: whom events are sent to, and what became of each delivery."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import Field

from registry.errors import (
    ConflictError,
    NameUnknownError,
    NotFoundError,
    PreconditionFailedError,
)
from registry.events import deliverylog
from registry.events import webhooks as use
from registry.events.envelopes import Format
from registry.http.api.fields import Id, NamespaceName, RepositoryName, Time
from registry.http.api.models import Answer, Body, Page, PageQuery
from registry.http.api.places import PlaceQuery, place_of
from registry.http.api.routes import Call, Route
from registry.oci.conditions import Conditions

Kinds = Annotated[
    Sequence[str],
    Field(
        description="Kinds of events, `*` in them is any text: `tag.moved`, `trial.*`.",
        examples=[["manifest.*", "verdict.changed"]],
    ),
]


class WebhookFields(Body):
    """What can be said of a webhook."""

    url: str | None = Field(default=None, description="Where events are sent to, by POST.")
    kinds: Kinds | None = None
    format: Format | None = Field(
        default=None, description="`cloudevents` (1.0, structured), or `docker`, the notification envelope."
    )
    ordered: bool | None = Field(
        default=None, description="Whether each repository's events come one after the other, in their order."
    )


class NewWebhook(WebhookFields):
    """A webhook to make: of a repository, of a namespace with all below it, or (neither) of everything."""

    repository: RepositoryName | None = None
    namespace: NamespaceName | None = None


class WebhookChange(WebhookFields):
    """What to change; what is left out stays."""

    enabled: bool | None = Field(default=None, description="Enabled again it goes on with what waits.")


class Webhook(Answer):
    """A webhook, never with its secret; `place` is a repository, a namespace as in `team/`, or null."""

    id: str
    place: str | None
    url: str
    kinds: Sequence[str]
    format: Format
    ordered: bool
    created_by: str
    created_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None
    failing_since: datetime | None
    last_delivered_at: datetime | None
    old_secret_until: datetime | None
    etag: str = Field(exclude=True)


class WebhookSecret(Webhook):
    """A webhook with its new secret, which is shown this once."""

    secret: str


class DeliveriesQuery(PageQuery):
    """Which deliveries."""

    state: deliverylog.State | None = Field(default=None, description="How it stands with them.")
    since: Time | None = Field(default=None, description="Made then or later.")


class WebhookRotation(Body):
    """How to replace the secret."""

    at_once: bool = Field(default=False, description="The old one signs no more: it was stolen.")


class Redelivery(Body):
    """Which deliveries to send again."""

    since: Time = Field(description="Those made then or later.", strict=False)
    only_failed: bool = Field(default=False, description="Only those that were given up.")


class Redelivered(Answer):
    """How many deliveries are sent again."""

    deliveries: int


async def create_webhook(call: Call, body: NewWebhook) -> WebhookSecret:
    """Send events of a place to an address from now on.

    Deliveries are signed as Standard Webhooks says, with the secret that is shown this once.
    """
    made, secret = await use.create(
        call.services.database,
        call.services.secret_key,
        call.services.outgoing,
        actor=call.actor,
        place=place_of(body.repository, body.namespace),
        wanted=use.Wanted(url=body.url, kinds=body.kinds, format=body.format, ordered=body.ordered),
    )
    return _with_secret(made, secret)


async def list_webhooks(call: Call, query: PlaceQuery) -> Page[Webhook]:
    """Webhooks of a place, or all."""
    found = await use.list_webhooks(
        call.services.database,
        actor=call.actor,
        place=place_of(query.repository, query.namespace),
        limit=query.limit + 1,
        after=query.cursor,
    )
    return query.page([Webhook.of(each) for each in found], key=lambda each: each.id)


async def show_webhook(call: Call, webhook_id: Id) -> Webhook:
    """One webhook, and how it stands."""
    return Webhook.of(await use.show(call.services.database, actor=call.actor, webhook_id=webhook_id))


async def change_webhook(call: Call, webhook_id: Id, body: WebhookChange, conditions: Conditions) -> Webhook:
    """Change what a webhook is, disable it, or enable it again."""
    changed = await use.change(
        call.services.database,
        call.services.outgoing,
        actor=call.actor,
        webhook_id=webhook_id,
        wanted=use.Wanted(**body.model_dump()),
        conditions=conditions,
    )
    return Webhook.of(changed)


async def delete_webhook(call: Call, webhook_id: Id, conditions: Conditions) -> None:
    """Delete a webhook with its deliveries; what waits is not sent."""
    await use.remove(call.services.database, actor=call.actor, webhook_id=webhook_id, conditions=conditions)


async def rotate_webhook(call: Call, webhook_id: Id, body: WebhookRotation) -> WebhookSecret:
    """Replace the secret. For a day each delivery is signed with the old one as well."""
    made, secret = await use.rotate(
        call.services.database,
        call.services.secret_key,
        actor=call.actor,
        webhook_id=webhook_id,
        at_once=body.at_once,
    )
    return _with_secret(made, secret)


async def test_webhook(call: Call, webhook_id: Id) -> deliverylog.Delivery:
    """Send an event of kind `webhook.test`; ask for the delivery to see what came of it."""
    return await deliverylog.send_test(
        call.services.database, actor=call.actor, webhook_id=webhook_id, source=call.services.settings.source
    )


async def list_deliveries(call: Call, webhook_id: Id, query: DeliveriesQuery) -> Page[deliverylog.Delivery]:
    """Deliveries of a webhook, the newest first, with their last attempts."""
    found = await deliverylog.list_deliveries(
        call.services.database,
        actor=call.actor,
        webhook_id=webhook_id,
        state=query.state,
        since=query.since,
        limit=query.limit + 1,
        after=query.cursor,
    )
    return query.page(found, key=lambda each: each.id)


async def show_delivery(call: Call, webhook_id: Id, delivery_id: Id) -> deliverylog.Delivery:
    """One delivery: what is sent, what was answered, and when it is tried next."""
    return await deliverylog.show_delivery(
        call.services.database, actor=call.actor, webhook_id=webhook_id, delivery_id=delivery_id
    )


async def redeliver(call: Call, webhook_id: Id, delivery_id: Id) -> deliverylog.Delivery:
    """Send a delivery again, with the same id and body."""
    return await deliverylog.redeliver(
        call.services.database, actor=call.actor, webhook_id=webhook_id, delivery_id=delivery_id
    )


async def redeliver_since(call: Call, webhook_id: Id, body: Redelivery) -> Redelivered:
    """Send all deliveries since a time again, or those of them that were given up."""
    count = await deliverylog.redeliver_since(
        call.services.database,
        actor=call.actor,
        webhook_id=webhook_id,
        since=body.since,
        only_failed=body.only_failed,
    )
    return Redelivered(deliveries=count)


def _with_secret(made: use.Webhook, secret: str) -> WebhookSecret:
    shown = Webhook.of(made)
    return WebhookSecret(**dict(shown), secret=secret)


_MISSING = (NotFoundError,)
_OF_ONE = "/webhooks/{webhook_id}"
ROUTES = (
    Route(
        "POST",
        "/webhooks",
        "anyone",
        create_webhook,
        status=201,
        errors=(NameUnknownError, NotFoundError, ConflictError),
        secrets=("secret",),
    ),
    Route("GET", "/webhooks", "anyone", list_webhooks, errors=(NameUnknownError, NotFoundError)),
    Route("GET", _OF_ONE, "account", show_webhook, errors=_MISSING),
    Route("PATCH", _OF_ONE, "account", change_webhook, errors=(NotFoundError, PreconditionFailedError)),
    Route("DELETE", _OF_ONE, "account", delete_webhook, errors=(NotFoundError, PreconditionFailedError)),
    Route("POST", f"{_OF_ONE}/rotate", "account", rotate_webhook, errors=_MISSING, secrets=("secret",)),
    Route(
        "POST", f"{_OF_ONE}/test", "account", test_webhook, status=202,
        errors=(NotFoundError, ConflictError),
    ),
    Route(
        "POST", f"{_OF_ONE}/redeliver", "account", redeliver_since, status=202,
        errors=(NotFoundError, ConflictError),
    ),
    Route("GET", f"{_OF_ONE}/deliveries", "account", list_deliveries, errors=_MISSING),
    Route("GET", f"{_OF_ONE}/deliveries/{{delivery_id}}", "account", show_delivery, errors=_MISSING),
    Route(
        "POST", f"{_OF_ONE}/deliveries/{{delivery_id}}/redeliver", "account", redeliver, status=202,
        errors=(NotFoundError, ConflictError),
    ),
)  # fmt: skip
