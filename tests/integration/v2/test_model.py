"""The API against a small model of what a registry should do, found by hypothesis: one operation after the
other, and several at once, whose answers some order must explain. Contents come to their end meanwhile, and
back: nothing that is named is ever lost, nothing that is not stays past its grace, and usage is exact.

``SEATRIAL_TEST_EXAMPLES`` multiplies how much is tried, and crosses each database with each store.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from registry.db.engine import Database
from tests.kit.access import make_user
from tests.kit.model import KEEPING, Op, apply, explain, operations
from tests.kit.modelcontents import TAGS, contents_of
from tests.kit.modelstate import State
from tests.kit.play import Clients, Player, at_once
from tests.kit.server import running_replicas
from tests.kit.usage import recounted

FACTOR = int(os.environ.get("SEATRIAL_TEST_EXAMPLES", "1"))
STACKS = [("sqlite", "filesystem"), ("postgresql", "s3")]
"""The same is played on each; a database and a store know nothing of each other."""
if FACTOR > 1:
    STACKS += [("sqlite", "s3"), ("postgresql", "filesystem")]
pytestmark = pytest.mark.parametrize(("database_url", "storage"), STACKS, indirect=True)
PASSWORD = "a reader's long password"
SEEDS = (f"play{number}" for number in itertools.count(1))
BY_HAND = {"collection_every_seconds": 0}
"""Nobody collects but the player."""
PUSHED = (
    *(Op("push-blob", repo=0, blob=blob, how="put") for blob in range(5)),
    Op("put-tag", repo=0, key="image-0", tag="a"),
    Op("put-tag", repo=0, key="signature", tag="b"),
    *(Op("put-manifest", repo=0, key=key) for key in ("bill", "about", "index", "image-512")),
)
FILL = (
    *PUSHED,
    *(Op("push-blob", repo=1, blob=blob, how="single") for blob in range(3)),
    Op("visibility", repo=0, visibility="internal"),
    Op("put-tag", repo=1, key="image-0", tag="a"),
    Op("older", days=3),
    Op("start", repo=0, slot=0),
    Op("append", slot=0, part=0),
    Op("start", repo=1, slot=1),
    Op("append", slot=1, part=0),
    Op("append", slot=1, part=1),
)
"""Where the plays of several at once begin: with something to fight about, and to take away."""
END = (
    *(
        op
        for _ in range(2)
        for op in (Op("older", days=3), *(Op("retain", repo) for repo in range(2)), Op("collect"))
    ),
    *(op for _ in range(2) for op in (Op("older", days=3), Op("collect"))),
)
"""After this only what a tag reaches that the policy keeps is there, and what that is made of."""
PLAYED = Counter[str]()
"""So many operations of each kind."""


@asynccontextmanager
async def clients_of(folder: Path, database_url: str, **storage: Any) -> AsyncIterator[Clients]:
    """Three actors at one registry on SQLite, or at two replicas on PostgreSQL."""
    count = 1 if make_url(database_url).get_backend_name() == "sqlite" else 2
    async with (
        AsyncExitStack() as stack,
        running_replicas(folder, database_url, count, access_log=False, **BY_HAND, **storage) as registries,
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
def database(database_url: str, runner: asyncio.Runner) -> Iterator[Database]:
    """In which time passes."""

    async def opened() -> Database:
        return Database(database_url)

    made = runner.run(opened())
    yield made
    runner.run(made.close())


@pytest.fixture
def clients(
    tmp_path: Path, database_url: str, storage: dict[str, Any], runner: asyncio.Runner
) -> Iterator[Clients]:
    """The actors, on a database, which has counted truly what they left, and a store."""
    opened = clients_of(tmp_path, database_url, **storage)
    yield runner.run(opened.__aenter__())
    runner.run(opened.__aexit__(None, None, None))
    print(f"{PLAYED.total()} operations so far: {dict(PLAYED.most_common())}")
    assert recounted(database_url)


def operation(*kinds: str) -> st.SearchStrategy[Op]:
    """An operation of one of these kinds, mostly the administrator's."""
    found = operations()
    actors = st.sampled_from(("admin",) * 6 + ("reader",) * 2 + ("nobody",))
    of_kind = st.sampled_from(kinds or (*found, *KEEPING)).flatmap(lambda kind: st.sampled_from(found[kind]))
    return st.builds(
        lambda op, actor: op if op.kind in KEEPING else replace(op, actor=actor), of_kind, actors
    )


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


@pytest.mark.timeout(600 * FACTOR)
def test_one_after_the_other(clients: Clients, database: Database, runner: asyncio.Runner) -> None:
    @bounded(10)
    @given(st.sampled_from(((), PUSHED, PUSHED)), st.lists(operation(), min_size=20, max_size=50))
    def play(first: tuple[Op, ...], ops: list[Op]) -> None:
        runner.run(play_in_turn(clients, database, [*first, *ops]))

    play()


async def play_in_turn(clients: Clients, database: Database, ops: list[Op]) -> None:
    player = Player(clients, contents_of(next(SEEDS)), database)
    state = await do_all(player, State(), ops)
    assert await player.look(state) == state.shown
    state = await do_all(player, state.looked_at(), END)
    assert await player.look(state) == state.shown
    for repo in state.repos:
        assert repo.manifests == repo.reached(player.contents), "nothing else stays"
        assert repo.blobs <= repo.named(player.contents), "nor of what that was made of"


async def do_all(player: Player, state: State, ops: Iterable[Op]) -> State:
    for op in ops:
        state, expected = apply(state, op, player.contents)
        assert await player.do(op) == expected, op
        PLAYED[op.kind] += 1
    return state


CONTESTED = [
    op
    for kind, ops in operations().items()
    for op in ops
    if kind not in ("start", "visibility", "catalog", "collect", "older", "undo", "damage", "quota")
    and (op.repo, op.slot, op.tag or "a", op.key or "image-0") == (0, 0, "a", "image-0")
    and op.blob in (0, 2)
]
"""Operations that are about the same few things."""
ANY = tuple(kind for kind in operations() if kind not in ("start", "older", "undo", "damage", "quota"))
KEPT = [Op("collect"), Op("retain"), *(Op("restore", tag=tag) for tag in TAGS[:2])]


@pytest.mark.timeout(600 * FACTOR)
def test_several_at_once(clients: Clients, database: Database, runner: asyncio.Runner) -> None:
    some = st.one_of(*(st.sampled_from(ops) for ops in (CONTESTED, CONTESTED, KEPT)), operation(*ANY))
    batch = st.tuples(st.sampled_from((0, 1, 1, 3)), st.lists(some, min_size=3, max_size=6))

    @bounded(6)
    @given(st.lists(batch, min_size=3, max_size=5))
    def play(batches: list[tuple[int, list[Op]]]) -> None:
        runner.run(play_at_once(clients, database, batches))

    play()


async def play_at_once(clients: Clients, database: Database, batches: list[tuple[int, list[Op]]]) -> None:
    player = Player(clients, contents_of(next(SEEDS)), database)
    states = frozenset({await do_all(player, State(), FILL)})
    for days, batch in batches:
        if days:
            older = Op("older", days=days)
            await player.do(older)
            states = frozenset(apply(state, older, player.contents)[0] for state in states)
        told = await at_once(player, batch)
        after = await player.look(next(iter(states)))
        note(f"{told} -> {after}")
        states = explain(states, told, after, player.contents)
        assert states, "no order explains these answers"
        PLAYED.update(op.kind for op in batch)
