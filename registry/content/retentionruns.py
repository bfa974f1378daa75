"""Runs of retention policies: one for each repository, asked for or when it is time.

A run plans (:mod:`registry.content.retaining`), is held against its fuse, and deletes what still is as it was
planned, a bounded portion in each transaction, under the repository's lock. The portion is written down with
it, so that what a killed replica has done is done whole; another one plans anew and goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import BigInteger, insert, select, tuple_, type_coerce, update
from sqlalchemy.exc import SQLAlchemyError

from registry.auth.actor import REGISTRY
from registry.auth.places import find_place, parse_place
from registry.content import manifests as manifest_use
from registry.content import repositories as repos
from registry.content import retaining
from registry.content import tags as tag_use
from registry.content.administration import require_place
from registry.content.blocks import below
from registry.content.recurring import following, parse_time
from registry.content.retentionpolicies import by_place, counting, digest_of, require_retaining, targets
from registry.content.retentionrules import Counts, fuse, policy_of
from registry.db import leasing
from registry.db.content import manifests, repositories, tags
from registry.db.dialect import in_turn, portions
from registry.db.engine import move_epoch
from registry.db.outbox import record
from registry.db.placed import with_place
from registry.db.retention import retention_items, retention_policies, retention_runs
from registry.db.sweeping import sweep
from registry.db.types import db_time
from registry.errors import ConflictError, DeniedError, NotFoundError, SeatrialError
from registry.oci.digest import parse_digest

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.content.effects import Effects
    from registry.content.repositories import Repository
    from registry.content.retaining import GoingManifest, GoingTag, Plan
    from registry.content.retentionpolicies import Target
    from registry.content.retentionrules import RetentionPolicy, TagJudge
    from registry.db.engine import Database
    from registry.settings import Settings

_log = structlog.get_logger("seatrial.retention")
LEASE = timedelta(minutes=5)
AT_ONCE = 20
"""So many tags or manifests are deleted in one transaction: pushes to the repository wait for that."""
KEPT = timedelta(days=90)
"""Runs are remembered for so long."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run in one repository: who asked for it (empty: it was time), and what it has come to. ``outcome`` is
    ``done``, or ``stopped`` and why (``detail``), or null: it has not ended."""

    id: int
    repository: str
    asked_by: str
    asked_at: datetime
    cap: int
    cap_percent: int
    tags_deleted: int
    manifests_deleted: int
    outcome: str | None
    detail: str | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Asked:
    """So many runs were begun, or had been and have not ended; some of them."""

    runs: int
    items: Sequence[Run]


@dataclass(frozen=True, slots=True)
class Item:
    """What a run has deleted: a tag and where it stood, or (without one) a manifest; and why. ``undone`` says
    what came of bringing it back."""

    id: int
    tag: str | None
    digest: str
    why: str
    undone_at: datetime | None
    undone: str | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that this replica is at."""

    id: int
    repository_id: int
    document: str
    cap: int
    cap_percent: int
    asked_by: str
    tags_deleted: int
    manifests_deleted: int
    leased_until: datetime


@dataclass(slots=True)
class _Work:
    """A run, as this replica has written it down last."""

    run: Claimed


class _LostError(Exception):
    """Another replica has taken the run over."""


_CLAIMED = tuple(retention_runs.c[name] for name in Claimed.__slots__)
_RUNS: Select[Any] = select(
    *(
        repositories.c.name.label("repository") if name == "repository" else retention_runs.c[name]
        for name in Run.__slots__
    )
).join(repositories, repositories.c.id == retention_runs.c.repository_id)
_SHOWN_AT_ONCE = 100


