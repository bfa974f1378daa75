"""What is known of the packages of one image, from rows: its matches, and the whole of it as a report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, func, or_, select, true

from registry.advisories.ecosystems import line_of
from registry.advisories.matching import Match
from registry.advisories.report import Report
from registry.advisories.reported import with_reported, without_reported
from registry.db.content import blobs, manifests
from registry.db.matchings import component_findings, matchings
from registry.db.scans import components, image_scans, scan_components, scans
from registry.trials.matcher import parse_status
from registry.trials.scanned import component_of, parse_document

if TYPE_CHECKING:
    from sqlalchemy import FromClause, Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.advisories.file import Status
    from registry.contract.scan import Scan
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads


@dataclass(frozen=True, slots=True)
class Known:
    """What advisories say of an image's packages, by the packages' keys
    (:attr:`registry.trials.scanned.Component.key`); those that a distribution's package brought have none.

    ``advisories`` is the file that counts now, ``None`` where none ever did. ``unmatched`` are packages that
    nobody has looked up; of ``lines`` of ecosystems the file has records.
    """

    matches: Mapping[str, tuple[tuple[Match, datetime], ...]]
    unmatched: frozenset[str]
    advisories: Status | None
    lines: frozenset[str]


def with_scan(images: Select[Any]) -> Select[Any]:
    """Rows of ``manifests`` with the newest scan of each, as far as there is one: its ``scan_id``, when it
    was taken, where its ``document`` is unless that is damaged, and what :func:`known_in` reads."""
    return (
        images.add_columns(
            image_scans.c.scan_id,
            image_scans.c.taken_at,
            _DOCUMENT.c.locator.label("document"),
            *(_NEWEST.c[name] for name in ("generation", "sources", "ecosystems")),
        )
        .outerjoin(image_scans, image_scans.c.manifest_id == manifests.c.id)
        .outerjoin(scans, scans.c.id == image_scans.c.scan_id)
        .outerjoin(_DOCUMENT, and_(_DOCUMENT.c.id == scans.c.blob_id, _DOCUMENT.c.damage.is_(None)))
        .outerjoin(_NEWEST, true())
    )


async def known_of(connection: AsyncConnection, manifest_id: int) -> Known | None:
    """The matches of the packages of an image's newest scan, each with the time since when the registry knows
    of it; ``None``: it was not scanned. No document is read for it."""
    row = await _scan_of(connection, manifest_id)
    return None if row is None or row.scan_id is None else (await known_in(connection, [row]))[row.scan_id]


async def known_in(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> Mapping[int, Known]:
    """As :func:`known_of`, of rows of :func:`with_scan`, by their scans; one statement."""
    scan_ids = {row.scan_id for row in rows if row.scan_id is not None}
    if not scan_ids:
        return {}
    query = (
        select(scan_components.c.scan_id, components.c.key, components.c.matching, *component_findings.c)
        .join(components, components.c.id == scan_components.c.component_id)
        .outerjoin(component_findings, component_findings.c.component_id == components.c.id)
        .where(
            scan_components.c.scan_id.in_(scan_ids),
            scan_components.c.owned.is_(False),
            or_(components.c.matching == 0, component_findings.c.component_id.is_not(None)),
        )
        .order_by(components.c.key, component_findings.c.advisory)
    )
    matches: dict[int, dict[str, list[tuple[Match, datetime]]]] = {one: {} for one in scan_ids}
    unmatched: dict[int, set[str]] = {one: set() for one in scan_ids}
    for row in await connection.execute(query):
        if row.matching == 0:
            unmatched[row.scan_id].add(row.key)
        if row.advisory is not None:
            of_key = matches[row.scan_id].setdefault(row.key, [])
            of_key.append((match_of(row), row.first_seen_at))
    counts = rows[0] if rows[0].generation is not None else None
    advisories = None if counts is None else parse_status(counts.generation, counts.sources)
    return {
        one: Known(
            matches=MappingProxyType({key: tuple(found) for key, found in matches[one].items()}),
            unmatched=frozenset(unmatched[one]),
            advisories=advisories,
            lines=_lines(counts),
        )
        for one in scan_ids
    }


async def _scan_of(connection: AsyncConnection, manifest_id: int) -> Row[Any] | None:
    image = select(manifests.c.id).select_from(manifests).where(manifests.c.id == manifest_id)
    row: Row[Any] | None = (await connection.execute(with_scan(image))).first()
    return row


@dataclass(frozen=True, slots=True)
class LookedUp:
    """How many matches the packages of a scan have, and of which packages, by ecosystem, nobody knows."""

    matches: int
    not_looked_up: Mapping[str, int]
    advisories_as_of: datetime | None


def with_lookups(its: FromClause) -> Select[Any]:
    """The rows of scans, which have an ``id``, each once for each ecosystem of its packages: with what
    :func:`looked_up` reads."""
    ids = select(its.c.id)
    here = (scan_components.c.scan_id.in_(ids), scan_components.c.owned.is_(False))
    matches = (
        select(scan_components.c.scan_id, func.count().label("matches"))
        .join(component_findings, component_findings.c.component_id == scan_components.c.component_id)
        .where(*here)
        .group_by(scan_components.c.scan_id)
        .subquery("matches")
    )
    counted = (
        select(
            scan_components.c.scan_id,
            components.c.ecosystem,
            func.count().label("of_ecosystem"),
            func.sum(case((components.c.matching == 0, 1), else_=0)).label("unmatched"),
        )
        .join(components, components.c.id == scan_components.c.component_id)
        .where(*here)
        .group_by(scan_components.c.scan_id, components.c.ecosystem)
        .subquery("counted")
    )
    return (
        select(
            *its.c,
            matches.c.matches,
            counted.c.ecosystem,
            counted.c.of_ecosystem,
            counted.c.unmatched,
            *(_NEWEST.c[name] for name in ("generation", "sources", "ecosystems")),
        )
        .select_from(its)
        .outerjoin(matches, matches.c.scan_id == its.c.id)
        .outerjoin(counted, counted.c.scan_id == its.c.id)
        .outerjoin(_NEWEST, true())
    )


def looked_up(rows: Sequence[Row[Any]]) -> LookedUp:
    """What of one scan was looked up, by its rows of :func:`with_lookups`."""
    counts = rows[0] if rows[0].generation is not None else None
    covered = _lines(counts)
    oldest = None if counts is None else parse_status(counts.generation, counts.sources).oldest
    unknown = {}
    for row in sorted((row for row in rows if row.ecosystem is not None), key=lambda row: row.ecosystem):
        if count := row.unmatched if line_of(row.ecosystem) in covered else row.of_ecosystem:
            unknown[row.ecosystem] = count
    return LookedUp(rows[0].matches or 0, unknown, None if oldest is None else oldest.as_of)


@dataclass(frozen=True, slots=True)
class Stored:
    """An image's newest scan, as it is stored under ``locator``, and what is known of its packages."""

    locator: str
    taken_at: datetime
    known: Known


