"""``sendfile`` from a file to a client, on whichever event loop.

``loop.sendfile`` is not there on uvloop, and would be the only reason to do without it.
"""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

from registry.errors import UnavailableError
from registry.http.readiness import writable

if TYPE_CHECKING:
    from typing import BinaryIO

    from aiohttp import web

_AT_ONCE_BYTES = 1 << 20
"""Between two such pieces the other requests of this process have their turn."""


def own_descriptor(request: web.BaseRequest) -> int | None:
    """A descriptor of the client's connection for ``send_file``, which closes it; none where the kernel
    cannot send to this client itself, who is gone or behind TLS, and where no more files can be opened."""
    transport = request.transport
    if transport is None or transport.is_closing() or transport.get_extra_info("sslcontext") is not None:
        return None
    try:
        # Of our own: no loop lets anyone watch the descriptor of a transport.
        return os.dup(transport.get_extra_info("socket").fileno())
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        return None


async def send_file(request: web.BaseRequest, fd: int, file: BinaryIO, first: int, length: int) -> None:
    """Send ``length`` bytes of ``file`` from offset ``first``, after all that was written before.

    Raises:
        ConnectionError: the client went away.
        UnavailableError: the file ends before that.
    """
    try:
        await let_all_leave(request)  # or the file would overtake its own headers
        end = first + length
        while first < end:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("the client went away")
            try:
                sent = os.sendfile(fd, file.fileno(), first, min(_AT_ONCE_BYTES, end - first))
            except BlockingIOError:
                await writable(fd)
            else:
                if sent == 0:
                    raise UnavailableError("a blob in the store is shorter than it was")
                first += sent
                if first < end:
                    await asyncio.sleep(0)
    finally:
        os.close(fd)


async def let_all_leave(request: web.BaseRequest) -> None:
    """Wait until the transport holds nothing back."""
    transport = request.transport
    if transport is not None and transport.get_write_buffer_size():
        transport.set_write_buffer_limits(0)
        try:
            await request.writer.drain()
        finally:
            if not transport.is_closing():  # uvloop sets nothing on one that is closed
                transport.set_write_buffer_limits()