async def ask(
    database: Database,
    *,
    actor: Actor,
    on: str,
    cap: int | None = None,
    cap_percent: int | None = None,
    policies: str | None = None,
) -> Asked:
    """Have the policy of a repository carried out, or those of all below a namespace; ``cap`` and
    ``cap_percent`` count in the place of the policy's. ``policies`` is the digest of those that somebody
    looked at before.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of the place, or its token may not delete.
        NameUnknownError, NotFoundError: there is no such place, or no policy counts there.
        ConflictError: other policies count there than were looked at.
    """
    place = await require_retaining(database, actor=actor, on=on)
    async with database.write() as connection:
        await find_place(connection, place)
        await in_turn(connection, "retention")
        nearest = await by_place(connection, place)
        found = await targets(connection, place, nearest=nearest)
        if not found:
            raise NotFoundError(f"no retention policy counts on {on}")
        if policies is not None and policies != digest_of(place, nearest):
            raise ConflictError(
                f"what counts on {on} is not what was looked at any more, and nothing was begun: look at "
                "what would go now"
            )
        await _begin(connection, found, asked_by=actor.shown, cap=cap, cap_percent=cap_percent)
        told = {"runs": len(found), "cap": cap, "cap_percent": cap_percent}
        await record(connection, "retention.asked", place.key, actor, told)
        some = [target.repository.id for target in found[:_SHOWN_AT_ONCE]]
        shown = _RUNS.where(
            retention_runs.c.repository_id.in_(some), retention_runs.c.ended_at.is_(None)
        ).order_by(repositories.c.name)
        runs = [Run(*row) for row in await connection.execute(shown)]
    return Asked(len(found), runs)


async def list_runs(
    database: Database, *, actor: Actor, on: str, limit: int, before: int | None
) -> list[Run]:
    """At most ``limit`` runs in a repository or all below a namespace, the newest first, with an id below
    ``before``.

    Raises:
        UnauthorizedError, DeniedError: the actor may not pull there.
        NameUnknownError, NotFoundError: there is no such place.
    """
    place = await require_place(database, actor=actor, action="pull", on=on)
    async with database.read() as connection:
        number = await find_place(connection, place)
        here = (
            below(repositories.c.name, place.key)
            if place.is_namespace
            else retention_runs.c.repository_id == number
        )
        query = _RUNS.where(here)
        if before is not None:
            query = query.where(retention_runs.c.id < before)
        rows = await connection.execute(query.order_by(retention_runs.c.id.desc()).limit(limit))
        return [Run(*row) for row in rows]


async def find(database: Database, number: int) -> Run:
    """One run.

    Raises:
        NotFoundError: there is none, or it is no longer remembered.
    """
    async with database.read_once() as connection:
        row = (await connection.execute(_RUNS.where(retention_runs.c.id == number))).first()
    if row is None:
        raise NotFoundError(f"there is no retention run {number}")
    return Run(*row)


async def list_items(database: Database, number: int, *, limit: int, after: int | None) -> list[Item]:
    """At most ``limit`` things that a run has deleted, in that order, with an id above ``after``."""
    query = (
        select(*(retention_items.c[name] for name in Item.__slots__))
        .where(retention_items.c.run_id == number, retention_items.c.id > (after or 0))
        .order_by(retention_items.c.id)
        .limit(limit)
    )
    async with database.read_once() as connection:
        return [Item(*row) for row in (await connection.execute(query)).all()]


async def begin_due(database: Database) -> int:
    """Begin the runs of policies whose time has come; how many. Several replicas may do it at once."""
    query = (
        with_place(retention_policies, retention_policies.c.id)
        .where(retention_policies.c.next_at <= db_time())
        .order_by(retention_policies.c.next_at)
    )
    async with database.read_once() as connection:
        due = (await connection.execute(query)).all()
    begun = 0
    for row in due:
        try:
            begun += await _begin_one(database, row.id, row.place)
        except (SQLAlchemyError, SeatrialError, ArithmeticError, ValueError):
            # What is wrong with one says nothing about the others.
            _log.exception("a retention policy could not be followed", policy=row.id)
    return begun


