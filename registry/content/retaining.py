"""What a retention policy means for a repository as it is now: which tags and manifests go, and why.

Nothing is changed here. All reading is in pages of an index, so that a repository with a million tags holds
nobody up. What it says may be old a moment later: who deletes looks again, under the repository's lock.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, and_, false, func, literal, or_, select, tuple_, type_coerce

from registry.content.immutability import rules_in
from registry.content.retentionrules import (
    Counts,
    Judged,
    Loose,
    Newest,
    Tag,
    TagJudge,
    attached_to,
    peel,
)
from registry.db.content import edges, manifests, tag_history, tags
from registry.db.dialect import batches
from registry.db.events import audit_keeping, pull_days
from registry.db.promotions import promotions
from registry.db.signatures import signature_matches
from registry.db.types import Bytewise, db_time, statement_time
from registry.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.content.repositories import Repository
    from registry.content.retentionrules import RetentionPolicy
    from registry.db.engine import Database

_PAGE = 5_000
MANIFESTS_MAX = 100_000
"""So many manifests are named to go at most; the next run goes on. The fuse counts more."""
_DAY = 86_400_000_000
"""Microseconds."""
_MICROS = BigInteger()


@dataclass(frozen=True, slots=True)
class GoingTag:
    """A tag that goes, or stays, as ``judged``; where it stood and since when (microseconds since 1970), and
    what was known of it."""

    name: str
    manifest_id: int
    moved_at: int
    judged: Judged
    tag: Tag


@dataclass(frozen=True, slots=True)
class GoingManifest:
    """A manifest that goes, and why. Those of a ``wave`` go after all of the waves before."""

    digest: str
    why: str
    wave: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes from a repository: ``tags`` and ``manifests``, and of the tags that stay some. ``judge`` has
    said so of the tags."""

    counts: Counts
    tags: Sequence[GoingTag]
    staying: Sequence[GoingTag]
    manifests: Sequence[GoingManifest]
    judge: TagJudge


async def plan(
    database: Database,
    repository: Repository,
    policy: RetentionPolicy,
    *,
    limit: int,
    staying: int = 0,
    pulls_kept_days: int,
) -> Plan:
    """What goes now: all is counted; named are at most ``limit`` tags, and ``staying`` of those that stay.

    Raises:
        ConflictError: something that the rules ask for is not known.
    """
    await _require_known(database, repository, policy, pulls_kept_days=pulls_kept_days)
    facts = await _facts(database, repository, policy)
    newest = await _newest(database, facts)
    judge = TagJudge(policy, protection=facts.protection, promoted=facts.promoted, newest=newest)
    there, gone, going, kept = await _judged_tags(database, facts, judge, limit=limit, staying=staying)
    found = await _loose_manifests(database, repository, policy)
    loose = len(found)
    if loose >= MANIFESTS_MAX:
        # Not all of them are named.
        goes_first = _held(repository.id, _goes_first(database, repository, policy))
        async with database.read_once() as connection:
            loose = max(loose, int((await connection.execute(goes_first)).scalar_one()))
    return Plan(Counts(there, facts.held, gone, len(found), loose), going, kept, found, judge)


async def _judged_tags(
    database: Database, facts: _Facts, judge: TagJudge, *, limit: int, staying: int
) -> tuple[int, int, list[GoingTag], list[GoingTag]]:
    """How many tags there are and how many go; and some of these and of the others."""
    going: list[GoingTag] = []
    kept: list[GoingTag] = []
    there = gone = 0
    async for rows in _tag_pages(database, facts):
        here = await _attached(database, facts.repository.id, [row.name for row in rows])
        for row in rows:
            tag = facts.tag(row)
            is_here = here.get(tag.name) if here else None
            goes = judge.judge(tag, is_attached_here=is_here)
            gone += goes
            named, most = (going, limit) if goes else (kept, staying)
            if len(named) < most:
                judged = judge.explain(tag, is_attached_here=is_here)
                named.append(GoingTag(row.name, row.manifest_id, row.moved_at, judged, tag))
        there += len(rows)
        await asyncio.sleep(0)  # others are served meanwhile
    return there, gone, going, kept