async def stored_of(connection: AsyncConnection, manifest_id: int) -> Stored | None:
    """What a report of an image is made of; ``None``: it was not scanned."""
    row = await _scan_of(connection, manifest_id)
    return None if row is None else (await stored_in(connection, [row]))[0]


async def stored_in(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> Sequence[Stored | None]:
    """As :func:`stored_of`, of rows of :func:`with_scan`, in their order; one statement."""
    known = await known_in(connection, rows)
    return [
        None if row.document is None else Stored(row.document, row.taken_at, known[row.scan_id])
        for row in rows
    ]


async def read_stored(store: BlobStore, stored: Stored, *, parsers: Threads) -> Report:
    """The report. It reads the document, which may take a second of a thread: better without a connection.

    Packages that nobody has looked up are counted among ``not_looked_up``; where that is so of all of them,
    the report has no advisories.
    """
    packed = await read_packed(store, stored.locator)
    return await parsers.run(_report, packed, stored.taken_at, stored.known)


async def report_of(
    connection: AsyncConnection, store: BlobStore, manifest_id: int, *, parsers: Threads
) -> Report | None:
    """What is known of an image by its newest scan; ``None``: it was not scanned."""
    stored = await stored_of(connection, manifest_id)
    return None if stored is None else await read_stored(store, stored, parsers=parsers)


async def read_packed(store: BlobStore, locator: str) -> bytes:
    """The bytes of a scan's document, as they are stored."""
    async with store.open_blob(locator) as opened:
        return b"".join([chunk async for chunk in opened.chunks()])


def _report(packed: bytes, taken_at: datetime, known: Known) -> Report:
    return report_from(parse_document(packed), taken_at, known)


def report_from(scan: Scan, taken_at: datetime, known: Known) -> Report:
    """The report of a scan whose packages are known. Pure."""
    matches: list[Match] = []
    first_seen_at: dict[tuple[str, int], datetime] = {}
    not_looked_up: Counter[str] = Counter()
    looked_up = 0
    for index, package in enumerate(scan.packages):
        if package.owned_by is not None:
            continue
        key = component_of(package).key
        if key in known.unmatched or line_of(package.ecosystem) not in known.lines:
            not_looked_up[package.ecosystem] += 1
        looked_up += key not in known.unmatched
        for match, since in known.matches.get(key, ()):
            matches.append(replace(match, package_index=index))
            first_seen_at[match.id, index] = since
    was_looked_up = looked_up > 0 or not not_looked_up
    unknown = without_reported(scan, not_looked_up)
    return Report(
        scan,
        taken_at,
        matches=with_reported(scan, matches),
        advisories=known.advisories if was_looked_up else None,
        not_looked_up=MappingProxyType({one: unknown[one] for one in sorted(unknown)}),
        first_seen_at=MappingProxyType(first_seen_at),
    )


def match_of(row: Any) -> Match:
    """The match that a row of ``component_findings`` is, as of the package with index 0."""
    return Match(
        package_index=0,
        id=row.advisory,
        aliases=tuple(json.loads(row.aliases)),
        kind=row.kind,
        severity=row.severity,
        score=row.score,
        summary=row.summary,
        fixed_version=row.fixed_version,
        state=row.state,
        kev=row.kev,
        epss=row.epss,
        published_at=row.published_at,
    )


def _lines(counts: Any) -> frozenset[str]:
    return frozenset(map(line_of, () if counts is None else json.loads(counts.ecosystems)))


# Made once: their columns cost more than a query.
_NEWEST = select(matchings).order_by(matchings.c.id.desc()).limit(1).subquery("newest")
"""The matching that is the last that was begun."""
_DOCUMENT = blobs.alias("document")
