"""Hooks: addresses to which others send messages that ask for trials, of the images of one place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, case, delete, select, update
from uuid_utils import uuid7

from registry.auth.places import Place, find_place, hold_columns, require_fewer
from registry.db.dialect import insert_ignoring_conflict
from registry.db.hooks import hooks
from registry.db.outbox import record
from registry.db.placed import with_place
from registry.db.types import db_time
from registry.db.upstreams import upstreams
from registry.db.webhooks import webhooks
from registry.errors import ConflictError, NotFoundError, RequestInvalidError
from registry.events import webhooks as outbound
from registry.events.signatures import Scheme, make_secret
from registry.trials.hookmapping import Preset, require_mapping
from registry.trials.upstreams import find_usable

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.auth.secretkey import SecretKey
    from registry.db.engine import Database
    from registry.net.guarded import GuardedClient

PER_PLACE = 20
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook as its row says, never with its secret. ``place`` is as that of a webhook. ``webhook_id`` is the
    webhook that calls back, if one does; ``upstream`` the other registry whose images messages name."""

    id: str
    name: str
    place: str | None
    scheme: Scheme
    mapping: Mapping[str, str] | Preset
    webhook_id: str | None
    upstream: str | None
    created_by: str
    created_at: datetime
    old_secret_until: datetime | None


@dataclass(frozen=True, slots=True, repr=False)
class NewHook:
    """A hook just made, with what is shown once: its secret, and that of the webhook that calls back."""

    hook: Hook
    secret: str
    call_back_secret: str | None


async def create(
    database: Database,
    secret_key: SecretKey,
    client: GuardedClient,
    *,
    actor: Actor,
    name: str,
    place: Place | None,
    scheme: Scheme,
    mapping: Mapping[str, str] | Preset,
    call_back: str | None,
    upstream: str | None = None,
) -> NewHook:
    """Make a hook and its secret. ``call_back`` is where its trials' ends are sent to, by a webhook.
    ``upstream``: its messages name images of that registry, and the place is the upstream's.

    Raises:
        UnauthorizedError, DeniedError: the actor may not configure the place.
        NameUnknownError, NotFoundError: there is no such place or upstream.
        RequestInvalidError: a name, a mapping or an address that cannot be used, or another place than the
            upstream's.
        ConflictError: the name is taken, or the place has as many as it may.
    """
    outbound.require_right(actor, place)
    if not _NAME.fullmatch(name):
        raise RequestInvalidError(
            f"{name[:80]!r} is no name of a hook: lower-case letters, digits, '.', '_', '-'"
        )
    if not isinstance(mapping, str):
        require_mapping(mapping, has_repository=place is not None and not place.is_namespace)
    wanted = None
    if call_back is not None:
        wanted = outbound.new_values(client, outbound.Wanted(url=call_back, kinds=("trial.finished",)))
    hook_id, secret = str(uuid7()), make_secret()
    call_back_secret: str | None = None
    async with database.write() as connection:
        at = await hold_columns(connection, place)
        await require_fewer(connection, hooks, at, most=PER_PLACE)
        upstream_id = None
        if upstream is not None:
            named = await find_usable(connection, actor, upstream)
            if place is None or named.place != place.key:
                raise RequestInvalidError(
                    f"a hook for images of {named.name} is of its namespace, {named.place.rstrip('/')}"
                )
            upstream_id = named.id
        values = {
            "id": hook_id,
            "name": name,
            **at,
            "scheme": scheme,
            "mapping": json.dumps(mapping if isinstance(mapping, str) else dict(mapping)),
            "secret": secret_key.wrap(secret.encode(), name=wrap_name(hook_id)),
            "created_by": actor.shown,
            "created_at": db_time(),
            "upstream_id": upstream_id,
        }
        inserted = await connection.execute(
            insert_ignoring_conflict(connection, hooks, values).returning(hooks.c.id)
        )
        if inserted.scalar_one_or_none() is None:
            raise ConflictError(f"there is a hook {name} already")
        if wanted is not None:
            _, call_back_secret = await outbound.add(
                connection, secret_key, wanted, actor=actor, place=place, hook_id=hook_id
            )
        hook = await _find(connection, name)
        assert hook is not None
        said: dict[str, object] = {"scheme": scheme, "mapping": hook.mapping}
        if upstream is not None:
            said["upstream"] = upstream
        await record(connection, "hook.created", hook.place, actor, said, target=name)
    return NewHook(hook, secret, call_back_secret)


