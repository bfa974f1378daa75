"""``kill -9`` at every named point of a push and a delete: what was acknowledged is there afterwards,
what was not is there whole or not at all, as the point says, and the client's next try works."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.kit.crashing import FILESYSTEM_POINTS, POINTS, CrashingServer, Point
from tests.kit.model import Op, State, apply, contents_of
from tests.kit.play import Player
from tests.kit.server import Registry

SEEDS = (f"crash{number}" for number in itertools.count(1))
IMAGE = (
    *(Op("push-blob", blob=blob, how="put") for blob in (0, 2, 3)),
    Op("put-manifest", key="image-0", tags=("a", "b")),
    Op("put-tag", key="signature", tag="c"),
)
WHOLE = (Op("start"), Op("append", part=0), Op("append", part=1))
MOUNTED = tuple(Op("mount", repo=1, blob=blob, source=0) for blob in (0, 2))
ASKED: dict[str, tuple[tuple[Op, ...], Op]] = {
    "uploads.start": (IMAGE, Op("start")),
    "uploads.append": ((*IMAGE, *WHOLE[:2]), Op("append", part=1)),
    "uploads.finish": ((*IMAGE, *WHOLE), Op("finish")),
    "uploads.cancel": ((*IMAGE, *WHOLE[:2]), Op("cancel")),
    "blobs.mount": (IMAGE, Op("mount", repo=1, blob=2, source=0)),
    "blobs.delete": (IMAGE, Op("delete-blob", blob=2)),
    "manifests.put": ((*IMAGE, *MOUNTED), Op("put-manifest", key="image-0", tags=("a", "b"), repo=1)),
    "manifests.delete": (IMAGE, Op("delete-manifest", key="image-0")),
    "tags.delete": (IMAGE, Op("delete-tag", tag="a")),
}
"""What stands when the server dies, and what was asked for."""
ALREADY_THERE = Op("push-blob", repo=1, blob=4, how="put")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CrashingServer]:
    """A server on one database and one store."""
    folder = tmp_path_factory.mktemp("crash")
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("sqlite_template"), folder / "seatrial.db")
        url = f"sqlite:///{folder / 'seatrial.db'}"
    else:
        postgres = request.getfixturevalue("postgres")
        url = postgres.url(postgres.create(request.getfixturevalue("postgres_template")))
    made = CrashingServer(folder / "data", url)
    yield made
    made.stop()


@pytest.mark.parametrize("point", [*POINTS, *FILESYSTEM_POINTS], ids=lambda point: point.name)
async def test_killed(server: CrashingServer, point: Point) -> None:
    player = Player({}, contents_of(next(SEEDS)))
    before, asked = ASKED[point.use_case]
    if point.use_case == "uploads.finish" and point.call == "store.delete":
        before = (*before, ALREADY_THERE)
    async with playing(player, server.start()):
        state = await do_all(player, State(), before)
        server.arm(point)
        try:
            with pytest.raises(aiohttp.ClientError):
                await player.do(asked)
        finally:
            server.disarm()
        assert server.wait_until_killed()
    done, _ = apply(state, asked, player.contents)
    # Of a session that was opened nobody learnt where it is.
    expected = done if point.done and point.use_case != "uploads.start" else state
    async with playing(player, server.start()):
        assert await player.look(state) == expected
        _, answer = apply(expected, asked, player.contents)
        assert await player.do(asked) == answer, "the client's next try"


@asynccontextmanager
async def playing(player: Player, registry: Registry) -> AsyncIterator[None]:
    async with registry.client() as client:
        player.clients = {"admin": [client]}
        yield


async def do_all(player: Player, state: State, ops: tuple[Op, ...]) -> State:
    for op in ops:
        state, expected = apply(state, op, player.contents)
        assert await player.do(op) == expected, op
    return state
