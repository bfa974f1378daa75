"""A message that asks for trials: checked, understood, and carried out once.

The message's row and its trials commit together. Sent again, by its sender who heard nothing or by somebody
who recorded it, it is answered as the first time and starts nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select, update

from registry.auth.actor import REGISTRY, Actor
from registry.auth.places import hold_columns, parse_place
from registry.auth.policy import itself_and_above
from registry.content import manifests
from registry.content import repositories as repos
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import move_epoch
from registry.db.hooks import hook_messages, hook_trials
from registry.db.types import db_time
from registry.errors import (
    DeniedError,
    ManifestUnknownError,
    NameUnknownError,
    NotFoundError,
    RequestInvalidError,
    TooManyRequestsError,
    UnauthorizedError,
)
from registry.events.signatures import NOT_SIGNED, Scheme, make_secret, verify
from registry.oci.names import split_repository_reference
from registry.oci.strictjson import JsonInvalidError, parse_json
from registry.trials import upstreamtrials
from registry.trials.hookmapping import Wished, wishes
from registry.trials.hooks import BY_NAME, hook_of, secrets_of
from registry.trials.requests import start_in
from registry.trials.upstreams import find_in

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.secretkey import SecretKey
    from registry.contract.runspec import RunSpec
    from registry.db.engine import Database
    from registry.settings import Settings
    from registry.trials.hooks import Hook
    from registry.trials.upstreams import Upstream

BODY_MAX_BYTES = 256 * 1024
A_MINUTE = 60
"""So many messages of a hook are taken in a minute."""
KEPT_DAYS = 30
"""So long a message that was taken is known again."""

ParseSpec = Callable[[Mapping[str, Any] | str | None], Awaitable["RunSpec | None"]]


@dataclass(frozen=True, slots=True)
class Message:
    """What came: ``headers`` may be asked in any case."""

    headers: Mapping[str, str]
    body: bytes
    address: str | None
    client: str | None


@dataclass(frozen=True, slots=True)
class Taken:
    """The trials that were started, or had been when the message came before (``repeated``)."""

    trials: Sequence[str]
    repeated: bool


@dataclass(frozen=True, slots=True)
class _Wanted:
    repository_id: int
    digest: str
    spec: RunSpec | None


@dataclass(frozen=True, slots=True, repr=False)
class Addressee:
    """The hook that a message was sent to, if there is one, and what the sender must know."""

    hook: Hook | None
    secrets: Sequence[str]


async def addressee(database: Database, secret_key: SecretKey, *, name: str) -> Addressee:
    """Look up a hook; it takes as long where there is none."""
    async with database.read_once() as connection:
        row = (await connection.execute(BY_NAME, {"hook": name.replace("\0", "")})).one_or_none()
    if row is None:
        return Addressee(None, [make_secret()])
    return Addressee(hook_of(row), secrets_of(row, secret_key))


async def receive(
    database: Database,
    settings: Settings,
    *,
    to: Addressee,
    message: Message,
    parse_spec: ParseSpec,
) -> Taken:
    """Start the trials that a message asks for.

    Raises:
        UnauthorizedError: no such hook, or not signed with a secret of it, or too long ago.
        RequestInvalidError: the body is no JSON, or the mapping does not lead to an image or a run spec.
        DeniedError: an image that is not the hook's to have tried.
        NameUnknownError, ManifestUnknownError: no such image; it may be sent again once it is there.
        ConflictError: nothing in the image can be run.
        NotFoundError: the upstream of the hook has just been deleted.
        TooManyRequestsError: too many in a minute, a cap on trials is reached, or as many images wait to be
            copied as may.
    """
    hook = to.hook
    scheme: Scheme = "standard" if hook is None else hook.scheme
    key = verify(scheme, to.secrets, message.headers, message.body, now=time.time())
    if hook is None:
        raise UnauthorizedError(NOT_SIGNED)
    async with database.read() as connection:
        before = await _taken(connection, hook, key)
        if before is not None:
            return before
        await _require_room(connection, hook)
        upstream = None if hook.upstream is None else await find_in(connection, hook.upstream)
    if upstream is None and hook.upstream is not None:
        raise NotFoundError("the upstream of this hook is gone, and the hook with it")
    host = None if upstream is None else upstream.host
    wished = wishes(_parsed(message.body), hook.mapping, place=hook.place, host=host)
    asked = [(one, await parse_spec(one.spec)) for one in wished]
    actor = replace(REGISTRY, name=f"hook {hook.name}", address=message.address, client=message.client)
    return await _start(database, settings, hook, key, asked=asked, actor=actor, upstream=upstream)


async def sweep_messages(database: Database) -> int:
    """Forget messages that are too old to be sent again; how many."""
    over = hook_messages.c.at < db_time(-timedelta(days=KEPT_DAYS))
    async with database.write() as connection:
        return (await connection.execute(delete(hook_messages).where(over))).rowcount


async def _start(
    database: Database,
    settings: Settings,
    hook: Hook,
    key: str,
    *,
    asked: Sequence[tuple[Wished, RunSpec | None]],
    actor: Actor,
    upstream: Upstream | None,
) -> Taken:
    async with database.write() as connection:
        # First, as who removes the place, and the hook with it.
        await hold_columns(connection, None if hook.place is None else parse_place(hook.place))
        values = {"hook_id": hook.id, "key": key, "trials": "[]", "at": db_time()}
        inserted = await connection.execute(
            insert_ignoring_conflict(connection, hook_messages, values).returning(hook_messages.c.key)
        )
        if inserted.scalar_one_or_none() is None:
            # Another copy of it was quicker, and has committed: it was waited for.
            before = await _taken(connection, hook, key)
            return before or Taken((), repeated=True)
        if upstream is not None:
            started = [
                await upstreamtrials.start_in(
                    connection, settings, upstream, image=one.image, spec=spec, created_by=actor
                )
                for one, spec in asked
            ]
        else:
            started = await _start_here(connection, settings, hook, asked=asked, actor=actor)
        if started:
            rows = [{"trial_id": trial_id, "hook_id": hook.id} for trial_id in started]
            await connection.execute(insert(hook_trials), rows)
        this = (hook_messages.c.hook_id == hook.id, hook_messages.c.key == key)
        await connection.execute(update(hook_messages).where(*this).values(trials=json.dumps(started)))
        await move_epoch(connection, "gate")
    return Taken(started, repeated=False)


async def _start_here(
    connection: AsyncConnection,
    settings: Settings,
    hook: Hook,
    *,
    asked: Sequence[tuple[Wished, RunSpec | None]],
    actor: Actor,
) -> list[str]:
    wanted = [await _find(connection, hook, one, spec) for one, spec in asked]
    return [
        await start_in(
            connection,
            settings,
            repository_id=one.repository_id,
            digest=one.digest,
            spec=one.spec,
            created_by=actor,
        )
        for one in sorted(wanted, key=lambda each: each.repository_id)
    ]


async def _find(connection: AsyncConnection, hook: Hook, wished: Wished, spec: RunSpec | None) -> _Wanted:
    name, tag, digest = split_repository_reference(wished.image)
    if hook.place is not None and hook.place not in itself_and_above(name):
        raise DeniedError(f"this hook is for {hook.place.rstrip('/')}, and {name} is not in it")
    repository = await repos.find_in(connection, name)
    if repository is None:
        raise NameUnknownError(f"there is no repository {name}")
    reference = digest or tag or "latest"
    manifest = await manifests.find_in(connection, repository.id, reference)
    if manifest is None:
        raise ManifestUnknownError(f"{name} has no image {reference}")
    return _Wanted(repository.id, str(manifest.digest), spec)


async def _taken(connection: AsyncConnection, hook: Hook, key: str) -> Taken | None:
    query = select(hook_messages.c.trials).where(
        hook_messages.c.hook_id == hook.id, hook_messages.c.key == key
    )
    found = (await connection.execute(query)).scalar_one_or_none()
    return None if found is None else Taken(json.loads(found), repeated=True)


async def _require_room(connection: AsyncConnection, hook: Hook) -> None:
    lately = select(func.count()).where(
        hook_messages.c.hook_id == hook.id, hook_messages.c.at > db_time(-timedelta(minutes=1))
    )
    if (await connection.execute(lately)).scalar_one() >= A_MINUTE:
        raise TooManyRequestsError(
            f"this hook takes {A_MINUTE} messages a minute; send it again later",
            headers={"Retry-After": "60"},
        )


def _parsed(body: bytes) -> object:
    try:
        return parse_json(body)
    except JsonInvalidError as error:
        raise RequestInvalidError(f"the message cannot be read: {error}") from None
