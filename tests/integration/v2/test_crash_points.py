"""``kill -9`` at every named point of a push and a delete: what was acknowledged is there afterwards,
what was not is there whole or not at all, as the point says, and the client's next try works."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from operator import attrgetter
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import select

from registry.content import quarantine
from registry.db.content import blobs
from registry.db.engine import Database
from tests.kit.access import api
from tests.kit.crashing import (
    COLLECTION_POINTS,
    FILESYSTEM_POINTS,
    POINTS,
    S3_POINTS,
    CrashingServer,
    Point,
    points_of,
)
from tests.kit.distribution import push_blob
from tests.kit.images import digest_of
from tests.kit.model import Op, apply
from tests.kit.modelcontents import contents_of
from tests.kit.modelstate import State
from tests.kit.play import Player
from tests.kit.server import Registry
from tests.kit.usage import recounted

NAME = attrgetter("name")
SEEDS = (f"crash{number}" for number in itertools.count(1))
IMAGE = (
    *(Op("push-blob", blob=blob, how="put") for blob in (0, 2, 3)),
    Op("put-manifest", key="image-0", tags=("a", "b")),
    Op("put-tag", key="signature", tag="c"),
)
WHOLE = (Op("start"), Op("append", part=0), Op("append", part=1))
MOUNTED = tuple(Op("mount", repo=1, blob=blob, source=0) for blob in (0, 2))
LOOSENED = (
    Op("push-blob", blob=4, how="put"),
    Op("put-manifest", key="image-0", repo=1),
    Op("delete-manifest", key="image-0", repo=1),
    Op("delete-manifest", key="signature"),
    Op("delete-manifest", key="image-0"),
    Op("push-blob", blob=1, how="put"),
    Op("put-manifest", key="image-1"),
)
"""One image after which a collection has something of everything to take."""
CONDEMNED = (
    *(Op("older", days=1), Op("collect")),
    *(Op(kind, key="listing", repo=1) for kind in ("put-manifest", "delete-manifest")),
    Op("older", days=1),
)
"""What makes it old enough for that, and one manifest more to take."""
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
ASKED_AT: dict[tuple[str, str], tuple[tuple[Op, ...], Op]] = {
    ("uploads.finish", "store.delete"): (
        (*IMAGE, *WHOLE, Op("push-blob", repo=1, blob=4, how="put")),
        Op("finish"),
    ),
    ("uploads.append", "s3.put"): ((*IMAGE, *WHOLE[:1]), Op("append", part=0)),
    ("uploads.append", "ledger.save"): ((*IMAGE, *WHOLE[:1]), Op("append", part=0)),
    ("uploads.finish", "s3.put"): (IMAGE[:2], Op("push-blob", blob=3, how="put")),
    ("uploads.cancel", "s3.clear_parts"): ((*IMAGE, *WHOLE), Op("cancel")),
}
"""What stands when the server dies, and what was asked for: by use case; else what leads to the point."""


@pytest.fixture(scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CrashingServer]:
    """A server on one database and one store."""
    with made_server(request, tmp_path_factory.mktemp("crash")) as made:
        yield made


@contextmanager
def made_server(request: pytest.FixtureRequest, folder: Path) -> Iterator[CrashingServer]:
    storage = {}
    if request.param == "postgresql-s3":
        service = request.getfixturevalue("s3")
        storage = {
            "storage_url": service.url(attempts=10),
            "storage_credentials_file": str(service.credentials),
        }
    if request.param == "sqlite-filesystem":
        shutil.copyfile(request.getfixturevalue("sqlite_template"), folder / "seatrial.db")
        url = f"sqlite:///{folder / 'seatrial.db'}"
    else:
        postgres = request.getfixturevalue("postgres")
        url = postgres.url(postgres.create(request.getfixturevalue("postgres_template")))
    made = CrashingServer(folder / "data", url, **storage)
    yield made
    made.stop()


# ``server`` has a decorator of its own: one for both would start a server for each point.
@pytest.mark.parametrize("point", [*POINTS, *FILESYSTEM_POINTS], ids=NAME)
@pytest.mark.parametrize("server", ["sqlite-filesystem"], indirect=True)
async def test_killed_over_files(server: CrashingServer, point: Point) -> None:
    await killed_at(point, server)


@pytest.mark.parametrize("point", [*POINTS, *S3_POINTS], ids=NAME)
@pytest.mark.parametrize("server", ["postgresql-s3"], indirect=True)
async def test_killed_over_s3(server: CrashingServer, point: Point) -> None:
    await killed_at(point, server)


@pytest.fixture(scope="module")
def collecting_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CrashingServer]:
    """As ``server``, and nothing is in it but what collections are asked to take."""
    with made_server(request, tmp_path_factory.mktemp("collect")) as made:
        yield made


@pytest.mark.parametrize("point", COLLECTION_POINTS, ids=NAME)
@pytest.mark.parametrize("collecting_server", ["sqlite-filesystem", "postgresql-s3"], indirect=True)
async def test_killed_while_it_collects(collecting_server: CrashingServer, point: Point) -> None:
    """What is named is there, and the collection that was broken off goes on to its end."""
    server = collecting_server
    database = Database(server.database_url)
    player = Player({}, contents_of(next(SEEDS)), database)
    async with playing(player, server.start()):
        state = await do_all(player, State(), (*IMAGE, *MOUNTED, *LOOSENED, *CONDEMNED))
        await database.close()
        server.arm(point)
        try:
            with pytest.raises(aiohttp.ClientError):
                await player.do(Op("collect"))
        finally:
            server.disarm()
        assert server.wait_until_killed()
    async with playing(player, server.start()):
        (client,) = player.clients["admin"]
        state = await do_all(player, state, (Op("collect"),))
        assert await player.look(state) == state.shown
        assert await api(client, "GET", "/collections/preview") == []
        (last, *_) = await api(client, "GET", "/collections")
        assert last["ended_at"]
        assert recounted(server.database_url)


@pytest.mark.parametrize("point", points_of("uploads.finish"), ids=NAME)
@pytest.mark.parametrize("server", ["sqlite-filesystem", "postgresql-s3"], indirect=True)
async def test_killed_while_a_push_heals_a_damaged_blob(server: CrashingServer, point: Point) -> None:
    """It is damaged or whole, and never in between; the client's next try heals it."""
    content = f"{point.name} {next(SEEDS)}".encode()
    path = f"/v2/heal/app/blobs/{digest_of(content)}"
    async with server.start().client() as client:
        await push_blob(client, "heal/app", content)
        await damage(server, digest_of(content))
        async with client.head(path) as response:
            assert response.status == 404
        server.arm(point)
        try:
            with pytest.raises(aiohttp.ClientError):
                await push_blob(client, "heal/app", content)
        finally:
            server.disarm()
        assert server.wait_until_killed()
    async with server.start().client() as client:
        async with client.get(path) as response:
            assert response.status == (200 if point.done else 404)
        await push_blob(client, "heal/app", content)
        async with client.get(path) as response:
            assert await response.read() == content


