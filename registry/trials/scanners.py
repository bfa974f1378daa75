"""Other scanners: which images of this registry look at those of a repository, or of all below a namespace.

They are told by who keeps a place, and pinned by digest. That one did not look makes a scan incomplete.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select

from registry.auth.places import find_place, hold_place, nearest_at, nearest_in
from registry.content import repositories as repos
from registry.content.administration import require_place
from registry.contract.job import JobScanner
from registry.contract.otherscanner import ReportFormat
from registry.contract.scan import (
    MAX_INCOMPLETE,
    MAX_OTHERS,
    OTHER_SCANNERS,
    SCANNER_NAME,
    Incomplete,
    OtherScanner,
    Scan,
)
from registry.db.accounts import accounts, workers
from registry.db.content import manifests, repositories
from registry.db.dialect import insert
from registry.db.outbox import record
from registry.db.scanners import scanners
from registry.db.scans import image_scans
from registry.db.types import db_time
from registry.errors import ConflictError, NotFoundError, RequestInvalidError
from registry.oci.names import split_repository_reference
from registry.trials.findingspolicies import judge_all
from registry.trials.images import images_of_stored
from registry.trials.platforms import is_run
from registry.trials.present import ASKING
from registry.trials.scannerlabels import Declared, require_scanner
from registry.trials.services import find_image, image_for

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.auth.actor import Actor
    from registry.auth.places import Place
    from registry.db.engine import Database
    from registry.settings import Settings
    from registry.storage.store import BlobStore

_NOT_LOOKED = "the worker did not have it look at the image"


@dataclass(frozen=True, slots=True)
class PlacedScanner:
    """One scanner, ``on`` the place where it was set; ``image`` is ``NAME@DIGEST``."""

    on: str
    name: str
    image: str
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DeclaredImage:
    """What one image of a scanner says by its label, within the operator's ceiling; ``workers``: how many
    that ask for jobs now run its platform and know of other scanners, wherever they are bound to."""

    platform: str
    format: ReportFormat
    command: tuple[str, ...] | None
    memory_bytes: int
    cpus: float
    wall_seconds: float
    workers: int


@dataclass(frozen=True, slots=True)
class ScannerPreview:
    """What would be set: ``image`` is ``NAME@DIGEST``; ``replaces`` is what looks under that name now, there
    or from above."""

    on: str
    name: str
    image: str
    replaces: PlacedScanner | None
    images: tuple[DeclaredImage, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One scanner that is to look at an image, by its own image: ``digests`` are those that it may have, none
    for any. ``job`` is what a worker is told; ``problem`` says why it cannot be told."""

    name: str
    image: str
    digests: frozenset[str]
    job: JobScanner | None = None
    problem: str = ""

    def is_answered(self, others: Sequence[OtherScanner]) -> bool:
        """Whether it has looked."""
        return any(
            one.name == self.name
            and one.image.startswith(f"{self.image}@")
            and (not self.digests or one.image.rpartition("@")[2] in self.digests)
            for one in others
        )


async def put(
    database: Database, store: BlobStore, settings: Settings, *, actor: Actor, on: str, name: str, image: str
) -> PlacedScanner:
    """Have an image look at those of a place from now on, under a name; one of that name is replaced.

    ``image`` is ``NAME:TAG`` or ``NAME@DIGEST``; a tag is resolved now.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of the place, or the gate refuses the
            image.
        NameUnknownError, NotFoundError: there is no such place.
        RequestInvalidError: no name of a scanner; there is no such image that the actor may pull, it cannot
            be run, or says by no label that it is one.
        ConflictError: there are as many as may look at one image.
    """
    place, pinned, _ = await _choose(database, store, settings, actor=actor, on=on, name=name, image=image)
    async with database.write() as connection:
        place_id = await hold_place(connection, place)
        here = (scanners.c[place.column] == place_id, scanners.c.name == name)
        before = (await connection.execute(delete(scanners).where(*here).returning(*scanners.c))).first()
        _require_room((await connection.execute(_on(place, place_id))).all(), name, on)
        row = {
            place.column: place_id,
            "name": name,
            "image": pinned[0],
            "digest": pinned[1],
            "created_by": actor.shown,
            "created_at": db_time(),
            # Another one of the same scanner, such as with newer databases, excuses nothing that no one saw.
            "since": _since(before) if before is not None and before.image == pinned[0] else None,
        }
        made = await connection.execute(insert(connection, scanners).values(row).returning(*scanners.c))
        placed = _placed(place.key, made.one())
        told = {"scanner": name, "before": _shown(before), "image": placed.image}
        if told["before"] != placed.image:
            await record(connection, "scanner.set", place.key, actor, told)
            await judge_all(connection, place.key)
    return placed


