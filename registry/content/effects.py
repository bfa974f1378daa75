"""What an outer room does in the transaction of a push: the seam between content and trials."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.actor import Actor
from registry.oci.digest import Digest
from registry.oci.manifest import Manifest


@dataclass(frozen=True, slots=True)
class ManifestPushed:
    """A manifest that has just been stored or stored again in a repository.

    ``created`` is false where the repository held it already; then its state stands. ``platform`` is that of
    an image that can be run, as its config says, else ``None``. ``missing`` is what it refers to and the
    repository does not have. ``bundle`` is the content of a referrer that holds a signature.
    """

    repository_id: int
    repository: str
    manifest_id: int
    digest: Digest
    manifest: Manifest
    platform: str | None
    missing: Collection[Digest]
    created: bool
    actor: Actor
    bundle: bytes | None = None


class PushEffects(Protocol):
    """Told of each push before its transaction commits; what it writes commits or rolls back with it."""

    async def manifest_pushed(self, connection: AsyncConnection, pushed: ManifestPushed) -> None:
        """Decide the state of the image and make its trial where one is due."""
        ...
