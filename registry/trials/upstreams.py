"""Upstreams: other registries whose images the writers of a namespace may have tried.

What is copied from one lies in a repository of its own, which is hidden by its name
(:func:`registry.auth.policy.is_hidden`) and goes with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update
from uuid_utils import uuid7

from registry.auth.access import require, require_writable
from registry.auth.places import Place, find_place, hold_place, require_fewer
from registry.auth.policy import HIDDEN, decide
from registry.content import administration
from registry.content import repositories as repos
from registry.contract.secrets import MAX_BYTES
from registry.db.access import namespaces
from registry.db.content import repositories
from registry.db.dialect import insert_ignoring_conflict
from registry.db.hooks import hooks
from registry.db.outbox import record
from registry.db.types import db_time
from registry.db.upstreams import upstreams
from registry.errors import ConflictError, NotFoundError, RequestInvalidError, SeatrialError
from registry.oci.names import parse_image_name, parse_repository_name

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.auth.secretkey import SecretKey
    from registry.db.engine import Database
    from registry.net.guarded import GuardedClient
    from registry.settings import Settings
    from registry.storage.store import BlobStore

PER_PLACE = 20
PATTERNS_MAX = 50
MAX_BYTES_DEFAULT = 10 * 1024**3
_HUB = "registry-1.docker.io"
_ALSO_CALLED = {"docker.io": _HUB, "index.docker.io": _HUB}
"""Hosts that are no registry, and by which people call images of one."""
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_NAME_MAX = 64
_PATTERN = re.compile(r"[a-z0-9*._/-]{1,255}")
_USER = re.compile(r"[^\x00-\x1f\x7f:]{1,255}")
_SECRET = re.compile(r"[\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class Upstream:
    """Another registry as its row says, never with the secret. ``place`` is a namespace, with a slash at its
    end. ``token_host`` is told the credential as well, if it is where tokens come from."""

    id: str
    name: str
    place: str
    repository_id: int
    host: str
    plain_http: bool
    token_host: str | None
    repositories: Sequence[str]
    max_bytes: int
    username: str | None
    has_secret: bool
    created_by: str
    created_at: datetime

    def allows(self, repository: str) -> bool:
        """Whether images of this repository there may be tried."""
        return any(fnmatchcase(repository, pattern) for pattern in self.repositories)


@dataclass(frozen=True, slots=True, repr=False)
class Wanted:
    """An upstream to add."""

    name: str
    namespace: Place
    host: str
    plain_http: bool = False
    token_host: str | None = None
    repositories: Sequence[str] = ("*",)
    max_bytes: int = MAX_BYTES_DEFAULT
    username: str | None = None
    secret: str | None = None


async def add(
    database: Database,
    settings: Settings,
    secret_key: SecretKey,
    client: GuardedClient,
    *,
    actor: Actor,
    wanted: Wanted,
) -> Upstream:
    """Let the writers of a namespace have images of another registry tried. Nobody is asked there yet.

    Raises:
        UnauthorizedError, DeniedError: the actor may not configure the namespace, or the registry is
            read-only.
        NotFoundError: there is no such namespace.
        RequestInvalidError: what is wanted cannot be used.
        OutgoingError: a host that may not be asked.
        ConflictError: the name is taken, or the namespace has as many as it may.
    """
    require(actor, "configure", wanted.namespace.key, None)
    require_writable(read_only=settings.read_only)
    _require_valid(wanted)
    client.require_allowed(address(wanted.host, plain_http=wanted.plain_http))
    hidden = parse_repository_name(f"{wanted.namespace.name}/{HIDDEN}{wanted.name}")
    upstream_id = str(uuid7())
    async with database.write() as connection:
        namespace_id = await hold_place(connection, wanted.namespace)
        await require_fewer(connection, upstreams, {"namespace_id": namespace_id}, most=PER_PLACE)
        given = {"visibility": "private", "gate": "off", "trial_on_push": False}
        # It may be there: a version before deleted it after the upstream, and was stopped half way.
        await repos.insert(connection, hidden, given, settings=settings, actor=actor)
        repository_id = select(repositories.c.id).where(repositories.c.name == hidden).scalar_subquery()
        values = {
            "id": upstream_id,
            "name": wanted.name,
            "namespace_id": namespace_id,
            "repository_id": repository_id,
            "host": wanted.host.lower(),
            "plain_http": wanted.plain_http,
            "token_host": wanted.token_host.lower() if wanted.token_host else None,
            "repositories": json.dumps(list(wanted.repositories)),
            "max_bytes": wanted.max_bytes,
            "username": wanted.username,
            "secret": _wrapped(secret_key, upstream_id, wanted.secret),
            "created_by": actor.shown,
            "created_at": db_time(),
        }
        inserted = await connection.execute(
            insert_ignoring_conflict(connection, upstreams, values).returning(upstreams.c.id)
        )
        if inserted.scalar_one_or_none() is None:
            raise ConflictError(f"there is an upstream {wanted.name} already")
        said = {"host": wanted.host.lower(), "repositories": list(wanted.repositories)}
        await record(connection, "upstream.added", wanted.namespace.key, actor, said, target=wanted.name)
        found = await find_in(connection, wanted.name)
    assert found is not None
    return found


async def list_upstreams(
    database: Database, *, actor: Actor, namespace: Place, limit: int, after: str | None
) -> list[Upstream]:
    """At most ``limit`` upstreams of a namespace, by name, for those who may use them.

    Raises:
        UnauthorizedError, DeniedError: the actor may not start trials there.
        NotFoundError: there is no such namespace.
    """
    require(actor, "trial", namespace.key, None)
    async with database.read() as connection:
        number = await find_place(connection, namespace)
        here = (upstreams.c.namespace_id == number, upstreams.c.name > (after or ""))
        query = _SHOWN.where(*here).order_by(upstreams.c.name).limit(limit)
        return [_upstream(row) for row in await connection.execute(query)]


async def show(database: Database, *, actor: Actor, name: str) -> Upstream:
    """One upstream.

    Raises:
        NotFoundError: there is none, or the actor may not start trials in its namespace.
    """
    async with database.read() as connection:
        return await find_usable(connection, actor, name)


async def replace_credential(
    database: Database,
    settings: Settings,
    secret_key: SecretKey,
    *,
    actor: Actor,
    name: str,
    username: str | None,
    secret: str | None,
) -> Upstream:
    """Ask an upstream as somebody else from the next copy on, or as nobody.

    Raises:
        NotFoundError: as :func:`show`.
        UnauthorizedError, DeniedError: the actor may not configure its namespace, or the registry is
            read-only.
        RequestInvalidError: what cannot be used.
    """
    async with database.write() as connection:
        found = await find_usable(connection, actor, name)
        require(actor, "configure", found.place, None)
        require_writable(read_only=settings.read_only)
        _require_credential(username, secret)
        wrapped = _wrapped(secret_key, found.id, secret)
        this = update(upstreams).where(upstreams.c.id == found.id)
        await connection.execute(this.values(username=username, secret=wrapped))
        said = {"host": found.host, "username": username}
        await record(connection, "upstream.credential_replaced", found.place, actor, said, target=name)
        changed = await find_in(connection, name)
    if changed is None:
        raise NotFoundError(f"there is no upstream {name[:80]!r} that you may use")
    return changed


async def remove(
    database: Database, blobs: BlobStore, settings: Settings, *, actor: Actor, name: str
) -> None:
    """Forget an upstream with its credential, its copies and their trials.

    Raises:
        NotFoundError: as :func:`show`.
        UnauthorizedError, DeniedError: the actor may not configure its namespace, or the registry is
            read-only.
        ConflictError: a hook takes messages about its images.
    """
    async with database.write() as connection:
        found = await find_usable(connection, actor, name)
        require(actor, "configure", found.place, None)
        require_writable(read_only=settings.read_only)
        # Upstream, repository, copies, trials: in the order in which others hold them.
        this = select(upstreams.c.id).where(upstreams.c.id == found.id).with_for_update()
        if (await connection.execute(this)).first() is None:
            raise NotFoundError(f"there is no upstream {name[:80]!r} that you may use")
        used = select(hooks.c.name).where(hooks.c.upstream_id == found.id).order_by(hooks.c.name).limit(1)
        hook = (await connection.execute(used)).scalar_one_or_none()
        if hook is not None:
            raise ConflictError(f"the hook {hook} is for images of {name}; delete that first")
        held = repos.COLUMNS.where(repositories.c.id == found.repository_id).with_for_update()
        row = (await connection.execute(held)).one_or_none()
        await connection.execute(delete(upstreams).where(upstreams.c.id == found.id))
        await record(connection, "upstream.deleted", found.place, actor, {"host": found.host}, target=name)
        hidden = None if row is None else repos.from_row(row)
        ended = None if hidden is None else await administration.remove_in(connection, hidden, actor=actor)
    for locator in ended or ():
        await blobs.delete(locator)


async def find_usable(connection: AsyncConnection, actor: Actor, name: str) -> Upstream:
    """The upstream, if the actor may start trials in its namespace.

    Raises:
        NotFoundError: otherwise.
    """
    found = await find_in(connection, name)
    if found is None or not decide(actor, "trial", found.place, None).allowed:
        raise NotFoundError(f"there is no upstream {name[:80]!r} that you may use")
    return found


async def find_of_image(database: Database, actor: Actor, image: str) -> tuple[Upstream, str] | None:
    """Of an image with the host of another registry: the upstream by which the actor may have it tried, and
    the image without the host. ``None``: it is named as one of this registry.

    Raises:
        NotFoundError: there is no such upstream.
        RequestInvalidError: there are several.
    """
    try:
        named = parse_image_name(image)
    except SeatrialError:
        return None
    host, rest = _ALSO_CALLED.get(named.host.lower(), named.host.lower()), image.partition("/")[2]
    async with database.read() as connection:
        # A repository of this registry may be called as a host is.
        if ":" not in named.host:
            own = await repos.find_in(connection, f"{named.host}/{named.repository}")
            if own is not None:
                return None
        rows = await connection.execute(_SHOWN.where(upstreams.c.host == host).order_by(upstreams.c.name))
        found = [_upstream(row) for row in rows]
    usable = [one for one in found if decide(actor, "trial", one.place, None).allowed]
    fitting = [one for one in usable if one.allows(named.repository)] or usable
    if not fitting:
        raise NotFoundError(
            f"there is no repository {named.host}/{named.repository} that you may use, and no upstream of "
            f"{host}; see seatrial upstream add"
        )
    if len(fitting) > 1:
        names = ", ".join(one.name for one in fitting)
        raise RequestInvalidError(f"several upstreams are {host}: {names}; say which one (upstream)")
    return fitting[0], rest


async def find_in(connection: AsyncConnection, name: str) -> Upstream | None:
    """The upstream of that name, if there is one."""
    row = (await connection.execute(_SHOWN.where(upstreams.c.name == name.replace("\0", "")))).one_or_none()
    return None if row is None else _upstream(row)


async def find_by_id(connection: AsyncConnection, upstream_id: str) -> Upstream | None:
    """The upstream, if it is still there."""
    row = (await connection.execute(_SHOWN.where(upstreams.c.id == upstream_id))).one_or_none()
    return None if row is None else _upstream(row)


async def secret_of(connection: AsyncConnection, secret_key: SecretKey, upstream_id: str) -> str | None:
    """What it is asked with.

    Raises:
        SettingsError: it was kept with another secret key.
    """
    query = select(upstreams.c.secret).where(upstreams.c.id == upstream_id)
    wrapped = (await connection.execute(query)).scalar_one_or_none()
    return None if wrapped is None else secret_key.unwrap(wrapped, name=wrap_name(upstream_id)).decode()


def address(host: str, *, plain_http: bool) -> str:
    """Where the distribution API of a host is."""
    return f"{'http' if plain_http else 'https'}://{host}/v2/"


def wrap_name(upstream_id: str) -> str:
    """What a secret is wrapped for."""
    return f"upstream/{upstream_id}"


def _require_valid(wanted: Wanted) -> None:
    if len(wanted.name) > _NAME_MAX or not _NAME.fullmatch(wanted.name):
        raise RequestInvalidError(
            f"{wanted.name[:80]!r} is no name of an upstream: lower-case letters, digits, single dashes"
        )
    for host in (wanted.host, *([wanted.token_host] if wanted.token_host else [])):
        try:
            good = parse_image_name(f"{host}/x").host == host
        except SeatrialError:
            good = False
        if not good:
            raise RequestInvalidError(f"{host[:80]!r} is no host, such as docker.example")
    if not 0 < len(wanted.repositories) <= PATTERNS_MAX:
        raise RequestInvalidError(f"give 1 to {PATTERNS_MAX} names of repositories, in which * may stand")
    for pattern in wanted.repositories:
        if not _PATTERN.fullmatch(pattern):
            raise RequestInvalidError(f"{pattern[:80]!r} is no name of repositories, such as library/*")
    if wanted.max_bytes < 1:
        raise RequestInvalidError("an image has at least one byte")
    _require_credential(wanted.username, wanted.secret)


def _require_credential(username: str | None, secret: str | None) -> None:
    if username is not None and (secret is None or not _USER.fullmatch(username)):
        raise RequestInvalidError("a user name has a password with it, no colon in it, and 255 characters")
    if secret is not None and (len(secret) > MAX_BYTES or not _SECRET.fullmatch(secret)):
        raise RequestInvalidError(f"the password or token is not 1 to {MAX_BYTES} printable ASCII characters")


def _wrapped(secret_key: SecretKey, upstream_id: str, secret: str | None) -> bytes | None:
    return None if secret is None else secret_key.wrap(secret.encode(), name=wrap_name(upstream_id))


def _upstream(row: Any) -> Upstream:
    values = {field.name: getattr(row, field.name) for field in fields(Upstream)}
    return Upstream(**{**values, "repositories": json.loads(row.repositories)})


_SHOWN: Select[Any] = select(
    *(upstreams.c[field.name] for field in fields(Upstream) if field.name not in ("place", "has_secret")),
    (namespaces.c.name + "/").label("place"),
    upstreams.c.secret.is_not(None).label("has_secret"),
).join(namespaces, namespaces.c.id == upstreams.c.namespace_id)
