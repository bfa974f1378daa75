"""What lies in the server of a blob that its client does not take."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from registry.http.metrics import METRICS, Metrics
from registry.http.tls import load_context
from registry.http.v2.download import send_blob
from registry.oci.ranges import parse_range
from tests.kit.blobstore_contract import pattern
from tests.kit.certificates import Authority
from tests.kit.rawhttp import read_response, request

CONTENT = pattern(1 << 20)


class ManyReaders:
    """A blob of a store that is down to small blocks, since it has many readers.

    ``left`` is what the transport still held back each time the next block was asked for.
    """

    file = None
    size = len(CONTENT)

    def __init__(self, asked: web.Request, block_bytes: int) -> None:
        self.left: list[int] = []
        self.broken = asyncio.Event()
        self._asked = asked
        self._block_bytes = block_bytes

    async def chunks(self, first: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See :meth:`OpenBlob.chunks`."""
        end = self.size if length is None else first + length
        for start in range(first, end, self._block_bytes):
            yield CONTENT[start : min(start + self._block_bytes, end)]
            transport = self._asked.transport
            self.left.append(transport.get_write_buffer_size() if transport is not None else 0)


class Place:
    """Serves the content to clients for whom the kernel holds little."""

    def __init__(self, block_bytes: int, authority: Authority | None, folder: Path) -> None:
        self.opened: list[ManyReaders] = []
        self._block_bytes = block_bytes
        self._authority = authority
        self._folder = folder
        self._port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen while the block runs."""
        app = web.Application()
        app[METRICS] = Metrics()
        app.router.add_get("/", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        own = (
            load_context(*self._authority.sign("127.0.0.1").write(self._folder)) if self._authority else None
        )
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=own).start()
        self._port = runner.addresses[0][1]
        try:
            yield
        finally:
            await runner.cleanup()

    @asynccontextmanager
    async def asked(self, wanted: str) -> AsyncIterator[asyncio.StreamReader]:
        """Ask for a range; the connection is broken off at the end."""
        trusting = None
        if self._authority is not None:
            trusting = ssl.create_default_context(cadata=self._authority.certificate.decode())
        connection = socket.socket(socket.AF_INET)
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self._port))
        reader, writer = await asyncio.open_connection(
            sock=connection, limit=2048, ssl=trusting, server_hostname="127.0.0.1" if trusting else None
        )
        writer.write(request("GET", "/", Range=wanted))
        try:
            yield reader
        finally:
            writer.transport.abort()

    async def _answer(self, asked: web.Request) -> web.StreamResponse:
        assert asked.transport is not None
        asked.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        blob = ManyReaders(asked, self._block_bytes)
        self.opened.append(blob)
        ranges = parse_range(asked.headers["Range"], blob.size)
        try:
            return await send_blob(asked, blob, headers={}, ranges=ranges)
        except ConnectionResetError:
            blob.broken.set()
            raise


@pytest.fixture(params=["plain", "tls"])
def authority(request: pytest.FixtureRequest) -> Authority | None:
    """Who signs for the server, if anybody has to."""
    return Authority() if request.param == "tls" else None


@pytest.mark.parametrize("wanted", ["bytes=0-", "bytes=5-700000,900000-"])
@pytest.mark.parametrize("block_bytes", [1 << 14, 1 << 16])
async def test_small_blocks_do_not_heap_up_for_a_slow_client(
    authority: Authority | None, block_bytes: int, wanted: str, tmp_path: Path
) -> None:
    place = Place(block_bytes, authority, tmp_path)
    async with place.serving():
        async with place.asked(wanted) as reader:
            response = await read_response(reader)
        assert response.status == 206
        assert CONTENT[5:700001] in response.body
        assert CONTENT[900000:] in response.body
    (blob,) = place.opened
    assert len(blob.left) >= len(response.body) // block_bytes
    assert set(blob.left) == {0}


async def test_a_download_that_waits_ends_with_its_client(
    authority: Authority | None, tmp_path: Path
) -> None:
    place = Place(1 << 14, authority, tmp_path)
    async with place.serving():
        async with place.asked("bytes=0-") as reader:
            await reader.readexactly(100_000)
        (blob,) = place.opened
        await blob.broken.wait()
    assert len(blob.left) < len(CONTENT) >> 14
