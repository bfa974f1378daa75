"""Secrets of repositories and namespaces, that the environments of run specs name."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, or_, select, update
from uuid_utils import uuid7

from registry.auth.access import require
from registry.auth.places import Place, find_place, hold_columns, repository, require_fewer
from registry.auth.policy import decide
from registry.contract.secrets import require_name, require_value
from registry.db.access import namespaces
from registry.db.content import repositories
from registry.db.dialect import insert_ignoring_conflict
from registry.db.outbox import record
from registry.db.placed import with_place
from registry.db.secrets import secrets
from registry.db.types import db_time
from registry.errors import ConflictError, DeniedError, NotFoundError, RequestInvalidError
from registry.trials.secretusers import users_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.auth.secretkey import SecretKey
    from registry.contract.runspec import RunSpec
    from registry.db.engine import Database

PER_PLACE = 50
USERS_TOLD = 20


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret as its row says, never with its value. ``place`` is a repository, or a namespace with a slash
    at its end, whose repositories all may name it."""

    id: str
    name: str
    place: str
    created_by: str
    created_at: datetime
    rotated_at: datetime | None


@dataclass(frozen=True, slots=True)
class ListedSecret:
    """A secret of a list, with the first repositories by name whose run spec gets its value; ``is_all``:
    there are no more of them."""

    secret: Secret
    used_by: tuple[str, ...]
    is_all: bool


async def create(
    database: Database, secret_key: SecretKey, *, actor: Actor, name: str, place: Place, value: str
) -> Secret:
    """Keep a value, which no answer ever shows again.

    Raises:
        UnauthorizedError, DeniedError: the actor may not configure the place.
        NameUnknownError, NotFoundError: there is no such place.
        RequestInvalidError: a name or a value that cannot be used.
        ConflictError: the name is taken there, or the place has as many as it may.
    """
    require(actor, "configure", place.key, None)
    require_name(name)
    require_value(name, value)
    secret_id = str(uuid7())
    async with database.write() as connection:
        at = await hold_columns(connection, place)
        await require_fewer(connection, secrets, at, most=PER_PLACE)
        values = {
            "id": secret_id,
            "name": name,
            **at,
            "value": secret_key.wrap(value.encode(), name=_wrap_name(secret_id)),
            "created_by": actor.shown,
            "created_at": db_time(),
        }
        inserted = await connection.execute(
            insert_ignoring_conflict(connection, secrets, values).returning(secrets.c.id)
        )
        if inserted.scalar_one_or_none() is None:
            raise ConflictError(f"there is a secret {name} of {place.key} already")
        await record(connection, "secret.created", place.key, actor, {}, target=name)
        return await _find_allowed(connection, actor, secret_id)


async def list_secrets(
    database: Database, *, actor: Actor, place: Place, limit: int, after: str | None
) -> list[ListedSecret]:
    """At most ``limit`` secrets of a place itself, by name.

    Raises:
        UnauthorizedError, DeniedError: the actor may not configure the place.
        NameUnknownError, NotFoundError: there is no such place.
    """
    require(actor, "configure", place.key, None)
    async with database.read() as connection:
        number = await find_place(connection, place)
        query = _SHOWN.where(secrets.c[place.column] == number, secrets.c.name > (after or ""))
        rows = await connection.execute(query.order_by(secrets.c.name).limit(limit))
        found = [_secret(row) for row in rows]
        users, is_all = await users_of(connection, place, [one.name for one in found])
    listed = []
    for one in found:
        of_it = users[one.name]
        listed.append(ListedSecret(one, tuple(of_it[:USERS_TOLD]), is_all and len(of_it) <= USERS_TOLD))
    return listed


async def rotate(
    database: Database, secret_key: SecretKey, *, actor: Actor, secret_id: str, value: str
) -> Secret:
    """Keep another value. Runs that are under way go on with the one they were given.

    Raises:
        NotFoundError: there is none, or the actor may not configure its place.
        RequestInvalidError: a value that cannot be used.
    """
    async with database.write() as connection:
        secret = await _find_allowed(connection, actor, secret_id)
        require_value(secret.name, value)
        wrapped = secret_key.wrap(value.encode(), name=_wrap_name(secret_id))
        await connection.execute(
            update(secrets).where(secrets.c.id == secret_id).values(value=wrapped, rotated_at=db_time())
        )
        await record(connection, "secret.rotated", secret.place, actor, {}, target=secret.name)
        return await _find_allowed(connection, actor, secret_id)


