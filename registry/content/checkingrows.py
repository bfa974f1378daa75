"""Checks of the database by itself: rows that say what no row bears out."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, exists, func, or_, select, text, update

from registry.auth.actor import HOST
from registry.content import repositories as repos
from registry.content import taghistory
from registry.content.checking import FOUND_MOST, Found, Problem
from registry.content.collecting import is_named
from registry.db.collections import dead_blobs
from registry.db.content import (
    attestations,
    blob_links,
    blobs,
    manifests,
    repositories,
    tag_history,
    tags,
    upload_sessions,
)
from registry.db.engine import move_epoch
from registry.db.multipart import multipart_parts, multipart_uploads
from registry.db.outbox import record
from registry.db.types import db_time
from registry.errors import BlobUploadUnknownError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sqlalchemy import Row, Select, Table

    from registry.content.checking import Look, Mend
    from registry.db.engine import Database

_FAULTS_SHOWN = 100


async def database_file(look: Look) -> AsyncIterator[Found]:
    """SQLite's own look at its file, and at what refers to what. PostgreSQL has both in its care."""
    if not look.database.is_sqlite:
        return
    async with look.database.read() as connection:
        said = await connection.execute(text(f"PRAGMA integrity_check({_FAULTS_SHOWN})"))
        faults = [str(row[0]) for row in said if row[0] != "ok"]
        referring = await connection.execute(text("PRAGMA foreign_key_check"))
        loose = [(str(row[0]), str(row[1]), str(row[2])) for row in referring.fetchmany(FOUND_MOST)]
    look.saw(1)
    for fault in faults:
        yield Found(Problem("database", "file", None, f"SQLite says: {fault}"))
    for table, number, parent in loose:
        if table != "tags":  # of which the next check tells
            why = f"the row refers to one of {parent} that there is not"
            yield Found(Problem("database", f"{table} {number}", None, why))


async def tags_at_nothing(look: Look) -> AsyncIterator[Found]:
    """Tags whose manifest is not there, or is another repository's: nobody can pull them."""
    query = (
        select(tags.c.repository_id, tags.c.name, repositories.c.name.label("repository"), manifests.c.id)
        .join(repositories, repositories.c.id == tags.c.repository_id)
        .outerjoin(manifests, manifests.c.id == tags.c.manifest_id)
        .where(_IS_NOWHERE)
    )
    for row in await _rows(look, tags, query):
        why = "it stands at a manifest that is not in this repository"
        mend = "delete the tag; its history says where it stood"
        problem = Problem("tags", row.name, row.repository, why, mend)
        yield Found(problem, _drop_tag(look.database, row.repository_id, row.repository, row.name))


_IS_NOWHERE = or_(manifests.c.id.is_(None), manifests.c.repository_id != tags.c.repository_id)


def _drop_tag(database: Database, repository_id: int, repository: str, tag: str) -> Mend:
    async def mend() -> bool:
        async with database.write() as connection:
            await repos.lock(connection, repository_id)
            stands = exists().where(
                manifests.c.id == tags.c.manifest_id, manifests.c.repository_id == tags.c.repository_id
            )
            this = (tags.c.repository_id == repository_id, tags.c.name == tag)
            gone = await connection.execute(delete(tags).where(*this, ~stands))
            if not gone.rowcount:
                return False
            held = await repos.find_in(connection, repository)
            of_tag = (tag_history.c.repository_id == repository_id, tag_history.c.name == tag)
            last = select(tag_history.c.new_digest).where(*of_tag).order_by(tag_history.c.id.desc()).limit(1)
            old = (await connection.execute(last)).scalar()
            if held is not None:
                why = "fsck: its manifest is not there"
                await taghistory.remember(
                    connection, held, tag, "delete", actor=HOST, old=old, new=None, reason=why
                )
            await record(connection, "tag.deleted", repository, HOST, {"tag": tag, "old_digest": old})
            await move_epoch(connection, "content")
        return True

    return mend


async def links_never_reviewed(look: Look) -> AsyncIterator[Found]:
    """Blobs in a repository that no manifest names, and at which no collection would ever look."""
    query = (
        select(blob_links.c.repository_id, blob_links.c.blob_id, blobs.c.digest, repositories.c.name)
        .join(blobs, blobs.c.id == blob_links.c.blob_id)
        .join(repositories, repositories.c.id == blob_links.c.repository_id)
        .where(blob_links.c.review_at.is_(None), ~is_named(blob_links.c.repository_id, blobs.c.digest))
    )
    for row in await _rows(look, blob_links, query):
        why = "no manifest of the repository names it, and no collection would look at it"
        mend = "have the next collection look at it"
        problem = Problem("links", row.digest, row.name, why, mend)
        yield Found(problem, _have_reviewed(look.database, row.repository_id, row.blob_id))


def _have_reviewed(database: Database, repository_id: int, blob_id: int) -> Mend:
    async def mend() -> bool:
        this = (blob_links.c.repository_id == repository_id, blob_links.c.blob_id == blob_id)
        async with database.write() as connection:
            done = await connection.execute(
                update(blob_links).where(*this, blob_links.c.review_at.is_(None)).values(review_at=db_time())
            )
        return done.rowcount > 0

    return mend


async def dead_and_alive(look: Look) -> AsyncIterator[Found]:
    """Bytes that are written down as dead, to be deleted, and that a row names all the same."""
    for table, words in ((blobs, "a blob"), (upload_sessions, "an upload")):
        query = select(dead_blobs.c.locator).join(table, table.c.locator == dead_blobs.c.locator)
        for row in await _rows(look, dead_blobs, query):
            why = f"they are to be deleted, and are those of {words}"
            problem = Problem("dead", row.locator, None, why, "let them live")
            yield Found(problem, _let_live(look.database, row.locator))


