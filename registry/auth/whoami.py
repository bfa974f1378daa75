"""Who somebody is with the credential that he came with, and until when it works. Never the credential."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from sqlalchemy import select

from registry.auth.actor import Role
from registry.db.accounts import tokens
from registry.db.sessions import sessions

if TYPE_CHECKING:
    from sqlalchemy import Select

    from registry.auth.actor import Actor
    from registry.db.engine import Database

Came = Literal["password", "session", "API token", "registry token", "job"]


@dataclass(frozen=True, slots=True)
class HeldRole:
    """A role; ``on`` is a repository, or a namespace with a slash at its end."""

    on: str
    role: Role


@dataclass(frozen=True, slots=True)
class Whoami:
    """An account as one credential shows it.

    ``scopes`` ``None``: all that the account may do. ``token_id`` is that of the API token which it came
    with, or which is behind the session or registry token. ``expires_at`` ``None``: never by itself; a
    registry token, which lives for minutes, has none here either.
    """

    name: str
    kind: str
    admin: bool
    auditor: bool
    roles: tuple[HeldRole, ...]
    came_with: Came
    scopes: tuple[str, ...] | None
    networks: tuple[str, ...] | None
    token_id: str | None
    expires_at: datetime | None


async def whoami(database: Database, *, actor: Actor) -> Whoami:
    """Who the actor is, as it was looked at for this request."""
    return Whoami(
        name=actor.name,
        kind=actor.kind,
        admin=actor.is_admin,
        auditor=actor.is_auditor,
        roles=tuple(HeldRole(on, role) for on, role in sorted(actor.roles.items())),
        came_with=_came_with(actor),
        scopes=None if actor.scopes is None else tuple(scope.text for scope in actor.scopes),
        networks=None if actor.networks is None else tuple(map(str, actor.networks)),
        token_id=actor.token_id,
        expires_at=await _end(database, actor),
    )


def _came_with(actor: Actor) -> Came:
    if actor.from_registry_token:
        return "registry token"
    if actor.session_id is not None:
        return "session"
    if actor.workload is not None:
        return "job"
    return "password" if actor.token_id is None else "API token"


async def _end(database: Database, actor: Actor) -> datetime | None:
    query: Select[datetime]
    if actor.from_registry_token:
        return None
    if actor.session_id is not None:
        query = select(sessions.c.expires_at).where(sessions.c.id == actor.session_id)
    elif actor.token_id is not None:
        query = select(tokens.c.expires_at).where(tokens.c.id == actor.token_id)
    else:
        return None
    async with database.read_once() as connection:
        return (await connection.execute(query)).scalar_one_or_none()
