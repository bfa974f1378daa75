"""The budget of a worker's runs: given out once, first come first served, and never lost."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from registry.contract.limits import Limits
from sandbox.budget import Budget, Room
from sandbox.errors import SandboxError

MIB = 1024 * 1024


def limits(memory: int = 64, *, pids: int = 10, cpus: float = 1.0, written: int = 1) -> Limits:
    return Limits(memory_bytes=memory * MIB, pids=pids, cpus=cpus, written_bytes=written * MIB)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("budget", "free", "fitting"),
    [
        (Budget(), None, 9),
        (Budget(memory_bytes=200 * MIB), None, 3),
        (Budget(pids=45), None, 4),
        (Budget(cpus=2.5), None, 2),
        (Budget(cpus=0.5), None, 1),
        (Budget(memory_bytes=200 * MIB, pids=25), None, 2),
        (Budget(), 5 * MIB, 5),
    ],
)
async def test_as_many_as_fit_and_then_one_for_one(budget: Budget, free: int | None, fitting: int) -> None:
    room = Room(budget, lambda: free)
    inside = most = 0

    async def run() -> None:
        nonlocal inside, most
        async with room.taken(limits()):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    runs = [asyncio.create_task(run()) for _ in range(9)]
    await asyncio.sleep(0)
    assert (room.running, room.waiting) == (fitting, 9 - fitting)
    await asyncio.gather(*runs)
    assert (most, room.running, room.waiting) == (fitting, 0, 0)


async def test_a_large_one_is_not_passed_by_small_ones() -> None:
    room = Room(Budget(memory_bytes=100 * MIB))
    order: list[int] = []

    async def run(memory: int) -> None:
        async with room.taken(limits(memory)):
            order.append(memory)
            await settled()

    await asyncio.gather(*(asyncio.create_task(run(memory)) for memory in (60, 80, 30, 20)))
    assert order == [60, 80, 30, 20]


async def test_one_alone_is_let_in_whatever_the_disk_says() -> None:
    room = Room(Budget(cpus=0.5), lambda: 0)
    async with asyncio.timeout(30), room.taken(limits(cpus=4)):
        assert room.must_wait(limits())


async def test_nothing_is_lost_where_runs_are_cancelled_at_any_moment() -> None:
    chance = random.Random(7)
    room = Room(Budget(memory_bytes=200 * MIB, pids=25))

    async def run() -> None:
        async with room.taken(limits(chance.choice((30, 60, 120)))):
            assert sum(one.memory_bytes for one in room._held) <= 200 * MIB
            assert sum(one.pids for one in room._held) <= 25
            await asyncio.sleep(chance.choice((0, 0.001)))

    tasks = []
    for _ in range(300):
        tasks.append(asyncio.create_task(run()))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        if chance.random() < 0.3:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (room.running, room.waiting) == (0, 0)


async def test_let_in_and_cancelled_in_the_same_moment() -> None:
    room = Room(Budget(pids=10))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(room.taken(limits()))
        second = asyncio.create_task(stack.enter_async_context(room.taken(limits())))
        await settled()
        assert room.waiting == 1
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert second.cancelled()
    assert (room.running, room.waiting) == (0, 0)


async def test_cancelled_in_the_moment_in_which_another_ends() -> None:
    room = Room(Budget(pids=10))
    order = []

    async def run(name: str) -> None:
        async with room.taken(limits()):
            order.append(name)

    async with room.taken(limits()):
        waiting = [asyncio.create_task(run(name)) for name in ("first", "second")]
        await settled()
        assert room.waiting == 2
        waiting[0].cancel()
    # Its own end is nothing to the run that makes room for it.
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (waiting[0].cancelled(), order) == (True, ["second"])
    assert (room.running, room.waiting) == (0, 0)


def test_defaults_are_lowered_and_what_was_asked_for_is_not() -> None:
    budget = Budget(memory_bytes=256 * MIB, pids=100, cpus=0.5)
    lowered = budget.defaults(Limits())
    assert (lowered.memory_bytes, lowered.pids, lowered.cpus) == (256 * MIB, 100, 0.5)
    assert lowered.written_bytes == Limits().written_bytes
    budget.require_possible(limits(256, pids=100, cpus=9))
    with pytest.raises(
        SandboxError, match=r"asks for 257\.0 MiB of memory.* together have 256\.0 MiB"
    ) as refused:
        budget.require_possible(limits(257))
    assert refused.value.retryable
    with pytest.raises(SandboxError, match=r"asks for 101 processes.* together have 100"):
        budget.require_possible(limits(pids=101))
