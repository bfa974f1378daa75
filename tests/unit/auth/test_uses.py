"""Uses are written one lot after the other, and all of them before the end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from registry.auth import uses
from registry.auth.uses import Use, Uses


async def test_the_end_waits_for_a_lot_that_is_being_written_and_for_what_came_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uses, "FLUSH_SECONDS", 0)
    begun, go_on = asyncio.Event(), asyncio.Event()
    written: list[Mapping[str, Use]] = []

    async def write(lot: Mapping[str, Use]) -> None:
        begun.set()
        await go_on.wait()
        written.append(lot)

    noted = Uses("token", write)
    noted.note("1", address="192.0.2.1", client=None)
    await begun.wait()
    noted.note("1", address="192.0.2.9", client="within the minute")
    noted.note("2", address=None, client="podman")
    ending = asyncio.create_task(noted.close())
    await asyncio.sleep(0)
    assert not ending.done()
    go_on.set()
    await ending
    assert written == [{"1": Use("192.0.2.1", None)}, {"2": Use(None, "podman")}]