class _Facts:
    """What is known of a repository before its tags are read."""

    def __init__(
        self,
        repository: Repository,
        policy: RetentionPolicy,
        *,
        now: int,
        held: int,
        protection: Callable[[str], str | None],
        pulled: Mapping[int, int],
        promoted: Collection[str],
    ) -> None:
        self.repository = repository
        self.policy = policy
        self.held = held
        self.protection = protection
        self.promoted = promoted
        self._now = now
        self._pulled = pulled

    def tag(self, row: Any) -> Tag:
        """The value of a row of :meth:`query`."""
        name, manifest_id, moved_at, state, state_at, version_key = row
        now, pulled = self._now, self._pulled.get(manifest_id)
        return Tag(
            name,
            version_key,
            (now - moved_at) / _DAY,
            state,
            (now - state_at) / _DAY,
            None if pulled is None else (now - pulled) / _DAY,
        )

    def query(self) -> Select[Any]:
        """The tags of the repository, without an order."""
        columns = (tags.c.name, tags.c.manifest_id, type_coerce(tags.c.updated_at, _MICROS).label("moved_at"))
        here = tags.c.repository_id == self.repository.id
        if self.policy.failed_days is None:
            # Nobody asks for the state, which stands on another row.
            nothing = (literal("").label("state"), literal(0, BigInteger).label("state_at"))
            return select(*columns, *nothing, tags.c.version_key).where(here)
        state = (manifests.c.state, type_coerce(manifests.c.state_at, _MICROS).label("state_at"))
        joined = select(*columns, *state, tags.c.version_key)
        # Said twice, so that nobody reads the manifests of all repositories.
        joined = joined.join(manifests, manifests.c.id == tags.c.manifest_id)
        return joined.where(here, manifests.c.repository_id == self.repository.id)


async def _facts(database: Database, repository: Repository, policy: RetentionPolicy) -> _Facts:
    async with database.read() as connection:
        held = _held(repository.id).scalar_subquery()
        now, has = (await connection.execute(select(type_coerce(db_time(), _MICROS), held))).one()
        counting = await rules_in(connection, repository.id, repository.name)
        rules = [(rule, rule.matcher()) for rule in counting]
        promoted = await promoted_tags(connection, repository.id)
        pulled = {}
        if policy.pulls_days is not None:
            pulled = await _last_pulls(connection, repository, policy.pulls_days)

    def protection(name: str) -> str | None:
        return next((rule.shown for rule, holds in rules if holds(name)), None) if rules else None

    return _Facts(
        repository, policy, now=now, held=has, protection=protection, pulled=pulled, promoted=promoted
    )


async def _last_pulls(
    connection: AsyncConnection, repository: Repository, days: int, *, of: Collection[int] | None = None
) -> dict[int, int]:
    """When somebody last pulled each manifest, or each of these (microseconds since 1970), if within so many
    days."""
    last = type_coerce(func.max(pull_days.c.last_at), _MICROS).label("last")
    query = (
        select(manifests.c.id, last)
        .join(pull_days, pull_days.c.digest == manifests.c.digest)
        .where(manifests.c.repository_id == repository.id, _pulled_since(repository, days))
        .group_by(manifests.c.id)
    )
    if of is not None:
        query = query.where(manifests.c.id.in_(of))
    return {row.id: row.last for row in await connection.execute(query)}


async def pulled_since(
    connection: AsyncConnection,
    repository: Repository,
    policy: RetentionPolicy,
    judge: TagJudge,
    planned: Sequence[GoingTag],
) -> frozenset[str]:
    """Those of the tags that were to go and are kept now, as somebody has pulled them meanwhile."""
    if policy.pulls_days is None:
        return frozenset()
    ids = {each.manifest_id for each in planned}
    pulled = await _last_pulls(connection, repository, policy.pulls_days, of=ids)
    if not pulled:
        return frozenset()
    now = (await connection.execute(select(type_coerce(db_time(), _MICROS)))).scalar_one()
    return frozenset(
        each.name
        for each in planned
        if each.manifest_id in pulled
        and attached_to(each.name) is None
        and not judge.judge(each.tag._replace(pulled_days=(now - pulled[each.manifest_id]) / _DAY))
    )


async def promoted_tags(connection: AsyncConnection, repository_id: int) -> frozenset[str]:
    """The tags that requests for promotions name which nobody has granted yet, from or to them."""
    asked = promotions.c
    query = select(asked.repository_id, asked.tag, asked.source_id, asked.source_tag).where(
        or_(asked.repository_id == repository_id, asked.source_id == repository_id), _is_asked()
    )
    found: set[str] = set()
    for row in await connection.execute(query):
        if row.repository_id == repository_id:
            found.add(row.tag)
        if row.source_id == repository_id and row.source_tag is not None:
            found.add(row.source_tag)
    return frozenset(found)