async def preview(
    database: Database, store: BlobStore, settings: Settings, *, actor: Actor, on: str, name: str, image: str
) -> ScannerPreview:
    """What :func:`put` would set, and who could run it; nothing is changed.

    Raises:
        As :func:`put`.
    """
    place, pinned, declared = await _choose(
        database, store, settings, actor=actor, on=on, name=name, image=image
    )
    async with database.read() as connection:
        placed = (await connection.execute(_on(place, await find_place(connection, place)))).all()
        present = select(workers.c.platforms, workers.c.mechanisms).join(
            accounts, accounts.c.id == workers.c.account_id
        )
        able = [
            json.loads(row.platforms)
            for row in await connection.execute(present.where(*ASKING))
            if OTHER_SCANNERS in json.loads(row.mechanisms or "[]")
        ]
    _require_room(placed, name, on)
    now = next((row for row in _nearest(placed) if row.name == name), None)
    images = []
    for one in declared:
        said = one.declaration
        limits = said.limited(settings.ceiling)
        images.append(
            DeclaredImage(
                one.platform,
                said.format,
                said.command,
                limits.memory_bytes,
                limits.cpus,
                limits.wall_seconds,
                sum(is_run(one.platform, platforms) for platforms in able),
            )
        )
    replaced = None if now is None else _placed(now.place, now)
    return ScannerPreview(place.key, name, f"{pinned[0]}@{pinned[1]}", replaced, tuple(images))


async def _choose(
    database: Database, store: BlobStore, settings: Settings, *, actor: Actor, on: str, name: str, image: str
) -> tuple[Place, tuple[str, str], Sequence[Declared]]:
    """The place, the repository and digest of the image, and what that says of itself."""
    place = await require_place(database, actor=actor, action="configure", on=on)
    if not re.fullmatch(SCANNER_NAME, name):
        raise RequestInvalidError(
            f"{name[:40]!r} is no name of a scanner: it has lower case letters, digits, '.', '_' and '-', at "
            "most 32"
        )
    repository, tag, digest = split_repository_reference(image)
    reference, what = str(digest or tag or "latest"), f"the scanner {name}"
    pinned = await find_image(
        database, settings, actor, repository=repository, reference=reference, what=what
    )
    declared = await require_scanner(database, store, repository=pinned[0], digest=pinned[1], what=what)
    return place, pinned, declared


def _require_room(placed: Sequence[Any], name: str, on: str) -> None:
    if len({row.name for row in placed} | {name}) > MAX_OTHERS:
        raise ConflictError(f"{MAX_OTHERS} scanners look at images of {on}, which is the limit")


async def remove(database: Database, *, actor: Actor, on: str, name: str) -> None:
    """Have a scanner look at the images of a place no longer; one of a namespace above looks again.

    Raises:
        UnauthorizedError, DeniedError: the actor is no maintainer of the place.
        NameUnknownError, NotFoundError: there is no such place, or it has no scanner of that name.
    """
    place = await require_place(database, actor=actor, action="configure", on=on)
    async with database.write() as connection:
        here = scanners.c[place.column] == await hold_place(connection, place)
        gone = delete(scanners).where(here, scanners.c.name == name).returning(*_IMAGE)
        row = (await connection.execute(gone)).first()
        if row is None:
            raise NotFoundError(f"{on} has no scanner {name[:40]!r} of its own")
        told = {"scanner": name, "image": _shown(row)}
        await record(connection, "scanner.removed", place.key, actor, told)
        await judge_all(connection, place.key)


async def list_scanners(database: Database, *, actor: Actor, on: str) -> Sequence[PlacedScanner]:
    """The scanners that look at the images of a place, by name, with where each was set.

    Raises:
        UnauthorizedError, DeniedError: the actor may not pull there.
        NameUnknownError, NotFoundError: there is no such place.
    """
    place = await require_place(database, actor=actor, action="pull", on=on)
    async with database.read() as connection:
        place_id = await find_place(connection, place)
        found = await connection.execute(_on(place, place_id))
        return [_placed(row.place, row) for row in _nearest(found.all())]


