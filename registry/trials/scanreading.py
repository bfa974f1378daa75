"""Scans as people and programs read them: of one image, and which images hold a package."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, literal, or_, select, tuple_, union

from registry.auth.policy import decide, role_allows
from registry.content.pullable import in_places
from registry.db.content import blobs, edges, manifests, repositories
from registry.db.scans import components, image_scans, scan_components, scans
from registry.errors import NotFoundError, RequestInvalidError
from registry.trials.advisorynames import told_of_by
from registry.trials.asking import may_read_log
from registry.trials.matched import looked_up, read_packed, with_lookups
from registry.trials.scanned import parse_document, parse_frame, parse_frames

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Row, Select

    from registry.advisories.ranges import VersionRange
    from registry.auth.actor import Actor
    from registry.auth.policy import Visibility
    from registry.content.manifests import StoredManifest
    from registry.contract.scan import Package, Scan
    from registry.db.engine import Database
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads
    from registry.trials.scanned import Frames, ListName

_IN_RANGE_AT_ONCE = 1000
_POSITION = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class ScanView:
    """The newest scan of an image. ``system`` is empty where the image names none.

    ``vulnerabilities`` is what advisories say of its packages; ``not_looked_up`` counts, by ecosystem, those
    that nobody has looked up yet or that the advisories say nothing about: of them nothing is known. The
    oldest source of the advisories is of ``advisories_as_of``; null: there are none.
    """

    digest: str
    platform: str
    scanner: str
    system: str
    packages: int
    found: int
    incomplete: int
    truncated: bool
    document_digest: str
    worker: str
    taken_at: datetime
    vulnerabilities: int
    not_looked_up: Mapping[str, int]
    advisories_as_of: datetime | None


@dataclass(frozen=True, slots=True)
class Kept:
    """Where the store has the document of a scan, and where in it the entries of its lists are."""

    locator: str
    frames: Frames | None


@dataclass(frozen=True, slots=True)
class Scanned:
    """A scan with its row's ``id``, and for each layer the line of the history that made it, as JSON.
    ``kept`` is ``None`` where the bytes of its document are damaged."""

    id: int
    layers: str | None
    kept: Kept | None
    view: ScanView


_VIEWED = tuple(
    column
    for name in ScanView.__dataclass_fields__
    for column in (scans.c.get(name), image_scans.c.get(name))
    if column is not None
)


def _of_image() -> Select[Any]:
    """The scan of a manifest, and those of what it lists."""
    listed = select(edges.c.digest).where(
        edges.c.manifest_id == bindparam("manifest_id"), edges.c.kind == "child"
    )
    its = (
        select(scans.c.id, scans.c.layers, scans.c.frames, blobs.c.locator, blobs.c.damage, *_VIEWED)
        .join(image_scans, image_scans.c.scan_id == scans.c.id)
        .join(manifests, manifests.c.id == image_scans.c.manifest_id)
        .join(blobs, blobs.c.id == scans.c.blob_id)
        .where(
            manifests.c.repository_id == bindparam("repository_id"),
            or_(manifests.c.id == bindparam("manifest_id"), manifests.c.digest.in_(listed)),
        )
        .cte("its")
    )
    return with_lookups(its).order_by(its.c.platform, its.c.digest)


# Put together once: that takes longer than the query itself.
_OF_IMAGE = _of_image()


async def list_scans(database: Database, manifest: StoredManifest) -> Sequence[ScanView]:
    """The newest scan of an image; of an index those of the images that it lists, by platform."""
    return [scanned.view for scanned in await read_scans(database, manifest)]


async def read_scans(database: Database, manifest: StoredManifest) -> Sequence[Scanned]:
    """As :func:`list_scans`, with what more is read by; one statement."""
    given = {"manifest_id": manifest.id, "repository_id": manifest.repository_id}
    async with database.read_once() as connection:
        rows = (await connection.execute(_OF_IMAGE, given)).all()
    return [_scanned(list(of_it)) for _, of_it in groupby(rows, key=lambda row: row.id)]


def _scanned(rows: Sequence[Row[Any]]) -> Scanned:
    row, looked = rows[0], looked_up(rows)
    viewed = {column.name: getattr(row, column.name) for column in _VIEWED}
    return Scanned(
        row.id,
        row.layers,
        None if row.damage is not None else Kept(row.locator, parse_frames(row.frames)),
        ScanView(
            **viewed,
            vulnerabilities=looked.matches,
            not_looked_up=looked.not_looked_up,
            advisories_as_of=looked.advisories_as_of,
        ),
    )


async def read_scan(
    database: Database, store: BlobStore, manifest: StoredManifest, *, parsers: Threads
) -> Scan:
    """The document of the newest scan of an image.

    Raises:
        NotFoundError: there is none; of an index, which is scanned by its platforms, there never is.
    """
    return await read_kept(store, await _stored(database, manifest), parsers=parsers)


async def read_kept(store: BlobStore, kept: Kept | None, *, parsers: Threads) -> Scan:
    """As :func:`read_scan`, of a document whose place is known.

    Raises:
        NotFoundError: its bytes are damaged.
    """
    return await parsers.run(parse_document, await read_packed(store, _require_whole(kept).locator))


async def may_hold(database: Database, manifest: StoredManifest, name: ListName) -> bool:
    """Whether a list of an image's newest scan may have entries; false: it is empty, which is known without
    reading the document.

    Raises:
        NotFoundError: as :func:`read_scan`.
    """
    frames = (await _stored(database, manifest)).frames
    return frames is None or name in frames


async def read_entries(
    database: Database,
    store: BlobStore,
    manifest: StoredManifest,
    name: ListName,
    *,
    takes: Callable[[Any], bool],
    first: int,
    limit: int,
    parsers: Threads,
) -> Sequence[tuple[int, Any]]:
    """Entries of a list of an image's newest scan with their numbers in it: of those from ``first`` on at
    most ``limit`` that it ``takes``. No more of a large document is read than that.

    Raises:
        NotFoundError: as :func:`read_scan`.
    """
    kept = await _stored(database, manifest)
    return await entries_of(store, kept, name, takes=takes, first=first, limit=limit, parsers=parsers)


async def entries_of(
    store: BlobStore,
    kept: Kept | None,
    name: ListName,
    *,
    takes: Callable[[Any], bool],
    first: int,
    limit: int,
    parsers: Threads,
) -> Sequence[tuple[int, Any]]:
    """As :func:`read_entries`, of a document that is known to be there.

    Raises:
        NotFoundError: its bytes are damaged.
    """
    kept = _require_whole(kept)
    if kept.frames is None:
        scan = await read_kept(store, kept, parsers=parsers)
        return list(islice(_taken(getattr(scan, name), 0, first, takes), limit))
    found: list[tuple[int, Any]] = []
    held = kept.frames.get(name, ())
    ends = [*(one.first for one in held[1:]), sys.maxsize]
    async with store.open_blob(kept.locator) as opened:
        for frame, end in zip(held, ends, strict=False):
            if end <= first:
                continue
            packed = b"".join([chunk async for chunk in opened.chunks(frame.offset, frame.size)])
            entries = await parsers.run(parse_frame, packed, name)
            found += islice(_taken(entries, frame.first, first, takes), limit - len(found))
            if len(found) == limit:
                break
    return found


def has_words(package: Package, words: str | None) -> bool:
    """Whether a package has this in its name, its source, its version or a licence; case is left aside."""
    if words is None:
        return True
    wanted = words.casefold()
    texts = (package.name, package.source or "", package.version, *package.licences)
    return any(wanted in text.casefold() for text in texts)


def _taken(
    entries: Sequence[Any], number: int, first: int, takes: Callable[[Any], bool]
) -> Iterator[tuple[int, Any]]:
    numbered = enumerate(entries, start=number)
    return ((at, one) for at, one in numbered if at >= first and takes(one))


def _require_whole(kept: Kept | None) -> Kept:
    if kept is None:
        raise NotFoundError("the document of this scan is damaged: have the image tried again")
    return kept


async def _stored(database: Database, manifest: StoredManifest) -> Kept:
    """Where the document of the newest scan is."""
    query = (
        select(blobs.c.locator, scans.c.frames)
        .join(scans, scans.c.blob_id == blobs.c.id)
        .join(image_scans, image_scans.c.scan_id == scans.c.id)
        .where(image_scans.c.manifest_id == manifest.id, blobs.c.damage.is_(None))
    )
    async with database.read_once() as connection:
        held = (await connection.execute(query)).first()
    if held is None:
        raise NotFoundError(f"there is no scan of {manifest.digest} itself")
    return Kept(held.locator, parse_frames(held.frames))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which package: by its own name or that of its source, or as one that an advisory tells of, by whatever
    name of that; ``None``: whatever it is."""

    name: str | None = None
    ecosystem: str | None = None
    version: str | None = None
    within: VersionRange | None = None
    """Instead of a version: by the order of each ecosystem."""
    advisory: str | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """An image that holds a package. ``owned``: a distribution's package brought it."""

    repository: str
    digest: str
    platform: str
    ecosystem: str
    name: str
    version: str
    source: str
    source_version: str
    owned: bool
    manifest_id: int
    component_id: int
    version_known: bool = True
    """Whether its version could be held against the range that was asked for; else it may lie in it."""

    @property
    def position(self) -> Position:
        """Where the page after it begins."""
        return Position(self.manifest_id, self.component_id)


