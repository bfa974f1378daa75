"""A blob in S3, open for reading; see :class:`~registry.storage.store.OpenBlob`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.storage.s3bucket import Reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from registry.storage.s3bucket import Bucket, Object
    from registry.storage.threads import Threads


class S3Blob:
    """Ranges of it are read one after the other.

    ``opened`` is the whole object, which has begun to arrive; ``block_bytes`` says how much to hold.
    """

    def __init__(
        self, bucket: Bucket, key: str, opened: Object, calls: Threads, block_bytes: Callable[[], int]
    ) -> None:
        self.size = opened.size
        self.file = None
        self._bucket = bucket
        self._key = key
        self._etag = opened.etag
        self._calls = calls
        self._block_bytes = block_bytes
        self._reader = Reader(bucket, key, opened)
        self._fresh = True

    def close(self) -> None:
        """Give up what nobody has read."""
        self._reader.close()

    async def chunks(self, first: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See :meth:`OpenBlob.chunks`."""
        end = self.size if length is None else min(first + length, self.size)
        if first >= end:
            return
        whole, self._fresh = self._fresh and first == 0 and end == self.size, False
        if not whole:
            self._reader.close()
            opened = await self._calls.run(
                self._bucket.get, self._key, first=first, last=end - 1, etag=self._etag
            )
            self._reader = Reader(self._bucket, self._key, opened, first=first)
        while block := await self._calls.run(self._reader.read, self._block_bytes()):
            yield block
            del block  # it would lie beside the next one, which may take its time