async def remove(database: Database, *, actor: Actor, secret_id: str) -> None:
    """Forget a secret; trials whose run spec names it end with an error from now on.

    Raises:
        NotFoundError: there is none, or the actor may not configure its place.
    """
    async with database.write() as connection:
        secret = await _find_allowed(connection, actor, secret_id)
        await connection.execute(delete(secrets).where(secrets.c.id == secret_id))
        await record(connection, "secret.deleted", secret.place, actor, {}, target=secret.name)


async def values_for(
    database: Database, secret_key: SecretKey, *, repository_id: int, spec: RunSpec
) -> Mapping[str, str]:
    """The values of the secrets that a spec of the repository names: the repository's own, else those of the
    nearest namespace.

    Raises:
        RequestInvalidError: it names one that there is not, or the repository is gone.
        SettingsError: one that was kept with another secret key.
    """
    if not spec.secrets():
        return {}
    name = select(repositories.c.name).where(repositories.c.id == repository_id)
    async with database.read() as connection:
        repository_name = (await connection.execute(name)).scalar_one_or_none()
        if repository_name is None:
            raise RequestInvalidError("the repository is gone, and its secrets with it")
        rows = (await connection.execute(_reachable(repository_name, spec, secrets.c.value))).all()
    nearest = {row.name: row for row in sorted(rows, key=lambda row: _nearness(row.place))}
    _require_all(nearest, spec, repository_name)
    return {
        name: secret_key.unwrap(row.value, name=_wrap_name(row.id)).decode() for name, row in nearest.items()
    }


async def require_may_name(
    connection: AsyncConnection, actor: Actor, *, repository_name: str, spec: RunSpec
) -> None:
    """Let a spec that comes with a request name secrets: whoever chooses image and spec can have the image
    say them in a form that nobody masks.

    Raises:
        DeniedError: the actor may not configure the repository.
        RequestInvalidError: it names one that there is not.
    """
    names = spec.secrets()
    if not names:
        return
    if not decide(actor, "configure", repository_name, None).allowed:
        raise DeniedError(
            f"{actor.shown} may not name secrets ({min(names)}) in a run spec for {repository_name}: that "
            "takes the role maintainer"
        )
    found = (await connection.execute(_reachable(repository_name, spec))).all()
    _require_all({row.name: row for row in found}, spec, repository_name)


def _reachable(repository_name: str, spec: RunSpec, *more: Any) -> Select[Any]:
    place = repository(repository_name)
    here = or_(repositories.c.name == place.name, namespaces.c.name.in_(place.above))
    return with_place(secrets, secrets.c.id, secrets.c.name, *more).where(
        secrets.c.name.in_(sorted(spec.secrets())), here
    )


def _nearness(place: str) -> tuple[bool, int]:
    return (not place.endswith("/"), len(place))


def _require_all(found: Mapping[str, object], spec: RunSpec, repository_name: str) -> None:
    missing = sorted(spec.secrets() - found.keys())
    if missing:
        raise RequestInvalidError(
            f"the run spec names the secret {missing[0]!r}, which neither {repository_name} nor a namespace "
            "above it has"
        )


def _wrap_name(secret_id: str) -> str:
    return f"secret/{secret_id}"


def _secret(row: Any) -> Secret:
    return Secret(**{field.name: getattr(row, field.name) for field in fields(Secret)})


async def _find_allowed(connection: AsyncConnection, actor: Actor, secret_id: str) -> Secret:
    row = (await connection.execute(_SHOWN.where(secrets.c.id == secret_id))).one_or_none()
    if row is None or not decide(actor, "configure", row.place, None).allowed:
        raise NotFoundError("there is no such secret that you manage")
    return _secret(row)


_SHOWN: Select[Any] = with_place(
    secrets,
    secrets.c.id, secrets.c.name, secrets.c.created_by, secrets.c.created_at, secrets.c.rotated_at,
)  # fmt: skip
