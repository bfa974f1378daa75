"""The real server killed at random moments while clients push, mount, tag and delete; after each restart it
must hold what it had acknowledged, and of what it had not either all or nothing.

Each client has repositories of its own, and so an exact model of them; all push the same contents, so below
the repositories they meet all the time.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field, replace

import aiohttp
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from tests.kit.forking import ForkedServer
from tests.kit.images import digest_of
from tests.kit.model import (
    PARTS,
    READS,
    SESSION_KINDS,
    UPLOADED,
    Answer,
    Op,
    State,
    apply,
    contents_of,
    operations,
)
from tests.kit.play import Player
from tests.kit.server import Registry

Read = Callable[[str], bytes | None]
CLIENTS = 3
PLAY_SECONDS = (0.02, 0.6)
CHECK_ALL_EVERY = 50
SIZE = PARTS[-1][1]


@dataclass(slots=True)
class Count:
    """What became of it all."""

    kills: int = 0
    acknowledged: int = 0
    cut_off: int = 0
    cut_off_and_done: int = 0
    resumed: int = 0
    violations: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Client:
    """One client: its model, and what it waited for when the server died."""

    player: Player
    random: random.Random
    state: State = field(default_factory=State)
    waiting: Op | None = None


async def kill_again_and_again(
    process: ForkedServer, database_url: str, *, read: Read, seed: int, go_on: Callable[[Count], bool]
) -> Count:
    """Start, play, kill, look, as long as ``go_on`` says, which hears of each. ``read`` gives the
    bytes under a locator, from where they are kept."""
    chance = random.Random(seed)
    count = Count()
    clients = [
        Client(Player({}, contents_of("soak", f"client{number}")), random.Random(chance.random()))
        for number in range(CLIENTS)
    ]
    try:
        going = True
        while going:
            async with AsyncExitStack() as stack:
                await _connect(process.start(), clients, stack)
                await asyncio.gather(*(_look(client, count) for client in clients))
                playing = [asyncio.create_task(_play(client, count)) for client in clients]
                await asyncio.sleep(chance.uniform(*PLAY_SECONDS))
                process.kill()
                count.kills += 1
                await asyncio.gather(*playing)
            going = go_on(count)
            if count.kills % CHECK_ALL_EVERY == 0 or not going:
                count.violations += check_all(database_url, read)
        async with AsyncExitStack() as stack:
            await _connect(process.start(), clients, stack)
            await asyncio.gather(*(_look(client, count) for client in clients))
    finally:
        process.stop()
    return count


async def _connect(registry: Registry, clients: list[Client], stack: AsyncExitStack) -> None:
    for client in clients:
        session = await stack.enter_async_context(registry.client())
        client.player.clients = {"admin": [session]}


async def _play(client: Client, count: Count) -> None:
    kinds = operations()
    names = [name for name in kinds if name not in (*READS, "catalog")] * 2 + [*READS[:-1]]
    while True:
        op = client.random.choice(kinds[client.random.choice(names)])
        if op.kind == "mount" and op.source is None:
            continue  # that one may find it in the repositories of the others
        client.waiting = op
        try:
            answer = await _do_when_free(client, op)
        except (aiohttp.ClientError, ConnectionError):
            count.cut_off += 1
            return
        client.waiting = None
        count.acknowledged += 1
        client.state, expected = apply(client.state, op, client.player.contents)
        if answer != expected:
            count.violations.append(f"{op}: {answer}, not {expected}")
            client.state = await client.player.look(client.state)


async def _look(client: Client, count: Count) -> None:
    """Compare with the model, whose last operation may or may not have been done; then do it again."""
    op, client.waiting = client.waiting, None
    try:
        after = await client.player.look(client.state)
        after = await _resume(client, op, after, count)
    except AssertionError as error:
        count.violations.append(f"after a kill in {op}: {error}")
        return
    allowed = list(_possible(client, op))
    if after not in allowed:
        count.violations.append(f"after a kill in {op}: {after}, not one of {allowed}")
    elif after != client.state:
        count.cut_off_and_done += 1
    client.state = after
    if op is not None:
        client.state, expected = apply(after, op, client.player.contents)
        answer = await _do_when_free(client, op)
        if answer != expected:
            count.violations.append(f"{op} once more: {answer}, not {expected}")


async def _do_when_free(client: Client, op: Op) -> Answer:
    """An upload in S3 is not let go of at once when its holder dies."""
    while True:
        answer = await client.player.do(op)
        if answer != (409,) or op.kind not in SESSION_KINDS:
            return answer
        await asyncio.sleep(0.2)


def _possible(client: Client, op: Op | None) -> Iterator[State]:
    before = client.state
    yield before
    if op is None:
        return
    done, _ = apply(before, op, client.player.contents)
    if op.kind != "start":
        yield done
    if op.kind in ("start", "push-blob", "mount"):
        # Several requests, or a session whose place nobody learnt: the first of them makes the repository.
        yield before.with_repo(op.repo, before.repos[op.repo].made())


async def _resume(client: Client, op: Op | None, after: State, count: Count) -> State:
    """A chunk that was cut off may have arrived in part; then the upload is brought to its end from there."""
    if op is None or op.kind != "append":
        return after
    before, session = client.state.sessions[op.slot], after.sessions[op.slot]
    first, end = PARTS[op.part]
    if before is None or session is None or session.offset in (before.offset, end):
        return after
    assert before.offset == first < session.offset < end, (before, session)
    content = client.player.contents.blobs[UPLOADED]
    (http,) = client.player.clients["admin"]
    location = client.player.locations[op.slot]
    told = {"Content-Range": f"{session.offset}-{SIZE - 1}"}
    async with http.patch(location, data=content[session.offset :], headers=told) as response:
        assert response.status == 202, response.status
    async with http.put(location, params={"digest": digest_of(content)}) as response:
        assert response.status == 201, "the hash is that of all bytes, also those from before the kill"
    count.resumed += 1
    repo = client.state.repos[session.repo]
    whole = client.state.with_session(op.slot, None)
    client.state = whole.with_repo(session.repo, replace(repo, blobs=repo.blobs | {UPLOADED}))
    return await client.player.look(client.state)


def check_all(database_url: str, read: Read) -> list[str]:
    """What is wrong below the API: rows whose bytes are missing or others, tags that lead nowhere, a damaged
    database file."""
    wrong = []
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(url.database))) as database:
            wrong += [str(row) for row in database.execute("PRAGMA foreign_key_check")]
            said = database.execute("PRAGMA integrity_check").fetchone()[0]
            wrong += [] if said == "ok" else [said]
    else:
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        for digest, size, locator in connection.execute(text("SELECT digest, size, locator FROM blobs")):
            content = read(locator)
            if content is None:
                wrong.append(f"the bytes of {digest} are not there")
            elif len(content) != size or digest != digest_of(content):
                wrong.append(f"the bytes of {digest} are others")
        astray = connection.execute(
            text(
                "SELECT tags.name FROM tags LEFT JOIN manifests ON manifests.id = tags.manifest_id "
                "WHERE manifests.id IS NULL OR manifests.repository_id <> tags.repository_id"
            )
        )
        wrong += [f"the tag {name} leads nowhere" for (name,) in astray]
    engine.dispose()
    return wrong
