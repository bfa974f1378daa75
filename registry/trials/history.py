"""What was tried over time: of one image, of a repository, or of all that the reader may pull from.

A page of a repository or an image is a range of an index, however many trials there are. Of all repositories,
those of others are passed over inside the database, a step of an index each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import literal, select, tuple_

from registry.auth.policy import reads_trials
from registry.content.pullable import pullable_ids
from registry.db.content import repositories
from registry.db.dialect import batches
from registry.db.trials import trials
from registry.db.types import UtcTime
from registry.errors import RequestInvalidError
from registry.trials.seen import Seen, parse_seen

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, ScalarSelect, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.db.engine import Database

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_NEWEST_FIRST = (trials.c.created_at.desc(), trials.c.id.desc())
_AGE = tuple_(trials.c.created_at, trials.c.id)
_CURSOR_DIGITS = 17


@dataclass(frozen=True, slots=True)
class Position:
    """A place among trials, newest first: after one that began then and has this id."""

    at: datetime
    id: str

    def __str__(self) -> str:
        return f"{(self.at - _FIRST) // timedelta(microseconds=1)}.{self.id}"


def parse_position(text: str) -> Position:
    """The place that a cursor stands for; no trial need be there any more.

    Raises:
        RequestInvalidError: it is none.
    """
    digits, _, trial_id = text.partition(".")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _CURSOR_DIGITS and trial_id):
        raise RequestInvalidError(f"{text[:80]!r} is no cursor of this list")
    return Position(_FIRST + timedelta(microseconds=int(digits)), trial_id)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which trials; ``None``: whatever it is. ``since`` is when they began, or later."""

    digest: str | None = None
    verdict: str | None = None
    cause: str | None = None
    since: datetime | None = None

    def narrow(self, query: Select[Any]) -> Select[Any]:
        """The query, for these alone."""
        for column in ("digest", "verdict", "cause"):
            value = getattr(self, column)
            if value is not None:
                query = query.where(trials.c[column] == value)
        return query if self.since is None else query.where(trials.c.created_at >= self.since)


ALL = Wanted()


@dataclass(frozen=True, slots=True)
class Changes:
    """What a trial has otherwise than ``before``, the id of the one before it: of the same image, or where
    that has none, of the repository. Members are ``None`` or empty where nothing changed."""

    before: str
    what: Sequence[str]
    """Of ``image``, ``verdict``, ``spec``, ``runtime``, ``failed`` those that changed."""
    digest_before: str | None
    verdict_before: str | None
    runtimes_before: Sequence[str] | None
    failed_since: Sequence[str]
    """Expectations that were met before."""
    met_since: Sequence[str]
    """Expectations that were not met before."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One trial of a history. What was seen is null while it is not done."""

    id: str
    digest: str
    state: str
    verdict: str | None
    reason: str
    cause: str
    created_by: str
    created_at: datetime
    finished_at: datetime | None
    spec_digest: str
    policy_version: int
    seen: Seen | None
    changes: Changes | None = None

    @property
    def position(self) -> Position:
        """Where the page after it begins."""
        return Position(self.created_at, self.id)


async def list_history(
    database: Database, *, repository_id: int, wanted: Wanted, limit: int, after: Position | None
) -> Sequence[Entry]:
    """Trials of a repository, newest first, at most ``limit`` of those after a place; each with what it has
    otherwise than the one before it."""
    columns = (_one_before(same_image=True), _one_before(same_image=False))
    query = wanted.narrow(_entries().add_columns(*columns).where(trials.c.repository_id == repository_id))
    if after is not None:
        query = query.where(_older(after.at, after.id))
    async with database.read() as connection:
        rows = (await connection.execute(query.order_by(*_NEWEST_FIRST).limit(limit))).all()
        page = [(_entry(columns), of_image or of_repository) for *columns, of_image, of_repository in rows]
        before: dict[str, Entry] = {}
        for batch in batches(one for _, one in page if one is not None):
            done = _entries().where(trials.c.id.in_(batch), trials.c.state == "done")
            before |= {row.id: _entry(row) for row in await connection.execute(done)}
    return [_compared(entry, before.get(one)) for entry, one in page]


