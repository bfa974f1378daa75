"""What people attach to an image as referrers, to be expected of it: found when its trial is asked for, read
when it is run.

A referrer of :data:`~registry.contract.runspec.IMAGE_SPEC_TYPE` says what the image's own label may say.
Those of an index hold for each image that it lists. All count: one that is pushed later takes nothing away.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select, update

from registry.content import blobs as blob_use
from registry.contract.isolation import REFERRERS
from registry.contract.runspec import IMAGE_SPEC_TYPE, IMAGE_SPECS_MAX
from registry.contract.specfile import MAX_BYTES, parse_image_spec
from registry.db.content import edges, manifest_contents, manifests
from registry.db.dialect import batches
from registry.db.trials import parts
from registry.errors import BlobUnknownError, RequestInvalidError
from registry.oci.manifest import parse_manifest
from registry.trials.demands import stored_demand
from registry.trials.images import MAX_DEPTH, images_of_stored
from registry.trials.specs import SCAN_ALONE_DIGEST, worker_needs

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.content.effects import ManifestPushed
    from registry.contract.runspec import ImageSpec
    from registry.db.engine import Database
    from registry.storage.store import BlobStore


@dataclass(frozen=True, slots=True)
class Attached:
    """The text of what is attached to an image as the referrer ``digest``."""

    digest: str
    text: str

    def parse(self) -> ImageSpec:
        """What it says.

        Raises:
            RequestInvalidError: it is no such spec; the referrer is named.
        """
        try:
            return parse_image_spec(self.text)
        except RequestInvalidError as error:
            raise _broken(self.digest, error.message) from None


async def attached_to(
    connection: AsyncConnection, repository_id: int, digests: Collection[str]
) -> Mapping[str, str]:
    """For each of these images that has any: the digests of what is attached to it and not blocked, oldest
    first, as rows keep them; no more of them than show that there are too many."""
    images_of: dict[str, set[str]] = {digest: {digest} for digest in digests}
    level: Mapping[str, Collection[str]] = images_of
    for _ in range(MAX_DEPTH):
        level = await _listing(connection, repository_id, level)
        for parent, images in level.items():
            images_of.setdefault(parent, set()).update(images)
    found: dict[str, list[tuple[int, str]]] = {}
    for batch in batches(sorted(images_of)):
        query = select(manifests.c.subject_digest, manifests.c.id, manifests.c.digest).where(
            manifests.c.repository_id == repository_id,
            manifests.c.subject_digest.in_(batch),
            manifests.c.artifact_type == IMAGE_SPEC_TYPE,
            manifests.c.blocked_reason.is_(None),
        )
        for subject, *referrer in await connection.execute(query):
            for image in images_of[subject]:
                found.setdefault(image, []).append((referrer[0], referrer[1]))
    most = IMAGE_SPECS_MAX + 1
    return {image: json.dumps([digest for _, digest in sorted(each)[:most]]) for image, each in found.items()}


def needs_with(run_spec: str | None, attached: str | None) -> str | None:
    """What a worker must say of itself for a part with the canonical JSON of a run spec and what is attached
    to its image; as rows keep both."""
    return stored_demand([*worker_needs(run_spec), *([REFERRERS] if attached else [])])


async def set_attached(
    connection: AsyncConnection, waiting: Sequence[Any], attached: Mapping[str, str]
) -> None:
    """Let this be what is attached to the images of parts that wait to be run, which are rows."""
    values = [
        {"this": part.id, "new_specs": specs, "new_required": needs_with(part.run_spec, specs)}
        for part in waiting
        if (specs := attached.get(part.digest)) != part.image_specs
    ]
    if not values:
        return
    await connection.execute(
        update(parts)
        .where(parts.c.id == bindparam("this"))
        .values(image_specs=bindparam("new_specs"), required=bindparam("new_required")),
        values,
    )


async def note_image_spec(connection: AsyncConnection, pushed: ManifestPushed) -> None:
    """Let what was just attached hold for the trials of its image that nobody has begun. The caller holds
    the repository's lock."""
    subject = pushed.manifest.subject
    if not pushed.created or subject is None or pushed.manifest.effective_artifact_type != IMAGE_SPEC_TYPE:
        return
    inventory = await images_of_stored(connection, pushed.repository_id, str(subject.digest))
    digests = [image.digest for image in inventory.images]
    query = (
        select(parts.c.id, parts.c.digest, parts.c.run_spec, parts.c.image_specs)
        .where(
            parts.c.repository_id == pushed.repository_id,
            parts.c.digest.in_(digests),
            parts.c.state == "queued",
            parts.c.image_spec_allowed,
            # Nothing of it is run that could be expected to do anything.
            parts.c.spec_digest != SCAN_ALONE_DIGEST,
        )
        .order_by(parts.c.id)
        .with_for_update()
    )
    queued = (await connection.execute(query)).all()
    attached = await attached_to(connection, pushed.repository_id, {part.digest for part in queued})
    await set_attached(connection, queued, attached)