def _let_live(database: Database, locator: str) -> Mend:
    async def mend() -> bool:
        alive = [exists().where(table.c.locator == locator) for table in (blobs, upload_sessions)]
        async with database.write() as connection:
            gone = await connection.execute(
                delete(dead_blobs).where(dead_blobs.c.locator == locator, or_(*alive))
            )
        return gone.rowcount > 0

    return mend


async def attested(look: Look) -> AsyncIterator[Found]:
    """Attestations without the referrer that says so, and referrers of attestations that there are not."""
    database = look.database
    signed = (
        select(attestations.c.id, attestations.c.digest, attestations.c.kind, repositories.c.name)
        .join(repositories, repositories.c.id == attestations.c.repository_id)
        .where(
            attestations.c.signed_at.is_not(None),
            attestations.c.left_out.is_(None),
            ~exists().where(manifests.c.attestation_id == attestations.c.id),
        )
    )
    for row in await _rows(look, attestations, signed):
        why = f"its {row.kind} was signed, and the signed statement is not there"
        problem = Problem("attestations", row.digest, row.name, why, "have it signed again")
        yield Found(problem, _sign_again(database, row.id))
    said = (
        select(manifests.c.digest, manifests.c.subject_digest, repositories.c.name)
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .outerjoin(attestations, attestations.c.id == manifests.c.attestation_id)
        .where(
            manifests.c.attestation_id.is_not(None),
            or_(
                attestations.c.id.is_(None),
                attestations.c.repository_id != manifests.c.repository_id,
                manifests.c.subject_digest.is_distinct_from(attestations.c.digest),
            ),
        )
    )
    for row in await _rows(look, None, said):
        why = f"it is attested of {row.subject_digest}, and no row of this registry says so"
        yield Found(Problem("attestations", row.digest, row.name, why))
    about = (
        select(attestations.c.digest, attestations.c.kind, repositories.c.name)
        .join(repositories, repositories.c.id == attestations.c.repository_id)
        .outerjoin(
            manifests,
            (manifests.c.repository_id == attestations.c.repository_id)
            & (manifests.c.digest == attestations.c.digest),
        )
        .where(manifests.c.id.is_(None))
    )
    for row in await _rows(look, None, about):
        why = f"a {row.kind} is attested of it, and it is not there"
        yield Found(Problem("attestations", row.digest, row.name, why))


def _sign_again(database: Database, attestation_id: int) -> Mend:
    async def mend() -> bool:
        said = exists().where(manifests.c.attestation_id == attestations.c.id)
        this = (attestations.c.id == attestation_id, attestations.c.signed_at.is_not(None), ~said)
        async with database.write() as connection:
            done = await connection.execute(
                update(attestations).where(*this).values(signed_at=None, kid=None, run_after=db_time())
            )
        return done.rowcount > 0

    return mend


async def uploads(look: Look) -> AsyncIterator[Found]:
    """Uploads of which the store has nothing, or parts that are not what the ledger says."""
    database, store = look.database, look.store
    query = (
        select(upload_sessions.c.id, upload_sessions.c.locator, repositories.c.name)
        .join(repositories, repositories.c.id == upload_sessions.c.repository_id)
        .where(upload_sessions.c.expires_at > db_time())
    )
    mend = "drop the session; its client begins anew"
    for row in await _rows(look, upload_sessions, query):
        try:
            await store.upload_size(row.locator)
        except BlobUploadUnknownError:
            async with database.read_once() as connection:
                this = select(upload_sessions.c.id).where(upload_sessions.c.id == row.id)
                if (await connection.execute(this)).first() is None:
                    continue
            problem = Problem("uploads", row.id, row.name, "the store has nothing of the upload", mend)
            yield Found(problem, _drop_session(database, row.id))
    parts = (
        select(multipart_parts.c.locator, func.sum(multipart_parts.c.size).label("size"))
        .group_by(multipart_parts.c.locator)
        .subquery()
    )
    held = func.coalesce(parts.c.size, 0) + multipart_uploads.c.tail_bytes
    ledger = (
        select(multipart_uploads.c.locator, multipart_uploads.c.length, held.label("held"))
        .outerjoin(parts, parts.c.locator == multipart_uploads.c.locator)
        # Who writes enters a part and the length together; what lies is nobody's.
        .where(multipart_uploads.c.length != held, multipart_uploads.c.written_at < db_time(_WRITTEN))
    )
    for row in await _rows(look, multipart_uploads, ledger):
        why = f"its parts have {row.held} bytes, and the ledger says {row.length}"
        async with database.read_once() as connection:
            of_it = select(upload_sessions.c.id).where(upload_sessions.c.locator == row.locator)
            session = (await connection.execute(of_it)).scalar()
        if session is None:
            yield Found(Problem("uploads", row.locator, None, f"{why}; collections delete it", is_note=True))
        else:
            yield Found(Problem("uploads", session, None, why, mend), _drop_session(database, session))


_WRITTEN = -timedelta(minutes=1)


def _drop_session(database: Database, session_id: str) -> Mend:
    async def mend() -> bool:
        async with database.write() as connection:
            gone = await connection.execute(delete(upload_sessions).where(upload_sessions.c.id == session_id))
        return gone.rowcount > 0

    return mend


async def _rows(look: Look, table: Table | None, query: Select[Any]) -> Sequence[Row[Any]]:
    """What a query of what is wrong finds, and that the whole table was looked at."""
    async with look.database.read() as connection:
        rows: Sequence[Row[Any]] = (await connection.execute(query.limit(FOUND_MOST))).all()
        if table is not None:
            counted = select(func.count()).select_from(table)
            look.saw(int((await connection.execute(counted)).scalar_one()))
    return rows
