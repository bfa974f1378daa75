"""Those who watch one log look together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from registry.db.engine import Database
from registry.trials.livelog import Cursor, Look
from registry.trials.looks import Looks
from tests.integration.trials.test_livelog import tell, watched
from tests.kit.trials import Port, ScriptedWorker, tiny_image

WATCHERS, PIECES = 20, 8


@contextmanager
def looked() -> Iterator[list[str]]:
    """The looks at trials that are taken while the block runs."""
    seen: list[str] = []

    def hear(_connection: object, _cursor: object, text: str, *_rest: object) -> None:
        if text.startswith("SELECT repositories.name, repositories.visibility, trials.state"):
            seen.append(text)

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", hear)


@pytest.fixture
async def begun(port: Port) -> tuple[ScriptedWorker, dict[str, str]]:
    """A worker with a job."""
    await port.push(tiny_image())
    worker = await port.worker("one")
    job = await worker.claim()
    return worker, job


async def test_who_asks_for_the_same_gets_the_same(
    port: Port, begun: tuple[ScriptedWorker, dict[str, str]], tmp_path: Path
) -> None:
    worker, job = begun
    assert (await tell(worker, job, 0, "one")).status == 200
    looks = Looks()

    def take(*cursors: Cursor) -> Awaitable[Look | None]:
        return looks.take(port.database, job["trial"], cursors, after_seconds=0)

    with looked() as seen:
        found = await asyncio.gather(*(take() for _ in range(50)))
        assert len(seen) == 1
        assert all(one is found[0] for one in found)
        # From elsewhere it is another.
        await asyncio.gather(take(), take(Cursor(1, 0, 3)))
        assert len(seen) == 3
        # And so it is for who comes when there is none to come.
        await take()
        assert len(seen) == 4
    broken = Database(f"sqlite:///{tmp_path / 'none' / 'none.db'}")
    asked = [looks.take(broken, job["trial"], (), after_seconds=0) for _ in range(2)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in found] == [OperationalError] * 2


async def test_who_goes_takes_it_from_nobody_else(
    port: Port, begun: tuple[ScriptedWorker, dict[str, str]]
) -> None:
    _, job = begun
    looks = Looks()

    def take() -> asyncio.Task[Look | None]:
        return asyncio.create_task(looks.take(port.database, job["trial"], (), after_seconds=0.2))

    with looked() as seen:
        first, second = take(), take()
        await asyncio.sleep(0.05)
        first.cancel()
        assert await second is not None
        assert len(seen) == 1
        alone = take()
        await asyncio.sleep(0.05)
        alone.cancel()
        await asyncio.wait([alone])
        await asyncio.sleep(0.3)
        assert len(seen) == 1, "nobody waits for it any more"
        assert await take() is not None


async def test_all_who_watch_see_it_at_the_cost_of_one(
    port: Port, begun: tuple[ScriptedWorker, dict[str, str]]
) -> None:
    worker, job = begun
    async with AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(watched(port.admin, job["trial"])) for _ in range(WATCHERS)
        ]
        for stream in streams:
            assert (await anext(stream))[1] == "part"
        with looked() as seen:
            for number in range(PIECES):
                assert (await tell(worker, job, number, str(number))).status == 200
                texts = [await anext(stream) for stream in streams]
                assert [said["text"] for _, _, said in texts] == [str(number)] * WATCHERS
        # For each piece one that finds it, one that finds no more, and some while nobody tells anything.
        assert len(seen) < WATCHERS * PIECES / 2
