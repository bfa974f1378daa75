"""What a worker is bound to: namespaces, labels, networks, slots. A stolen token is worth no more."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import select, update

from registry.auth.access import require_admin
from registry.auth.networks import parse_networks, to_store
from registry.auth.workers import Worker, find_worker, show
from registry.db.accounts import workers
from registry.db.engine import Database, move_epoch
from registry.db.outbox import record
from registry.errors import RequestInvalidError
from registry.oci.conditions import NO_CONDITIONS, Conditions

if TYPE_CHECKING:
    from registry.auth.actor import Actor

MAX_NAMESPACES = 64
MAX_LABELS = 32
MAX_SLOTS = 64
_NAMESPACE = re.compile(r"[a-z0-9*]([a-z0-9._/*-]{0,253}[a-z0-9*])?")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Binding:
    """What a worker's row says that it may try. ``namespaces`` may hold ``*``; ``None``: all. ``slots``: how
    many leases at once; ``None``: as many as it says that it has room for."""

    namespaces: tuple[str, ...] | None
    labels: tuple[str, ...]
    slots: int | None

    @classmethod
    def of(cls, row: Any) -> Binding:
        """The binding of a row of ``workers``."""
        namespaces = None if row.namespaces is None else tuple(json.loads(row.namespaces))
        return cls(namespaces, tuple(json.loads(row.labels)), row.slots)

    def opens(self, repository: str, label: str | None) -> bool:
        """Whether the worker may try what is in a repository that demands this label."""
        if label is not None and label not in self.labels:
            return False
        # Neither names nor patterns have anything else in them that fnmatch knows.
        return self.namespaces is None or any(
            pattern == "*" or fnmatchcase(repository, f"{pattern}/*") for pattern in self.namespaces
        )


@dataclass(frozen=True, slots=True)
class BindingChange:
    """What to change; ``None`` leaves it. ``unbound`` are those that bind no longer."""

    namespaces: Sequence[str] | None = None
    labels: Sequence[str] | None = None
    networks: Sequence[str] | None = None
    slots: int | None = None
    unbound: frozenset[Literal["namespaces", "labels", "networks", "slots"]] = frozenset()


async def bind_worker(
    database: Database,
    *,
    actor: Actor,
    name: str,
    wanted: BindingChange,
    conditions: Conditions = NO_CONDITIONS,
) -> Worker:
    """Bind a worker to what it may try and where from. It holds from the next job on; from other networks its
    token, and the pull tokens that it has, open nothing at once.

    Raises:
        DeniedError: the actor is no administrator.
        NotFoundError: there is no such worker.
        RequestInvalidError: a pattern, label, network or number that is none.
        PreconditionFailedError: ``conditions`` do not hold.
    """
    require_admin(actor)
    values = _values(wanted)
    async with database.write() as connection:
        account_id = await find_worker(connection, name)
        if conditions:
            conditions.require((await show(connection, name)).etag, f"worker {name}")
        query = select(*(workers.c[column] for column in values)).where(workers.c.account_id == account_id)
        before = (await connection.execute(query)).one()._asdict() if values else {}
        changes = {column: value for column, value in values.items() if before[column] != value}
        if changes:
            row = workers.c.account_id == account_id
            await connection.execute(update(workers).where(row).values(changes))
            told = {column: [_told(before[column]), _told(value)] for column, value in changes.items()}
            await record(connection, "worker.changed", None, actor, told, target=name)
            await move_epoch(connection, "access")
        return await show(connection, name)


def parse_label(text: str) -> str:
    """A label of a worker, as a repository may demand it.

    Raises:
        RequestInvalidError: outside the grammar.
    """
    if not _LABEL.fullmatch(text):
        raise RequestInvalidError(
            f"{text[:80]!r} is no label: 1 to 64 lower-case letters, digits, '.', '_', '-', the first and "
            "last a letter or digit"
        )
    return text


def _values(wanted: BindingChange) -> dict[str, Any]:
    values: dict[str, Any] = {
        "namespaces": None if wanted.namespaces is None else json.dumps(_namespaces(wanted.namespaces)),
        "labels": None if wanted.labels is None else json.dumps(_labels(wanted.labels)),
        "networks": None if wanted.networks is None else to_store(parse_networks(wanted.networks)),
        "slots": wanted.slots,
    }
    values = {column: value for column, value in values.items() if value is not None}
    if twice := sorted(wanted.unbound & values.keys()):
        raise RequestInvalidError(f"{twice[0]} cannot be set and taken away at once")
    if wanted.slots is not None and not 1 <= wanted.slots <= MAX_SLOTS:
        raise RequestInvalidError(f"a worker has 1 to {MAX_SLOTS} slots")
    return values | {column: "[]" if column == "labels" else None for column in wanted.unbound}


def _namespaces(given: Sequence[str]) -> list[str]:
    if not 1 <= len(given) <= MAX_NAMESPACES:
        raise RequestInvalidError(f"namespaces: {len(given)} given; 1 to {MAX_NAMESPACES} can be")
    for text in given:
        if not _NAMESPACE.fullmatch(text):
            raise RequestInvalidError(
                f"{text[:80]!r} is no namespace such as team or team/sub, nor a pattern such as team-*"
            )
    return list(dict.fromkeys(given))


def _labels(given: Sequence[str]) -> list[str]:
    if len(given) > MAX_LABELS:
        raise RequestInvalidError(f"labels: {len(given)} given; {MAX_LABELS} can be")
    return list(dict.fromkeys(map(parse_label, given)))


def _told(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value
