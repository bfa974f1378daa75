"""Scans to be attested: an SBOM in two formats, and what advisories say of it, where the settings want that.

The rows come with the scan, in its transaction, and what advisories say is to be signed again with the rows
by which that changes (:mod:`registry.trials.telling`). What is signed is read when it is signed.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, exists, false, literal, select, true

from registry.advisories.report import Report
from registry.content import repositories as repos
from registry.content.manifests import remove_rows
from registry.db.content import attestations, blobs, manifests, repositories
from registry.db.dialect import portions
from registry.db.engine import move_epoch
from registry.db.matchings import matchings
from registry.db.scans import image_scans, scans
from registry.trials.attesting import attest_scan
from registry.trials.matched import Known, known_of, read_packed, report_from
from registry.trials.scanned import UNREADABLE, parse_document
from registry.trials.scanstatements import scan_predicate
from registry.trials.statements import OF_SCANS, SBOMS, ScanKind, Signer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.engine import Database
    from registry.settings import AttestScans
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads

PACKAGES_MAX = 20_000
"""An SBOM of so many has about 16 MiB, signed."""
_AT_ONCE = 100


class LeftOutError(Exception):
    """It is never said, as it is; the message is why."""


def _is_wanted(wanted: AttestScans, repository_id: ColumnElement[int]) -> ColumnElement[bool]:
    if wanted == "public":
        return exists().where(repositories.c.id == repository_id, repositories.c.visibility == "public")
    return true() if wanted == "all" else false()


async def attest_new_scan(
    connection: AsyncConnection, wanted: AttestScans, repository_id: int, digest: str, *, scan: str
) -> None:
    """Have a scan attested that just came for an image, if that is wanted in its repository."""
    if wanted == "none":
        return
    here = select(repositories.c.visibility).where(repositories.c.id == repository_id)
    if wanted == "all" or (await connection.execute(here)).scalar() == "public":
        await _attest(connection, repository_id, digest, scan=scan)


async def _attest(connection: AsyncConnection, repository_id: int, digest: str, *, scan: str) -> None:
    # Where there never were advisories, nobody has looked, and nothing is left to wait for it.
    has_looked = (await connection.execute(select(matchings.c.id).limit(1))).first() is not None
    kinds = OF_SCANS if has_looked else SBOMS
    await attest_scan(connection, repository_id, digest, scan=scan, kinds=kinds)


async def attest_missing_scans(database: Database, wanted: AttestScans) -> int:
    """Have those scans attested that came before that was wanted or there were advisories, or with their
    image from elsewhere; how many."""
    if wanted == "none":
        return 0
    done, after = 0, 0
    while True:
        page = _missing(wanted).where(manifests.c.id > after).order_by(manifests.c.id).limit(_AT_ONCE)
        async with database.read_once() as connection:
            rows = (await connection.execute(page)).all()
        if not rows:
            return done
        for row in rows:
            async with database.write() as connection:
                await repos.lock(connection, row.repository_id)
                # Again under the lock: the image may be gone, or have another scan.
                this = _missing(wanted).where(manifests.c.id == row.id)
                held = (await connection.execute(this)).first()
                if held is not None:
                    await _attest(connection, held.repository_id, held.digest, scan=held.document_digest)
                    done += 1
        after = rows[-1].id


async def forget_unwanted_scans(database: Database, wanted: AttestScans) -> int:
    """Take away what is not signed, and will not be, since it is not wanted any more, with what was signed
    for it before: that is not what advisories say now. What is signed and true stands. How many."""
    over = and_(
        attestations.c.signed_at.is_(None),
        attestations.c.kind.in_(OF_SCANS),
        ~_is_wanted(wanted, attestations.c.repository_id),
    )
    done = 0
    while True:
        page = select(attestations.c.repository_id).where(over).limit(1)
        async with database.read_once() as connection:
            repository_id = (await connection.execute(page)).scalar()
        if repository_id is None:
            return done
        async with database.write() as connection:
            await repos.lock(connection, repository_id)
            these = and_(attestations.c.repository_id == repository_id, over)
            ids = select(attestations.c.id).where(these).order_by(attestations.c.id).with_for_update()
            for some in portions((await connection.execute(ids)).scalars().all()):
                await remove_rows(connection, manifests.c.attestation_id.in_(some))
                await connection.execute(delete(attestations).where(attestations.c.id.in_(some)))
                done += len(some)
            await move_epoch(connection, "content")


def _missing(wanted: AttestScans) -> Any:
    about_it = (
        attestations.c.repository_id == manifests.c.repository_id,
        attestations.c.digest == manifests.c.digest,
        attestations.c.found == literal('{"scan":"') + scans.c.document_digest + '"}',
    )
    sbom, matches = (exists().where(*about_it, attestations.c.kind == kind) for kind in (SBOMS[0], "matches"))
    return (
        select(manifests.c.id, manifests.c.repository_id, manifests.c.digest, scans.c.document_digest)
        .join(image_scans, image_scans.c.manifest_id == manifests.c.id)
        .join(scans, scans.c.id == image_scans.c.scan_id)
        .where(
            _is_wanted(wanted, manifests.c.repository_id),
            ~sbom | and_(~matches, exists(select(matchings.c.id))),
        )
    )


def is_due(wanted: AttestScans) -> ColumnElement[bool]:
    """Which attestations are of scans, and still wanted."""
    return and_(attestations.c.kind.in_(OF_SCANS), _is_wanted(wanted, attestations.c.repository_id))


async def read_scan_predicate(
    database: Database,
    store: BlobStore,
    row: Row[Any],
    *,
    place: str,
    signer: Signer,
    parsers: Threads,
) -> Mapping[str, Any] | None:
    """What is to be signed for an attestation of a scan, about an image in the repository that clients write
    as ``place``. ``None``: nothing yet, as there are packages that nobody has looked up.

    Raises:
        LeftOutError: it is too large, or cannot be read.
        BlobUnknownError: its document was collected just now.
    """
    query = (
        select(manifests.c.id, scans.c.created_at, scans.c.packages, blobs.c.locator)
        .join(image_scans, image_scans.c.manifest_id == manifests.c.id)
        .join(scans, scans.c.id == image_scans.c.scan_id)
        .join(blobs, blobs.c.id == scans.c.blob_id)
        .where(
            manifests.c.repository_id == row.repository_id,
            manifests.c.digest == row.digest,
            scans.c.document_digest == json.loads(row.found)["scan"],
            blobs.c.damage.is_(None),
        )
    )
    known = _UNKNOWN
    async with database.read() as connection:
        held = (await connection.execute(query)).first()
        if held is not None and row.kind == "matches":
            known = await known_of(connection, held.id) or _UNKNOWN
            if known.advisories is None or known.unmatched:
                return None
    if held is None:
        return None
    if held.packages > PACKAGES_MAX:
        raise LeftOutError(f"its scan has {held.packages} packages; {PACKAGES_MAX} are the limit")
    packed = await read_packed(store, held.locator)
    made_at = f"{row.made_at:%Y-%m-%dT%H:%M:%SZ}"
    image = f"{place}@{row.digest}"
    try:
        return await parsers.run(
            _predicate, row.kind, packed, held.created_at, known, image=image, signer=signer, made_at=made_at
        )
    except UNREADABLE as error:
        raise LeftOutError(f"its scan cannot be read: {type(error).__name__}") from None


def _predicate(
    kind: ScanKind,
    packed: bytes,
    scanned_at: datetime,
    known: Known,
    *,
    image: str,
    signer: Signer,
    made_at: str,
) -> Mapping[str, Any]:
    scan = parse_document(packed)
    report = report_from(scan, scanned_at, known) if kind == "matches" else Report(scan, scanned_at)
    return scan_predicate(kind, report, image=image, signer=signer, made_at=made_at)


_UNKNOWN = Known(MappingProxyType({}), frozenset(), None, frozenset())