def _is_asked() -> ColumnElement[bool]:
    """Requests for promotions that may still be granted."""
    asked = promotions.c
    return and_(asked.promoted_at.is_(None), asked.ended_at.is_(None), asked.expires_at > statement_time())


async def _require_known(
    database: Database, repository: Repository, policy: RetentionPolicy, *, pulls_kept_days: int
) -> None:
    if policy.asks_for_versions:
        unread = select(tags.c.name).where(
            tags.c.repository_id == repository.id, tags.c.version_key == literal("", Bytewise)
        )
        async with database.read_once() as connection:
            if (await connection.execute(unread.limit(1))).first() is not None:
                raise ConflictError(
                    "versions of tags that an older version of the registry has set are still to be read; "
                    "the registry does so every ten minutes"
                )
    days = policy.known_days
    if days is None:
        return
    if days > pulls_kept_days:
        raise ConflictError(
            f"the policy asks for pulls of {days} days, and they are kept for {pulls_kept_days} "
            "(SEATRIAL_AUDIT_KEEP_DAYS)"
        )
    lost = select(audit_keeping.c.id).where(audit_keeping.c.shortened_at > _ago(days))
    async with database.read_once() as connection:
        if (await connection.execute(lost)).first() is not None:
            raise ConflictError(
                f"pulls of the last {days} days are not known whole: the trail had more rows than it may "
                "(SEATRIAL_AUDIT_MAX_ROWS)"
            )


async def _newest(database: Database, facts: _Facts) -> dict[int, frozenset[str]]:
    """For each rule that keeps so many, which those are: each order is walked from its newest, until there
    are enough for all."""
    found: dict[int, frozenset[str]] = {}
    for order in ("updated", "version"):
        picking = {
            number: Newest(facts.policy, number)
            for number, rule in enumerate(facts.policy.keep)
            if rule.last is not None and rule.order == order
        }
        if picking:
            async for rows in _in_order(database, facts, by_version=order == "version"):
                for tag in map(facts.tag, rows):
                    for each in picking.values():
                        each.offer(tag)
                if all(each.is_full for each in picking.values()):
                    break
        found |= {number: each.found for number, each in picking.items()}
    return found


async def _in_order(database: Database, facts: _Facts, *, by_version: bool) -> AsyncIterator[Sequence[Any]]:
    """The tags, the newest first, in pages."""
    key = tags.c.version_key if by_version else tags.c.updated_at
    order = tuple_(key, tags.c.name)
    query = facts.query().order_by(key.desc(), tags.c.name.desc())
    size, after = 500, None
    while True:
        page = query.limit(size)
        if after is not None:
            at = literal(after.version_key, Bytewise) if by_version else literal(after.moved_at, BigInteger)
            page = page.where(order < tuple_(at, literal(after.name, Bytewise)))
        async with database.read_once() as connection:
            rows = (await connection.execute(page)).all()
        if rows:
            yield rows
        if len(rows) < size:
            return
        size, after = _PAGE, rows[-1]


async def _tag_pages(database: Database, facts: _Facts) -> AsyncIterator[Sequence[Any]]:
    query, after = facts.query().order_by(tags.c.name).limit(_PAGE), ""
    while True:
        async with database.read_once() as connection:
            rows = (await connection.execute(query.where(tags.c.name > after))).all()
        if rows:
            yield rows
        if len(rows) < _PAGE:
            return
        after = rows[-1].name


async def _attached(database: Database, repository_id: int, names: Iterable[str]) -> dict[str, bool]:
    """Of the tags that say by their name what they are attached to, whether that is in the repository."""
    said = {name: digest for name in names if (digest := attached_to(name)) is not None}
    there: set[str] = set()
    for batch in batches(said.values()):
        query = select(manifests.c.digest).where(
            manifests.c.repository_id == repository_id, manifests.c.digest.in_(batch)
        )
        async with database.read_once() as connection:
            there |= set((await connection.execute(query)).scalars())
    return {name: digest in there for name, digest in said.items()}


def _held(repository_id: int, *which: ColumnElement[bool]) -> Select[int]:
    """How many manifests a repository has but for the registry's own word."""
    return select(func.count()).where(
        manifests.c.repository_id == repository_id, manifests.c.attestation_id.is_(None), *which
    )


