"""A README: what those who push to a repository say of it to those who come to look.

It is Markdown, kept as it was given. Who draws it makes it harmless: nothing here looks into it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from registry.auth.access import require_writable
from registry.content.administration import find
from registry.db.content import repositories
from registry.db.dialect import insert
from registry.db.outbox import record
from registry.db.readmes import repository_readmes
from registry.db.types import db_time
from registry.errors import NameUnknownError, NotFoundError, RequestInvalidError
from registry.oci.conditions import NO_CONDITIONS, Conditions, entity_tag

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.content.repositories import Repository
    from registry.db.engine import Database
    from registry.settings import Settings

README_MAX_BYTES = 64 * 1024
"""In UTF-8: a form of a page, which spells each byte with three, still fits into a request."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_COLUMNS = (repository_readmes.c.text, repository_readmes.c.updated_by, repository_readmes.c.updated_at)


@dataclass(frozen=True, slots=True)
class Readme:
    """Markdown, and who wrote it last."""

    text: str
    updated_by: str
    updated_at: datetime

    @property
    def etag(self) -> str:
        """Its entity tag."""
        return entity_tag(self.text)


async def read(database: Database, repository: Repository) -> Readme | None:
    """The README of a repository, for an actor whose right to pull has been asked for."""
    async with database.read() as connection:
        return await _read(connection, repository.id)


async def show(database: Database, *, actor: Actor, name: str) -> Readme:
    """The README of a repository.

    Raises:
        UnauthorizedError, DeniedError, NameUnknownError: as :func:`find`, for who pulls.
        NotFoundError: it has none.
    """
    found = await read(database, await find(database, actor=actor, action="pull", name=name))
    if found is None:
        raise _missing(name)
    return found


async def put(
    database: Database,
    settings: Settings,
    *,
    actor: Actor,
    name: str,
    text: str,
    conditions: Conditions = NO_CONDITIONS,
) -> tuple[Readme, bool]:
    """Let ``text`` be the README; it, and whether there was none before.

    Raises:
        UnauthorizedError, DeniedError: the actor may not push, or the registry is read-only.
        NameUnknownError: there is no such repository.
        RequestInvalidError: the text is empty, too long, or has control characters.
        PreconditionFailedError: ``conditions`` do not hold.
    """
    repository = await find(database, actor=actor, action="push", name=name)
    require_writable(read_only=settings.read_only)
    if not text.strip():
        raise RequestInvalidError("a README has a text; to take it away delete it")
    if (size := len(text.encode())) > README_MAX_BYTES:
        raise RequestInvalidError(f"the README has {size} bytes; {README_MAX_BYTES} are the limit")
    if (odd := _CONTROL.search(text)) is not None:
        line = text.count("\n", 0, odd.start()) + 1
        raise RequestInvalidError(f"line {line} of the README has the control character U+{ord(odd[0]):04X}")
    async with database.write() as connection:
        before = await _held(connection, repository, conditions)
        if before is None or before.text != text:
            values = {"text": text, "updated_by": actor.shown, "updated_at": db_time()}
            await connection.execute(
                insert(connection, repository_readmes)
                .values(repository_id=repository.id, **values)
                .on_conflict_do_update(index_elements=["repository_id"], set_=values)
            )
            await _tell(connection, repository, actor, before, text)
        made = await _read(connection, repository.id)
    assert made is not None
    return made, before is None


async def clear(
    database: Database,
    settings: Settings,
    *,
    actor: Actor,
    name: str,
    conditions: Conditions = NO_CONDITIONS,
) -> None:
    """Take the README away.

    Raises:
        UnauthorizedError, DeniedError, NameUnknownError, PreconditionFailedError: as :func:`put`.
        NotFoundError: there is none.
    """
    repository = await find(database, actor=actor, action="push", name=name)
    require_writable(read_only=settings.read_only)
    async with database.write() as connection:
        before = await _held(connection, repository, conditions)
        if before is None:
            raise _missing(name)
        this = repository_readmes.c.repository_id == repository.id
        await connection.execute(delete(repository_readmes).where(this))
        await _tell(connection, repository, actor, before, None)


async def _held(connection: AsyncConnection, repository: Repository, conditions: Conditions) -> Readme | None:
    """What stands there, while nobody else changes it."""
    this = (repositories.c.id == repository.id, repositories.c.name == repository.name)
    held = select(repositories.c.id).where(*this).with_for_update(key_share=True)
    if (await connection.execute(held)).first() is None:
        raise NameUnknownError(f"there is no repository {repository.name}")
    before = await _read(connection, repository.id)
    conditions.require(None if before is None else before.etag, f"the README of {repository.name}")
    return before


async def _read(connection: AsyncConnection, repository_id: int) -> Readme | None:
    query = select(*_COLUMNS).where(repository_readmes.c.repository_id == repository_id)
    row = (await connection.execute(query)).first()
    return None if row is None else Readme(**row._asdict())


async def _tell(
    connection: AsyncConnection,
    repository: Repository,
    actor: Actor,
    before: Readme | None,
    after: str | None,
) -> None:
    # It may be long, and stands where it stands.
    was = None if before is None else before.text
    digests = [None if text is None else _digest(text) for text in (was, after)]
    await record(connection, "repository.changed", repository.name, actor, {"readme": digests})


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _missing(name: str) -> NotFoundError:
    return NotFoundError(f"{name} has no README")
