"""Two images of a repository beside each other: what they are made of, what the gate says of each, and what
was found in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, select, true

from registry.content import manifests as manifests_use
from registry.content.comparing import ComparedLayer, ConfigChange, compare_configs, compare_layers
from registry.content.inspecting import CONFIG_MAX_BYTES, Contents, contents_of
from registry.content.manifests import COLUMNS
from registry.content.named import find_named
from registry.db.content import blob_links, blobs, edges, manifest_contents, manifests
from registry.errors import NotFoundError
from registry.formats.difference import ScanDifference, difference
from registry.oci.digest import Digest, parse_content_digest
from registry.oci.manifest import parse_manifest
from registry.oci.names import parse_tag
from registry.trials.asking import Reading, may_read_log, question_of, relieved
from registry.trials.gate import Admit, AdmitWithWarning, EffectiveState, as_decided, decide
from registry.trials.matched import stored_in, with_scan
from registry.trials.relief import relief_of_images
from registry.trials.scanreport import read_reports
from registry.trials.signatures import is_signed, required_in

if TYPE_CHECKING:
    from sqlalchemy import Row, Select

    from registry.auth.actor import Actor
    from registry.content.manifests import StoredManifest
    from registry.content.repositories import Repository
    from registry.db.engine import Database
    from registry.settings import Settings
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads
    from registry.trials.relief import ImageRelief
    from registry.trials.signatures import Required


@dataclass(frozen=True, slots=True)
class Compared:
    """One of the two: as it was asked for, and the image that is meant, of an index that of the platform.
    ``size_bytes`` is ``None`` where the actor may not pull it: then it is not told what it is made of."""

    reference: str
    digest: str
    platform: str | None
    state: EffectiveState
    reason: str
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """``config`` and ``layers`` are ``None`` where one of the two may not be pulled; ``found`` where what was
    found is not for the actor, or one of them was not scanned. ``platforms`` are those that both have."""

    before: Compared
    after: Compared
    platforms: Sequence[str]
    config: Sequence[ConfigChange] | None
    layers: Sequence[ComparedLayer] | None
    found: ScanDifference | None
    not_found_because: str


@dataclass(frozen=True, slots=True)
class _Reader:
    """What reading takes, and who reads where."""

    reading: Reading
    blobs: BlobStore
    parsers: Threads

    @property
    def database(self) -> Database:
        return self.reading.database

    @property
    def repository(self) -> Repository:
        return self.reading.repository


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two images, with what its row says of its bytes and of its scan."""

    manifest: StoredManifest
    row: Row[Any]
    relief: ImageRelief


async def compare(
    database: Database,
    blobs: BlobStore,
    settings: Settings,
    *,
    actor: Actor,
    name: str,
    before: str,
    after: str,
    platform: str | None,
    parsers: Threads,
) -> tuple[Repository, Comparison]:
    """From one image of a repository to another, each by tag or digest, and the repository. Indexes are
    compared by one of their images: of ``platform``, else of the first that both have.

    What is asked of the database is asked for both at once: six statements, however much there is.

    Raises:
        UnauthorizedError, DeniedError, NameUnknownError: as :func:`registry.content.administration.find`,
            to pull.
        ManifestUnknownError: there is no such image.
        NotFoundError: they have no such platform in common.
    """
    references = [_reference(given) for given in (before, after)]
    repository, named = await find_named(
        database, actor=actor, action="pull", name=name, references=references
    )
    for reference in references:
        if reference not in named:
            raise manifests_use.unknown(reference)
    old, new = [await _images(parsers, named[reference]) for reference in references]
    common = [one for one in old if one in new]
    chosen = platform or (common[0] if common else None)
    # A chart has no platform, and an image that is no index is meant whatever its platform is.
    picked = [
        next(iter(images.values()))
        if len(images) == 1 and platform is None
        else _pick(images, chosen, common)
        for images in (old, new)
    ]
    reader = _Reader(Reading(database, settings, actor, repository), blobs, parsers)
    required = await required_in(database, repository)
    sides = await _sides(reader, picked, required)
    compared, contents = [], []
    for given, side in zip((before, after), sides, strict=True):
        lacking = "" if required is None or side.row.is_signed else required.sentence
        one, held = await _compared(reader, side, given, lacking)
        compared.append(one)
        contents.append(held)
    config = layers = None
    if contents[0] is not None and contents[1] is not None:
        config = compare_configs(contents[0].config, contents[1].config)
        layers = compare_layers(contents[0], contents[1])
    found, because = await _found(reader, sides)
    return repository, Comparison(
        before=compared[0],
        after=compared[1],
        platforms=[one for one in common if one],
        config=config,
        layers=layers,
        found=found,
        not_found_because=because,
    )


def _reference(given: str) -> str | Digest:
    return parse_content_digest(given) if ":" in given else parse_tag(given)