async def wanted_in(database: Database, repository_id: int, name: str, platform: str) -> Sequence[Wanted]:
    """The scanners that are to look at an image of a repository, for a worker of a platform."""
    async with database.read_once() as connection:
        found = _nearest((await connection.execute(_of(repository_id, name))).all())
        return [await _wanted(connection, row, platform) for row in found]


async def is_any(connection: AsyncConnection, name: str) -> bool:
    """Whether any scanner is to look at the images of a repository."""
    repository_id = select(repositories.c.id).where(repositories.c.name == name).scalar_subquery()
    return (await connection.execute(_of(repository_id, name).limit(1))).first() is not None


async def wanted_of(connection: AsyncConnection, manifest_id: int) -> Sequence[Wanted]:
    """The scanners that were to look at a stored image: those that were set when it came to its repository,
    or when its newest scan was taken. That may have been elsewhere. Where that was before the image of one
    was replaced by another of its repository, any of these may have looked."""
    query = (
        select(manifests.c.repository_id, repositories.c.name, manifests.c.pushed_at, image_scans.c.taken_at)
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .join(image_scans, image_scans.c.manifest_id == manifests.c.id)
        .where(manifests.c.id == manifest_id)
    )
    image = (await connection.execute(query)).first()
    if image is None:
        return ()
    since = max(image.pushed_at, image.taken_at)
    rows = (await connection.execute(_of(image.repository_id, image.name))).all()
    found = []
    for row in _nearest(rows):
        alike = [one for one in rows if (one.name, one.image) == (row.name, row.image)]
        if min(map(_since, alike)) > since:
            continue
        repository = await repos.find_in(connection, row.image)
        digests: frozenset[str] = frozenset()
        if repository is not None and row.created_at <= since:
            below = await images_of_stored(connection, repository.id, row.digest)
            digests = frozenset(one.digest for one in below.images)
        found.append(Wanted(row.name, row.image, digests))
    return found


def _since(row: Any) -> datetime:
    since: datetime = row.since or row.created_at
    return since


async def _wanted(connection: AsyncConnection, row: Any, platform: str) -> Wanted:
    try:
        repository, digest = await image_for(
            connection, repository=row.image, digest=row.digest, what=_shown(row) or "", platform=platform
        )
    except RequestInvalidError as problem:
        return Wanted(row.name, row.image, frozenset(), problem=problem.message)
    job = JobScanner(name=row.name, repository=repository, digest=digest)
    return Wanted(row.name, row.image, frozenset({digest}), job)


def with_unanswered(said: Scan, wanted: Sequence[Wanted]) -> Scan:
    """The scan, which is incomplete as to each scanner that was to look and did not. Pure."""
    told = {one.scanner for one in said.incomplete}
    gaps = [
        Incomplete(scanner=one.name, reason=(one.problem or _NOT_LOOKED)[:300])
        for one in wanted
        if one.problem or not one.is_answered(said.others)
    ]
    gaps = [one for one in gaps if one.scanner not in told]
    if not gaps:
        return said
    return said.model_copy(update={"incomplete": (*gaps, *said.incomplete)[:MAX_INCOMPLETE]})


def _of(repository_id: Any, name: str) -> Any:
    return nearest_in(scanners, repository_id, name, *scanners.c)


def _on(place: Place, place_id: int) -> Any:
    return nearest_at(scanners, place, place_id, *scanners.c)


def _nearest(rows: Sequence[Any]) -> Sequence[Any]:
    """One of each name, that of the nearest place; by name."""
    found: dict[str, Any] = {}
    for row in rows:
        found.setdefault(row.name, row)
    return [found[name] for name in sorted(found)]


def _shown(row: Any) -> str | None:
    return None if row is None else f"{row.image}@{row.digest}"


def _placed(on: str, row: Any) -> PlacedScanner:
    return PlacedScanner(on, row.name, f"{row.image}@{row.digest}", row.created_by, row.created_at)


_IMAGE = (scanners.c.image, scanners.c.digest)
