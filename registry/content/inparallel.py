"""Some things at a time, of many."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from registry.errors import SeatrialError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

T = TypeVar("T")


async def each(items: AsyncIterable[T], work: Callable[[T], Awaitable[None]], *, parallel: int) -> None:
    """Do ``work`` with each, ``parallel`` at a time. After the first error of ours nothing is begun any more.

    Raises:
        SeatrialError: the first that ``work``, or whoever gives the items, has raised.
    """
    waiting: asyncio.Queue[T | None] = asyncio.Queue(parallel)
    errors: list[SeatrialError] = []

    async def take() -> None:
        while (item := await waiting.get()) is not None:
            if not errors:
                try:
                    await work(item)
                except SeatrialError as error:
                    errors.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(parallel):
            group.create_task(take())
        try:
            async for item in items:
                if errors:
                    break
                await waiting.put(item)
        except SeatrialError as error:
            errors.append(error)
        for _ in range(parallel):
            await waiting.put(None)
    if errors:
        raise errors[0]