@dataclass(frozen=True, slots=True)
class Position:
    """The image and the package that the last row of a page was about."""

    manifest_id: int
    component_id: int

    def __str__(self) -> str:
        return f"{self.manifest_id}.{self.component_id}"


def parse_position(text: str) -> Position:
    """The position that a page gave.

    Raises:
        RequestInvalidError: it is none.
    """
    match = _POSITION.fullmatch(text)
    if match is None:
        raise RequestInvalidError(f"{text[:80]!r} is no cursor of this list")
    return Position(int(match[1]), int(match[2]))


async def list_holders(
    database: Database, *, actor: Actor, wanted: Wanted, limit: int, after: Position | None
) -> Sequence[Holder]:
    """Images that hold a package, by their newest scan, the last pushed first; at most ``limit`` of those
    after a position. Only of repositories whose scans the actor may read."""
    # Of those in a range there may be none among very many.
    at_once = limit if wanted.within is None else max(limit, _IN_RANGE_AT_ONCE)
    query = _holders(actor, wanted, is_sqlite=database.is_sqlite).limit(at_once)
    found: list[Holder] = []
    async with database.read() as connection:
        while len(found) < limit:
            page = query if after is None else query.where(_after(after))
            rows = (await connection.execute(page)).all()
            # It is the policy that decides, and the query only finds.
            held = [
                Holder(*columns) for *columns, visibility in rows if _reads(actor, columns[0], visibility)
            ]
            found += [one for holder in held if (one := _in_range(holder, wanted)) is not None]
            if len(rows) < at_once:
                break
            after = Position(rows[-1].manifest_id, rows[-1].component_id)
    return found[:limit]


