"""What another gate would have refused, and to whom: pulls of the past against the states of now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, func, literal, or_, select, tuple_

from registry.auth.owners import require_or_tell
from registry.auth.policy import may_audit
from registry.content import repositories as repos
from registry.content.blocks import below
from registry.content.explaining import account_named
from registry.db.access import tombstones
from registry.db.content import STATE_COLUMNS, manifests, repositories, tags
from registry.db.dialect import batches, portions
from registry.db.events import pull_days
from registry.db.types import Bytewise, Id
from registry.errors import NameUnknownError, NotFoundError, RequestInvalidError
from registry.events.keeping import day_of
from registry.oci.names import parse_repository_name
from registry.settings import Gate
from registry.trials.asking import is_writer, max_verdict_age, relieved
from registry.trials.gate import ADMITTED, EffectiveState, Question, Word, as_decided, decide
from registry.trials.relief import Relief, relief_of
from registry.trials.signatures import Required, is_unsigned, required_in
from registry.trials.states import STRICTNESS, WITHOUT_VERDICT, bad_policy, effective_state

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.auth.policy import Visibility
    from registry.db.engine import Database
    from registry.settings import Settings

PULLERS_SHOWN = 20
TAGS_SHOWN = 20
PULLERS_MAX = 5000
"""How many sums of one puller, one image and one repository one page looks at."""
ACCOUNTS_MAX = 100


@dataclass(frozen=True, slots=True)
class Puller:
    """Who pulled an image, how often and when last. ``may_push``: with all that the account may, it would
    read the image all the same; null where there is no such account any more, or too many to look at."""

    actor: str
    count: int
    last_at: datetime
    may_push: bool | None


@dataclass(frozen=True, slots=True)
class Stopped:
    """An image that was pulled, and what a reader would be told now; ``reason`` is why its state.
    ``tags`` name it, by name, twenty at most.

    ``admitted_until`` is until when it would stay admitted: from before the gate, as it passed once, or by a
    waiver or a pause.
    """

    repository: str
    gate: Gate
    digest: str
    tags: Sequence[str]
    state: EffectiveState
    reason: str
    decision: Word
    explain: str
    admitted_until: datetime | None
    pulls: int
    pullers: Sequence[Puller]
    cursor: str


async def preview(
    database: Database,
    settings: Settings,
    *,
    actor: Actor,
    name: str,
    gate: Gate,
    since: datetime,
    limit: int,
    after: str | None,
) -> list[Stopped]:
    """At most ``limit`` images of a repository, or of all in a namespace (with a slash at its end), that were
    pulled since then.

    Only those that ``gate`` does not simply admit.

    Under ``hold`` a tag may give an earlier image where this says ``refuse`` or ``wait``.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer there.
        NameUnknownError: there is none.
        RequestInvalidError: ``after`` is none of this list's cursors.
    """
    parse_repository_name(name.removesuffix("/"))
    if not may_audit(actor):
        await require_or_tell(database, actor, "configure", name, None)
    within = below(repositories.c.name, name) if name.endswith("/") else repositories.c.name == name
    day = day_of(since)
    async with database.read() as connection:
        query = _pulled(day, after).limit(limit)
        rows = (await connection.execute(query.where(within))).all()
        held = select(repositories.c.id).where(within).limit(1)
        if not rows and (await connection.execute(held)).first() is None:
            raise NameUnknownError(f"there is no repository {name}; a namespace has a slash at its end")
        pullers = await _pullers(connection, day, rows)
        writers = await _writers(connection, pullers)
        named = await _tags(connection, rows)
    told = await _told(database, rows)
    found = []
    for row in rows:
        theirs = pullers.get((row.repository, row.digest), [])
        shown = [_puller(one, writers, row.repository, row.visibility) for one in theirs[:PULLERS_SHOWN]]
        found.append(
            _stopped(
                settings,
                row,
                gate,
                told=told[row.repository_id],
                named=named.get(row.manifest_id, ()),
                pullers=shown,
                pulls=int(sum(one.count for one in theirs)),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class _Told:
    """What people tell the gate of a repository: what signatures are required, waivers, a pause."""

    required: Required | None
    relief: Relief


async def _told(database: Database, rows: Sequence[Any]) -> Mapping[int, _Told]:
    found = {}
    for repository_id in dict.fromkeys(row.repository_id for row in rows):
        async with database.read_once() as connection:
            query = repos.COLUMNS.where(repositories.c.id == repository_id)
            row = (await connection.execute(query)).first()
        if row is None:
            raise NameUnknownError("a repository was deleted meanwhile; ask again")
        repository = repos.from_row(row)
        found[repository_id] = _Told(
            await required_in(database, repository), await relief_of(database, repository)
        )
    return found


def _stopped(
    settings: Settings,
    row: Any,
    gate: Gate,
    *,
    told: _Told,
    named: Sequence[str],
    pullers: Sequence[Puller],
    pulls: int,
) -> Stopped:
    max_age, now = max_verdict_age(settings), told.relief.now
    effective = effective_state(row, now=now, max_age=max_age)
    state, until = effective.state, row.grandfathered_until if effective.state == "grandfathered" else None
    turned_on = STRICTNESS[gate] > STRICTNESS[row.gate]
    if turned_on and row.state in WITHOUT_VERDICT and state != "blocked" and settings.grandfather_days:
        until = now + timedelta(days=settings.grandfather_days)
        state = "grandfathered"
    policy = bad_policy(row.turned_bad, row.turned_bad_days)
    question = Question(
        gate,
        state,
        subject=f"{row.repository}@{row.digest}",
        reason=effective.reason,
        can_retry=True,
        kept=policy.kept(row, now=now),
        unsigned=told.required.sentence if row.is_unsigned and told.required is not None else "",
    )
    if question.kept:
        until = policy.until(row)
    waiver, pause = told.relief.waiver_for(row.digest, state), told.relief.pause
    asked = relieved(question, told.relief, row.digest)
    decision = decide(asked)
    if asked.waiver and waiver is not None and decision != decide(replace(asked, waiver="")):
        until = waiver.expires_at
    elif pause is not None and decision != decide(replace(asked, paused="")):
        until = pause.until
    return Stopped(
        repository=row.repository,
        gate=gate,
        digest=row.digest,
        tags=named,
        state=as_decided(question).state if question.unsigned else effective.state,
        reason=as_decided(question).reason if question.unsigned else effective.reason,
        decision=decision.word,
        explain=decision.explain,
        admitted_until=until,
        pulls=pulls,
        pullers=pullers,
        cursor=f"{row.repository_id}|{row.digest}",
    )


def _pulled(day: int, after: str | None) -> Select[Any]:
    """Images that were pulled since that day and are not simply admitted."""
    theirs = exists().where(
        pull_days.c.digest == manifests.c.digest,
        pull_days.c.day >= day,
        pull_days.c.repository == repositories.c.name,
        pull_days.c.last_at >= func.coalesce(tombstones.c.deleted_at, literal(0)),
        pull_days.c.actor.not_like("worker %"),
    )
    unsigned = is_unsigned()
    query = (
        select(
            repositories.c.name.label("repository"),
            repositories.c.visibility,
            repositories.c.gate,
            manifests.c.repository_id,
            manifests.c.id.label("manifest_id"),
            manifests.c.digest,
            *STATE_COLUMNS,
            repositories.c.turned_bad,
            repositories.c.turned_bad_days,
            unsigned.label("is_unsigned"),
        )
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .outerjoin(tombstones, tombstones.c.name == repositories.c.name)
        .where(
            or_(
                manifests.c.state.not_in(ADMITTED - {"grandfathered"}),
                manifests.c.blocked_reason.is_not(None),
                unsigned,
            ),
            theirs,
        )
        .order_by(manifests.c.repository_id, manifests.c.digest)
    )
    if after is None:
        return query
    digits, bar, digest = after.partition("|")
    if not (bar and digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise RequestInvalidError(f"{after[:80]!r} is no cursor of this list")
    key = tuple_(manifests.c.repository_id, manifests.c.digest)
    return query.where(key > tuple_(literal(int(digits), Id), literal(digest, Bytewise)))


async def _pullers(
    connection: AsyncConnection, day: int, rows: Sequence[Any]
) -> Mapping[tuple[str, str], list[Any]]:
    """Who pulled them, the most eager first."""
    found: dict[tuple[str, str], list[Any]] = {}
    count = func.sum(pull_days.c.count)
    names = {row.repository for row in rows}
    for batch in batches(sorted({row.digest for row in rows})):
        query = (
            select(
                pull_days.c.repository,
                pull_days.c.digest,
                pull_days.c.actor,
                count.label("count"),
                func.max(pull_days.c.last_at).label("last_at"),
            )
            .where(
                pull_days.c.digest.in_(batch),
                pull_days.c.day >= day,
                pull_days.c.repository.in_(names),
                pull_days.c.actor.not_like("worker %"),
            )
            .group_by(pull_days.c.repository, pull_days.c.digest, pull_days.c.actor)
            .order_by(count.desc(), pull_days.c.actor)
            .limit(PULLERS_MAX)
        )
        for row in await connection.execute(query):
            found.setdefault((row.repository, row.digest), []).append(row)
    return found


async def _tags(connection: AsyncConnection, rows: Sequence[Any]) -> Mapping[int, Sequence[str]]:
    """The first tags of each image, by its number."""
    found: dict[int, list[str]] = {row.manifest_id: [] for row in rows}
    number = func.row_number().over(partition_by=tags.c.manifest_id, order_by=tags.c.name)
    for batch in portions(sorted(found)):
        each = select(tags.c.manifest_id, tags.c.name, number.label("number"))
        numbered = each.where(tags.c.manifest_id.in_(batch)).subquery()
        query = select(numbered).where(numbered.c.number <= TAGS_SHOWN).order_by(numbered.c.name)
        for row in await connection.execute(query):
            found[row.manifest_id].append(row.name)
    return found


async def _writers(
    connection: AsyncConnection, pullers: Mapping[tuple[str, str], Sequence[Any]]
) -> Mapping[str, Actor]:
    names = {one.actor for several in pullers.values() for one in several[:PULLERS_SHOWN]}
    found = {}
    for name in sorted(names)[:ACCOUNTS_MAX]:
        try:
            found[name], disabled = await account_named(connection, name)
        except NotFoundError:
            continue
        if disabled:
            del found[name]
    return found


def _puller(row: Any, writers: Mapping[str, Actor], repository: str, visibility: Visibility) -> Puller:
    account = writers.get(row.actor)
    may = None if account is None else is_writer(account, name=repository, visibility=visibility)
    return Puller(row.actor, int(row.count), row.last_at, may)
