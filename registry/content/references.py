"""What a manifest refers to: whether the repository has it, and which platform its image config names."""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from registry.auth.actor import REGISTRY
from registry.content import blobs as blob_use
from registry.content import repositories as repos
from registry.db.content import deleted_manifests, edges, manifests
from registry.db.dialect import batches
from registry.errors import BlobUnknownError, ManifestBlobUnknownError, ManifestInvalidError
from registry.oci.digest import Digest, parse_digest
from registry.oci.imageconfig import MAX_BYTES as CONFIG_MAX_BYTES
from registry.oci.imageconfig import parse_image_config
from registry.oci.mediatypes import INDEXES, MANIFESTS, is_foreign_layer
from registry.oci.platform import UNKNOWN_PLATFORM, parse_platform

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.content.blobs import Blob
    from registry.db.engine import Database
    from registry.oci.manifest import Manifest
    from registry.storage.store import BlobStore
    from registry.storage.threads import Threads

MISSING_MAX = 256
"""How many children of one index may be missing."""
WAITING_MAX = 100
"""How many indexes of a repository may list the same missing child, which decides about them all."""
_NAMED_IN_ERROR = 10
SIGNATURE_MAX_BYTES = 64 * 1024
"""What is larger is an attestation, and no signature."""
_STATEMENTS_MAX_BYTES = 64 * 1024 * 1024
_ORIGIN_MAX = 500
LABELS_MAX = 100
_LABEL_MAX = 300
_SAID = ("source", "revision", "base.name", "base.digest")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


@dataclass(frozen=True, slots=True)
class Origin:
    """What an image says of itself: its ``os/architecture[/variant]`` if it can be run, where it comes from
    and what it was built on (image-spec, annotations.md: ``org.opencontainers.image.source``, ``.revision``,
    ``.base.name`` and ``.base.digest``), the diff IDs of its layers, and labels of its config, those that are
    not too long; ``None``: it could not be read."""

    platform: str | None
    source: str | None = None
    revision: str | None = None
    base_name: str | None = None
    base_digest: str | None = None
    diff_ids: tuple[Digest, ...] = ()
    labels: Mapping[str, str] | None = None

    @property
    def labels_text(self) -> str | None:
        """The labels as rows keep them."""
        return None if self.labels is None else json.dumps(self.labels, separators=(",", ":"))


async def require_references(
    connection: AsyncConnection,
    repository_id: int,
    digest: Digest,
    manifest: Manifest,
    *,
    sparse_images: bool,
) -> Collection[Digest]:
    """Check that what the manifest is made of is visible in the repository, with the sizes that it says;
    returns what is not, as far as that is allowed. ``digest`` is the manifest's own.

    Manifests that an index lists may be missing (a sparse index), a bounded number of them, and with
    ``sparse_images`` configs and layers of an image. Children of an index may be blobs as well: build caches
    list layers there, and those must be here. Foreign layers and the subject are never required
    (distribution-spec, "Pushing Manifests").

    Raises:
        ManifestBlobUnknownError: some is not here, or too much of an index; ``detail`` names digests.
        ManifestInvalidError: some has another size.
    """
    required = [
        (kind, target) for kind, target in manifest.edges() if not is_foreign_layer(target.media_type)
    ]
    children = {target.digest for kind, target in required if kind == "child"}
    found = await blob_use.find_all(connection, repository_id, {target.digest for _, target in required})
    held = await _manifest_sizes(connection, repository_id, children)
    sizes = {digest: blob.size for digest, blob in found.items()} | held
    for kind, target in required:
        if sizes.get(target.digest, target.size) != target.size:
            raise ManifestInvalidError(
                f"the {kind} {target.digest} has {sizes[target.digest]} bytes, not {target.size}"
            )
    if manifest.is_index:
        listed = {target.digest for _, target in required if target.media_type in MANIFESTS | INDEXES}
        missing = listed - held.keys()
        await _require_few_missing(connection, repository_id, str(digest), sorted(map(str, missing)))
        await _require_not_just_deleted(connection, repository_id, sorted(map(str, missing)))
    else:
        missing = {target.digest for _, target in required} - sizes.keys() if sparse_images else set()
    needed = {target.digest for _, target in required} - sizes.keys() - missing
    if needed:
        raise _missing(sorted(map(str, needed)), "push it first")
    return missing


async def image_origin(
    database: Database, store: BlobStore, name: str, manifest: Manifest, *, parsers: Threads
) -> Origin:
    """The platform from the config of what can be run, ``None`` for everything else; where it comes from and
    what it was built on by the manifest's annotations, or the config's labels.

    A config that cannot be read, or names no platform, is no reason to refuse the push. But clients that are
    less strict run such an image, so it counts as one, for a platform that is unknown.
    """
    if not manifest.runnable or manifest.config is None:
        return _origin(None, manifest.annotations)
    async with database.read() as connection:
        repository = await repos.find_in(connection, name)
        if repository is None:
            return _origin(UNKNOWN_PLATFORM, manifest.annotations)
        layers = {layer.digest for layer in manifest.layers} if manifest.attests else set()
        found = await blob_use.find_all(connection, repository.id, {manifest.config.digest, *layers})
    statements = [found[digest] for digest in layers & found.keys()]
    if manifest.attests and len(statements) == len(layers) and await _are_text(store, statements):
        return _origin(None, manifest.annotations)
    config = found.get(manifest.config.digest)
    if config is None or config.size > CONFIG_MAX_BYTES:
        return _origin(UNKNOWN_PLATFORM, manifest.annotations)
    try:
        async with store.open_blob(config.locator) as blob:
            raw = b"".join([chunk async for chunk in blob.chunks()])
        # A large one takes seconds, during which every other request would wait.
        config_values = await parsers.run(parse_image_config, raw)
    except (ManifestInvalidError, BlobUnknownError, ValueError):
        return _origin(UNKNOWN_PLATFORM, manifest.annotations)
    said = {**config_values.labels, **manifest.annotations}
    try:
        platform = str(parse_platform(str(config_values.platform)))
    except (ManifestInvalidError, ValueError):
        platform = UNKNOWN_PLATFORM
    return _origin(platform, said, config_values.diff_ids, _short(config_values.labels))


