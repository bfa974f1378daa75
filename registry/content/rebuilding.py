"""What a store tells by itself, made into rows again, where the database is lost.

Bytes tell their digest, and no name. So everything goes into one private repository. Manifests lie in the
database and are lost with it, but for those that somebody has pushed as blobs. An image config says which
layers it is for, by their diff IDs: where all are there a manifest is put together from them. It is another
one than was lost, and runs as the same image. Whatever belongs to no manifest is named by artifacts, so that
no collection takes it before somebody has looked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.auth.actor import HOST
from registry.content import blobs as blob_use
from registry.content import manifests as manifest_use
from registry.content import repositories as repos
from registry.content.collecting import portions_of, unnamed
from registry.content.diffids import DiffIdHash
from registry.db.content import blob_links, blobs, repositories
from registry.errors import BlobUnknownError, ManifestBlobUnknownError, ManifestInvalidError
from registry.oci.conditions import NO_CONDITIONS
from registry.oci.digest import Digest, digest_of, parse_digest
from registry.oci.imageconfig import MAX_BYTES as CONFIG_MAX_BYTES
from registry.oci.imageconfig import parse_image_config
from registry.oci.manifest import parse_manifest
from registry.oci.mediatypes import OCI_CONFIG, OCI_MANIFEST
from registry.oci.strictjson import JsonInvalidError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from registry.content.effects import Effects
    from registry.db.engine import Database
    from registry.settings import Settings
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads

MADE_BY = "seatrial.recovered"
"""The annotation of manifests that were put together here."""
LOOSE_TYPE = "application/vnd.seatrial.recovered"
_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_LOOSE_AT_ONCE = 1000
_AT_ONCE = 200
_TAG_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Bytes:
    """A blob of the store; ``media_type`` is what it is as a layer."""

    locator: str
    digest: str
    size: int
    media_type: str


@dataclass(slots=True)
class Survey:
    """What is in the store: by digest, by diff ID, and the diff IDs that each image config names. Manifests
    by their digest, as they were found."""

    blobs: dict[str, Bytes] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)
    configs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Rebuilt:
    """``manifests`` were found whole; ``images`` are put together; ``incomplete`` are configs of images
    whose layers are not all there; ``loose`` are blobs that belong to none of these. ``tags`` name what was
    made."""

    blobs: int = 0
    bytes: int = 0
    manifests: int = 0
    images: int = 0
    incomplete: int = 0
    loose: int = 0
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Made:
    """A manifest to be stored, and the tag that names it."""

    raw: bytes
    tag: str


async def survey(
    database: Database, store: BlobStore, *, into: str, threads: Threads, advance: Callable[[int], None]
) -> Survey:
    """Read all bytes of the store that no row names, or only the repository ``into``, as an earlier run left
    them. ``advance`` is told of each blob."""
    found = Survey()
    async for portion in portions_of(store.list_older(datetime.now(UTC))):
        for locator in [*await unnamed(database, portion), *await _own(database, portion, into)]:
            try:
                await _look_at(found, store, locator, threads)
            except BlobUnknownError:
                continue  # an upload that was not finished
            advance(1)
    return found


async def _own(database: Database, locators: Sequence[str], into: str) -> Sequence[str]:
    query = (
        select(blobs.c.locator)
        .join(blob_links, blob_links.c.blob_id == blobs.c.id)
        .join(repositories, repositories.c.id == blob_links.c.repository_id)
        .where(repositories.c.name == into, blobs.c.locator.in_(locators))
    )
    async with database.read_once() as connection:
        return list((await connection.execute(query)).scalars())


async def _look_at(found: Survey, store: BlobStore, locator: str, threads: Threads) -> None:
    async with store.open_blob(locator) as opened:
        state, unpacking, small = hashlib.sha256(), None, b""
        async for chunk in opened.chunks():
            unpacking = unpacking or DiffIdHash(chunk)
            await threads.run(state.update, chunk)
            await threads.run(unpacking.update, chunk)
            if opened.size <= CONFIG_MAX_BYTES:
                small += chunk
        unpacking = unpacking or DiffIdHash(b"")
        digest = f"sha256:{state.hexdigest()}"
        if digest in found.blobs:
            return
        found.blobs[digest] = Bytes(locator, digest, opened.size, unpacking.media_type)
        if small.lstrip()[:1] == b"{" and await threads.run(_read_json, found, digest, small):
            return
        if (diff_id := unpacking.diff_id()) is not None:
            # Of the same layer compressed in several ways any will do.
            found.layers.setdefault(diff_id, digest)


def _read_json(found: Survey, digest: str, raw: bytes) -> bool:
    """Whether it is a manifest, or an image config."""
    try:
        if b'"schemaVersion"' in raw:
            parse_manifest(raw)
            found.manifests[digest] = raw
            return True
        if b'"diff_ids"' in raw:
            diff_ids = parse_image_config(raw).diff_ids
            found.configs[digest] = tuple(map(str, diff_ids))
            return bool(diff_ids)
    except (ManifestInvalidError, JsonInvalidError, ValueError):
        pass
    return False


def plan(found: Survey) -> tuple[Rebuilt, list[Made]]:
    """What would be made, in the order in which it can be: first what others list. Pure."""
    done = Rebuilt(blobs=len(found.blobs), bytes=sum(one.size for one in found.blobs.values()))
    made: list[Made] = []
    named: set[str] = set()
    for digest, raw in _children_first(found.manifests):
        manifest = parse_manifest(raw)
        targets = {str(target.digest) for _, target in manifest.edges()}
        if not manifest.is_index and not targets <= found.blobs.keys():
            continue
        named |= targets | {digest}
        made.append(Made(raw, f"found-{_short(digest)}"))
        done.manifests += 1
    for config, diff_ids in sorted(found.configs.items()):
        layers = [found.layers.get(diff_id) for diff_id in diff_ids]
        if config in named or not layers:
            continue
        if None in layers:
            done.incomplete += 1
            continue
        held = [found.blobs[layer] for layer in layers if layer is not None]
        named |= {config, *(one.digest for one in held)}
        made.append(Made(_image(found.blobs[config], held), f"image-{_short(config)}"))
        done.images += 1
    # Artifacts have it for their config.
    loose = sorted(found.blobs.keys() - named - {str(digest_of(_EMPTY))})
    done.loose = len(loose)
    for number, start in enumerate(range(0, len(loose), _LOOSE_AT_ONCE), start=1):
        held = [found.blobs[digest] for digest in loose[start : start + _LOOSE_AT_ONCE]]
        made.append(Made(_artifact(held), f"loose-{number}"))
    done.tags = [one.tag for one in made]
    return done, made


def _children_first(found: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """Images before indexes, and indexes before those that list them, as deep as there are any."""
    children = {
        digest: {str(child.digest) for child in parse_manifest(raw).children} & found.keys()
        for digest, raw in found.items()
    }
    sorter = TopologicalSorter(children)
    # Those that list one another are left out: none of them can have been pushed.
    with suppress(CycleError):
        sorter.prepare()
    ordered = list[tuple[str, bytes]]()
    while ready := sorter.get_ready():
        ordered += [(digest, found[digest]) for digest in sorted(ready)]
        sorter.done(*ready)
    return ordered


def _image(config: Bytes, layers: Sequence[Bytes]) -> bytes:
    return _json(
        config={"mediaType": OCI_CONFIG, "digest": config.digest, "size": config.size},
        layers=[_descriptor(one, one.media_type) for one in layers],
        annotations={MADE_BY: "put together from its config; the manifest that it had is lost"},
    )


def _artifact(held: Sequence[Bytes]) -> bytes:
    return _json(
        artifactType=LOOSE_TYPE,
        config={"mediaType": _EMPTY_TYPE, "digest": str(digest_of(_EMPTY)), "size": len(_EMPTY)},
        layers=[_descriptor(one, "application/octet-stream") for one in held],
        annotations={MADE_BY: "blobs that belong to no manifest that is known"},
    )


def _descriptor(one: Bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": one.digest, "size": one.size}


def _json(**members: object) -> bytes:
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, **members}
    return json.dumps(document, separators=(",", ":")).encode()


def _short(digest: str) -> str:
    return digest.partition(":")[2][:_TAG_DIGITS]


async def rebuild(
    database: Database,
    store: BlobStore,
    found: Survey,
    made: Sequence[Made],
    *,
    into: str,
    settings: Settings,
    effects: Effects,
    threads: Threads,
) -> None:
    """Make the rows. It can be broken off and done again."""
    empty = await _store_empty(store, found)
    async with database.write() as connection:
        columns = {"visibility": "private", "trial_on_push": False}
        await repos.insert(connection, into, columns, settings=settings, actor=HOST)
        repository = await repos.find_in(connection, into)
    assert repository is not None
    held = [*found.blobs.values(), *([empty] if empty is not None else [])]
    for start in range(0, len(held), _AT_ONCE):
        async with database.write() as connection:
            for one in sorted(held[start : start + _AT_ONCE], key=lambda each: each.digest):
                blob_id, _ = await blob_use.store_row(
                    connection, parse_digest(one.digest), size=one.size, locator=one.locator
                )
                await blob_use.link(connection, repository.id, blob_id)
    for manifest in made:
        try:
            await manifest_use.put(
                database,
                store,
                into,
                stated=None,
                tag_names=[manifest.tag],
                raw=manifest.raw,
                manifest=parse_manifest(manifest.raw),
                conditions=NO_CONDITIONS,
                settings=settings,
                actor=HOST,
                effects=effects,
                parsers=threads,
            )
        except (ManifestBlobUnknownError, ManifestInvalidError):
            continue  # an index that lists more than may be missing, or what is wrong about sizes


async def _store_empty(store: BlobStore, found: Survey) -> Bytes | None:
    """The config of artifacts, where the store does not have it."""
    digest: Digest = digest_of(_EMPTY)
    if str(digest) in found.blobs:
        return None
    locator = await store.start_upload()

    async def whole() -> AsyncIterator[bytes]:
        yield _EMPTY

    await store.append(locator, whole(), offset=0)
    await store.finish(locator, digest)
    return Bytes(locator, str(digest), len(_EMPTY), OCI_CONFIG)
