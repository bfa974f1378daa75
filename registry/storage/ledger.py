"""What must be known about an upload to a store that has neither locks nor appending, as S3.

The store writes it down in a ledger, whose rows every replica sees. A *holder* is the one request that may
change an upload; holding ends by itself when nothing is heard of the holder for :data:`LEASE_SECONDS`, and
each holding has an *epoch* of its own, so that whoever was given up finds out at the next entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

LEASE_SECONDS = 15
"""After a holder died its upload cannot be continued for so long."""


@dataclass(frozen=True, slots=True)
class UploadState:
    """An upload: its parts first, then its tail. ``length`` is that of both."""

    locator: str
    epoch: int = 0
    length: int = 0
    multipart_id: str | None = None
    next_part: int = 1
    """Grows past numbers that somebody may still be sending bytes for."""
    tail_bytes: int = 0
    """Too few for a part: they wait in an object of their own, named after ``tail_epoch``."""
    tail_epoch: int = 0
    finishing: bool = False
    """Set before the parts become an object: nothing can be appended any more."""


@dataclass(frozen=True, slots=True)
class Part:
    """One stored part, as it must be named when the parts become an object."""

    number: int
    size: int
    etag: str
    checksum: str | None


class UploadLedger(Protocol):
    """Errors of the database pass through, besides those that are named."""

    async def create(self, locator: str) -> None:
        """Enter an empty upload.

        Raises:
            BlobUploadInvalidError: there is one under this locator.
        """

    async def find(self, locator: str) -> UploadState | None:
        """The upload, if there is such a one."""

    async def hold(self, locator: str) -> UploadState | None:
        """Become the holder of the upload, if there is such a one.

        Raises:
            BlobUploadInvalidError: somebody else is.
        """

    async def renew(self, state: UploadState) -> bool:
        """Hold it for longer; false when it is not ours any more."""

    async def save(self, state: UploadState, part: Part | None = None, *, release: bool = False) -> None:
        """Write down what the holder changed, with the part that it has stored; perhaps the last entry.

        Raises:
            BlobUploadUnknownError: the upload was removed meanwhile.
            BlobUploadInvalidError: somebody else holds it now.
        """

    async def parts(self, locator: str) -> Sequence[Part]:
        """The parts of the upload, by number."""

    async def remove(self, locator: str, *, epoch: int | None = None) -> UploadState | None:
        """Strike the upload out, whoever holds it, or only as its holder of this ``epoch``.

        Its last state, if that was done.
        """

    async def list_written(self, *, before: datetime) -> Sequence[str]:
        """Locators of uploads last written before this time."""

    async def written_since(self, locators: Sequence[str], since: datetime) -> set[str]:
        """Those of the uploads that were written at this time or later."""
