"""What every :class:`~registry.storage.store.BlobStore` must do.

A driver's test module derives one class from :class:`BlobStoreContract` and gives it a fixture
``make_store``: each call returns a store over the same bytes, as a restarted process would have.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import tracemalloc
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

from registry.errors import (
    BlobUnknownError,
    BlobUploadInvalidError,
    BlobUploadUnknownError,
    DigestInvalidError,
    RangeInvalidError,
)
from registry.oci.digest import Digest, digest_of
from registry.storage.store import BlobStore

MakeStore = Callable[[], BlobStore]
UNKNOWN_LOCATORS = ("0" * 32, "", "..", "../../etc/passwd", "a/b", "x" * 4096, "\0")


class SourceBrokeError(Exception):
    """What a source raises when the client goes away."""


async def source(*chunks: bytes, broken: bool = False) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
        await asyncio.sleep(0)
    if broken:
        raise SourceBrokeError


async def stored(store: BlobStore, content: bytes) -> str:
    """A finished blob."""
    locator = await store.start_upload()
    await store.append(locator, source(content), offset=0)
    assert await store.finish(locator, digest_of(content)) == len(content)
    return locator


async def read(store: BlobStore, locator: str, first: int = 0, length: int | None = None) -> bytes:
    async with store.open_blob(locator) as blob:
        return b"".join([block async for block in blob.chunks(first, length)])


def pattern(length: int) -> bytes:
    """Bytes that differ everywhere, so that a shifted or repeated block shows."""
    return hashlib.shake_128(b"seatrial").digest(length)


class BlobStoreContract:
    async def test_an_upload_becomes_a_blob_with_the_same_bytes(self, make_store: MakeStore) -> None:
        store = make_store()
        content = pattern(3_000_001)
        locator = await store.start_upload()
        assert await store.upload_size(locator) == 0
        length = await store.append(locator, source(content[:5], content[5:]), offset=0)
        assert length == len(content)
        assert await store.finish(locator, digest_of(content)) == len(content)
        async with store.open_blob(locator) as blob:
            assert blob.size == len(content)
        assert await read(store, locator) == content

    async def test_nothing_is_a_blob_too(self, make_store: MakeStore) -> None:
        store = make_store()
        locator = await store.start_upload()
        assert await store.append(locator, source(), offset=0) == 0
        assert await store.finish(locator, digest_of(b"")) == 0
        assert await read(store, locator) == b""

    async def test_locators_differ_even_for_equal_bytes(self, make_store: MakeStore) -> None:
        store = make_store()
        locators = {await stored(store, b"same") for _ in range(20)}
        assert len(locators) == 20

    async def test_a_copy_keeps_the_locator_of_another_store(self, make_store: MakeStore) -> None:
        store = make_store()
        wanted = "0123456789abcdef" * 2
        assert await store.start_upload(wanted) == wanted
        with pytest.raises(BlobUploadInvalidError):
            await store.start_upload(wanted)
        await store.append(wanted, source(b"con"), offset=0)
        assert await make_store().upload_size(wanted) == 3
        await store.append(wanted, source(b"tent"), offset=3)
        await store.finish(wanted, digest_of(b"content"))
        with pytest.raises(BlobUploadInvalidError):
            await make_store().start_upload(wanted)
        assert await read(store, wanted) == b"content"
        assert re.fullmatch("[0-9a-f]{32}", await store.start_upload())

    @pytest.mark.parametrize("locator", [name for name in UNKNOWN_LOCATORS if name != "0" * 32])
    async def test_what_is_no_locator_starts_nothing(self, make_store: MakeStore, locator: str) -> None:
        with pytest.raises(BlobUploadInvalidError):
            await make_store().start_upload(locator)

    @pytest.mark.parametrize("size", [1, 255, 262_143, 262_144, 262_145, 1_048_576, 1_048_577])
    async def test_chunks_of_any_size_arrive_in_order(self, make_store: MakeStore, size: int) -> None:
        store = make_store()
        content = pattern(min(size * 7 + 3, 4_000_000))
        pieces = [content[at : at + size] for at in range(0, len(content), size)]
        locator = await store.start_upload()
        await store.append(locator, source(*pieces), offset=0)
        await store.finish(locator, digest_of(content))
        assert await read(store, locator) == content

    async def test_an_upload_is_invisible_until_finished(self, make_store: MakeStore) -> None:
        store = make_store()
        locator = await store.start_upload()
        await store.append(locator, source(b"half"), offset=0)
        with pytest.raises(BlobUnknownError):
            await read(store, locator)

    async def test_appends_continue_where_the_last_one_ended(self, make_store: MakeStore) -> None:
        store = make_store()
        content = pattern(700_000)
        locator = await store.start_upload()
        at = 0
        for end in (1, 100, 100, 300_000, 700_000):
            at = await store.append(locator, source(content[at:end]), offset=at)
            assert at == end == await store.upload_size(locator)
        await store.finish(locator, digest_of(content))
        assert await read(store, locator) == content

    async def test_an_upload_survives_restarts(self, make_store: MakeStore) -> None:
        content = pattern(600_000)
        first = make_store()
        locator = await first.start_upload()
        await first.append(locator, source(content[:200_000]), offset=0)
        second = make_store()
        assert await second.upload_size(locator) == 200_000
        await second.append(locator, source(content[200_000:]), offset=200_000)
        third = make_store()
        assert await third.finish(locator, digest_of(content)) == len(content)
        assert await read(first, locator) == content

    async def test_a_stale_hash_is_not_believed(self, make_store: MakeStore) -> None:
        """One process has hashed the first part; another appended since; the first finishes."""
        one, two = make_store(), make_store()
        locator = await one.start_upload()
        await one.append(locator, source(b"one,"), offset=0)
        await two.append(locator, source(b"two,"), offset=4)
        await one.append(locator, source(b"three"), offset=8)
        await one.finish(locator, digest_of(b"one,two,three"))
        assert await read(one, locator) == b"one,two,three"

    async def test_an_append_elsewhere_is_refused_and_says_where_the_upload_ends(
        self, make_store: MakeStore
    ) -> None:
        store = make_store()
        locator = await store.start_upload()
        await store.append(locator, source(b"12345"), offset=0)
        for offset in (0, 4, 6, 1 << 40):
            with pytest.raises(RangeInvalidError) as refused:
                await store.append(locator, source(b"x"), offset=offset)
            assert refused.value.detail == {"offset": 5}
        assert await store.upload_size(locator) == 5
        await store.finish(locator, digest_of(b"12345"))

    async def test_what_arrived_before_the_source_broke_is_kept(self, make_store: MakeStore) -> None:
        store = make_store()
        content = pattern(2_500_000)
        locator = await store.start_upload()
        with pytest.raises(SourceBrokeError):
            await store.append(
                locator, source(content[:900_000], content[900_000:2_000_000], broken=True), offset=0
            )
        at = await store.upload_size(locator)
        assert at == 2_000_000
        await store.append(locator, source(content[at:]), offset=at)
        await store.finish(locator, digest_of(content))
        assert await read(store, locator) == content

    async def test_a_cancelled_append_leaves_an_upload_that_goes_on(self, make_store: MakeStore) -> None:
        store = make_store()
        content = pattern(5_000_000)
        locator = await store.start_upload()
        reached = asyncio.Event()

        async def stalls() -> AsyncIterator[bytes]:
            for start in range(0, 3_000_000, 100_000):
                yield content[start : start + 100_000]
            reached.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(store.append(locator, stalls(), offset=0))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        at = await store.upload_size(locator)
        assert 0 <= at <= 3_000_000
        await store.append(locator, source(content[at:]), offset=at)
        await store.finish(locator, digest_of(content))
        assert await read(store, locator) == content

    async def test_a_second_append_at_once_is_refused(self, make_store: MakeStore) -> None:
        store, other = make_store(), make_store()
        locator = await store.start_upload()
        running, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"first "
            running.set()
            await go_on.wait()
            yield b"second"

        task = asyncio.create_task(store.append(locator, slow(), offset=0))
        await running.wait()
        for intruder in (store, other):
            with pytest.raises(BlobUploadInvalidError):
                await intruder.append(locator, source(b"intruder"), offset=0)
            with pytest.raises(BlobUploadInvalidError):
                await intruder.finish(locator, digest_of(b"first "))
        go_on.set()
        assert await task == 12
        await store.finish(locator, digest_of(b"first second"))

    async def test_many_uploads_at_once_do_not_mix(self, make_store: MakeStore) -> None:
        store = make_store()

        async def push(number: int) -> None:
            content = pattern(300_000 + number)
            locator = await store.start_upload()
            for start in range(0, len(content), 100_000):
                await store.append(locator, source(content[start : start + 100_000]), offset=start)
            await store.finish(locator, digest_of(content))
            assert await read(store, locator) == content

        async with asyncio.TaskGroup() as group:
            for number in range(24):
                group.create_task(push(number))

    async def test_a_wrong_digest_makes_no_blob_and_keeps_the_upload(self, make_store: MakeStore) -> None:
        store = make_store()
        locator = await store.start_upload()
        await store.append(locator, source(b"content"), offset=0)
        with pytest.raises(DigestInvalidError) as refused:
            await store.finish(locator, digest_of(b"other"))
        assert str(digest_of(b"content")) in refused.value.message
        with pytest.raises(BlobUnknownError):
            await read(store, locator)
        assert await store.upload_size(locator) == 7
        await store.finish(locator, digest_of(b"content"))

    @pytest.mark.parametrize("hinted", ["sha256", "sha512"])
    @pytest.mark.parametrize("wanted", ["sha256", "sha512"])
    async def test_either_algorithm_hinted_or_not(
        self, make_store: MakeStore, hinted: str, wanted: str
    ) -> None:
        store = make_store()
        locator = await store.start_upload()
        await store.append(locator, source(b"con"), offset=0, algorithm=hinted)
        await store.append(locator, source(b"tent"), offset=3, algorithm=hinted)
        with pytest.raises(DigestInvalidError):
            await store.finish(locator, digest_of(b"other", wanted))
        assert await store.finish(locator, digest_of(b"content", wanted)) == 7

    async def test_finishing_again_gives_the_same_answer(self, make_store: MakeStore) -> None:
        store = make_store()
        locator = await stored(store, b"content")
        assert await make_store().finish(locator, digest_of(b"content")) == 7
        assert await store.upload_size(locator) == 7
        with pytest.raises(DigestInvalidError):
            await store.finish(locator, digest_of(b"other"))
        assert await read(store, locator) == b"content"

    async def test_a_finished_blob_never_changes(self, make_store: MakeStore) -> None:
        store = make_store()
        locator = await stored(store, b"content")
        for offset in (0, 7):
            with pytest.raises(BlobUploadInvalidError):
                await store.append(locator, source(b"more"), offset=offset)
        assert await read(store, locator) == b"content"

    @pytest.mark.parametrize(
        ("first", "length"),
        [
            (0, 0),
            (0, 1),
            (0, None),
            (1, 5),
            (262_143, 2),
            (262_144, 400_000),
            (699_999, 1),
            (699_999, 50),
            (700_000, None),
            (700_001, 5),
        ],
    )
    async def test_any_range_can_be_read(self, make_store: MakeStore, first: int, length: int | None) -> None:
        store = make_store()
        content = pattern(700_000)
        locator = await stored(store, content)
        end = None if length is None else first + length
        assert await read(store, locator, first, length) == content[first:end]

    async def test_the_file_if_there_is_one_is_the_blob(self, make_store: MakeStore) -> None:
        store = make_store()
        locator = await stored(store, b"content")
        async with store.open_blob(locator) as blob:
            assert blob.file is None or blob.file.read() == b"content"

    async def test_delete_takes_uploads_and_blobs_and_minds_nothing(self, make_store: MakeStore) -> None:
        store = make_store()
        blob = await stored(store, b"content")
        upload = await store.start_upload()
        await store.append(upload, source(b"half"), offset=0)
        for locator in (blob, upload, *UNKNOWN_LOCATORS):
            await store.delete(locator)
            await store.delete(locator)
        with pytest.raises(BlobUnknownError):
            await read(store, blob)
        with pytest.raises(BlobUploadUnknownError):
            await store.upload_size(upload)
        assert [name async for name in store.list_older(_in_an_hour())] == []

    async def test_deleting_under_a_running_append_ends_it(self, make_store: MakeStore) -> None:
        store = make_store()
        locator = await store.start_upload()
        running, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"first "
            running.set()
            await go_on.wait()
            yield b"second"

        task = asyncio.create_task(store.append(locator, slow(), offset=0))
        await running.wait()
        await make_store().delete(locator)
        go_on.set()
        with pytest.raises(BlobUploadUnknownError):
            await task
        with pytest.raises(BlobUploadUnknownError):
            await store.finish(locator, digest_of(b"first second"))

    async def test_an_open_blob_reads_on_after_its_delete(self, make_store: MakeStore) -> None:
        store = make_store()
        content = pattern(1_000_000)
        locator = await stored(store, content)
        async with store.open_blob(locator) as blob:
            blocks = blob.chunks()
            start = await anext(blocks)
            await store.delete(locator)
            assert start + b"".join([block async for block in blocks]) == content

    @pytest.mark.parametrize("locator", UNKNOWN_LOCATORS)
    async def test_unknown_locators(self, make_store: MakeStore, locator: str) -> None:
        store = make_store()
        with pytest.raises(BlobUploadUnknownError):
            await store.append(locator, source(b"x"), offset=0)
        with pytest.raises(BlobUploadUnknownError):
            await store.upload_size(locator)
        with pytest.raises(BlobUploadUnknownError):
            await store.finish(locator, digest_of(b"x"))
        with pytest.raises(BlobUnknownError):
            await read(store, locator)

    async def test_the_sweep_sees_uploads_and_blobs_by_age(self, make_store: MakeStore) -> None:
        store = make_store()
        blob = await stored(store, b"content")
        upload = await store.start_upload()
        found = [name async for name in store.list_older(_in_an_hour())]
        assert sorted(found) == sorted([blob, upload])
        hour_ago = datetime.now(UTC) - timedelta(hours=1)
        assert [name async for name in store.list_older(hour_ago)] == []

    async def test_free_room_is_a_number_or_unknown(self, make_store: MakeStore) -> None:
        free = await make_store().free_bytes()
        assert free is None or free > 0

    async def test_memory_stays_bounded(self, make_store: MakeStore) -> None:
        store = make_store()
        block, blocks = pattern(65_536), 512  # 32 MiB
        hashed = hashlib.sha256()
        for _ in range(blocks):
            hashed.update(block)
        locator = await store.start_upload()
        tracemalloc.start()
        try:
            await store.append(locator, _repeated(block, blocks), offset=0)
            await store.finish(locator, Digest("sha256", hashed.hexdigest()))
            async with store.open_blob(locator) as blob:
                async for _ in blob.chunks():
                    pass
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8 << 20

    async def test_the_event_loop_stays_free(self, make_store: MakeStore) -> None:
        """While 32 MiB go in, another task gets its turn between any two chunks or blocks."""
        store = make_store()
        block = pattern(1 << 20)
        locator = await store.start_upload()
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        try:
            await store.append(locator, _repeated(block, 32, give_way=False), offset=0)
        finally:
            task.cancel()
        assert turns >= 32


async def _repeated(block: bytes, times: int, *, give_way: bool = True) -> AsyncIterator[bytes]:
    for _ in range(times):
        yield block
        if give_way:
            await asyncio.sleep(0)


def _in_an_hour() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)
