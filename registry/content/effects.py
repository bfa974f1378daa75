"""What an outer room does in transactions of this one: the seam between content and trials."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncConnection

from registry.auth.actor import Actor
from registry.oci.digest import Digest
from registry.oci.manifest import Manifest


@dataclass(frozen=True, slots=True)
class ManifestPushed:
    """A manifest that has just been stored or stored again in a repository.

    ``created`` is false where the repository held it already; then its state stands. ``platform`` is that of
    an image that can be run, as its config says, else ``None``. ``missing`` is what it refers to and the
    repository does not have. ``bundle`` is the content of a referrer that holds a signature. ``tags`` are
    to name it. ``grandfathered_until``: until then it is admitted without a verdict, for it comes from
    elsewhere.
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
    tags: Sequence[str] = ()
    grandfathered_until: datetime | None = None


class Effects(Protocol):
    """Told before the transaction commits; what it writes commits or rolls back with it."""

    async def manifest_pushed(self, connection: AsyncConnection, pushed: ManifestPushed) -> None:
        """Decide the state of the image and make its trial where one is due."""
        ...

    async def referrer_deleted(
        self, connection: AsyncConnection, repository_id: int, subject_digest: str
    ) -> None:
        """Look again at what rests on what was said of an image, of a repository whose lock the caller
        holds."""
        ...

    async def tag_moved(
        self, connection: AsyncConnection, repository_id: int, manifest_id: int, actor: Actor
    ) -> None:
        """Try what a tag names again, by no push, where it was not tried since none named it. The caller
        holds the repository's lock."""
        ...

    async def images_blocked(
        self, connection: AsyncConnection, repository_id: int, digests: Sequence[str]
    ) -> None:
        """Say of images of a repository, whose lock the caller holds, that nobody may read them now."""
        ...

    async def repositories_renamed(self, connection: AsyncConnection, within: ColumnElement[bool]) -> None:
        """Ask for what rests on where these repositories lie now, whose locks the caller holds; it holds the
        epochs after this."""
        ...

    async def repositories_moved(self, connection: AsyncConnection, within: ColumnElement[bool]) -> None:
        """Look at what counts where these repositories lie now, whose locks the caller holds; it has moved an
        epoch."""
        ...
