"""The API against a small model of what a registry should do, found by hypothesis: one operation after the
other, and several at once, whose answers some order must explain.

``SEATRIAL_TEST_EXAMPLES`` multiplies how much is tried.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from tests.kit.access import make_user
from tests.kit.model import Op, State, apply, contents_of, explain, operations
from tests.kit.play import Clients, Player, at_once
from tests.kit.server import running_replicas
from tests.kit.usage import recounted

FACTOR = int(os.environ.get("SEATRIAL_TEST_EXAMPLES", "1"))
PASSWORD = "a reader's long password"
SEEDS = (f"play{number}" for number in itertools.count(1))
AT_ONCE = {"collection_grace_seconds": 0, "collection_every_seconds": 0}
"""Nobody collects but the player, and then nothing is kept for anybody."""
FILL = (
    *(Op("push-blob", repo=0, blob=blob, how="put") for blob in range(5)),
    *(Op("push-blob", repo=1, blob=blob, how="single") for blob in range(3)),
    Op("visibility", repo=0, visibility="internal"),
    Op("put-tag", repo=0, key="image-0", tag="a"),
    Op("put-tag", repo=0, key="signature", tag="b"),
    Op("put-tag", repo=1, key="image-0", tag="a"),
    Op("start", repo=0, slot=0),
    Op("append", slot=0, part=0),
    Op("start", repo=1, slot=1),
    Op("append", slot=1, part=0),
    Op("append", slot=1, part=1),
)
"""Where the plays of several at once begin: with something to fight about."""


@asynccontextmanager
async def clients_of(folder: Path, database_url: str, **storage: Any) -> AsyncIterator[Clients]:
    """Three actors at one registry on SQLite, or at two replicas on PostgreSQL."""
    count = 1 if make_url(database_url).get_backend_name() == "sqlite" else 2
    async with (
        AsyncExitStack() as stack,
        running_replicas(folder, database_url, count, access_log=False, **AT_ONCE, **storage) as registries,
    ):
        admins = [await stack.enter_async_context(one.client()) for one in registries]
        await make_user(admins[0], "reader", password=PASSWORD)
        readers = [await stack.enter_async_context(one.client(PASSWORD, user="reader")) for one in registries]
        nobodies = [await stack.enter_async_context(one.client(anonymous=True)) for one in registries]
        yield {"admin": admins, "reader": readers, "nobody": nobodies}


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """The event loop of a test that hypothesis calls many times over one registry."""
    with asyncio.Runner() as made:
        yield made


@pytest.fixture
def clients(
    tmp_path: Path, database_url: str, storage: dict[str, Any], runner: asyncio.Runner
) -> Iterator[Clients]:
    """The actors, on each database, which has counted truly what they left, and on each store."""
    opened = clients_of(tmp_path, database_url, **storage)
    yield runner.run(opened.__aenter__())
    runner.run(opened.__aexit__(None, None, None))
    assert recounted(database_url)


def operation(*kinds: str) -> st.SearchStrategy[Op]:
    """An operation of one of these kinds, mostly the administrator's."""
    found = operations()
    actors = st.sampled_from(("admin",) * 6 + ("reader",) * 2 + ("nobody",))
    of_kind = st.sampled_from(kinds or sorted(found)).flatmap(lambda kind: st.sampled_from(found[kind]))
    return st.builds(lambda op, actor: replace(op, actor=actor), of_kind, actors)


def bounded(examples: int) -> settings:
    """So many examples, times the factor; nothing is timed and nothing is kept between runs."""
    return settings(
        max_examples=examples * FACTOR,
        deadline=None,
        database=None,
        print_blob=True,
        phases=(Phase.generate,) if FACTOR == 1 else (Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


def test_one_after_the_other(clients: Clients, runner: asyncio.Runner) -> None:
    @bounded(10)
    @given(st.lists(operation(), min_size=15, max_size=40))
    def play(ops: list[Op]) -> None:
        runner.run(play_in_turn(clients, ops))

    play()


async def play_in_turn(clients: Clients, ops: list[Op]) -> None:
    player = Player(clients, contents_of(next(SEEDS)))
    state = State()
    for op in ops:
        state, expected = apply(state, op, player.contents)
        assert await player.do(op) == expected, op
    assert await player.look(state) == state


CONTESTED = [
    op
    for kind, ops in operations().items()
    for op in ops
    if kind not in ("start", "visibility", "catalog", "collect")
    and (op.repo, op.slot, op.tag or "a", op.key or "image-0") == (0, 0, "a", "image-0")
    and op.blob in (0, 2)
]
"""Operations that are about the same few things."""
ANY = tuple(kind for kind in operations() if kind != "start")


def test_several_at_once(clients: Clients, runner: asyncio.Runner) -> None:
    contested = st.sampled_from([*CONTESTED, *(Op("collect") for _ in range(3))])

    @bounded(6)
    @given(
        st.lists(
            st.lists(st.one_of(contested, contested, operation(*ANY)), min_size=3, max_size=6),
            min_size=3,
            max_size=5,
        )
    )
    def play(batches: list[list[Op]]) -> None:
        runner.run(play_at_once(clients, batches))

    play()


async def play_at_once(clients: Clients, batches: list[list[Op]]) -> None:
    player = Player(clients, contents_of(next(SEEDS)))
    state = State()
    for op in FILL:
        state, expected = apply(state, op, player.contents)
        assert await player.do(op) == expected, op
    for batch in batches:
        told = await at_once(player, batch)
        after = await player.look(state)
        note(f"{told} -> {after}")
        assert explain(state, told, after, player.contents), "no order explains these answers"
        state = after