async def _loose_manifests(
    database: Database, repository: Repository, policy: RetentionPolicy
) -> list[GoingManifest]:
    found: list[GoingManifest] = []
    if policy.untagged_days is not None:
        found += await _untagged(database, repository, policy.untagged_days)
    if policy.referrers_days is not None:
        seen = {each.digest for each in found}
        why = (
            f"it is older than {policy.referrers_days} days, and what it refers to has "
            f"{policy.referrers_last} newer of its type"
        )
        old = is_old_referrer(database, repository, policy.referrers_days, last=policy.referrers_last)
        async for rows in _manifest_pages(database, repository.id, old):
            found += [GoingManifest(row.digest, why, 0) for row in rows if row.digest not in seen]
    return found[:MANIFESTS_MAX]


def _goes_first(database: Database, repository: Repository, policy: RetentionPolicy) -> ColumnElement[bool]:
    """That a manifest goes before any other has. What only that reaches goes after it."""
    loose: list[ColumnElement[bool]] = []
    if policy.untagged_days is not None:
        loose.append(is_loose(database, repository, policy.untagged_days))
    if policy.referrers_days is not None:
        last = policy.referrers_last
        loose.append(is_old_referrer(database, repository, policy.referrers_days, last=last))
    return or_(false(), *loose)


async def _untagged(database: Database, repository: Repository, days: int) -> list[GoingManifest]:
    """First what nothing reaches, then, wave by wave, what only that reached."""
    why = f"no tag has named it, and nobody pulled it, for {days} days"
    found: list[GoingManifest] = []
    fresh: list[str] = []
    async for rows in _manifest_pages(database, repository.id, is_loose(database, repository, days)):
        fresh += [row.digest for row in rows]
        if len(fresh) >= MANIFESTS_MAX:
            break
    gone: set[str] = set()
    wave = 0
    said = why
    while fresh and len(found) < MANIFESTS_MAX:
        found += [GoingManifest(digest, said, wave) for digest in fresh]
        gone |= set(fresh)
        candidates: list[Loose] = []
        for batch in batches(fresh):
            candidates += await _below(database, repository, batch, days)
        fresh = peel({one.digest: one for one in candidates}.values(), gone)
        wave, said = wave + 1, f"{why}, and what lists it, or what it refers to, goes"
    return found


async def _below(
    database: Database, repository: Repository, digests: Sequence[str], days: int
) -> list[Loose]:
    """What these list and what refers to them, as far as it may go by itself."""
    here = manifests.c.repository_id == repository.id
    above = manifests.alias("above")
    lists = (
        select(edges.c.digest, above.c.digest.label("by"))
        .join(above, above.c.id == edges.c.manifest_id)
        .where(above.c.repository_id == repository.id, edges.c.kind == "child")
    )
    async with database.read() as connection:
        listed = {row.digest for row in await connection.execute(lists.where(above.c.digest.in_(digests)))}
        refers = select(manifests.c.digest).where(here, manifests.c.subject_digest.in_(digests))
        wanted = listed | set((await connection.execute(refers)).scalars())
        rows: list[Any] = []
        by: dict[str, set[str]] = {}
        subjects: set[str] = set()
        for batch in batches(sorted(wanted)):
            query = select(manifests.c.digest, manifests.c.subject_digest).where(
                _may_go(database, repository, days), manifests.c.digest.in_(batch)
            )
            rows += await connection.execute(query)
            for row in await connection.execute(lists.where(edges.c.digest.in_(batch))):
                by.setdefault(row.digest, set()).add(row.by)
        for batch in batches(sorted({row.subject_digest for row in rows if row.subject_digest})):
            held = select(manifests.c.digest).where(here, manifests.c.digest.in_(batch))
            subjects |= set((await connection.execute(held)).scalars())
    return [
        Loose(
            row.digest,
            frozenset(by.get(row.digest, ())),
            row.subject_digest if row.subject_digest in subjects else None,
        )
        for row in rows
    ]


async def _manifest_pages(
    database: Database, repository_id: int, which: ColumnElement[bool]
) -> AsyncIterator[Sequence[Any]]:
    query = (
        select(manifests.c.digest)
        .where(manifests.c.repository_id == repository_id, which)
        .order_by(manifests.c.digest)
        .limit(_PAGE)
    )
    after = ""
    while True:
        async with database.read_once() as connection:
            rows = (await connection.execute(query.where(manifests.c.digest > after))).all()
        if rows:
            yield rows
        if len(rows) < _PAGE:
            return
        after = rows[-1].digest


