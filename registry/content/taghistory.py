"""The history of tags: a line for each move, in its transaction; and how long lines are kept.

A line says where a tag stands from then on, until the next one is written: from that time on it is over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, exists, literal, select, tuple_, update
from sqlalchemy import insert as sql_insert

from registry.auth.actor import stored_workload
from registry.auth.policy import decide, may_audit
from registry.db import sweeping
from registry.db.accounts import tokens
from registry.db.content import deleted_manifests, manifests, repositories, tag_history, tags
from registry.db.dialect import batches
from registry.db.types import db_time
from registry.errors import ManifestUnknownError, RequestInvalidError

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor, Workload
    from registry.content.repositories import Repository
    from registry.db.content import TagAction
    from registry.db.engine import Database

LINES_MAX = 1000
"""How many lines of each tag are kept at most, and how far back readers of a held tag are served from."""
_AT_A_MOVE = 20
"""So many lines are closed or removed by one move: more than one are only where older versions wrote."""
_LOOKED_AT = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile("[0-9]{1,16}")


@dataclass(frozen=True, slots=True)
class TagMove:
    """One line of a tag's history, ``None`` standing for no manifest; ``id`` rises with each. ``reason``
    names the promotion that did it, if one did, or is what somebody gave.

    ``address`` is where it came from, and ``token_id`` and ``token_name`` are of the API token: only those
    who manage the repository, and auditors, are told. The token may be gone.
    """

    id: int
    name: str
    action: str
    old_digest: str | None
    new_digest: str | None
    actor: str
    workload: Workload | None
    reason: str | None
    at: datetime
    address: str | None
    token_id: str | None
    token_name: str | None = None


@dataclass(frozen=True, slots=True)
class DeletedTag:
    """A tag that was deleted last by ``id``, a line of its history. ``is_there``: its image can still be
    pulled by digest. Else it can be brought back until ``restorable_until``; ``None``: not any more."""

    id: int
    name: str
    digest: str
    actor: str
    reason: str | None
    at: datetime
    is_there: bool
    restorable_until: datetime | None


async def remember(
    connection: AsyncConnection,
    repository: Repository,
    tag: str,
    action: TagAction,
    *,
    actor: Actor,
    old: str | None,
    new: str | None,
    reason: str | None = None,
) -> int:
    """Write a line, in the transaction of the move; returns its number. The repository is locked."""
    columns = tag_history.c
    of_tag = (columns.repository_id == repository.id, columns.name == tag)
    last = select(columns.id).where(*of_tag).order_by(columns.id.desc())
    if old is not None:
        these = columns.id.in_(last.limit(_AT_A_MOVE))
        closing = update(tag_history).where(these, columns.over_at.is_(None))
        await connection.execute(closing.values(over_at=db_time()))
    made = await connection.execute(
        sql_insert(tag_history)
        .values(
            repository_id=repository.id,
            name=tag,
            action=action,
            old_digest=old,
            new_digest=new,
            actor=actor.shown,
            address=actor.address,
            token_id=actor.token_id,
            workload=actor.workload_text,
            reason=reason,
            at=db_time(),
            over_at=db_time() if new is None else None,
        )
        .returning(columns.id)
    )
    number = int(made.scalar_one())
    if old is not None:
        # Now, and not before: of a line that is gone SQLite gives the number to the next.
        surplus = last.offset(_lines(repository)).limit(_AT_A_MOVE)
        await connection.execute(delete(tag_history).where(columns.id.in_(surplus)))
    return number


def sees_sources(actor: Actor, repository: Repository) -> bool:
    """Whether the actor is told where moves came from, and with which token."""
    manages = decide(actor, "configure", repository.name, repository.visibility).allowed
    return manages or may_audit(actor)


def _lines(repository: Repository) -> int:
    # What readers of a held tag get follows from its history.
    if repository.gate == "hold" or repository.history_keep_lines is None:
        return LINES_MAX
    return repository.history_keep_lines


async def history(
    database: Database,
    repository: Repository,
    tag: str,
    *,
    limit: int,
    before: int | None = None,
    tells_sources: bool,
) -> list[TagMove]:
    """The tag's moves, newest first, at most ``limit``, those before the id ``before``; also of a tag that is
    no more. ``tells_sources``: with address and token."""
    columns = tag_history.c
    query = select(*_SHOWN).where(columns.repository_id == repository.id, columns.name == tag)
    if before is not None:
        query = query.where(columns.id < before)
    async with database.read_once() as connection:
        rows = (await connection.execute(query.order_by(columns.id.desc()).limit(limit))).all()
    if not tells_sources:
        return [replace(_move(row), address=None, token_id=None) for row in rows]
    called = await _names_of(database, {row.token_id for row in rows if row.token_id is not None})
    return [replace(move, token_name=called.get(move.token_id or "")) for move in map(_move, rows)]


def _move(row: Any) -> TagMove:
    return TagMove(**row._asdict() | {"workload": stored_workload(row.workload)})


async def _names_of(database: Database, ids: Collection[str]) -> dict[str, str]:
    called: dict[str, str] = {}
    if ids:
        async with database.read() as connection:
            for batch in batches(ids):
                query = select(tokens.c.id, tokens.c.name).where(tokens.c.id.in_(batch))
                called |= {row.id: row.name for row in await connection.execute(query)}
    return called


async def line_at(connection: AsyncConnection, repository: Repository, tag: str, at: datetime) -> TagMove:
    """The line that was the last one of a tag at a time.

    Raises:
        ManifestUnknownError: the tag was deleted then, or what is kept of its history begins later.
    """
    columns = tag_history.c
    of_tag = select(*_SHOWN).where(columns.repository_id == repository.id, columns.name == tag)
    then = of_tag.where(columns.at <= at).order_by(columns.id.desc()).limit(1)
    row = (await connection.execute(then)).first()
    if row is None:
        first = (await connection.execute(of_tag.order_by(columns.id).limit(1))).first()
        if first is None:
            raise ManifestUnknownError(f"there is no tag {tag} in {repository.name}")
        raise ManifestUnknownError(
            f"what is kept of the history of {repository.name}:{tag} begins on "
            f"{first.at:%Y-%m-%d %H:%M:%S} UTC"
        )
    if row.new_digest is None:
        raise ManifestUnknownError(
            f"{repository.name}:{tag} was deleted on {row.at:%Y-%m-%d %H:%M:%S} UTC, by {row.actor}"
        )
    return _move(row)


async def list_deleted(
    database: Database, repository: Repository, *, limit: int, cursor: str | None, grace: timedelta
) -> tuple[list[DeletedTag], str | None]:
    """At most ``limit`` tags that were deleted and not made again, the last one first, those after
    ``cursor``; and the cursor of the next ones, ``None`` after the last. Of lines it looks at a bounded
    number, so that there may be more where it finds fewer.

    Raises:
        RequestInvalidError: that is no cursor.
    """
    columns = tag_history.c
    later = tag_history.alias("later")
    of_image = (columns.repository_id, columns.old_digest)
    # Not whether there is one: for that PostgreSQL may read all there are.
    latest = (
        select(later.c.id)
        .where(later.c.repository_id == columns.repository_id, later.c.name == columns.name)
        .order_by(later.c.id.desc())
        .limit(1)
    )
    held = select(manifests.c.id).where(
        manifests.c.repository_id == of_image[0], manifests.c.digest == of_image[1]
    )
    deleted = deleted_manifests.c
    deleted_at = select(deleted.deleted_at).where(
        deleted.repository_id == of_image[0],
        deleted.digest == of_image[1],
        deleted.deleted_at > db_time(-grace),
    )
    query = select(
        columns.id,
        columns.name,
        columns.old_digest,
        columns.actor,
        columns.reason,
        columns.at,
        latest.scalar_subquery().label("latest"),
        held.scalar_subquery().label("held"),
        deleted_at.scalar_subquery().label("deleted_at"),
    ).where(columns.repository_id == repository.id, columns.new_digest.is_(None))
    if cursor is not None:
        at, number = parse_cursor(cursor)
        if not _NUMBER.fullmatch(number):
            raise RequestInvalidError(f"{cursor[:80]!r} is no cursor of this list")
        after = tuple_(literal(at, columns.at.type), literal(int(number), columns.id.type))
        query = query.where(tuple_(columns.at, columns.id) < after)
    query = query.order_by(columns.at.desc(), columns.id.desc()).limit(_LOOKED_AT)
    async with database.read_once() as connection:
        rows = (await connection.execute(query)).all()
    found = [
        DeletedTag(
            *row[:6],
            is_there=row.held is not None,
            restorable_until=row.deleted_at + grace if row.deleted_at and row.held is None else None,
        )
        for row in rows
        if row.latest == row.id
    ]
    if len(found) > limit:
        return found[:limit], cursor_of(found[limit - 1].at, found[limit - 1].id)
    return found, cursor_of(rows[-1].at, rows[-1].id) if len(rows) == _LOOKED_AT else None


def cursor_of(at: datetime, rest: object) -> str:
    """The cursor of a list by time, where ``rest`` tells apart what was at one time."""
    return f"{(at - _EPOCH) // timedelta(microseconds=1)}:{rest}"


def parse_cursor(text: str) -> tuple[datetime, str]:
    """What :func:`cursor_of` says.

    Raises:
        RequestInvalidError: it is none.
    """
    micros, _, rest = text.partition(":")
    if not (_NUMBER.fullmatch(micros) and rest):
        raise RequestInvalidError(f"{text[:80]!r} is no cursor of this list")
    return _EPOCH + timedelta(microseconds=int(micros)), rest


async def sweep(database: Database) -> int:
    """Remove the lines that repositories keep for so many days and that have been over for longer; how many.

    Where the gate holds, what readers get follows from the history: there only lines of tags go that are no
    more.
    """
    query = select(repositories.c.id, repositories.c.history_keep_days, repositories.c.gate).where(
        repositories.c.history_keep_days.is_not(None)
    )
    async with database.read_once() as connection:
        found = (await connection.execute(query.order_by(repositories.c.id))).all()
    return sum([await _sweep(database, *row) for row in found])


async def _sweep(database: Database, repository_id: int, days: int, gate: str) -> int:
    columns = tag_history.c
    stands = exists(
        select(tags.c.name).where(tags.c.repository_id == columns.repository_id, tags.c.name == columns.name)
    )
    over = and_(columns.repository_id == repository_id, columns.over_at <= db_time(-timedelta(days=days)))
    return await sweeping.sweep(database, columns.id, and_(over, ~stands) if gate == "hold" else over)


_SHOWN = tuple(tag_history.c[name] for name in TagMove.__dataclass_fields__ if name != "token_name")
