"""What images of the registry say of themselves as scanners, read before one is set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from registry.content import blobs as blob_use
from registry.content import repositories as repos
from registry.contract.otherscanner import SCANNER_LABEL, Declaration, parse_declaration
from registry.db.content import manifest_contents, manifests
from registry.errors import BlobUnknownError, RequestInvalidError, SeatrialError
from registry.oci.imageconfig import MAX_BYTES, parse_image_config
from registry.oci.manifest import parse_manifest
from registry.trials.images import images_of_stored
from registry.trials.matched import read_packed

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from registry.db.engine import Database
    from registry.storage.store import BlobStore


@dataclass(frozen=True, slots=True)
class Declared:
    """What one image says of itself by its label."""

    digest: str
    platform: str
    declaration: Declaration


async def require_scanner(
    database: Database, store: BlobStore, *, repository: str, digest: str, what: str
) -> Sequence[Declared]:
    """What an image, or each image of an index, says by its label. ``what`` it is called in errors.

    Raises:
        RequestInvalidError: it does not, or it cannot be read.
    """
    async with database.read_once() as connection:
        found = await repos.find_in(connection, repository)
        images = () if found is None else (await images_of_stored(connection, found.id, digest)).images
        held = [] if found is None else [await _config(connection, found.id, one.digest) for one in images]
    if not held:
        raise RequestInvalidError(f"{what}: {repository}@{digest} is gone")
    declared = []
    for image, locator in zip(images, held, strict=True):
        try:
            if locator is None:
                raise RequestInvalidError("its config is not there, or too long")
            config = parse_image_config(await read_packed(store, locator))
            declaration = parse_declaration(config.labels.get(SCANNER_LABEL))
        except BlobUnknownError:
            raise RequestInvalidError(f"{what}: its config is gone") from None
        except SeatrialError as error:
            raise RequestInvalidError(f"{what}: {error.message}") from None
        declared.append(Declared(image.digest, image.platform, declaration))
    return declared


async def _config(connection: AsyncConnection, repository_id: int, digest: str) -> str | None:
    """Where the bytes of an image's config are."""
    query = (
        select(manifest_contents.c.raw, manifests.c.media_type)
        .join(manifests, manifests.c.digest == manifest_contents.c.digest)
        .where(manifests.c.repository_id == repository_id, manifests.c.digest == digest)
    )
    held = (await connection.execute(query)).one_or_none()
    named = None if held is None else parse_manifest(bytes(held.raw), held.media_type).config
    if named is None:
        return None
    blob = (await blob_use.find_all(connection, repository_id, [named.digest])).get(named.digest)
    return None if blob is None or blob.size > MAX_BYTES else blob.locator
