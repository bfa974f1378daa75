"""One request that appends to an upload in S3: bytes go to a spool, full spools become parts, what is left
becomes the tail.

While one spool is being sent the next is filled: an upload takes at most two of them, and one thread.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from registry.errors import BlobUploadUnknownError, SeatrialError, StorageFullError, UnavailableError
from registry.storage.spool import Spool

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Sequence
    from pathlib import Path

    from registry.storage.files import RunningHash
    from registry.storage.ledger import Part, UploadLedger, UploadState
    from registry.storage.s3bucket import Bucket
    from registry.storage.threads import Threads

_BLOCK_LEAST, _BLOCK_MOST = 1 << 16, 1 << 18
_WAITING_BYTES = 4 << 20
"""What waits for the disk in all uploads of a process together, until each is down to the smallest block."""
_BLOCK_PIECES = 256
_FIRST_PART_BYTES = 5 << 20
_PARTS_OF_ONE_SIZE = 1000


def part_bytes(number: int) -> int:
    """Least size of a part: 5 MiB, doubled after each 1,000 of the 10,000 that an object may have.

    So a blob of 5 GB takes 1,000 parts, and the largest object that there is, of 5 TB, takes 10,000.
    """
    return _FIRST_PART_BYTES << ((number - 1) // _PARTS_OF_ONE_SIZE)


@dataclass(frozen=True, slots=True)
class Tools:
    """What every upload of a store works with."""

    bucket: Bucket
    ledger: UploadLedger
    calls: Threads
    disk: Threads
    folder: Path
    appending: set[str] = field(default_factory=set)
    """Locators of the uploads that are being appended to by this process."""

    def block_bytes(self) -> int:
        """How much to collect before it is written: fewer changes of thread, but not in many at once."""
        return min(max(_WAITING_BYTES // max(len(self.appending), 1), _BLOCK_LEAST), _BLOCK_MOST)


class S3Upload:
    """An upload while one request holds it. ``state`` is what the ledger says.

    ``spool`` is the tail, where this process has kept it.
    """

    def __init__(self, state: UploadState, tools: Tools, *, spool: Spool | None = None) -> None:
        self.state = state
        self.spool = spool
        self.running_hash: RunningHash | None = None
        self.lost = False
        """Somebody else holds the upload, or it is gone: nothing that follows could be entered."""
        self._tools = tools
        self._key = tools.bucket.blob_key(state.locator)
        self._old_tail = state.tail_epoch
        self._has_tail = spool is not None
        self._sending: asyncio.Task[None] | None = None
        self._failed: BaseException | None = None
        self.released = False

    async def append(self, chunks: AsyncIterable[bytes]) -> None:
        """Take all chunks and let go. However it ends, what arrived is stored and entered before it does."""
        block: list[bytes] = []
        length = 0
        self._tools.appending.add(self.state.locator)
        try:
            try:
                async for chunk in chunks:
                    block.append(chunk)
                    length += len(chunk)
                    if length >= self._tools.block_bytes() or len(block) >= _BLOCK_PIECES:
                        full, block, length = block, [], 0
                        await self._take(full)
            finally:
                if block:
                    await self._take(block)
                await self._store_rest()
        except (StorageFullError, UnavailableError) as error:
            error.detail = {"offset": self.state.length}
            raise
        finally:
            self._tools.appending.discard(self.state.locator)

    async def load_tail(self) -> Spool:
        """The spool that is being filled; at first the tail."""
        spool = self.spool
        if spool is None:
            tools = self._tools
            spool = await tools.disk.run(Spool, tools.folder, tools.bucket.sum_algorithm)
            if not self._has_tail and self.state.tail_bytes:
                try:
                    await tools.calls.run(self._fetch_tail, spool)
                except BaseException:
                    spool.close()
                    raise
            self._has_tail = True
            self.spool = spool
        return spool

    async def finish_parts(self) -> None:
        """Make the tail the last part, and enter that nothing more can be appended."""
        state = self.state
        part: Part | None = None
        if state.multipart_id is not None and state.tail_bytes:
            spool = await self.load_tail()
            part = await self._tools.calls.run(
                self._tools.bucket.send_part, self._key, state.multipart_id, state.next_part, spool
            )
            state = replace(state, next_part=state.next_part + 1, tail_bytes=0, tail_epoch=0)
        state = replace(state, finishing=True)
        await self._save(state, part)

    async def release(self) -> None:
        """Let go with what is entered, if that is not done; whoever has taken the upload over keeps it."""
        if self._sending is not None:
            await asyncio.wait([self._sending])
        if self.spool is not None:
            self.spool.close()
            self.spool = None
        if not self.released:
            with suppress(SeatrialError):
                await self._save(self.state, release=True)

    async def _take(self, block: Sequence[bytes]) -> None:
        if self.lost:
            raise BlobUploadUnknownError("the upload was cancelled or taken over meanwhile")
        spool = await self.load_tail()
        await self._tools.disk.run(self._write, spool, block)
        if spool.length >= part_bytes(self.state.next_part):
            await self._sent()
            self.spool = None
            self._sending = asyncio.create_task(self._send(spool))

    def _write(self, spool: Spool, block: Sequence[bytes]) -> None:
        spool.write(block)
        if self.running_hash is not None:
            for piece in block:
                self.running_hash.update(piece)

    async def _sent(self) -> None:
        """Wait for the part that is on its way.

        Raises what ended it: the bytes that follow those would leave a gap.
        """
        if self._sending is not None:
            await asyncio.wait([self._sending])
            self._sending = None
        if self._failed is not None:
            raise self._failed

    async def _send(self, spool: Spool) -> None:
        """Store a full spool as the next part, and enter it. Only one at a time."""
        state, tools = self.state, self._tools
        try:
            if state.multipart_id is None:
                multipart_id = await tools.calls.run(tools.bucket.begin_parts, self._key)
                state = replace(state, multipart_id=multipart_id)
                await self._save(state)
            else:
                multipart_id = state.multipart_id
            # The number counts as used from now on: after a failure the bytes may still arrive.
            number = state.next_part
            state = self.state = replace(state, next_part=number + 1)
            part = await tools.calls.run(tools.bucket.send_part, self._key, multipart_id, number, spool)
            length = state.length - state.tail_bytes + part.size
            await self._save(replace(state, length=length, tail_bytes=0, tail_epoch=0), part)
        except BaseException as error:
            self._failed = error
        finally:
            spool.close()

    async def _store_rest(self) -> None:
        """Store what no part has taken, as a part if it is enough for one, else as the tail; let go."""
        await self._sent()
        spool, tools = self.spool, self._tools
        if spool is not None and spool.length >= part_bytes(self.state.next_part):
            self.spool = None
            await self._send(spool)
            await self._sent()
        elif spool is not None and spool.length != self.state.tail_bytes:
            state = self.state
            key = tools.bucket.tail_key(state.locator, state.epoch)
            await tools.calls.run(tools.bucket.put, key, spool, is_blob=False)
            length = state.length - state.tail_bytes + spool.length
            state = replace(state, length=length, tail_bytes=spool.length, tail_epoch=state.epoch)
            try:
                await self._save(state)
            except SeatrialError:
                await self._drop_tail(state.epoch)
                raise
        await self._save(self.state, release=True)
        if self._old_tail not in (0, self.state.tail_epoch):
            await self._drop_tail(self._old_tail)

    async def _save(self, state: UploadState, part: Part | None = None, *, release: bool = False) -> None:
        await self._tools.ledger.save(state, part, release=release)
        self.state = state
        self.released = release

    async def _drop_tail(self, epoch: int) -> None:
        # One that stays is cleared when the upload ends.
        with suppress(SeatrialError):
            await self._tools.calls.run(
                self._tools.bucket.delete, self._tools.bucket.tail_key(self.state.locator, epoch)
            )

    def _fetch_tail(self, spool: Spool) -> None:
        bucket = self._tools.bucket
        for block in bucket.blocks(bucket.tail_key(self.state.locator, self.state.tail_epoch)):
            spool.write([block])