async def damage(server: CrashingServer, digest: str) -> None:
    database = Database(server.database_url)
    try:
        async with database.read_once() as connection:
            query = select(blobs.c.id, blobs.c.locator).where(blobs.c.digest == digest)
            row = (await connection.execute(query)).one()
        assert await quarantine.put_in(database, row.id, locator=row.locator, damage="digest")
    finally:
        await database.close()


async def killed_at(point: Point, server: CrashingServer) -> None:
    player = Player({}, contents_of(next(SEEDS)))
    before, asked = ASKED_AT.get((point.use_case, point.call), ASKED[point.use_case])
    async with playing(player, server.start()):
        state = await do_all(player, State(), before)
        server.arm(point)
        try:
            with pytest.raises(aiohttp.ClientError):
                await player.do(asked)
        finally:
            server.disarm()
        assert server.wait_until_killed()
    assert recounted(server.database_url)
    done, _ = apply(state, asked, player.contents)
    # Of a session that was opened nobody learnt where it is.
    expected = done if point.done and point.use_case != "uploads.start" else state
    async with playing(player, server.start()):
        assert await player.look(state) == expected.shown
        _, answer = apply(expected, asked, player.contents)
        tried = await player.do(asked)
        while tried == (409,):  # an upload in S3 waits for its holder, who may only be slow
            await asyncio.sleep(0.1)
            tried = await player.do(asked)
        assert tried == answer, "the client's next try"


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
