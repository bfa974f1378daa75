"""Names are looked up in threads of their own, so many at once."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from registry.net.names import OwnThreads


async def test_what_hangs_has_its_room_until_the_system_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    released, looked_up = threading.Event(), list[str]()

    def look_up(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        looked_up.append(host)
        if host == "hangs":
            released.wait(200)
        if host == "missing":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    resolver = OwnThreads(most=1)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await resolver.resolve("hangs", 443)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await resolver.resolve("good", 443)
        async with asyncio.timeout(60):
            while not looked_up:  # noqa: ASYNC110  (a thread)
                await asyncio.sleep(0.01)
        assert looked_up == ["hangs"]
    finally:
        released.set()
    (found,) = await resolver.resolve("good", 443)
    assert (found["host"], found["port"], found["family"]) == ("192.0.2.1", 443, socket.AF_INET)
    with pytest.raises(socket.gaierror, match="no such name"):
        await resolver.resolve("missing", 443)
    monkeypatch.undo()
    with pytest.raises(OSError, match="label"):
        await resolver.resolve("a" * 70 + ".example", 443)


async def test_a_thread_that_cannot_start_keeps_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = OwnThreads(most=1)
    monkeypatch.setattr(threading.Thread, "start", start)
    for _ in range(2):
        async with asyncio.timeout(60):
            with pytest.raises(OSError, match="localhost cannot be looked up: can't start new thread"):
                await resolver.resolve("localhost", 443)
    monkeypatch.undo()
    assert await resolver.resolve("localhost", 443)
