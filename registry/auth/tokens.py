"""API tokens: made, for people, robots and workers. Nobody can read the secret of one again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import case, insert, or_, select, update
from uuid_utils import uuid7

from registry.auth.access import require_admin
from registry.auth.accountnames import parse_account_name
from registry.auth.apitokens import new_token, token_hash
from registry.auth.ceilings import is_full
from registry.auth.networks import Networks, parse_networks, stored_networks, to_store
from registry.auth.scopes import parse_token_scope
from registry.auth.tokenrights import (
    OWNERS,
    Bounds,
    Owner,
    administers,
    bounds_of,
    find_owner,
    require_account_holder,
    require_fitting,
    require_no_stronger,
)
from registry.db.accounts import accounts, tokens, workers
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import Database, move_epoch
from registry.db.oidc import workload_tokens
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import ConflictError, DeniedError, NotFoundError, RequestInvalidError
from registry.oci.conditions import entity_tag

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.settings import Settings

WORKER_SCOPE = "worker"
MAX_NAME = 100
MAX_SCOPES = 100
MAX_EXPIRES_SECONDS = 10 * 366 * 24 * 3600
Lifetime = int | Literal["default", "never"]
"""Seconds that a token is to live, or what the settings say, or for ever."""


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token as its row says; the secret is not among it. ``scopes`` ``None``: all its account may do.

    ``networks`` ``None``: from everywhere. ``made_by`` is the limited token that it was made with, and ends
    with; ``replaces`` and ``replaced_by`` are its neighbours in a chain of rotations.
    """

    id: str
    name: str
    account: str
    scopes: tuple[str, ...] | None
    networks: tuple[str, ...] | None
    state: Literal["active", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    last_used_address: str | None
    last_used_client: str | None
    made_by: str | None
    replaces: str | None
    replaced_by: str | None

    @property
    def etag(self) -> str:
        """The entity tag of what a change changes."""
        return entity_tag(self.name, self.networks, self.expires_at)


@dataclass(frozen=True, slots=True, repr=False)
class NewToken:
    """A token just made, with the secret that nobody can read again."""

    token: ApiToken
    secret: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new row is to say."""

    account_id: int
    name: str
    scopes: tuple[str, ...] | None
    networks: Networks | None
    expires_at: datetime | None
    made_by: str | None = None
    replaces: str | None = None


async def create_token(
    database: Database,
    settings: Settings,
    *,
    actor: Actor,
    name: str,
    scopes: Sequence[str],
    lives: Lifetime = "default",
    networks: Sequence[str] | None = None,
    account: str | None = None,
) -> NewToken:
    """Make a token for the actor's own account or another whose tokens he manages.

    With a token one makes only tokens that may no more, from no more networks, and not for longer.

    Raises:
        DeniedError: it would be stronger than what it is made with, the account is another's, or has as many
            as it may.
        NotFoundError: there is no such account, or it is disabled.
        RequestInvalidError: a scope, name, network or time that is not allowed.
    """
    require_account_holder(actor)
    if not 1 <= len(scopes) <= MAX_SCOPES:
        raise RequestInvalidError(f"a token has 1 to {MAX_SCOPES} scopes")
    wanted = tuple(parse_token_scope(scope) for scope in scopes)
    allowed = None if networks is None else parse_networks(networks)
    require_name(name)
    async with database.write() as connection:
        owner = await find_owner(connection, actor, account, to_make=True)
        require_fitting(owner, wanted)
        bounds = await bounds_of(connection, actor)
        allowed = bounds.networks if allowed is None else allowed
        require_no_stronger(bounds, actor, scopes=wanted, networks=allowed)
        most = settings.api_tokens_per_account
        working = _WORKING.where(tokens.c.account_id == owner.id)
        if await is_full(connection, working, most, of=f"tokens of {owner.id}"):
            raise DeniedError(
                f"{owner.name} has {most} API tokens that work, which is the limit "
                "(SEATRIAL_API_TOKENS_PER_ACCOUNT); revoke some first"
            )
        made = await insert_token(
            connection,
            Wanted(
                account_id=owner.id,
                name=name,
                scopes=tuple(dict.fromkeys(scope.text for scope in wanted)),
                networks=allowed,
                expires_at=await end_of(connection, settings, lives, bounds=bounds, actor=actor),
                made_by=bounds.made_by,
            ),
        )
        await record_token(connection, "token.created", actor, owner, made.token)
        return made


async def create_worker_token(
    database: Database, settings: Settings, *, actor: Actor, worker: str, lives: Lifetime = "default"
) -> NewToken:
    """Make a token for a worker, and the worker where there is none; a revoked one is let in again.

    A worker's token lives for ever if nothing else is said and the settings allow it: a program waits behind
    it, which no one reminds.

    Raises:
        DeniedError: the actor is no administrator, or it would live longer than what it is made with.
        ConflictError: a person or a robot has that name.
        RequestInvalidError: a name or time that is not allowed.
    """
    require_admin(actor)
    if lives == "default" and not settings.api_token_max_days:
        lives = "never"
    async with database.write() as connection:
        bounds = await bounds_of(connection, actor)
        if lives == "never" and bounds.expires_at is not None:
            lives = "default"
        expires_at = await end_of(connection, settings, lives, bounds=bounds, actor=actor)
        owner, is_new = await _worker(connection, worker)
        values = Wanted(
            owner.id, worker, (WORKER_SCOPE,), bounds.networks, expires_at, made_by=bounds.made_by
        )
        made = await insert_token(connection, values)
        if is_new:
            await record(connection, "worker.created", None, actor, {}, target=worker)
            await move_epoch(connection, "access")
        await record_token(connection, "token.created", actor, owner, made.token)
        return made


async def add_worker_token(connection: AsyncConnection, *, worker: str) -> NewToken:
    """As :func:`create_worker_token`, for whoever holds the database.

    Raises:
        ConflictError, RequestInvalidError: as there.
    """
    owner, _ = await _worker(connection, worker)
    made = await insert_token(connection, Wanted(owner.id, worker, (WORKER_SCOPE,), None, None))
    await move_epoch(connection, "access")
    return made


async def is_known_token(connection: AsyncConnection, hashed: str) -> bool:
    """Whether a token with this hash was ever made here, whatever became of it."""
    found = await connection.execute(select(tokens.c.id).where(tokens.c.secret_hash == hashed))
    return found.first() is not None


async def end_of(
    connection: AsyncConnection, settings: Settings, lives: Lifetime, *, bounds: Bounds, actor: Actor
) -> datetime | None:
    """When a token that is made now ends, by the database's clock.

    Raises:
        RequestInvalidError: a time that is none, or longer than the settings allow.
        DeniedError: later than the token that it is made with.
    """
    longest = settings.api_token_max_days * 24 * 3600
    seconds: int | None
    if lives == "default":
        given = [days for days in (settings.api_token_days, settings.api_token_max_days) if days]
        seconds = min(given) * 24 * 3600 if given else None
    elif lives == "never":
        seconds = None
    else:
        seconds = lives
    if seconds is not None and not 1 <= seconds <= MAX_EXPIRES_SECONDS:
        raise RequestInvalidError("a token expires after 1 second at least and 10 years at most")
    if longest and (seconds is None or seconds > longest):
        raise RequestInvalidError(
            f"a token lives for {settings.api_token_max_days} days at most here (SEATRIAL_API_TOKEN_MAX_DAYS)"
        )
    now: datetime = (await connection.execute(select(db_time()))).scalar_one()
    wanted = None if seconds is None else now + timedelta(seconds=seconds)
    latest = bounds.expires_at
    if latest is None or (wanted is not None and wanted <= latest):
        return wanted
    if lives == "default":
        return latest
    raise DeniedError(
        f"the token of {actor.shown} ends at {latest:%Y-%m-%d %H:%M} UTC, and makes none that lives longer"
    )


async def insert_token(connection: AsyncConnection, wanted: Wanted) -> NewToken:
    """Make the row, and the secret of which it keeps a hash."""
    secret, token_id = new_token(), str(uuid7())
    await connection.execute(
        insert(tokens).values(
            id=token_id,
            account_id=wanted.account_id,
            name=wanted.name,
            secret_hash=token_hash(secret),
            scopes=None if wanted.scopes is None else json.dumps(wanted.scopes),
            networks=to_store(wanted.networks),
            created_at=db_time(),
            expires_at=wanted.expires_at,
            made_by=wanted.made_by,
            replaces=wanted.replaces,
        )
    )
    row = (await connection.execute(SHOWN.where(tokens.c.id == token_id))).one()
    return NewToken(token=shown_token(row._asdict()), secret=secret)


async def record_token(
    connection: AsyncConnection,
    kind: Literal["token.created", "token.changed", "token.rotated"],
    actor: Actor,
    owner: Owner,
    token: ApiToken,
) -> None:
    """Write down what became of a token."""
    data = {
        "name": token.name,
        "account": token.account,
        "scopes": None if token.scopes is None else list(token.scopes),
        "networks": None if token.networks is None else list(token.networks),
        "expires_at": None if token.expires_at is None else token.expires_at.isoformat(),
    }
    if token.replaces is not None:
        data["replaces"] = token.replaces
    place = f"{owner.namespace}/" if owner.namespace else None
    await record(connection, kind, place, actor, data, target=token.id)


@dataclass(frozen=True, slots=True)
class Managed:
    """A token that the actor manages, and whose it is."""

    token: ApiToken
    owner: Owner


async def find_token(
    connection: AsyncConnection, actor: Actor, token_id: str, *, to_change: bool = False
) -> Managed:
    """A token that the actor manages; ``to_change`` holds its row.

    Raises:
        NotFoundError: there is no such token, or it is another's.
        DeniedError: it is his own, and the actor's credential is limited to other things.
    """
    which = tokens.c.id == token_id
    if to_change:
        await connection.execute(select(tokens.c.id).where(which).with_for_update())
    row = (await connection.execute(SHOWN.where(which))).one_or_none()
    if row is not None:
        whose = select(tokens.c.account_id).where(which).scalar_subquery()
        owner = Owner(**(await connection.execute(OWNERS.where(accounts.c.id == whose))).one()._asdict())
        token = shown_token(row._asdict())
        if administers(actor, owner):
            return Managed(token, owner)
        if owner.id == actor.account_id:
            if actor.scopes is None or (actor.token_id or "") in (token.id, token.made_by):
                return Managed(token, owner)
            raise DeniedError(
                f"a limited token of {actor.shown} manages only itself and the tokens made with it"
            )
    raise NotFoundError(f"there is no token {token_id[:80]!r}")


_WORKING = select(tokens.c.id).where(
    tokens.c.revoked_at.is_(None),
    or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > db_time()),
    # Those of jobs have a limit of their own.
    ~select(workload_tokens.c.token_id).where(workload_tokens.c.token_id == tokens.c.id).exists(),
)
_next = tokens.alias("following")
SHOWN = select(
    tokens.c.id,
    tokens.c.name,
    accounts.c.name.label("account"),
    tokens.c.scopes,
    tokens.c.networks,
    case(
        (tokens.c.revoked_at.is_not(None), "revoked"),
        (tokens.c.expires_at <= db_time(), "expired"),
        else_="active",
    ).label("state"),
    tokens.c.created_at,
    tokens.c.expires_at,
    tokens.c.revoked_at,
    tokens.c.last_used_at,
    tokens.c.last_used_address,
    tokens.c.last_used_client,
    tokens.c.made_by,
    tokens.c.replaces,
    # Looked up for each row that is shown, and joined with no other.
    select(_next.c.id)
    .where(_next.c.replaces == tokens.c.id)
    .correlate(tokens)
    .scalar_subquery()
    .label("replaced_by"),
).join(accounts, accounts.c.id == tokens.c.account_id)


def shown_token(row: dict[str, Any]) -> ApiToken:
    """The value of a row of :data:`SHOWN`."""
    networks = stored_networks(row["networks"])
    shown = None if networks is None else tuple(str(network) for network in networks)
    scopes = None if row["scopes"] is None else tuple(json.loads(row["scopes"]))
    return ApiToken(**{**row, "scopes": scopes, "networks": shown})


def require_name(name: str) -> None:
    """Check the name of a token.

    Raises:
        RequestInvalidError: too long, empty, or with what cannot be printed.
    """
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise RequestInvalidError(f"the name of a token has 1 to {MAX_NAME} printable characters")


async def _worker(connection: AsyncConnection, worker: str) -> tuple[Owner, bool]:
    """The account of a worker, and whether it is new or was let in again."""
    parse_account_name(worker)
    values = {"name": worker, "kind": "worker", "is_admin": False, "created_at": db_time()}
    added = await connection.execute(
        insert_ignoring_conflict(connection, accounts, values).returning(accounts.c.id)
    )
    is_new = added.first() is not None
    found = await connection.execute(
        select(accounts.c.id, accounts.c.disabled_at)
        .where(accounts.c.name == worker, accounts.c.kind == "worker")
        .with_for_update()
    )
    account = found.one_or_none()
    if account is None:
        raise ConflictError(f"{worker!r} is the account of a person; give the worker another name")
    owner = Owner(account.id, worker, "worker", is_admin=False, is_auditor=False, namespace=None)
    await connection.execute(insert_ignoring_conflict(connection, workers, {"account_id": owner.id}))
    if account.disabled_at is None:
        return owner, is_new
    # What revoking did to the worker; its tokens stay revoked.
    await connection.execute(update(accounts).where(accounts.c.id == owner.id).values(disabled_at=None))
    let_in = {"drain_at": None, "admitted_at": db_time()}
    await connection.execute(update(workers).where(workers.c.account_id == owner.id).values(let_in))
    return owner, True