async def _begin_one(database: Database, policy_id: int, on: str) -> int:
    this = retention_policies.c.id == policy_id
    async with database.write() as connection:
        await in_turn(connection, "retention")
        columns = (retention_policies.c.document, retention_policies.c.next_at, db_time().label("now"))
        still = select(*columns).where(this, retention_policies.c.next_at <= db_time())
        row = (await connection.execute(still.with_for_update())).first()
        if row is None:
            return 0
        policy = policy_of(row.document)
        at = following(
            row.next_at,
            row.now,
            every_hours=policy.every_hours,
            at_minute=None if policy.at is None else parse_time(policy.at),
        )
        await connection.execute(update(retention_policies).where(this).values(next_at=at))
        found = [
            target
            for target in await targets(connection, parse_place(on))
            if target.counting.policy_id == policy_id
        ]
        await _begin(connection, found, asked_by="")
    return 1


async def _begin(
    connection: AsyncConnection,
    found: Sequence[Target],
    *,
    asked_by: str,
    cap: int | None = None,
    cap_percent: int | None = None,
) -> None:
    """Begin a run in each repository that has none; it is this transaction's turn."""
    for portion in portions(found):
        ids = [target.repository.id for target in portion]
        open_ones = select(retention_runs.c.repository_id).where(
            retention_runs.c.repository_id.in_(ids), retention_runs.c.ended_at.is_(None)
        )
        busy = set((await connection.execute(open_ones)).scalars())
        rows = [
            {
                "repository_id": target.repository.id,
                "document": target.counting.document,
                "cap": policy.cap if cap is None else cap,
                "cap_percent": policy.cap_percent if cap_percent is None else cap_percent,
            }
            for target in portion
            if target.repository.id not in busy
            for policy in (policy_of(target.counting.document),)
        ]
        if rows:
            made = insert(retention_runs).values(
                asked_by=asked_by, asked_at=db_time(), leased_until=db_time()
            )
            await connection.execute(made, rows)


async def claim(database: Database) -> Claimed | None:
    """A run that nobody is at, for this replica to be at it; ``None`` if there is none."""
    row = await leasing.claim(database, retention_runs, _CLAIMED, lease=LEASE)
    return Claimed(*row) if row else None


async def carry_out(database: Database, settings: Settings, effects: Effects, run: Claimed) -> None:
    """Carry a claimed run out to its end, or until another replica has taken it over. What keeps the database
    from answering keeps it for another time; whatever else goes wrong ends it."""
    work = _Work(run)
    try:
        await _carry_out(database, settings, effects, work)
    except _LostError:
        return
    except (SQLAlchemyError, OSError):
        raise
    except Exception:
        _log.exception("a retention run could not be carried out", run=run.id)
        with suppress(_LostError):
            await _end(database, work.run, stopped="the registry could not carry it out; its log says why")


async def _carry_out(database: Database, settings: Settings, effects: Effects, work: _Work) -> None:
    policy = policy_of(work.run.document)
    async with database.read_once() as connection:
        this = repos.COLUMNS.where(repositories.c.id == work.run.repository_id)
        row = (await connection.execute(this)).first()
    if row is None:
        return  # with it the run is gone
    repository = repos.from_row(row)
    try:
        planned = await _planned(database, settings, work, repository, policy)
    except ConflictError as error:
        await _end(database, work.run, stopped=error.message)
        return
    refusal = fuse(
        _with_deleted(planned.counts, work.run), cap=work.run.cap, cap_percent=work.run.cap_percent
    )
    if refusal is not None:
        await _end(database, work.run, stopped=refusal)
        return
    for tag_portion in _portions(planned.tags):
        after = await _delete_tags(database, work.run, policy, planned.judge, tag_portion)
        if after is None:
            return
        work.run = after
    for _, wave in groupby(planned.manifests, key=lambda each: each.wave):
        for manifest_portion in _portions(list(wave)):
            after = await _delete_manifests(database, effects, work.run, policy, manifest_portion)
            if after is None:
                return
            work.run = after
    await _end(database, work.run)


