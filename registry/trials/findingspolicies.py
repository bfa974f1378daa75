"""Findings policies on repositories and namespaces: set, shown, cleared, and which one counts where."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, func, literal, or_, select

from registry.advisories.licences import unknown_names
from registry.auth.places import find_place, hold_place, nearest_at, nearest_in
from registry.content.administration import require_place
from registry.content.blocks import below
from registry.contract.specfile import parse_findings_policy
from registry.db.access import namespaces
from registry.db.content import manifests, repositories
from registry.db.dialect import in_turn, insert
from registry.db.engine import move_epoch
from registry.db.findings import findings_policies, image_findings
from registry.db.matchings import rejudgings
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import NotFoundError, RequestInvalidError
from registry.oci.conditions import NO_CONDITIONS, Conditions, entity_tag
from registry.trials.rejudging import ask_again

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.contract.findingspolicy import FindingsPolicy
    from registry.db.engine import Database

_COLUMNS = tuple(findings_policies.c[name] for name in ("document", "digest", "created_by", "created_at"))
RESTS_ON_FINDINGS = manifests.c.state.in_(("pass", "warn", "fail", "error", "pending"))
"""Of images whose state rests on findings as well, or will."""


@dataclass(frozen=True, slots=True)
class PlacedPolicy:
    """The findings policy that counts in a place, and ``on`` which it was set: there or on a namespace
    above."""

    on: str
    policy: dict[str, Any]
    digest: str
    created_by: str
    created_at: datetime

    @property
    def etag(self) -> str:
        """Its entity tag: that of a policy above is another one's."""
        return entity_tag(self.on, self.digest)


@dataclass(frozen=True, slots=True)
class Counting:
    """The policy that counts in a repository, as canonical JSON."""

    document: str
    digest: str


def parse_policy(text: str) -> FindingsPolicy:
    """Read a policy that somebody sets.

    Raises:
        SpecInvalidError: it is none.
        RequestInvalidError: it names licences that there are not.
    """
    policy = parse_findings_policy(text)
    rule = policy.licences
    if rule is not None and (wrong := unknown_names((*rule.allow, *rule.deny))):
        raise RequestInvalidError(
            f"the findings policy is not valid: licences: SPDX has no {', '.join(wrong)}; what it does "
            "not know is named by its words, as LicenseRef-public-domain"
        )
    return policy


async def counting(connection: AsyncConnection, repository_id: int, name: str) -> Counting | None:
    """The policy that counts in a repository: its own, else that of the nearest namespace above."""
    query = nearest_in(findings_policies, repository_id, name, *_COLUMNS)
    row = (await connection.execute(query.limit(1))).first()
    return None if row is None else Counting(row.document, row.digest)


async def counting_in(connection: AsyncConnection, repository_id: int) -> Counting | None:
    """As :func:`counting`, where only the repository's id is known; ``None`` too where it is gone."""
    name = select(repositories.c.name).where(repositories.c.id == repository_id)
    found = (await connection.execute(name)).scalar()
    return None if found is None else await counting(connection, repository_id, found)


