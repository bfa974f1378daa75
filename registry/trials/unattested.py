"""Verdicts that are not attested, and having them attested: those of a version before this one, or of one
that runs beside it. This one has its own attested in the transaction that makes them.

A sweep looks at what was finished since the one before, and a little further back: what it costs does not
grow with what there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import BigInteger, exists, select, tuple_, type_coerce

from registry.content import repositories as repos
from registry.db.content import attestation_marks, attestations, manifests
from registry.db.dialect import insert
from registry.db.trials import parts, trial_parts, trials
from registry.trials.attesting import attest_part, attest_states, attest_trials
from registry.trials.specs import SCAN_ALONE_DIGEST
from registry.trials.statements import JUDGED

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.engine import Database

AT_ONCE = 200
_LATE = timedelta(hours=1)
"""No transaction is committed so long after the time that it wrote."""
_SAID_TO = timedelta(seconds=1)
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_Kind = Literal["part", "trial"]


async def attest_missing(database: Database) -> int:
    """Have attested what is not; returns how many verdicts that were."""
    return await _walk(database, "part") + await _walk(database, "trial")


def finished(kind: _Kind, *, after: tuple[datetime, str]) -> Select[Any]:
    """The next parts or trials by when they were finished."""
    table = _TABLES[kind]
    key = table.c.finished_at, table.c.id
    return (
        select(table.c.id, table.c.finished_at)
        .where(tuple_(*key) > tuple_(*after, types=[column.type for column in key]))
        .order_by(*key)
        .limit(AT_ONCE)
    )


def unattested_parts() -> Select[Any]:
    """Parts whose verdict is the last of its image under its run spec, and is not attested."""
    later = parts.alias("later")
    return select(parts).where(
        parts.c.state == "done",
        parts.c.verdict.in_(JUDGED),
        # Of what was not run no result is claimed.
        parts.c.spec_digest != SCAN_ALONE_DIGEST,
        _is_held(parts),
        ~_is_attested(parts),
        ~exists().where(
            later.c.repository_id == parts.c.repository_id,
            later.c.digest == parts.c.digest,
            later.c.spec_digest == parts.c.spec_digest,
            later.c.verdict.in_(JUDGED),
            later.c.finished_at > parts.c.finished_at,
        ),
    )


def unattested_trials() -> Select[Any]:
    """As :func:`unattested_parts`, trials of indexes of which something was run."""
    later = trials.alias("later")
    its_parts = (trial_parts.c.trial_id == trials.c.id, parts.c.id == trial_parts.c.part_id)
    return select(trials).where(
        trials.c.state == "done",
        trials.c.spec_digest != SCAN_ALONE_DIGEST,
        exists().where(*its_parts, parts.c.verdict.in_(JUDGED)),
        ~exists().where(*its_parts, parts.c.digest == trials.c.digest),
        _is_held(trials),
        ~_is_attested(trials),
        ~exists().where(
            later.c.repository_id == trials.c.repository_id,
            later.c.digest == trials.c.digest,
            later.c.spec_digest == trials.c.spec_digest,
            later.c.finished_at > trials.c.finished_at,
        ),
    )


_TABLES: Mapping[_Kind, Any] = {"part": parts, "trial": trials}


async def _walk(database: Database, kind: _Kind) -> int:
    marked = select(attestation_marks.c.looked_until).where(attestation_marks.c.kind == kind)
    async with database.read_once() as connection:
        mark: datetime = (await connection.execute(marked)).scalar_one_or_none() or _BEGINNING
    after, done = (max(mark - _LATE, _BEGINNING), ""), 0
    while True:
        async with database.read_once() as connection:
            rows = (await connection.execute(finished(kind, after=after))).all()
        if not rows:
            return done
        done += await _attest(database, kind, [row.id for row in rows])
        after = rows[-1].finished_at, rows[-1].id
        if after[0] > mark:
            mark = after[0]
            async with database.write() as connection:
                await _set_mark(connection, kind, mark)


async def _set_mark(connection: AsyncConnection, kind: _Kind, mark: datetime) -> None:
    row = insert(connection, attestation_marks).values(kind=kind, looked_until=mark)
    changed = row.on_conflict_do_update(
        index_elements=[attestation_marks.c.kind], set_={"looked_until": row.excluded.looked_until}
    )
    await connection.execute(changed)


async def _attest(database: Database, kind: _Kind, ids: Sequence[str]) -> int:
    """Have attested what is not of these parts or trials."""
    table = _TABLES[kind]
    query = (unattested_parts() if kind == "part" else unattested_trials()).where(table.c.id.in_(ids))
    async with database.read_once() as connection:
        found = await connection.execute(query.with_only_columns(table.c.repository_id).distinct())
        repository_ids = sorted(found.scalars())
    done = 0
    for repository_id in repository_ids:
        async with database.write() as connection:
            await repos.lock(connection, repository_id)
            here = query.where(table.c.repository_id == repository_id)
            missing: Sequence[Row[Any]] = (await connection.execute(here)).all()
            if kind == "part":
                for row in missing:
                    await attest_part(connection, row._asdict())
            else:
                await attest_trials(connection, [row.id for row in missing])
            await attest_states(connection, repository_id, sorted({row.digest for row in missing}))
        done += len(missing)
    return done


def _is_held(table: Any) -> ColumnElement[bool]:
    return exists().where(
        manifests.c.repository_id == table.c.repository_id, manifests.c.digest == table.c.digest
    )


def _is_attested(table: Any) -> ColumnElement[bool]:
    """Whether the result about the same image under the same spec is this one, or a later one. Judged twice
    within the second that is said, it is kept as it was."""
    made_at, finished_at = (
        type_coerce(time, BigInteger) for time in (attestations.c.made_at, table.c.finished_at)
    )
    return exists().where(
        attestations.c.repository_id == table.c.repository_id,
        attestations.c.digest == table.c.digest,
        attestations.c.kind == "result",
        attestations.c.spec_digest == table.c.spec_digest,
        made_at > finished_at - _SAID_TO // timedelta(microseconds=1),
    )
