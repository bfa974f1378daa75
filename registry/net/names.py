"""Looking up names in threads of one's own: a name server that hangs keeps only those waiting who ask it."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class OwnThreads(AbstractResolver):
    """Asks the system, as the usual resolver does, but not in the threads in which this process reads files
    and asks for everything else. Each name has a thread of its own, ``most`` of them at once; who comes when
    all of them hang waits. A process that ends waits for none of them."""

    def __init__(self, *, most: int) -> None:
        self._room = asyncio.Semaphore(most)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """All addresses of a name.

        Raises:
            OSError: it has none, no name server answers, or there is no room for another thread.
        """
        await self._room.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any]] = loop.create_future()

        def tell(found: list[Any] | OSError) -> None:
            # Not when nobody waits any more: the system cannot be told to stop looking.
            self._room.release()
            if answer.done():
                return
            if isinstance(found, OSError):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def look_up() -> None:
            found: list[Any] | OSError
            try:
                found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            except UnicodeError as error:
                found = OSError(str(error))
            except OSError as error:
                found = error
            with suppress(RuntimeError):  # the loop is over
                loop.call_soon_threadsafe(tell, found)

        # Not of an executor: the interpreter waits for those when it ends.
        try:
            threading.Thread(target=look_up, name="names", daemon=True).start()
        except RuntimeError as error:
            self._room.release()
            raise OSError(f"{host} cannot be looked up: {error}") from None
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=socket.AddressFamily(kind),
                proto=proto,
                flags=_NUMERIC,
            )
            for kind, _, proto, _, address in await answer
        ]

    async def close(self) -> None:
        """Nothing is kept open."""