def _in_range(holder: Holder, wanted: Wanted) -> Holder | None:
    """The holder, if its version lies in the range that is wanted or nobody can say."""
    if wanted.within is None:
        return holder
    is_named = wanted.name is None or holder.name == wanted.name
    version = holder.version if is_named else holder.source_version
    holds = wanted.within.holds(holder.ecosystem, version)
    return None if holds is False else replace(holder, version_known=holds is not None)


def _holders(actor: Actor, wanted: Wanted, *, is_sqlite: bool) -> Select[Any]:
    query = (
        select(
            repositories.c.name,
            manifests.c.digest,
            scans.c.platform,
            *(components.c[name] for name in ("ecosystem", "name", "version", "source", "source_version")),
            scan_components.c.owned,
            manifests.c.id.label("manifest_id"),
            components.c.id.label("component_id"),
            repositories.c.visibility,
        )
        .select_from(components)
        .join(scan_components, scan_components.c.component_id == components.c.id)
        .join(scans, scans.c.id == scan_components.c.scan_id)
        .join(image_scans, image_scans.c.scan_id == scans.c.id)
        .join(manifests, manifests.c.id == image_scans.c.manifest_id)
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .order_by(manifests.c.id.desc(), components.c.id.desc())
    )
    if wanted.name is not None:
        query = query.where(or_(components.c.name == wanted.name, components.c.source == wanted.name))
    if wanted.advisory is not None:
        query = query.where(components.c.id.in_(told_of_by(wanted.advisory)))
    if wanted.ecosystem is not None:
        query = query.where(components.c.ecosystem == wanted.ecosystem)
    if wanted.version is not None:
        query = query.where(components.c.version == wanted.version)
    if actor.is_admin or actor.is_auditor:
        return query
    writes = [on for on, role in actor.roles.items() if role_allows(role, "trial")]
    return query.where(repositories.c.id.in_(union(*in_places(writes, is_sqlite=is_sqlite))))


def _reads(actor: Actor, repository: str, visibility: Visibility) -> bool:
    """Whether the actor may read what was found in images of a repository."""
    pulls = decide(actor, "pull", repository, visibility).allowed
    return pulls and may_read_log(actor, repository=repository, visibility=visibility)


def _after(position: Position) -> ColumnElement[bool]:
    row = tuple_(manifests.c.id, components.c.id)
    return row < tuple_(literal(position.manifest_id), literal(position.component_id))
