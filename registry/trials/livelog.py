"""The output of runs while they go on: kept for whoever watches, as rows, so that every replica sees it.

What is kept is the beginning of the log that the report will hold. So a cursor in it, run and characters, is
the same before and after: who was cut off goes on in the rows of the live log, or in the log of the run. The
rows are those of a lease, and nothing to anybody once that is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, exists, func, insert, select, tuple_, update

from registry.auth.policy import Visibility
from registry.contract import PROTOCOL_VERSION
from registry.contract.livelog import LogChunk, LogTaken
from registry.db.content import repositories
from registry.db.trials import is_leased, live_logs, parts, runs, trial_parts, trials
from registry.errors import ConflictError, RequestInvalidError
from registry.oci.printable import printable

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.engine import Database
    from registry.trials.verdicts import Reporter

LIVE_MAX_CHARACTERS = 1024 * 1024
"""Of one lease; the report has the rest."""
PIECE_CHARACTERS = 64 * 1024
"""What one look gives at most, and from which size on a row is not made longer."""
_PIECES_MAX = 40
"""Of what is read at once: two and a half megabytes."""


async def append(database: Database, *, worker: Reporter, chunk: LogChunk) -> LogTaken:
    """Keep some more output of a leased part. What is there already is passed over, so that a message may be
    sent again.

    Raises:
        ConflictError: the lease is not a live one of this worker.
        RequestInvalidError: the message does not follow what was told before.
    """
    # PostgreSQL's text has no NUL; the log of the run says the same.
    text = chunk.text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    async with database.write() as connection:
        leased = select(parts.c.id).where(is_leased(chunk.lease, worker.account_id))
        part_id = (await connection.execute(leased.with_for_update())).scalar()
        if part_id is None:
            raise ConflictError("this lease is not a live one of this worker; end its run")
        of_lease = live_logs.c.lease == chunk.lease
        length = func.length(live_logs.c.text)
        last = (
            await connection.execute(
                select(live_logs.c.run, live_logs.c.position, length.label("length"))
                .where(of_lease)
                .order_by(live_logs.c.run.desc(), live_logs.c.position.desc())
                .limit(1)
            )
        ).first()
        end = last.position + last.length if last is not None and last.run == chunk.run else 0
        if (last is not None and chunk.run < last.run) or chunk.position > end:
            raise RequestInvalidError("this output does not follow what was told before")
        text = text[end - chunk.position :]
        kept = (await connection.execute(select(func.sum(length)).where(of_lease))).scalar_one() or 0
        text = text[: max(0, LIVE_MAX_CHARACTERS - kept)]
        if (
            text
            and last is not None
            and last.run == chunk.run
            and last.length + len(text) <= PIECE_CHARACTERS
        ):
            this = (of_lease, live_logs.c.run == last.run, live_logs.c.position == last.position)
            await connection.execute(
                update(live_logs).where(*this).values(text=live_logs.c.text.concat(text))
            )
        elif text:
            await connection.execute(
                insert(live_logs).values(
                    lease=chunk.lease,
                    run=chunk.run,
                    position=end,
                    part_id=part_id,
                    name=printable(chunk.name),
                    attempt=chunk.attempt,
                    text=text,
                )
            )
    full = kept + len(text) >= LIVE_MAX_CHARACTERS
    return LogTaken(protocol=PROTOCOL_VERSION, position=end + len(text), full=full)


async def forget(connection: AsyncConnection, part_id: str) -> None:
    """Let go what was kept of a part whose lease is over, in the transaction that ends it."""
    await connection.execute(delete(live_logs).where(live_logs.c.part_id == part_id))


async def sweep(database: Database) -> int:
    """Let go what was kept of leases that a registry of an older version ended; how many rows."""
    live = select(parts.c.lease).where(parts.c.lease.is_not(None))
    over = live_logs.c.lease.not_in(live)
    async with database.read_once() as connection:
        if (await connection.execute(select(live_logs.c.run).where(over).limit(1))).first() is None:
            return 0
    async with database.write() as connection:
        return (await connection.execute(delete(live_logs).where(over))).rowcount


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far somebody has read in a part: all of the runs before ``run``, and so many characters of it, in
    the part's ``attempt``."""

    attempt: int = 0
    run: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True)
class Output:
    """Some output of one run."""

    platform: str
    run: str
    attempt: int | None
    text: str


@dataclass(frozen=True, slots=True)
class PartStanding:
    """How it stands with one part."""

    platform: str
    state: str
    attempts: int
    worker: str | None
    verdict: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Look:
    """What there is after some cursors. ``output`` is ``None`` where none was found; ``more`` says whether to
    look again at once all the same. ``cursors`` are those after it, one for each part."""

    repository: str
    visibility: Visibility
    state: str
    verdict: str | None
    reason: str
    parts: Sequence[PartStanding]
    output: Output | None
    more: bool
    cursors: Sequence[Cursor]