def has_policy(name: ColumnElement[str], repository_id: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether a policy counts in a repository, in a query: its images are scanned, whatever it wants."""
    inside = func.substr(name, 1, func.length(namespaces.c.name) + 1) == namespaces.c.name + "/"
    above = select(literal(1)).select_from(namespaces).where(
        namespaces.c.id == findings_policies.c.namespace_id, inside
    )  # fmt: skip
    return (
        select(findings_policies.c.id)
        .where(or_(findings_policies.c.repository_id == repository_id, above.exists()))
        .exists()
    )


async def put(
    database: Database,
    *,
    actor: Actor,
    on: str,
    wanted: FindingsPolicy,
    conditions: Conditions = NO_CONDITIONS,
) -> PlacedPolicy:
    """Let a policy count on a repository, or in all below a namespace that have no nearer one, for what is
    there as well.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of the place.
        NameUnknownError, NotFoundError: there is no such place.
        PreconditionFailedError: ``conditions`` do not hold of the place's own policy.
    """
    place = await require_place(database, actor=actor, action="configure", on=on)
    async with database.write() as connection:
        place_id = await hold_place(connection, place)
        # Who holds a place lets others hold it too.
        await in_turn(connection, f"findings policy of {place.key}")
        here = findings_policies.c[place.column] == place_id
        before = (await connection.execute(select(findings_policies.c.digest).where(here))).scalar()
        _require(conditions, place.key, before)
        if before != str(wanted.digest):
            await connection.execute(delete(findings_policies).where(here))
            row = {
                place.column: place_id,
                "document": wanted.canonical(),
                "digest": str(wanted.digest),
                "created_by": actor.shown,
                "created_at": db_time(),
            }
            await connection.execute(insert(connection, findings_policies).values(row))
            told = {"before": before, "policy": json.loads(wanted.canonical()), "digest": str(wanted.digest)}
            await record(connection, "findings_policy.set", place.key, actor, told)
            await judge_all(connection, place.key)
        row_now = (await connection.execute(select(*_COLUMNS).where(here))).one()
    return _placed(place.key, row_now)


async def show(database: Database, *, actor: Actor, on: str) -> PlacedPolicy:
    """The policy that counts on a repository, or in a namespace.

    Raises:
        UnauthorizedError, DeniedError: the actor may not pull there.
        NameUnknownError, NotFoundError: there is no such place, or no policy counts there.
    """
    place = await require_place(database, actor=actor, action="pull", on=on)
    async with database.read() as connection:
        query = nearest_at(findings_policies, place, await find_place(connection, place), *_COLUMNS)
        row = (await connection.execute(query.limit(1))).first()
    if row is None:
        raise NotFoundError(f"no findings policy counts on {on}")
    return _placed(row.place, row)


async def clear(database: Database, *, actor: Actor, on: str, conditions: Conditions = NO_CONDITIONS) -> None:
    """Take a place's own policy away; that of a namespace above counts then, if there is one.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of the place.
        NameUnknownError, NotFoundError: there is no such place, or it has no policy of its own.
        PreconditionFailedError: ``conditions`` do not hold.
    """
    place = await require_place(database, actor=actor, action="configure", on=on)
    async with database.write() as connection:
        here = findings_policies.c[place.column] == await hold_place(connection, place)
        await in_turn(connection, f"findings policy of {place.key}")
        gone = delete(findings_policies).where(here).returning(findings_policies.c.digest)
        digest = (await connection.execute(gone)).scalar()
        _require(conditions, place.key, digest)
        if digest is None:
            raise NotFoundError(f"{on} has no findings policy of its own")
        await record(connection, "findings_policy.cleared", place.key, actor, {"digest": digest})
        await judge_all(connection, place.key)


async def judge_again(connection: AsyncConnection, which: ColumnElement[bool]) -> None:
    """Have those of ``which`` images that were judged, or are to be, judged again by what excuses their
    findings now."""
    there = [
        select(table.c.manifest_id).where(table.c.manifest_id == manifests.c.id).exists()
        for table in (image_findings, rejudgings)
    ]
    await ask_again(connection, and_(which, or_(*there), RESTS_ON_FINDINGS))


async def judge_moved(connection: AsyncConnection, within: ColumnElement[bool]) -> None:
    """Have the images of repositories judged again that lie below another namespace from now on. The caller
    does not hold the epochs yet."""
    if (await connection.execute(select(findings_policies.c.id).limit(1))).first() is not None:
        await _judge_within(connection, within)


def of_image(repository_id: int, digest: str) -> ColumnElement[bool]:
    """That a row is that of an image of a repository."""
    return and_(manifests.c.repository_id == repository_id, manifests.c.digest == digest)


async def judge_all(connection: AsyncConnection, key: str) -> None:
    """Have all images of a place, by its key, judged by their findings again."""
    name = repositories.c.name
    within = below(name, key) if key.endswith("/") else name == key
    await _judge_within(connection, within)
    await move_epoch(connection, "gate")


async def _judge_within(connection: AsyncConnection, within: ColumnElement[bool]) -> None:
    held = manifests.c.repository_id.in_(select(repositories.c.id).where(within))
    is_judged = select(image_findings.c.manifest_id).where(image_findings.c.manifest_id == manifests.c.id)
    runs = or_(manifests.c.runnable, is_judged.exists())
    await ask_again(connection, and_(held, runs, RESTS_ON_FINDINGS))


def _require(conditions: Conditions, on: str, digest: str | None) -> None:
    stands = None if digest is None else entity_tag(on, digest)
    conditions.require(stands, f"the findings policy of {on}")


def _placed(on: str, row: Any) -> PlacedPolicy:
    return PlacedPolicy(on, json.loads(row.document), row.digest, row.created_by, row.created_at)
