"""The outbox: an event is a row in the same transaction as its cause, so none is lost and none is untrue.

The same row is the line of the audit trail: who, what, on what, from where, with which token, by what right.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, Protocol

from sqlalchemy import insert

from registry.db.events import events
from registry.db.types import db_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.eventkinds import EventKind


class Job(Protocol):
    """The CI job that did it, as :class:`registry.auth.actor.Workload` is one."""

    @property
    def told(self) -> dict[str, str | None]:
        """As a JSON value."""


class Doer(Protocol):
    """Who did it, as :class:`registry.auth.actor.Actor` is one."""

    @property
    def shown(self) -> str:
        """How the trail names this actor."""

    @property
    def kind(self) -> str:
        """user, robot, worker, anonymous, registry (by itself) or host (whoever holds the data folder)."""

    @property
    def account_id(self) -> int | None:
        """Its account's number, which no other account ever has."""

    @property
    def token_id(self) -> str | None:
        """The API token it came with."""

    @property
    def session_id(self) -> str | None:
        """The session whose cookie it came with."""

    @property
    def address(self) -> str | None:
        """Where it came from."""

    @property
    def client(self) -> str | None:
        """What program it said that it is."""

    @property
    def workload(self) -> Job | None:
        """The job that acts as this account, if one does."""

    def right_on(self, place: str | None) -> str:
        """What gives it its right on a repository, a namespace (with a slash at its end), or in general."""


async def record(
    connection: AsyncConnection,
    kind: EventKind,
    repository: str | None,
    actor: Doer,
    data: Mapping[str, object],
    *,
    target: str | None = None,
    decision: Literal["allowed", "refused"] = "allowed",
    rule: str | None = None,
) -> None:
    """Write down what ``actor`` did: once, in the transaction that did it, with nothing said elsewhere.

    ``repository`` is where: a repository's name, or a namespace's with a slash at its end (``team/``), or
    ``None``. ``target`` is the name of what was acted on where that is neither: a user, robot, group, worker
    or issuer by name, a token or session by its id, and whoever got or lost a role. ``data`` is JSON, small,
    and holds no secret; settings that change are given as ``{"name": [old, new]}``. Who it was, from where,
    with which token and by what right is taken from ``actor``. ``rule`` names what decided where that is
    another thing than the actor's right.

    A new kind is a line in :data:`~registry.db.eventkinds.EventKind` and one in ``MEANINGS``.
    """
    await record_all(connection, kind, repository, actor, [data], target=target, decision=decision, rule=rule)


async def record_all(
    connection: AsyncConnection,
    kind: EventKind,
    repository: str | None,
    actor: Doer,
    several: Sequence[Mapping[str, object]],
    *,
    target: str | None = None,
    decision: Literal["allowed", "refused"] = "allowed",
    rule: str | None = None,
) -> None:
    """As :func:`record`, several of one kind in one statement."""
    if not several:
        return
    event = insert(events).values(
        kind=kind,
        repository=repository,
        target=target,
        actor=actor.shown,
        actor_kind=actor.kind,
        account_id=actor.account_id,
        token_id=actor.token_id or actor.session_id,
        address=actor.address,
        client=actor.client,
        decision=decision,
        rule=rule or actor.right_on(repository),
        at=db_time(),
    )
    if actor.workload is not None:
        several = [{**data, "workload": actor.workload.told} for data in several]
    rows = [{"data": json.dumps(data, separators=(",", ":"), sort_keys=True)} for data in several]
    await connection.execute(event, rows)