async def _images(parsers: Threads, manifest: StoredManifest) -> Mapping[str, str]:
    """The digests of the images that can be meant, by their platforms; of what is no index itself."""
    parsed = await parsers.run(parse_manifest, manifest.raw, manifest.media_type)
    if not parsed.is_index:
        return {manifest.platform or "": str(manifest.digest)}
    return {
        str(child.platform): str(child.digest)
        for child in reversed(parsed.children)
        if child.platform is not None and not child.platform.unknown
    }


def _pick(images: Mapping[str, str], platform: str | None, common: Sequence[str]) -> str:
    if platform is None or platform not in images:
        there = ", ".join(common) or "none"
        wanted = f"have no {platform}" if platform else "have no platform"
        raise NotFoundError(f"the two {wanted} in common; there is {there}")
    return images[platform]


async def _sides(reader: _Reader, digests: Sequence[str], required: Required | None) -> Sequence[_Side]:
    """The two images, by their digests; two statements."""
    async with reader.database.read_once() as connection:
        found = (await connection.execute(_rows(reader.repository.id, digests, required))).all()
    rows = {row.digest: row for row in found}
    for digest in digests:
        if digest not in rows:
            raise manifests_use.unknown(parse_content_digest(digest))
    reliefs = await relief_of_images(reader.database, reader.repository, digests)
    return [
        _Side(
            manifests_use.from_columns({one.name: getattr(rows[digest], one.name) for one in COLUMNS}),
            rows[digest],
            relief,
        )
        for digest, relief in zip(digests, reliefs, strict=True)
    ]


def _rows(repository_id: int, digests: Sequence[str], required: Required | None) -> Select[Any]:
    """Images of a repository, each with its configuration's blob, its scan, and whether it is signed."""
    config = _CONFIG.c
    its_config = and_(config.manifest_id == manifests.c.id, config.kind == "config", manifests.c.runnable)
    images = (
        select(
            *COLUMNS,
            (true() if required is None else is_signed(required)).label("is_signed"),
            blobs.c.locator.label("config_locator"),
            blob_links.c.blob_id.label("config_linked"),
        )
        .select_from(manifests)
        .join(manifest_contents, manifest_contents.c.digest == manifests.c.digest)
        .outerjoin(_CONFIG, its_config)
        .outerjoin(
            blobs,
            and_(
                blobs.c.digest == config.digest,
                blobs.c.size <= CONFIG_MAX_BYTES,
                blobs.c.damage.is_(None),
            ),
        )
        .outerjoin(
            blob_links,
            and_(blob_links.c.blob_id == blobs.c.id, blob_links.c.repository_id == repository_id),
        )
        .where(manifests.c.repository_id == repository_id, manifests.c.digest.in_(set(digests)))
    )
    return with_scan(images)


async def _compared(
    reader: _Reader, side: _Side, reference: str, lacking: str
) -> tuple[Compared, Contents | None]:
    """One of the two as it is shown; ``lacking`` says which signatures it lacks that are required."""
    manifest, relief = side.manifest, side.relief.relief
    question = question_of(reader.reading, manifest, manifest, lacking=lacking, now=relief.now)
    decision = decide(question)
    if not isinstance(decision, Admit):
        question = relieved(question, relief, str(manifest.digest))
        decision = decide(question)
    contents = None
    # What is refused is not shown by another way.
    if isinstance(decision, Admit | AdmitWithWarning):
        parsed = await reader.parsers.run(parse_manifest, manifest.raw, manifest.media_type)
        locator = None if side.row.config_linked is None else side.row.config_locator
        contents = await contents_of(reader.blobs, parsed, locator, parsers=reader.parsers)
    question = as_decided(question)
    compared = Compared(
        reference=reference,
        digest=str(manifest.digest),
        platform=manifest.platform,
        state=question.state,
        reason=question.reason,
        size_bytes=None if contents is None else contents.size,
    )
    return compared, contents


async def _found(reader: _Reader, sides: Sequence[_Side]) -> tuple[ScanDifference | None, str]:
    """What is different in what was found, or why that is not told; two statements."""
    repository = reader.repository
    if not may_read_log(reader.reading.actor, repository=repository.name, visibility=repository.visibility):
        return None, "what was found in images is for those who may push to the repository"
    names = [f"{repository.name}@{side.manifest.digest}" for side in sides]
    async with reader.database.read_once() as connection:
        stored = await stored_in(connection, [side.row for side in sides])
    scanned = []
    for one, name in zip(stored, names, strict=True):
        if one is None:
            return None, f"{name} was not scanned"
        scanned.append(one)
    reports = await read_reports(
        reader.database,
        reader.blobs,
        [side.manifest for side in sides],
        scanned,
        [side.relief.of_findings for side in sides],
        name=repository.name,
        parsers=reader.parsers,
    )
    result = await reader.parsers.run(lambda: difference(*reports, names=(names[0], names[1])))
    return result, ""


_CONFIG = edges.alias("config")
"""Made once: its columns cost more than a query."""
