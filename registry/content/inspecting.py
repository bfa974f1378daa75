"""What an image is made of, as people read it: its configuration and its layers with the lines that made
them, or what an index lists.

Whoever asks has seen to it that the image may be read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, null, select

from registry.content import blobs as blob_use
from registry.db.content import STATE_COLUMNS, edges, manifests
from registry.db.events import pull_days
from registry.errors import BlobUnknownError, ManifestInvalidError
from registry.oci.imageconfig import ImageConfig, Step, parse_with_history
from registry.oci.manifest import parse_manifest

if TYPE_CHECKING:
    from registry.content.manifests import StoredManifest
    from registry.content.repositories import Repository
    from registry.db.engine import Database
    from registry.oci.descriptor import Descriptor
    from registry.oci.digest import Digest
    from registry.oci.manifest import Manifest
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads

CONFIG_MAX_BYTES = 1024 * 1024
"""A larger configuration is not read for a page."""
LISTED_MAX = 200
_LAYERS_MAX = 1000
PULLED_DAYS = 30
_DAY_SECONDS = 86400


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with the line of the history that made it; without a ``digest`` the line made none."""

    created_by: str
    digest: str | None
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Listed:
    """What an index lists: the first :data:`LISTED_MAX`. ``row`` has the columns of its state; ``None``: it
    is not in the repository. ``attests``: it says something of another one, and is no image."""

    digest: str
    size: int
    platform: str
    attests: bool
    row: object | None


@dataclass(frozen=True, slots=True)
class Contents:
    """``size`` is that of all the manifest names, in bytes. ``config`` is ``None`` of an index, of what is no
    image, and where it cannot be read."""

    manifest: Manifest
    size: int
    config: ImageConfig | None = None
    layers: Sequence[Layer] = ()
    listed: Sequence[Listed] = ()


async def inspect(
    database: Database, store: BlobStore, manifest: StoredManifest, *, parsers: Threads
) -> Contents:
    """What a manifest is made of; one query."""
    parsed = await parsers.run(parse_manifest, manifest.raw, manifest.media_type)
    if parsed.is_index:
        size = sum(edge.size for _, edge in parsed.edges())
        return Contents(parsed, size, listed=await _listed(database, manifest.repository_id, parsed.children))
    locator = None
    if manifest.runnable and parsed.config is not None:
        locator = await _find(database, manifest.repository_id, parsed.config)
    return await contents_of(store, parsed, locator, parsers=parsers)


async def contents_of(
    store: BlobStore, parsed: Manifest, config: str | None, *, parsers: Threads
) -> Contents:
    """What an image is made of whose configuration the store has there, as far as it is read; no query."""
    size = sum(edge.size for _, edge in parsed.edges())
    raw = None if config is None else await _read(store, config)
    if raw is None:
        return Contents(parsed, size, layers=_layers((), parsed.layers))
    read, history = await parsers.run(_parsed, raw)
    return Contents(parsed, size, read, _layers(history, parsed.layers))


@dataclass(frozen=True, slots=True)
class Totals:
    """Of an image its size in bytes, that of its first layers; ``None`` of an index. ``pulls`` are those of
    the last :data:`PULLED_DAYS`, ``None`` where they were not asked for."""

    size: int | None
    pulls: int | None


async def totals_of(
    database: Database, repository: Repository, digests: Collection[str], *, with_pulls: bool = False
) -> Mapping[str, Totals]:
    """What images of a repository come to; one query."""
    size = (
        select(func.sum(edges.c.size))
        .where(
            edges.c.manifest_id == manifests.c.id,
            edges.c.kind != "child",
            edges.c.position < _LAYERS_MAX,
        )
        .correlate(manifests)
    )
    pulls = (
        select(func.coalesce(func.sum(pull_days.c.count), 0))
        .where(
            pull_days.c.repository == repository.name,
            pull_days.c.digest == manifests.c.digest,
            pull_days.c.day > int(datetime.now(UTC).timestamp()) // _DAY_SECONDS - PULLED_DAYS,
            # Not those of an earlier repository of this name.
            pull_days.c.last_at >= manifests.c.pushed_at,
        )
        .correlate(manifests)
    )
    query = select(
        manifests.c.digest, size.scalar_subquery(), pulls.scalar_subquery() if with_pulls else null()
    ).where(manifests.c.repository_id == repository.id, manifests.c.digest.in_(digests))
    async with database.read_once() as connection:
        return {
            digest: Totals(*(None if one is None else int(one) for one in (size, pulls)))
            for digest, size, pulls in await connection.execute(query)
        }


async def _find(database: Database, repository_id: int, descriptor: Descriptor) -> str | None:
    if descriptor.size > CONFIG_MAX_BYTES:
        return None
    digest: Digest = descriptor.digest
    async with database.read_once() as connection:
        blob = (await blob_use.find_all(connection, repository_id, [digest])).get(digest)
    return None if blob is None or blob.size > CONFIG_MAX_BYTES else blob.locator


async def _read(store: BlobStore, locator: str) -> bytes | None:
    try:
        async with store.open_blob(locator) as opened:
            return b"".join([chunk async for chunk in opened.chunks()])
    except BlobUnknownError:
        return None


def _parsed(raw: bytes) -> tuple[ImageConfig | None, tuple[Step, ...]]:
    try:
        return parse_with_history(raw)
    except ManifestInvalidError:
        return None, ()


def _layers(history: Sequence[Step], layers: Sequence[Descriptor]) -> list[Layer]:
    """Lines and layers, the oldest first. Where they do not belong together, the layers alone."""
    if sum(not step.empty for step in history) != len(layers):
        history = [Step("", empty=False) for _ in layers]
    rest = iter(layers[:_LAYERS_MAX])
    found = []
    for step in history:
        if step.empty:
            found.append(Layer(step.created_by, None, 0, ""))
        elif (layer := next(rest, None)) is not None:
            found.append(Layer(step.created_by, str(layer.digest), layer.size, layer.media_type))
    return found


async def _listed(database: Database, repository_id: int, children: Sequence[Descriptor]) -> list[Listed]:
    shown = children[:LISTED_MAX]
    query = select(manifests.c.digest, *STATE_COLUMNS).where(
        manifests.c.repository_id == repository_id,
        manifests.c.digest.in_({str(child.digest) for child in shown}),
    )
    async with database.read_once() as connection:
        rows = {row.digest: row for row in await connection.execute(query)}
    return [
        Listed(
            digest=str(child.digest),
            size=child.size,
            platform="" if child.platform is None else str(child.platform),
            attests=child.platform is not None and child.platform.unknown,
            row=rows.get(str(child.digest)),
        )
        for child in shown
    ]
