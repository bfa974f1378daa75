"""Scans as workers send them: the document's bytes first, then the rows of what is in it.

A scan counts for the image that the lease is for, in the lease's repository, and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, exists, select, update
from sqlalchemy import insert as sql_insert

from registry.content import blobs as blob_use
from registry.content import repositories as repos
from registry.db.content import blobs, manifests, repositories
from registry.db.dialect import batches, insert, insert_ignoring_conflict, portions
from registry.db.scans import components, image_scans, scan_components, scans
from registry.db.trials import is_leased, parts
from registry.db.types import db_time
from registry.errors import ConflictError, RequestInvalidError, UnavailableError
from registry.trials.packageblocks import catch_scanned
from registry.trials.scanattesting import attest_new_scan
from registry.trials.scanned import Document, parse_scanned, stored_frames

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.engine import Database
    from registry.settings import AttestScans
    from registry.storage.store import BlobStore
    from registry.trials.scanned import Component, Scanned
    from registry.trials.verdicts import Reporter

_AT_ONCE = 50
"""How many rows a step of the sweep removes: each may have thousands below it."""


@dataclass(frozen=True, slots=True)
class _Part:
    id: str
    repository_id: int
    digest: str
    platform: str
    scan: str | None


async def require_any(database: Database, *, worker: Reporter) -> None:
    """For whoever is about to read what a worker sends, which is large.

    Raises:
        ConflictError: the worker has no live lease.
    """
    mine = (parts.c.lease_account_id == worker.account_id, parts.c.lease_expires_at > db_time())
    async with database.read_once() as connection:
        if (await connection.execute(select(parts.c.id).where(*mine).limit(1))).first() is None:
            raise _not_leased()


async def require_asked(database: Database, *, worker: Reporter, lease: str) -> tuple[int, str]:
    """For whoever is about to make what is kept of what a worker sent, which takes long. The number and name
    of the lease's repository.

    Raises:
        ConflictError: the lease is another's or over, or its job was not to scan.
    """
    async with database.read_once() as connection:
        part = await _find(connection, worker, lease)
        _asked(part)
        name = select(repositories.c.name).where(repositories.c.id == part.repository_id)
        return part.repository_id, (await connection.execute(name)).scalar_one()


async def take(
    database: Database,
    store: BlobStore,
    *,
    worker: Reporter,
    lease: str,
    document: Document,
    attested: AttestScans,
) -> int:
    """Keep a scan of the image that a lease is for, and have it attested where that is wanted. Sent again it
    changes nothing. The number of the lease's repository.

    Raises:
        ConflictError: the lease is another's or over, its job was not to scan, or another scan was taken for
            it.
        RequestInvalidError: the scan is of another image.
        UnavailableError: a collection removed the same bytes just now.
    """
    async with database.read_once() as connection:
        part = await _find(connection, worker, lease)
    if _is_taken(part, document):
        return part.repository_id
    locator = await _store(database, store, document)
    is_used = False
    try:
        async with database.write() as connection:
            await repos.lock(connection, part.repository_id)
            # Again under the lock: it may have been taken back, or sent twice at once.
            part = await _find(connection, worker, lease)
            if _is_taken(part, document):
                return part.repository_id
            scan_id, is_used = await _record(connection, document, locator)
            manifest_id = await _count_for_image(connection, part, scan_id, worker)
            scan = str(document.digest)
            await attest_new_scan(connection, attested, part.repository_id, part.digest, scan=scan)
            await connection.execute(
                update(parts).where(parts.c.id == part.id).values(scan=document.scanned.stored())
            )
            if manifest_id is not None:
                await catch_scanned(connection, manifest_id, scan_id)
    finally:
        # Where nobody knows whether it was committed, they stay, for collection.
        if not is_used and locator is not None:
            await store.delete(locator)
    return part.repository_id


async def sweep(database: Database) -> int:
    """Remove scans that count for no image any more, and packages that are in none that is left; how many
    scans. Their documents are left to the next collection."""
    counts = exists(select(image_scans.c.scan_id).where(image_scans.c.scan_id == scans.c.id))
    held = exists(select(scan_components.c.scan_id).where(scan_components.c.component_id == components.c.id))
    removed = 0
    for table, is_there in ((scans, counts), (components, held)):
        while True:
            over = select(table.c.id).where(~is_there).limit(_AT_ONCE)
            async with database.read_once() as connection:
                ids = (await connection.execute(over)).scalars().all()
            if not ids:
                break
            async with database.write() as connection:
                # Who takes one up again holds it meanwhile.
                free = select(table.c.id).where(table.c.id.in_(ids)).with_for_update(skip_locked=True)
                mine = (await connection.execute(free)).scalars().all()
                gone = await connection.execute(delete(table).where(table.c.id.in_(mine), ~is_there))
            removed += gone.rowcount if table is scans else 0
            if len(ids) < _AT_ONCE or not gone.rowcount:
                break
    return removed


async def _find(connection: AsyncConnection, worker: Reporter, lease: str) -> _Part:
    columns = (parts.c[name] for name in _Part.__dataclass_fields__)
    part = (await connection.execute(select(*columns).where(is_leased(lease, worker.account_id)))).first()
    if part is None:
        raise _not_leased()
    return _Part(*part)


def _not_leased() -> ConflictError:
    return ConflictError(
        "this lease is not a live one of this worker: it has run out, was reported on, or is another's"
    )


def _asked(part: _Part) -> Scanned:
    """Where the scan of the part stands, which was asked for."""
    standing = parse_scanned(part.scan)
    if standing is None or standing.state in ("off", "unable"):
        raise ConflictError("this lease's job is not to scan the image")
    return standing


def _is_taken(part: _Part, document: Document) -> bool:
    """Whether the scan of the part's lease is this one already."""
    if (part.digest, part.platform) != (document.image, document.platform):
        raise RequestInvalidError(
            f"the lease is for {part.digest} on {part.platform}, the scan of {document.image[:100]} on "
            f"{document.platform[:100]}"
        )
    standing = _asked(part)
    if standing.state == "asked":
        return False
    if standing.document_digest != str(document.digest):
        raise ConflictError("another scan was taken for this lease already")
    return True