async def newest(
    database: Database,
    connection: AsyncConnection,
    *,
    actor: Actor,
    repository: str | None,
    wanted: Wanted,
    limit: int,
    before: str | None,
) -> Sequence[str]:
    """The ids of the newest trials in the repositories that the actor may pull from, or in one of them, at
    most ``limit``, those older than the trial ``before``."""
    query = wanted.narrow(
        select(trials.c.id, trials.c.created_at, repositories.c.name, repositories.c.visibility)
        .join(repositories, repositories.c.id == trials.c.repository_id)
        .order_by(*_NEWEST_FIRST)
        .limit(limit)
    )
    if repository is not None:
        this = select(repositories.c.id).where(repositories.c.name == repository).scalar_subquery()
        query = query.where(trials.c.repository_id == this)
    else:
        readable = pullable_ids(actor, is_sqlite=database.is_sqlite)
        if readable is not None:
            if (await connection.execute(readable.limit(1))).first() is None:
                # Else all trials would be walked to find none.
                return ()
            # The sum keeps the database from sorting all of them: a page is found by their time.
            query = query.where((trials.c.repository_id + 0).in_(readable))
    page = query
    if before is not None:
        since = await connection.scalar(select(trials.c.created_at).where(trials.c.id == before))
        if since is None:
            return ()
        page = query.where(_older(since, before))
    found: list[str] = []
    while len(found) < limit:
        rows = (await connection.execute(page)).all()
        # It is the policy that decides, and the query only finds.
        found += [row.id for row in rows if reads_trials(actor, row.name, row.visibility)]
        if len(rows) < limit:
            break
        page = query.where(_older(rows[-1].created_at, rows[-1].id))
    return found[:limit]


def _older(at: datetime, trial_id: str) -> ColumnElement[bool]:
    age = _AGE
    return age < tuple_(literal(at, UtcTime()), literal(trial_id))


def _entries() -> Select[Any]:
    return select(*(trials.c[name] for name in Entry.__dataclass_fields__ if name != "changes"))


def _entry(columns: Iterable[Any]) -> Entry:
    entry = Entry(*columns)
    return replace(entry, seen=parse_seen(cast(Any, entry.seen)))


def _one_before(*, same_image: bool) -> ScalarSelect[str]:
    earlier = trials.alias("earlier")
    query = select(earlier.c.id).where(
        earlier.c.repository_id == trials.c.repository_id,
        tuple_(earlier.c.created_at, earlier.c.id) < _AGE,
    )
    if same_image:
        query = query.where(earlier.c.digest == trials.c.digest)
    order = (earlier.c.created_at.desc(), earlier.c.id.desc())
    return query.order_by(*order).limit(1).correlate(trials).scalar_subquery()


def _compared(entry: Entry, before: Entry | None) -> Entry:
    if before is None or entry.state != "done":
        return entry
    return replace(entry, changes=compare(entry, before))


def compare(entry: Entry, before: Entry) -> Changes:
    """What ``entry``, which is done, has otherwise than ``before``, which is done too."""
    now, then = entry.seen or Seen(), before.seen or Seen()
    # What was seen of one of them may not have been kept.
    known = entry.seen is not None and before.seen is not None
    failed_since = [one for one in now.failed if one not in then.failed] if known else []
    met_since = [one for one in then.failed if one not in now.failed] if known else []
    differs = {
        "image": entry.digest != before.digest,
        "verdict": entry.verdict != before.verdict,
        "spec": (entry.spec_digest, entry.policy_version) != (before.spec_digest, before.policy_version),
        "runtime": known and now.runtimes != then.runtimes,
        "failed": bool(failed_since or met_since),
    }
    return Changes(
        before=before.id,
        what=[name for name, is_other in differs.items() if is_other],
        digest_before=before.digest if differs["image"] else None,
        verdict_before=before.verdict if differs["verdict"] else None,
        runtimes_before=then.runtimes if differs["runtime"] else None,
        failed_since=failed_since,
        met_since=met_since,
    )


async def list_newest(
    database: Database, *, actor: Actor, wanted: Wanted, limit: int, before: str | None
) -> Sequence[tuple[str, Entry]]:
    """The newest trials in the repositories that the actor may pull from, each with its repository; at most
    ``limit``, those older than the trial ``before``."""
    query = _entries().add_columns(repositories.c.name)
    query = query.join(repositories, repositories.c.id == trials.c.repository_id).order_by(*_NEWEST_FIRST)
    async with database.read() as connection:
        ids = await newest(
            database, connection, actor=actor, repository=None, wanted=wanted, limit=limit, before=before
        )
        found = await connection.execute(query.where(trials.c.id.in_(ids)))
        return [(name, _entry(columns)) for *columns, name in found]