async def read_attached(
    database: Database, store: BlobStore, *, repository_id: int, stored: str | None
) -> Sequence[Attached]:
    """The texts of what was attached to an image when its trial was asked for.

    Raises:
        RequestInvalidError: there are too many, or one is gone or is nothing that can be a spec.
    """
    digests = [] if stored is None else json.loads(stored)
    if len(digests) > IMAGE_SPECS_MAX:
        raise RequestInvalidError(
            f"more than {IMAGE_SPECS_MAX} run specs are attached to the image; delete some of them, and "
            "start the trial again"
        )
    return [await _read(database, store, repository_id, digest) for digest in digests]


async def _read(database: Database, store: BlobStore, repository_id: int, digest: str) -> Attached:
    query = (
        select(manifest_contents.c.raw, manifests.c.media_type)
        .join(manifests, manifests.c.digest == manifest_contents.c.digest)
        .where(manifests.c.repository_id == repository_id, manifests.c.digest == digest)
    )
    async with database.read_once() as connection:
        held = (await connection.execute(query)).one_or_none()
        if held is None:
            raise _broken(digest, "it is gone; start the trial again")
        layers = parse_manifest(bytes(held.raw), held.media_type).layers
        if len(layers) != 1:
            raise _broken(digest, f"it has {len(layers)} layers, and the spec is the only one")
        blob = (await blob_use.find_all(connection, repository_id, [layers[0].digest])).get(layers[0].digest)
    if blob is None:
        raise _broken(digest, f"its layer {layers[0].digest} is not in the repository")
    if blob.size > MAX_BYTES:
        raise _broken(digest, f"it has {blob.size} bytes, and a run spec at most {MAX_BYTES}")
    try:
        async with store.open_blob(blob.locator) as opened:
            return Attached(digest, b"".join([chunk async for chunk in opened.chunks()]).decode())
    except BlobUnknownError:
        raise _broken(digest, f"its layer {layers[0].digest} is gone") from None
    except UnicodeDecodeError:
        raise _broken(digest, "it is no text in UTF-8") from None


async def _listing(
    connection: AsyncConnection, repository_id: int, below: Mapping[str, Collection[str]]
) -> Mapping[str, Collection[str]]:
    """The indexes that list any of ``below``, each with the images that those are or list."""
    found: dict[str, set[str]] = {}
    for batch in batches(sorted(below)):
        query = (
            select(edges.c.digest, manifests.c.digest)
            .join(manifests, manifests.c.id == edges.c.manifest_id)
            .where(
                manifests.c.repository_id == repository_id,
                edges.c.digest.in_(batch),
                edges.c.kind == "child",
            )
            .distinct()
        )
        for child, parent in await connection.execute(query):
            found.setdefault(parent, set()).update(below[child])
    return found


def _broken(digest: str, why: str) -> RequestInvalidError:
    return RequestInvalidError(f"the run spec attached to the image as {digest}: {why}")