async def _planned(
    database: Database, settings: Settings, work: _Work, repository: Repository, policy: RetentionPolicy
) -> Plan:
    """The plan of a run, whose lease is renewed for as long as that takes."""

    async def plan() -> Plan:
        await tag_use.learn_versions(database)
        kept_days = settings.audit_keep_days
        return await retaining.plan(
            database, repository, policy, limit=work.run.cap + 1, pulls_kept_days=kept_days
        )

    planning = asyncio.create_task(plan())
    try:
        while not (await asyncio.wait([planning], timeout=LEASE.total_seconds() / 3))[0]:
            async with database.write() as connection:
                work.run = await _save(connection, work.run, ())
        return planning.result()
    finally:
        planning.cancel()
        await asyncio.wait([planning])


def _with_deleted(counts: Counts, run: Claimed) -> Counts:
    """What was there, and what goes, before the run had deleted anything."""
    return Counts(
        tags=counts.tags + run.tags_deleted,
        manifests=counts.manifests + run.manifests_deleted,
        tags_going=counts.tags_going + run.tags_deleted,
        manifests_going=counts.manifests_going + run.manifests_deleted,
        manifests_loose=counts.manifests_loose + run.manifests_deleted,
    )


def _portions(planned: Sequence[Any]) -> list[Sequence[Any]]:
    return [planned[start : start + AT_ONCE] for start in range(0, len(planned), AT_ONCE)]


async def _delete_tags(
    database: Database,
    run: Claimed,
    policy: RetentionPolicy,
    judge: TagJudge,
    planned: Sequence[GoingTag],
) -> Claimed | None:
    """Delete those of the tags that stand where they stood, and that nobody has pulled since; ``None``: the
    run has ended."""
    async with database.write() as connection:
        repository = await _hold(connection, run)
        if repository is None:
            return None
        kept = await retaining.promoted_tags(connection, repository.id)
        kept |= await retaining.pulled_since(connection, repository, policy, judge, planned)
        moved_at = type_coerce(tags.c.updated_at, BigInteger)
        same = tuple_(tags.c.name, tags.c.manifest_id, moved_at).in_(
            [(each.name, each.manifest_id, each.moved_at) for each in planned if each.name not in kept]
        )
        found = await connection.execute(
            select(tags.c.name, manifests.c.digest)
            .join(manifests, manifests.c.id == tags.c.manifest_id)
            .where(tags.c.repository_id == repository.id, same)
        )
        standing = {row.name: row.digest for row in found}
        gone: list[dict[str, Any]] = []
        for each in planned:
            if each.name not in standing:
                continue
            digest, why = standing[each.name], each.judged.why
            try:
                await tag_use.drop(
                    connection,
                    repository,
                    each.name,
                    digest,
                    actor=REGISTRY,
                    action="retention",
                    reason=_reason(run, why),
                )
            except DeniedError:
                continue  # it stands for good since
            gone.append({"tag": each.name, "digest": digest, "why": why})
        return await _save(connection, run, gone, tags_deleted=len(gone))


async def _delete_manifests(
    database: Database,
    effects: Effects,
    run: Claimed,
    policy: RetentionPolicy,
    planned: Sequence[GoingManifest],
) -> Claimed | None:
    """Delete those of the manifests that still may go; ``None``: the run has ended."""
    async with database.write() as connection:
        repository = await _hold(connection, run)
        if repository is None:
            return None
        may = []
        if policy.untagged_days is not None:
            may.append(retaining.is_loose(database, repository, policy.untagged_days))
        if policy.referrers_days is not None:
            last = policy.referrers_last
            may.append(retaining.is_old_referrer(database, repository, policy.referrers_days, last=last))
        why_of = {each.digest: each.why for each in planned}
        found: dict[str, int] = {}
        for condition in may:
            query = select(manifests.c.digest, manifests.c.id).where(
                manifests.c.digest.in_(list(why_of)), condition
            )
            found |= {row.digest: row.id for row in await connection.execute(query)}
        gone: list[dict[str, Any]] = []
        for digest, manifest_id in sorted(found.items()):
            why = why_of[digest]
            await manifest_use.take_out(
                connection,
                repository,
                manifest_id,
                parse_digest(digest),
                actor=REGISTRY,
                effects=effects,
                reason=_reason(run, why),
            )
            gone.append({"tag": None, "digest": digest, "why": why})
        return await _save(connection, run, gone, manifests_deleted=len(gone))