def is_loose(database: Database, repository: Repository, days: int) -> ColumnElement[bool]:
    """That a manifest may go, and nothing in its repository lists it or is what it refers to."""
    may_go = _may_go(database, repository, days)
    return and_(may_go, ~_is_listed(repository.id), ~_subject(repository.id).exists())


def is_old_referrer(
    database: Database, repository: Repository, days: int, *, last: int
) -> ColumnElement[bool]:
    """That a manifest may go which refers to one that is there, as ``last`` newer ones of its type do. What a
    rule for signatures counts on stays."""
    newer = manifests.alias("newer")
    last_kept = (
        select(newer.c.id)
        .where(
            newer.c.repository_id == repository.id,
            newer.c.subject_digest == manifests.c.subject_digest,
            newer.c.artifact_type == manifests.c.artifact_type,
        )
        .order_by(newer.c.id.desc())
        .offset(last - 1)
        .limit(1)
        .scalar_subquery()
    )
    counts = select(signature_matches.c.rule_id).where(signature_matches.c.manifest_id == manifests.c.id)
    return and_(
        _may_go(database, repository, days),
        manifests.c.subject_digest.is_not(None),
        _subject(repository.id).exists(),
        ~_is_listed(repository.id),
        manifests.c.id < last_kept,
        ~counts.exists(),
    )


def _may_go(database: Database, repository: Repository, days: int) -> ColumnElement[bool]:
    """That no tag names a manifest, nor has within so many days, that nobody has pushed or pulled it since or
    asked for a promotion of it, and that it is not blocked nor the registry's own word.

    Where the gate holds, readers may get wherever a tag stood before: that stays.
    """
    columns = tag_history.c
    of_history = select(columns.new_digest).where(
        columns.repository_id == repository.id, columns.new_digest.is_not(None)
    )
    stayed = [
        of_history.where(columns.over_at > _ago(days)),
        select(pull_days.c.digest).where(_pulled_since(repository, days)),
        select(promotions.c.digest).where(
            or_(promotions.c.repository_id == repository.id, promotions.c.source_id == repository.id),
            _is_asked(),
        ),
    ]
    if repository.gate == "hold":
        stands = (tags.c.repository_id == repository.id) & (tags.c.name == columns.name)
        stayed.append(of_history.join(tags, stands))
    return and_(
        manifests.c.repository_id == repository.id,
        manifests.c.attestation_id.is_(None),
        manifests.c.blocked_reason.is_(None),
        manifests.c.pushed_at <= _ago(days),
        or_(manifests.c.pushed_again_at.is_(None), manifests.c.pushed_again_at <= _ago(days)),
        ~select(tags.c.name).where(tags.c.manifest_id == manifests.c.id).exists(),
        *(_is_none_of(database, each) for each in stayed),
    )


def _is_none_of(database: Database, digests: Select[Any]) -> ColumnElement[bool]:
    """That a manifest has none of these digests. SQLite looks for it in the list that it has made once;
    PostgreSQL would read a list that is too long for its memory again for each manifest, and joins."""
    if database.is_sqlite:
        return manifests.c.digest.not_in(digests)
    return ~digests.where(digests.selected_columns[0] == manifests.c.digest).exists()


def _is_listed(repository_id: int) -> ColumnElement[bool]:
    above = manifests.alias("above")
    return (
        select(above.c.id)
        .join(edges, edges.c.manifest_id == above.c.id)
        .where(
            edges.c.digest == manifests.c.digest,
            edges.c.kind == "child",
            above.c.repository_id == repository_id,
        )
        .exists()
    )


def _subject(repository_id: int) -> Select[int]:
    subject = manifests.alias("subject")
    return select(subject.c.id).where(
        subject.c.repository_id == repository_id, subject.c.digest == manifests.c.subject_digest
    )


def _pulled_since(repository: Repository, days: int) -> ColumnElement[bool]:
    """Pulls of people and jobs; a worker's tell nothing of who needs an image. Days are those of UTC."""
    since = type_coerce(_ago(days), BigInteger) // literal(_DAY, BigInteger)
    return and_(
        pull_days.c.repository == repository.name,
        pull_days.c.day >= since,
        pull_days.c.actor.not_like("worker %"),
        pull_days.c.last_at > _ago(days),
    )


def _ago(days: int) -> ColumnElement[datetime]:
    return statement_time(-timedelta(days=days))
