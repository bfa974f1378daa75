"""The blob store: what every driver promises. It knows bytes and locators, never names, digests' owners or
rights; those are rows in the database.

A *locator* is 32 hexadecimal digits that a store makes, in the same form in every driver. It names one run of
bytes for ever: first an upload that grows at its end, then, once finished, a blob that never changes. No
locator is used again for other bytes, so a late delete can never hit a newer push. What is copied to another
store keeps its locator there, so that a registry moves by a change of its setting.

What is promised after which call:

``start_upload``
    An empty upload exists; it survives a restart of the process. Its locator is new, or the given one, which
    another store made for the same bytes.
``append``
    When it returns, every byte up to the length it returns is durable. When it raises, whatever the reason
    (the source broke off, no room, cancelled), the upload holds all bytes up to what ``upload_size`` then
    says, in order and without gaps, and can be continued from there. Two appends to one upload never mix:
    the later is refused while the earlier runs, also from another process.
``finish``
    When it returns, the bytes are durable, their digest was verified, and ``open_blob`` finds them. Until
    then nothing is visible. Finishing again gives the same answer: a crash between ``finish`` and the
    transaction that names the locator loses nothing. When the digest differs the upload stays as it was.
``delete``
    Nothing is left under the locator, upload or blob; it is fine if nothing was there. An ``open_blob``
    that already runs reads on to its end.
``list_older``
    Every locator, upload or blob, last written before the given time; for the sweep, which deletes those
    that no row names. It must ask the database after it got the locator, and leave some hours of margin.

Errors that may leave: those each method names, and for any of them :class:`~registry.errors.StorageFullError`
(no room) and :class:`~registry.errors.UnavailableError` (the storage itself fails). An exception raised by
the source of an ``append`` passes through unchanged. No driver needs random writes, renames or copies of
what is visible: multipart uploads can do all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from registry.oci.digest import Digest


class OpenBlob(Protocol):
    """A finished blob, open for reading."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    @property
    def file(self) -> BinaryIO | None:
        """A real file to ``sendfile`` from, or ``None`` where the bytes come from elsewhere.

        Its position is shared: use it with explicit offsets, and not beside :meth:`chunks`.
        """

    def chunks(self, first: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """``length`` bytes from offset ``first`` (all that follow when ``None``), in blocks.

        Raises:
            UnavailableError: the storage gave fewer bytes than the blob has.
        """


class BlobSource(Protocol):
    """What blobs are copied from: all of a store that copying one needs."""

    def open_blob(self, locator: str) -> AbstractAsyncContextManager[OpenBlob]:
        """See :meth:`BlobStore.open_blob`."""


class BlobStore(Protocol):
    """See the module docstring for the contract; ``tests/kit/blobstore_contract.py`` checks it."""

    async def start_upload(self, locator: str | None = None) -> str:
        """Begin an upload and return its locator: a new one, or ``locator``, which another store made.

        Raises:
            BlobUploadInvalidError: ``locator`` has not the form of one, or an upload or a blob is under it.
        """

    async def append(
        self, locator: str, chunks: AsyncIterable[bytes], *, offset: int, algorithm: str = "sha256"
    ) -> int:
        """Append ``chunks`` and return the new length in bytes.

        ``offset`` is where the caller believes the upload stands. ``algorithm`` is a hint: hashing with it
        while the bytes pass saves ``finish`` from reading them again.

        Raises:
            BlobUploadUnknownError: there is no such upload, or it was deleted meanwhile.
            BlobUploadInvalidError: another append or finish is running, or the upload is finished.
            RangeInvalidError: the upload does not end at ``offset``; ``detail["offset"]`` says where.
        """

    async def upload_size(self, locator: str) -> int:
        """Bytes held so far; the truth about an upload after a failure or a restart.

        Raises:
            BlobUploadUnknownError: there is no such upload.
        """

    async def finish(self, locator: str, expected: Digest) -> int:
        """Turn the upload into a blob under the same locator and return its size in bytes.

        Raises:
            BlobUploadUnknownError: there is no such upload.
            BlobUploadInvalidError: an append is running.
            DigestInvalidError: the bytes have another digest; the upload is kept as it was.
        """

    def open_blob(self, locator: str) -> AbstractAsyncContextManager[OpenBlob]:
        """Open a finished blob.

        Raises:
            BlobUnknownError: on entering; there is no finished blob under ``locator``.
        """

    async def redirect_url(self, locator: str, client: str | None) -> str | None:
        """Where the ``client`` of this address may fetch the blob itself, or ``None``: through the registry.

        Whether there is such a blob is not looked at. The address lets anybody who has it in, for minutes.
        """

    async def delete(self, locator: str) -> None:
        """Cancel the upload, or remove the blob, under ``locator``."""

    def list_older(self, before: datetime) -> AsyncIterator[str]:
        """Locators of uploads and blobs that were last written before the aware time ``before``."""

    async def free_bytes(self) -> int | None:
        """Room left for uploads, or ``None`` where there is no such number. Fails if the store is broken."""

    async def close(self) -> None:
        """Give up threads and connections; nothing else may be called after."""