async def look(database: Database, trial_id: str, cursors: Sequence[Cursor]) -> Look | None:
    """The next piece of output of a trial after ``cursors``, one for each of its parts in their order (those
    that are left out have not been read); ``None``: there is no such trial any more.

    It takes three statements at most, however many parts and runs there are.
    """
    trial_query = (
        select(
            repositories.c.name,
            repositories.c.visibility,
            trials.c.state,
            trials.c.verdict,
            trials.c.reason,
            trials.c.finished_at,
        )
        .join(repositories, repositories.c.id == trials.c.repository_id)
        .where(trials.c.id == trial_id)
    )
    async with database.read() as connection:
        trial = (await connection.execute(trial_query)).first()
        if trial is None:
            return None
        rows = (await connection.execute(_standing(trial_id))).all()
        after = [
            # One that is tried again, by another worker, begins anew.
            cursors[number]
            if number < len(cursors) and cursors[number].attempt == part.attempts
            else Cursor(part.attempts)
            for number, part in enumerate(rows)
        ]
        output, more = None, False
        for number, part in enumerate(rows):
            at = after[number]
            if _is_live(part, at):
                found = await _live(connection, part.lease, at)
            # Runs of a part that a newer trial has asked again are not of this one.
            elif _is_told(part, at) and (trial.finished_at is None or part.finished_at <= trial.finished_at):
                found = await _told(connection, part.id, at)
            else:
                continue
            more = True
            if found.text:
                after[number] = Cursor(at.attempt, found.run, found.begins + len(found.text))
                output = Output(part.platform, found.name, found.attempt, found.text)
            else:
                after[number] = Cursor(at.attempt, at.run + 1)
            break
    return Look(
        repository=trial.name,
        visibility=trial.visibility,
        state=trial.state,
        verdict=trial.verdict,
        reason=trial.reason,
        parts=[PartStanding(*row[1:7]) for row in rows],
        output=output,
        more=more,
        cursors=after,
    )


async def read_so_far(database: Database, trial_id: str) -> list[Output]:
    """What the runs of a trial that go on have written by now, in one piece each; of much, its beginning."""
    query = (
        select(parts.c.platform, live_logs.c.name, live_logs.c.attempt, live_logs.c.run, live_logs.c.text)
        .select_from(trial_parts)
        .join(parts, parts.c.id == trial_parts.c.part_id)
        .join(live_logs, live_logs.c.lease == parts.c.lease)
        .where(trial_parts.c.trial_id == trial_id)
        .order_by(parts.c.platform, parts.c.digest, live_logs.c.run, live_logs.c.position)
        .limit(_PIECES_MAX)
    )
    async with database.read_once() as connection:
        rows = (await connection.execute(query)).all()
    return [
        Output(platform, name, attempt, "".join(row.text for row in pieces))
        for (platform, name, attempt, _), pieces in groupby(rows, key=lambda row: tuple(row[:4]))
    ]


def _standing(trial_id: str) -> Select[Any]:
    """The parts of a trial, each with where its output ends: how many runs were told of, or up to where the
    last of its lease goes."""
    later = live_logs.alias("later")
    is_last = ~exists().where(
        later.c.lease == live_logs.c.lease,
        tuple_(later.c.run, later.c.position) > tuple_(live_logs.c.run, live_logs.c.position),
    )
    return (
        select(
            parts.c.id,
            parts.c.platform,
            parts.c.state,
            parts.c.attempts,
            parts.c.worker,
            parts.c.verdict,
            parts.c.reason,
            parts.c.lease,
            parts.c.finished_at,
            select(func.count(runs.c.id)).where(runs.c.part_id == parts.c.id).scalar_subquery().label("told"),
            live_logs.c.run.label("live_run"),
            (live_logs.c.position + func.length(live_logs.c.text)).label("live_end"),
        )
        .join(trial_parts, trial_parts.c.part_id == parts.c.id)
        .outerjoin(live_logs, and_(live_logs.c.lease == parts.c.lease, is_last))
        .where(trial_parts.c.trial_id == trial_id)
        .order_by(parts.c.platform, parts.c.digest)
    )


def _is_live(part: Any, at: Cursor) -> bool:
    """Whether its lease has told more than was read."""
    return part.live_run is not None and (part.live_run, part.live_end) > (at.run, at.position)


def _is_told(part: Any, at: Cursor) -> bool:
    """Whether it has a run that may not have been read to its end."""
    return part.state == "done" and bool(at.run < part.told)


@dataclass(frozen=True, slots=True)
class _Found:
    run: int
    name: str
    attempt: int | None
    begins: int
    text: str


async def _live(connection: AsyncConnection, lease: str, at: Cursor) -> _Found:
    end = live_logs.c.position + func.length(live_logs.c.text)
    this = (live_logs.c.run == at.run) & (end > at.position)
    query = (
        select(live_logs)
        .where(live_logs.c.lease == lease, (live_logs.c.run > at.run) | this)
        .order_by(live_logs.c.run, live_logs.c.position)
        .limit(1)
    )
    row = (await connection.execute(query)).one()
    begins = max(row.position, at.position if row.run == at.run else 0)
    return _Found(row.run, row.name, row.attempt, begins, row.text[begins - row.position :])


async def _told(connection: AsyncConnection, part_id: str, at: Cursor) -> _Found:
    """From the log of the run that the cursor is in; without text where that was read to its end."""
    query = (
        select(
            runs.c.name,
            runs.c.case_attempt,
            func.substr(runs.c.log, at.position + 1, PIECE_CHARACTERS).label("text"),
        )
        .where(runs.c.part_id == part_id)
        .order_by(runs.c.id)
        .offset(at.run)
        .limit(1)
    )
    run = (await connection.execute(query)).one()
    return _Found(at.run, run.name, run.case_attempt, at.position, run.text)