def _short(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that rows keep."""
    kept = {
        name: text
        for name, text in sorted(labels.items())
        if len(name) + len(text) <= _LABEL_MAX and "\0" not in name + text
    }
    return dict(list(kept.items())[:LABELS_MAX])


def _origin(
    platform: str | None,
    said: Mapping[str, str],
    diff_ids: tuple[Digest, ...] = (),
    labels: Mapping[str, str] | None = None,
) -> Origin:
    source, revision, base_name, base_digest = (
        text if text and len(text) <= _ORIGIN_MAX and "\0" not in text else None
        for text in (said.get(f"org.opencontainers.image.{name}") for name in _SAID)
    )
    return Origin(platform, source, revision, base_name, base_digest, diff_ids, labels)


async def attached_bundle(
    database: Database, store: BlobStore, name: str, manifest: Manifest
) -> bytes | None:
    """The content of a referrer that holds a Sigstore bundle, if it is small enough to be a signature."""
    if manifest.subject is None or len(manifest.layers) != 1 or not _is_bundle(manifest):
        return None
    digest = manifest.layers[0].digest
    async with database.read() as connection:
        repository = await repos.find_in(connection, name)
        found = await blob_use.find_all(connection, repository.id, {digest}) if repository else {}
    blob = found.get(digest)
    if blob is None or blob.size > SIGNATURE_MAX_BYTES:
        return None
    try:
        async with store.open_blob(blob.locator) as opened:
            return b"".join([chunk async for chunk in opened.chunks()])
    except BlobUnknownError:
        return None


def _is_bundle(manifest: Manifest) -> bool:
    return manifest.layers[0].media_type.startswith("application/vnd.dev.sigstore.bundle")


async def _are_text(store: BlobStore, layers: Collection[Blob]) -> bool:
    """Whether all of these are text, as JSON is: no archive, compressed or not, that holds a program."""
    if sum(layer.size for layer in layers) > _STATEMENTS_MAX_BYTES:
        return False
    for layer in layers:
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            async with store.open_blob(layer.locator) as blob:
                async for chunk in blob.chunks():
                    if _CONTROL.search(decoder.decode(chunk)):
                        return False
            decoder.decode(b"", final=True)
        except (UnicodeDecodeError, BlobUnknownError):
            return False
    return True


async def _manifest_sizes(
    connection: AsyncConnection, repository_id: int, digests: Collection[Digest]
) -> dict[Digest, int]:
    sizes: dict[Digest, int] = {}
    for batch in batches(digests):
        rows = await connection.execute(
            select(manifests.c.digest, manifests.c.size).where(
                manifests.c.repository_id == repository_id, manifests.c.digest.in_(batch)
            )
        )
        sizes |= {parse_digest(row.digest): row.size for row in rows}
    return sizes


async def _require_few_missing(
    connection: AsyncConnection, repository_id: int, index: str, missing: Sequence[str]
) -> None:
    if len(missing) > MISSING_MAX:
        raise _missing(missing, f"push some first; of an index {MISSING_MAX} manifests may be missing")
    if not missing:
        return
    waiting = (
        select(edges.c.digest)
        .join(manifests, manifests.c.id == edges.c.manifest_id)
        .where(
            manifests.c.repository_id == repository_id,
            manifests.c.digest != index,
            edges.c.digest.in_(missing),
            edges.c.kind == "child",
        )
        .group_by(edges.c.digest)
        .having(func.count(manifests.c.id.distinct()) >= WAITING_MAX)
        .order_by(edges.c.digest)
        .limit(1)
    )
    crowded = (await connection.execute(waiting)).scalar()
    if crowded is not None:
        raise _missing([crowded], f"push it first; {WAITING_MAX} indexes wait for it already")


async def _require_not_just_deleted(
    connection: AsyncConnection, repository_id: int, missing: Sequence[str]
) -> None:
    """Who pushes an index may have seen what it lists a moment ago, and not sent it therefore: what the
    registry has deleted by itself since has to come again."""
    if not missing:
        return
    deleted = select(deleted_manifests.c.digest).where(
        deleted_manifests.c.repository_id == repository_id,
        deleted_manifests.c.digest.in_(missing),
        deleted_manifests.c.deleted_by == REGISTRY.shown,
    )
    gone = sorted((await connection.execute(deleted)).scalars())
    if gone:
        raise _missing(gone, "it was deleted by a retention policy lately; push it again first")


def _missing(digests: Sequence[str], advice: str) -> ManifestBlobUnknownError:
    more = f" and {len(digests) - 1} more" if len(digests) > 1 else ""
    return ManifestBlobUnknownError(
        f"{digests[0]}{more} is not in this repository; {advice}",
        detail=[{"digest": digest} for digest in digests[:_NAMED_IN_ERROR]],
    )
