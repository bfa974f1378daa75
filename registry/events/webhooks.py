"""Webhooks: whom events are sent to, by whoever may configure the place that the events are about."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, get_args

from sqlalchemy import Row, case, delete, insert, select, update
from uuid_utils import uuid7

from registry.auth.access import require, require_admin
from registry.auth.places import Place, find_place, hold_columns, require_fewer
from registry.auth.policy import decide, may_administer
from registry.db.eventkinds import EventKind
from registry.db.outbox import record
from registry.db.placed import with_place
from registry.db.types import db_time
from registry.db.webhooks import webhooks
from registry.errors import NotFoundError, RequestInvalidError
from registry.events import lanes
from registry.events.envelopes import Format
from registry.events.signatures import make_secret
from registry.net.guarded import OutgoingError, parse_url
from registry.oci.conditions import NO_CONDITIONS, Conditions, entity_tag

if TYPE_CHECKING:
    from sqlalchemy import Select, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.auth.secretkey import SecretKey
    from registry.db.engine import Database
    from registry.net.guarded import GuardedClient

DEFAULT_KINDS = ("manifest.*", "tag.*", "trial.*", "verdict.*", "image.*", "pull.refused")
PER_PLACE = 20
URL_MAX = 2000
OVERLAP_SECONDS = 24 * 3600
_KINDS_MAX = 50
_PATTERN = re.compile(r"[a-z_.*]{1,64}")
_LOW_PORTS = frozenset({80, 443})
_UNPRIVILEGED = 1024


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook as its row says, never with its secret. ``place`` is a repository, a namespace with a slash
    at its end, or ``None`` for everything. ``failing_since`` is when it last worked no more."""

    id: str
    place: str | None
    url: str
    kinds: tuple[str, ...]
    format: Format
    ordered: bool
    created_by: str
    created_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None
    failing_since: datetime | None
    last_delivered_at: datetime | None
    old_secret_until: datetime | None

    @property
    def etag(self) -> str:
        """The entity tag of what a change changes."""
        return entity_tag(self.url, self.kinds, self.format, self.ordered, self.disabled_at)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a webhook is to be; ``None`` leaves it, or what it is by default."""

    url: str | None = None
    kinds: Sequence[str] | None = None
    format: Format | None = None
    ordered: bool | None = None
    enabled: bool | None = None


async def create(
    database: Database,
    secret_key: SecretKey,
    client: GuardedClient,
    *,
    actor: Actor,
    place: Place | None,
    wanted: Wanted,
) -> tuple[Webhook, str]:
    """Make a webhook, and its secret, which is not shown again. Only what happens from now on is sent.

    Raises:
        UnauthorizedError, DeniedError: the actor may not configure the place.
        NameUnknownError, NotFoundError: there is no such place.
        RequestInvalidError: an address or a kind that cannot be used.
        ConflictError: the place has as many as it may.
    """
    require_right(actor, place)
    values = new_values(client, wanted)
    async with database.write() as connection:
        return await add(connection, secret_key, values, actor=actor, place=place)


def new_values(client: GuardedClient, wanted: Wanted) -> dict[str, Any]:
    """What :func:`add` writes.

    Raises:
        RequestInvalidError: an address or a kind that cannot be used.
    """
    if wanted.url is None:
        raise RequestInvalidError("a webhook needs a url")
    usual = {"kinds": json.dumps(DEFAULT_KINDS), "format": "cloudevents", "ordered": False}
    return {**usual, **_values(client, wanted)}


async def add(
    connection: AsyncConnection,
    secret_key: SecretKey,
    values: Mapping[str, Any],
    *,
    actor: Actor,
    place: Place | None,
    hook_id: str | None = None,
) -> tuple[Webhook, str]:
    """As :func:`create`, in the caller's transaction, for an actor whose right has been asked for. With
    ``hook_id`` it tells only of trials that this hook asked for.

    Raises:
        NameUnknownError, NotFoundError: there is no such place.
        ConflictError: the place has as many as it may.
    """
    secret, webhook_id = make_secret(), str(uuid7())
    at = await hold_columns(connection, place)
    await require_fewer(connection, webhooks, at, most=PER_PLACE)
    row = {
        **values,
        **at,
        "id": webhook_id,
        "hook_id": hook_id,
        "secret": secret_key.wrap(secret.encode(), name=wrap_name(webhook_id)),
        "created_by": actor.shown,
        "created_at": db_time(),
    }
    await connection.execute(insert(webhooks).values(row))
    made = await _find(connection, webhook_id)
    await record(connection, "webhook.created", made.place, actor, _told(made), target=webhook_id)
    return made, secret


async def list_webhooks(
    database: Database, *, actor: Actor, place: Place | None, limit: int, after: str | None
) -> list[Webhook]:
    """At most ``limit`` webhooks of a place, or for administrators all, the oldest first.

    Raises:
        UnauthorizedError, DeniedError: the actor may not configure the place.
        NameUnknownError, NotFoundError: there is no such place.
    """
    require_right(actor, place)
    query = _SHOWN.where(webhooks.c.id > (after or "")).order_by(webhooks.c.id).limit(limit)
    async with database.read() as connection:
        if place is not None:
            number = await find_place(connection, place)
            query = query.where(webhooks.c[place.column] == number)
        return [_webhook(row) for row in await connection.execute(query)]


async def show(database: Database, *, actor: Actor, webhook_id: str) -> Webhook:
    """One webhook.

    Raises:
        NotFoundError: there is none, or the actor may not configure its place.
    """
    async with database.read() as connection:
        return await find_allowed(connection, actor, webhook_id)


async def change(
    database: Database,
    client: GuardedClient,
    *,
    actor: Actor,
    webhook_id: str,
    wanted: Wanted,
    conditions: Conditions = NO_CONDITIONS,
) -> Webhook:
    """Change what ``wanted`` says. Enabled again, it goes on with what waited when it was disabled.

    Raises:
        NotFoundError: as :func:`show`.
        RequestInvalidError: an address or a kind that cannot be used.
        PreconditionFailedError: ``conditions`` do not hold.
    """
    values = _values(client, wanted)
    async with database.write() as connection:
        before = await find_allowed(connection, actor, webhook_id, lock=True)
        conditions.require(before.etag, f"webhook {webhook_id}")
        if wanted.enabled is False and before.disabled_at is None:
            values |= {"disabled_at": db_time(), "disabled_reason": f"disabled by {actor.shown}"}
        if wanted.enabled and before.disabled_at is not None:
            values |= {"disabled_at": None, "disabled_reason": None}
        if values:
            # Whatever was wrong may be right now: it is looked at anew, by who is at it where somebody is.
            looking = case((webhooks.c.lease.is_(None), db_time()), else_=webhooks.c.next_at)
            anew = {"failures": 0, "failing_since": None, "hold_until": None, "next_at": looking}
            await connection.execute(
                update(webhooks).where(webhooks.c.id == webhook_id).values({**values, **anew})
            )
        if wanted.ordered is False and before.ordered:
            await lanes.let_all_go(connection, webhook_id)
        if wanted.ordered and not before.ordered:
            await lanes.line_up(connection, webhook_id)
        after = await _find(connection, webhook_id)
        old, new = _told(before), _told(after)
        said = {name: [old[name], new[name]] for name in new if old[name] != new[name]}
        if before.url != after.url:
            said["url"] = [old["url"], new["url"]]
        if said:
            await record(connection, "webhook.changed", after.place, actor, said, target=webhook_id)
        return after


async def remove(
    database: Database, *, actor: Actor, webhook_id: str, conditions: Conditions = NO_CONDITIONS
) -> None:
    """Delete a webhook with its deliveries; what was not delivered will not be.

    Raises:
        NotFoundError: as :func:`show`.
        PreconditionFailedError: ``conditions`` do not hold.
    """
    async with database.write() as connection:
        before = await find_allowed(connection, actor, webhook_id, lock=True)
        conditions.require(before.etag, f"webhook {webhook_id}")
        await connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))
        await record(connection, "webhook.deleted", before.place, actor, _told(before), target=webhook_id)


async def rotate(
    database: Database, secret_key: SecretKey, *, actor: Actor, webhook_id: str, at_once: bool
) -> tuple[Webhook, str]:
    """Give it another secret, which is not shown again; the old one signs beside it for
    :data:`OVERLAP_SECONDS`, or no more where it must end ``at_once``.

    Raises:
        NotFoundError: as :func:`show`.
    """
    secret = make_secret()
    async with database.write() as connection:
        before = await find_allowed(connection, actor, webhook_id, lock=True)
        wrapped = secret_key.wrap(secret.encode(), name=wrap_name(webhook_id))
        until = None if at_once else db_time(timedelta(seconds=OVERLAP_SECONDS))
        old = None if at_once else webhooks.c.secret
        await connection.execute(
            update(webhooks)
            .where(webhooks.c.id == webhook_id)
            .values(old_secret=old, old_secret_until=until, secret=wrapped)
        )
        said = {"at_once": at_once}
        await record(connection, "webhook.rotated", before.place, actor, said, target=webhook_id)
        return await _find(connection, webhook_id), secret


async def find_allowed(
    connection: AsyncConnection, actor: Actor, webhook_id: str, *, lock: bool = False
) -> Webhook:
    """The webhook, for whoever may configure its place.

    Raises:
        NotFoundError: there is none, or the actor may not.
    """
    found = await _maybe(connection, webhook_id, lock=lock)
    if found is None or not may_manage(actor, found.place):
        raise NotFoundError(f"there is no webhook {webhook_id[:80]!r} that you manage")
    return found


async def hold_all_of(connection: AsyncConnection, place: Place) -> None:
    """Lock the webhooks that are about to go with a place, in the order in which they are locked elsewhere: a
    cascade has another, and would wait for those who wait for it.

    Raises:
        NameUnknownError, NotFoundError: there is no such place.
    """
    here = webhooks.c[place.column] == await find_place(connection, place)
    await connection.execute(select(webhooks.c.id).where(here).order_by(webhooks.c.id).with_for_update())


def matches(kinds: Sequence[str], kind: str) -> bool:
    """Whether one of the patterns is about this kind of event."""
    return any(fnmatchcase(kind, pattern) for pattern in kinds)


def wrap_name(webhook_id: str) -> str:
    """What a secret is wrapped for."""
    return f"webhook/{webhook_id}"


def may_manage(actor: Actor, place: str | None) -> bool:
    """Whether the actor manages what is set on a place, such as webhooks, or on everything."""
    if place is None:
        return may_administer(actor)
    return decide(actor, "configure", place, None).allowed


async def managed_place(database: Database, actor: Actor, table: Table, row_id: int) -> str | None:
    """The place of a row; ``None`` where there is no such row, or the actor does not manage its place: who
    does not is not told so, since it may be a repository that is not for him to know."""
    query = with_place(table).where(table.c.id == row_id)
    async with database.read_once() as connection:
        key: str | None = (await connection.execute(query)).scalar_one_or_none()
    return key if key is not None and may_manage(actor, key) else None


def require_right(actor: Actor, place: Place | None) -> None:
    """Let the actor make webhooks and hooks of a place, or of everything.

    Raises:
        UnauthorizedError, DeniedError: the actor may not configure the place, or is no administrator.
    """
    if place is None:
        require_admin(actor)
    else:
        require(actor, "configure", place.key, None)


def _values(client: GuardedClient, wanted: Wanted) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if wanted.url is not None:
        _require_url(client, wanted.url)
        values["url"] = wanted.url
    if wanted.kinds is not None:
        values["kinds"] = json.dumps(_require_kinds(wanted.kinds))
    if wanted.format is not None:
        values["format"] = wanted.format
    if wanted.ordered is not None:
        values["ordered"] = wanted.ordered
    return values


def _require_url(client: GuardedClient, url: str) -> None:
    try:
        parsed = parse_url(url)
        client.require_allowed(url)
    except OutgoingError as error:
        raise RequestInvalidError(f"the webhook's address cannot be used: {error.message}") from None
    port = parsed.port or 0
    if port < _UNPRIVILEGED and port not in _LOW_PORTS:
        raise RequestInvalidError(
            f"the webhook's address cannot be used: port {port} is not 80, 443, or {_UNPRIVILEGED} and above"
        )
    if parsed.raw_fragment or len(url) > URL_MAX or not url.isprintable():
        raise RequestInvalidError(
            f"the webhook's address cannot be used: it has a fragment, or more than {URL_MAX} characters"
        )


def _require_kinds(kinds: Sequence[str]) -> list[str]:
    if not 1 <= len(kinds) <= _KINDS_MAX:
        raise RequestInvalidError(f"a webhook is about 1 to {_KINDS_MAX} kinds of events")
    for pattern in kinds:
        known = any(fnmatchcase(kind, pattern) for kind in get_args(EventKind))
        if not _PATTERN.fullmatch(pattern) or not known:
            raise RequestInvalidError(
                f"{pattern[:80]!r} is no kind of event, such as tag.moved, nor a pattern, such as tag.*"
            )
    return list(dict.fromkeys(kinds))


def _told(webhook: Webhook) -> dict[str, object]:
    # Not the whole address: its path or query may be the receiver's only secret.
    return {
        "url": str(parse_url(webhook.url).origin()),
        "kinds": list(webhook.kinds),
        "format": webhook.format,
        "ordered": webhook.ordered,
        "enabled": webhook.disabled_at is None,
    }


async def _find(connection: AsyncConnection, webhook_id: str) -> Webhook:
    found = await _maybe(connection, webhook_id, lock=False)
    assert found is not None
    return found


async def _maybe(connection: AsyncConnection, webhook_id: str, *, lock: bool) -> Webhook | None:
    query = _SHOWN.where(webhooks.c.id == webhook_id)
    if lock:
        query = query.with_for_update(of=webhooks)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _webhook(row)


_SHOWN: Select[Any] = with_place(
    webhooks, *(webhooks.c[field.name] for field in fields(Webhook) if field.name != "place")
)


def _webhook(row: Row[Any]) -> Webhook:
    values: Mapping[str, Any] = row._asdict()
    return Webhook(**{**values, "kinds": tuple(json.loads(row.kinds))})