def _reason(run: Claimed, why: str) -> str:
    return f"retention run {run.id}: {why}"


async def _hold(connection: AsyncConnection, run: Claimed) -> Repository | None:
    """The repository, locked; ``None``, and the run has ended: another policy counts there by now."""
    if not await repos.lock(connection, run.repository_id):
        raise _LostError
    this = repos.COLUMNS.where(repositories.c.id == run.repository_id)
    repository = repos.from_row((await connection.execute(this)).one())
    counts = await counting(connection, repository.id, repository.name)
    if counts is not None and counts.document == run.document:
        return repository
    await _end_in(connection, run, repository, stopped="another policy counts there by now, or none")
    return None


async def _save(
    connection: AsyncConnection,
    run: Claimed,
    gone: Sequence[dict[str, Any]],
    *,
    tags_deleted: int = 0,
    manifests_deleted: int = 0,
) -> Claimed:
    """Write down what was deleted, in the transaction that did it, and renew the lease."""
    if gone:
        await connection.execute(insert(retention_items).values(run_id=run.id), list(gone))
        await move_epoch(connection, "content")
    saved = await connection.execute(
        update(retention_runs)
        .where(*_mine(run))
        .values(
            leased_until=db_time(LEASE),
            tags_deleted=run.tags_deleted + tags_deleted,
            manifests_deleted=run.manifests_deleted + manifests_deleted,
        )
        .returning(*_CLAIMED)
    )
    row = saved.first()
    if row is None:
        raise _LostError
    return Claimed(*row)


async def _end(database: Database, run: Claimed, *, stopped: str | None = None) -> None:
    async with database.write() as connection:
        this = repos.COLUMNS.where(repositories.c.id == run.repository_id)
        row = (await connection.execute(this)).first()
        if row is not None:
            await _end_in(connection, run, repos.from_row(row), stopped=stopped)


async def _end_in(
    connection: AsyncConnection, run: Claimed, repository: Repository, *, stopped: str | None
) -> None:
    outcome = "done" if stopped is None else "stopped"
    ended = await connection.execute(
        update(retention_runs)
        .where(*_mine(run))
        .values(outcome=outcome, detail=stopped, ended_at=db_time())
        .returning(retention_runs.c.id)
    )
    if ended.first() is None:
        raise _LostError
    told = {
        "run": run.id,
        "asked_by": run.asked_by,
        "tags_deleted": run.tags_deleted,
        "manifests_deleted": run.manifests_deleted,
    }
    if stopped is not None:
        told["why"] = stopped
        await record(connection, "retention.stopped", repository.name, REGISTRY, told)
    elif run.asked_by or run.tags_deleted or run.manifests_deleted:
        await record(connection, "retention.ended", repository.name, REGISTRY, told)


def _mine(run: Claimed) -> tuple[Any, ...]:
    return (
        retention_runs.c.id == run.id,
        retention_runs.c.ended_at.is_(None),
        retention_runs.c.leased_until == run.leased_until,
    )


async def sweep_runs(database: Database) -> int:
    """Forget runs that ended long ago, with what they have deleted; how many."""
    over = retention_runs.c.ended_at <= db_time(-KEPT)
    items = retention_items.c.run_id.in_(select(retention_runs.c.id).where(over))
    await sweep(database, retention_items.c.id, items)
    return await sweep(database, retention_runs.c.id, over)