async def _store(database: Database, store: BlobStore, document: Document) -> str | None:
    """Make the bytes durable; ``None``: they are."""
    async with database.read_once() as connection:
        there = select(blobs.c.id).where(
            blobs.c.digest == str(document.packed_digest), blobs.c.damage.is_(None)
        )
        if (await connection.execute(there)).first() is not None:
            return None
    database.require_room()
    locator = await store.start_upload()
    try:
        await store.append(locator, _once(document.packed), offset=0)
        await store.finish(locator, document.packed_digest)
    except BaseException:
        await store.delete(locator)
        raise
    return locator


async def _once(packed: bytes) -> AsyncIterator[bytes]:
    yield packed


async def _record(connection: AsyncConnection, document: Document, locator: str | None) -> tuple[int, bool]:
    """The scan's row, made if it is new; and whether a row names the locator now."""
    digest = document.packed_digest
    if locator is None:
        blob = await blob_use.hold_row(connection, digest)
    else:
        blob = await blob_use.store_row(connection, digest, size=len(document.packed), locator=locator)
    if blob is None:
        raise UnavailableError("the scan's bytes were removed just now; send it again")
    blob_id, standing = blob
    counted = document.scanned
    made = insert_ignoring_conflict(
        connection,
        scans,
        {
            "document_digest": str(document.digest),
            "blob_id": blob_id,
            "digest": document.image,
            "platform": document.platform,
            "scanner": document.scanner,
            "system": document.system,
            "packages": counted.packages,
            "found": counted.found,
            "incomplete": counted.incomplete,
            "truncated": counted.truncated,
            "created_at": db_time(),
            "layers": json.dumps(document.layers),
            "frames": stored_frames(document.frames),
        },
    )
    scan_id = (await connection.execute(made.returning(scans.c.id))).scalar()
    if scan_id is None:
        same = select(scans.c.id).where(scans.c.document_digest == str(document.digest))
        scan_id = (await connection.execute(same.with_for_update(read=True, key_share=True))).scalar_one()
    else:
        ids = await _intern(connection, [one.component for one in document.held])
        rows = [
            {
                "scan_id": scan_id,
                "component_id": ids[one.component.key],
                "owned": one.owned,
                "layer": one.layer,
            }
            for one in document.held
        ]
        if rows:
            await connection.execute(sql_insert(scan_components), rows)
    return scan_id, standing == locator


async def _intern(connection: AsyncConnection, wanted: Sequence[Component]) -> Mapping[str, int]:
    """The numbers of the components by their keys; those that are new are made. None goes before the
    transaction ends."""
    found: dict[str, int] = {}
    for batch in portions(wanted):
        rows = [{"key": one.key, **_columns(one)} for one in batch]
        await connection.execute(insert_ignoring_conflict(connection, components, rows))
        held = select(components.c.key, components.c.id).order_by(components.c.key)
        for keys in batches(row["key"] for row in rows):
            query = held.where(components.c.key.in_(keys)).with_for_update(read=True, key_share=True)
            found |= {row.key: row.id for row in await connection.execute(query)}
    return found


def _columns(component: Component) -> dict[str, str]:
    return {name: getattr(component, name) for name in type(component).__dataclass_fields__}


async def _count_for_image(
    connection: AsyncConnection, part: _Part, scan_id: int, worker: Reporter
) -> int | None:
    """Let a scan be the newest of the part's image, and give its number; one that was deleted meanwhile has
    none."""
    image = select(manifests.c.id).where(
        manifests.c.repository_id == part.repository_id, manifests.c.digest == part.digest
    )
    manifest_id: int | None = (await connection.execute(image)).scalar()
    if manifest_id is None:
        return None
    values = {"scan_id": scan_id, "worker": worker.name, "taken_at": db_time()}
    newest = insert(connection, image_scans).values(manifest_id=manifest_id, **values)
    await connection.execute(
        newest.on_conflict_do_update(index_elements=[image_scans.c.manifest_id], set_=values)
    )
    return manifest_id