async def list_hooks(
    database: Database, *, actor: Actor, place: Place | None, limit: int, after: str | None
) -> list[Hook]:
    """At most ``limit`` hooks of a place, or for administrators all, by name.

    Raises:
        UnauthorizedError, DeniedError: the actor may not configure the place.
        NameUnknownError, NotFoundError: there is no such place.
    """
    outbound.require_right(actor, place)
    query = _SHOWN.where(hooks.c.name > (after or "")).order_by(hooks.c.name).limit(limit)
    async with database.read() as connection:
        if place is not None:
            number = await find_place(connection, place)
            query = query.where(hooks.c[place.column] == number)
        return [hook_of(row) for row in await connection.execute(query)]


async def show(database: Database, *, actor: Actor, name: str) -> Hook:
    """One hook.

    Raises:
        NotFoundError: there is none, or the actor may not configure its place.
    """
    async with database.read() as connection:
        return await _find_allowed(connection, actor, name)


async def remove(database: Database, *, actor: Actor, name: str) -> None:
    """Delete a hook, and the webhook that calls back for it.

    Raises:
        NotFoundError: as :func:`show`.
    """
    async with database.write() as connection:
        hook = await _find_allowed(connection, actor, name)
        await connection.execute(delete(hooks).where(hooks.c.id == hook.id))
        await record(connection, "hook.deleted", hook.place, actor, {}, target=name)


async def rotate(
    database: Database, secret_key: SecretKey, *, actor: Actor, name: str, at_once: bool
) -> tuple[Hook, str]:
    """Give it another secret, which is not shown again; messages with the old one are taken as well for
    :data:`~registry.events.webhooks.OVERLAP_SECONDS`, or no more where it must end ``at_once``.

    Raises:
        NotFoundError: as :func:`show`.
    """
    secret = make_secret()
    async with database.write() as connection:
        hook = await _find_allowed(connection, actor, name)
        wrapped = secret_key.wrap(secret.encode(), name=wrap_name(hook.id))
        until = None if at_once else db_time(timedelta(seconds=outbound.OVERLAP_SECONDS))
        await connection.execute(
            update(hooks)
            .where(hooks.c.id == hook.id)
            .values(old_secret=None if at_once else hooks.c.secret, old_secret_until=until, secret=wrapped)
        )
        await record(connection, "hook.rotated", hook.place, actor, {"at_once": at_once}, target=name)
        return await _find_allowed(connection, actor, name), secret


def wrap_name(hook_id: str) -> str:
    """What a secret is wrapped for."""
    return f"hook/{hook_id}"


def secrets_of(row: Any, secret_key: SecretKey) -> list[str]:
    """The secrets that are taken now, from a row of :data:`BY_NAME`."""
    wrapped = [each for each in (row.secret, row.valid_old_secret) if each is not None]
    return [secret_key.unwrap(each, name=wrap_name(row.id)).decode() for each in wrapped]


def hook_of(row: Any) -> Hook:
    """From a row of :data:`BY_NAME`."""
    values = {field.name: getattr(row, field.name) for field in fields(Hook)}
    return Hook(**{**values, "mapping": json.loads(row.mapping)})


async def _find_allowed(connection: AsyncConnection, actor: Actor, name: str) -> Hook:
    found = await _find(connection, name)
    if found is None or not outbound.may_manage(actor, found.place):
        raise NotFoundError(f"there is no hook {name[:80]!r} that you manage")
    return found


async def _find(connection: AsyncConnection, name: str) -> Hook | None:
    row = (await connection.execute(BY_NAME, {"hook": name})).one_or_none()
    return None if row is None else hook_of(row)


_SHOWN: Select[Any] = with_place(
    hooks,
    hooks.c.id, hooks.c.name, hooks.c.scheme, hooks.c.mapping, hooks.c.created_by, hooks.c.created_at,
    hooks.c.old_secret_until, hooks.c.secret,
    case((hooks.c.old_secret_until > db_time(), hooks.c.old_secret)).label("valid_old_secret"),
    select(webhooks.c.id).where(webhooks.c.hook_id == hooks.c.id).limit(1).correlate(hooks)
    .scalar_subquery().label("webhook_id"),
    select(upstreams.c.name).where(upstreams.c.id == hooks.c.upstream_id).correlate(hooks)
    .scalar_subquery().label("upstream"),
)  # fmt: skip
BY_NAME = _SHOWN.where(hooks.c.name == bindparam("hook"))
