"""The report of a stored image: its newest scan, and what advisories say of that now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from registry.advisories.matching import Match
from registry.advisories.report import Excused, Report
from registry.errors import NotFoundError
from registry.formats.excusing import excuse
from registry.trials.findingswaivers import excused_by, excused_in
from registry.trials.matched import read_stored, stored_of
from registry.trials.scanreading import read_kept
from registry.trials.trustedvex import read_trusted, read_trusted_of

if TYPE_CHECKING:
    from sqlalchemy import Row

    from registry.content.manifests import StoredManifest
    from registry.contract.scan import Scan
    from registry.db.engine import Database
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads
    from registry.trials.matched import Stored
    from registry.trials.scanreading import Scanned
    from registry.trials.vulnerabilities import Vulnerability

Key = tuple[str, str, str]
"""A vulnerability, and the package and version that it is in."""


async def read_report(
    database: Database,
    store: BlobStore,
    manifest: StoredManifest,
    *,
    name: str,
    image: str,
    parsers: Threads,
) -> Report:
    """What is known of an image of the repository ``name``, which clients call ``image``; what was not looked
    up, it says so. What live waivers and trusted statements of VEX excuse is excused.

    Raises:
        NotFoundError: it was not scanned; of an index, which is scanned by its platforms, there is no report.
    """
    async with database.read() as connection:
        stored = await stored_of(connection, manifest.id)
    if stored is None:
        raise NotFoundError(f"there is no scan of {manifest.digest} itself")
    known = await read_stored(store, stored, parsers=parsers)
    async with database.read() as connection:
        waived = await excused_in(connection, manifest.repository_id, str(manifest.digest), known)
    known = replace(known, excused=(*known.excused, *waived))
    statements = await read_trusted(database, store, manifest, name=name, parsers=parsers)
    return await parsers.run(excuse, known, statements, image)


async def read_reports(
    database: Database,
    store: BlobStore,
    images: Sequence[StoredManifest],
    stored: Sequence[Stored],
    waived: Sequence[Sequence[Row[Any]]],
    *,
    name: str,
    parsers: Threads,
) -> Sequence[Report]:
    """As :func:`read_report`, of several images of the repository ``name`` of which all is ``stored`` that
    their scans said, with the rows of the waivers of their findings (``waived``). One statement."""
    statements = await read_trusted_of(database, store, images, name=name, parsers=parsers)
    found = []
    for image, its, rows, stated in zip(images, stored, waived, statements, strict=True):
        known = await read_stored(store, its, parsers=parsers)
        known = replace(known, excused=(*known.excused, *excused_by(rows, known)))
        found.append(await parsers.run(excuse, known, stated, f"{name}@{image.digest}"))
    return found


async def read_stated(
    database: Database,
    store: BlobStore,
    manifest: StoredManifest,
    scanned: Scanned,
    found: Sequence[Vulnerability],
    *,
    name: str,
    image: str,
    parsers: Threads,
) -> Mapping[Key, Excused]:
    """What trusted statements of VEX excuse of these vulnerabilities, which were ``found`` in an image. One
    statement; the scan's document is read only where a statement counts.

    Raises:
        NotFoundError: as :func:`registry.trials.scanreading.read_kept`.
    """
    statements = await read_trusted(database, store, manifest, name=name, parsers=parsers)
    if not statements:
        return {}
    scan = await read_kept(store, scanned.kept, parsers=parsers)
    known = Report(scan, scanned.view.taken_at, matches=_matches(scan, found))
    excused = (await parsers.run(excuse, known, statements, image)).excused
    packages = [scan.packages[one.package_index] for one in excused]
    return {(one.id, its.name, its.version): one for one, its in zip(excused, packages, strict=True)}


def _matches(scan: Scan, found: Sequence[Vulnerability]) -> tuple[Match, ...]:
    """The same as matches of the packages of the scan's document."""
    told: dict[tuple[str, str, str], list[Vulnerability]] = {}
    for one in found:
        told.setdefault((one.ecosystem, one.package, one.version), []).append(one)
    return tuple(
        Match(
            package_index=index,
            id=one.id,
            aliases=tuple(one.aliases),
            kind=one.kind,
            severity=one.severity,
            score=one.score,
            summary=one.summary,
            fixed_version=one.fixed_version,
            state=one.state,
            kev=one.kev,
            epss=one.epss,
            published_at=one.published_at,
        )
        for index, package in enumerate(scan.packages)
        if package.owned_by is None
        for one in told.get((package.ecosystem, package.name, package.version), ())
    )
