"""The real server killed at random moments while clients push, mount, tag and delete, days pass, retention
policies are carried out and undone, deleted tags are restored, quotas are set, and collections and scrubs go
on; after each restart it must hold what it had acknowledged, and of what it had not either all or nothing.

Each client has repositories of its own, and so an exact model of them; all push the same contents, so below
the repositories they meet all the time. What a collection of another has taken by now nobody is told: a
client knows all the states that there may be, and each answer leaves fewer.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import product

import aiohttp

from registry.db.engine import Database
from tests.kit.access import api
from tests.kit.collecting import collect
from tests.kit.forking import ForkedServer
from tests.kit.images import digest_of
from tests.kit.model import READS, SESSION_KINDS, Answer, Op, apply, operations
from tests.kit.modelcontents import PARTS, UPLOADED, Contents, contents_of
from tests.kit.modelstate import AllShown, State
from tests.kit.play import Player
from tests.kit.server import Registry
from tests.soak.checks import Store, check_rows, check_usage, let_all_end, nothing_stays
from tests.soak.damage import damage_and_heal

CLIENTS = 3
PLAY_SECONDS = (0.02, 1.5)
CHECK_ALL_EVERY = 25
SIZE = PARTS[-1][1]
NOT_PLAYED = (*READS, "catalog", "damage")
PUSHES = ("push-blob", "put-manifest", "put-tag")
"""What the rest is about."""
_SCRUBBED_BYTES_PER_SECOND = 2 << 20


@dataclass(slots=True)
class Count:
    """What became of it all; of operations by kind."""

    kills: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)
    cut_off: Counter[str] = field(default_factory=Counter)
    cut_off_and_done: int = 0
    resumed: int = 0
    checks: int = 0
    violations: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Client:
    """One client: what may be there by its model, and what it waited for when the server died."""

    player: Player
    random: random.Random
    states: frozenset[State] = frozenset({State()})
    waiting: Op | None = None


async def kill_again_and_again(
    process: ForkedServer, database_url: str, *, store: Store, seed: int, go_on: Callable[[Count], bool]
) -> Count:
    """Start, play, kill, look, as long as ``go_on`` says, which hears of each, and nothing is wrong.
    ``store`` is what the server keeps bytes in."""
    chance = random.Random(seed)
    count = Count()
    database = Database(database_url)
    clients = [
        Client(Player({}, contents_of("soak", f"client{number}"), database), random.Random(chance.random()))
        for number in range(CLIENTS)
    ]
    try:
        going = True
        while going:
            async with AsyncExitStack() as stack:
                http = await _connect(process.start(), clients, stack)
                await asyncio.gather(*(_look(client, count) for client in clients))
                playing = [asyncio.create_task(_play(client, count)) for client in clients]
                playing.append(asyncio.create_task(_scrub(http, count)))
                await asyncio.sleep(chance.uniform(*PLAY_SECONDS))
                process.kill()
                count.kills += 1
                await asyncio.gather(*playing)
            count.violations += check_usage(database_url)
            going = go_on(count) and not count.violations
            if not count.violations and (count.kills % CHECK_ALL_EVERY == 0 or not going):
                await _check_all(process, clients, database_url, store, count)
                count.kills += await damage_and_heal(process, database, store, chance, count.violations)
                going = going and not count.violations
    finally:
        process.stop()
        await database.close()
    return count


async def _connect(registry: Registry, clients: list[Client], stack: AsyncExitStack) -> aiohttp.ClientSession:
    for client in clients:
        session = await stack.enter_async_context(registry.client())
        client.player.clients = {"admin": [session]}
    return await stack.enter_async_context(registry.client())


async def _play(client: Client, count: Count) -> None:
    kinds = operations()
    names = [name for name in kinds if name not in NOT_PLAYED] * 2 + [*READS[:-1], *PUSHES * 3]
    while not count.violations and client.waiting is None:
        op = client.random.choice(kinds[client.random.choice(names)])
        if op.kind == "mount" and op.source is None:
            continue  # that one may find it in the repositories of the others
        client.waiting = op
        try:
            answer = await _do_when_free(client, op)
        except (aiohttp.ClientError, ConnectionError):
            count.cut_off[op.kind] += 1
            return
        client.waiting = None
        count.acknowledged[op.kind] += 1
        _told(client, op, answer, count)


def _told(client: Client, op: Op, answer: Answer, count: Count) -> None:
    """Of what may be there, leave what explains the answer."""
    contents = client.player.contents
    before = at_any_time(client.states, contents)
    outcomes = [apply(state, op, contents) for state in before]
    client.states = frozenset(state for state, expected in outcomes if expected == answer)
    if op.kind == "collect":
        client.states |= before  # it may have gone on with one that had been here
    if not client.states:
        count.violations.append(f"{op}: {answer}, not {sorted({str(expected) for _, expected in outcomes})}")
        client.states = before


def at_any_time(states: Iterable[State], contents: Contents) -> frozenset[State]:
    """These, and what comes of them where somebody else has collected, or the registry has swept."""
    fresh = list(states)
    found = set(fresh)
    while fresh:
        state = fresh.pop()
        for number, repo in enumerate(state.repos):
            for after in (repo.collected(contents), repo.swept()):
                then = state.with_repo(number, after)
                if then not in found:
                    found.add(then)
                    fresh.append(then)
    return frozenset(found)


async def _scrub(http: aiohttp.ClientSession, count: Count) -> None:
    while not count.violations:
        try:
            rate = {"bytes_per_second": _SCRUBBED_BYTES_PER_SECOND}
            begun = await api(http, "POST", "/scrubs", status=202, json=rate)
            while not (await api(http, "GET", f"/scrubs/{begun['id']}"))["ended_at"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        except (aiohttp.ClientError, ConnectionError):
            count.cut_off["scrub"] += 1
            return
        count.acknowledged["scrub"] += 1


async def _look(client: Client, count: Count) -> None:
    """Compare with the model, whose last operation may or may not have been done; then do it again."""
    op, client.waiting = client.waiting, None
    try:
        if op is not None and op.kind == "retain":
            # Nobody asks for it again: it goes on by itself, to its end.
            await let_all_end(client.player.clients["admin"][0], client.player.contents)
        after = await client.player.look(next(iter(client.states)))
        after = await _resume(client, op, after, count)
    except ConnectionError:
        client.waiting = op  # to be looked for after the next kill
        return
    except AssertionError as error:
        count.violations.append(f"after a kill in {op}: {error}")
        return
    allowed = frozenset(_possible(client, op))
    seen = frozenset(state.looked_at() for state in allowed if state.shown == after)
    if not seen:
        shown = {str(state.shown) for state in allowed}
        count.violations.append(f"after a kill in {op}: {after}, not one of {shown}")
        return
    if all(state.shown != after for state in at_any_time(client.states, client.player.contents)):
        count.cut_off_and_done += 1
    client.states = seen
    if op is None:
        return
    try:
        answer = await _do_when_free(client, op)
    except ConnectionError:
        client.waiting = op
        count.cut_off[op.kind] += 1
    else:
        _told(client, op, answer, count)


async def _do_when_free(client: Client, op: Op) -> Answer:
    """An upload in S3 is not let go of at once when its holder dies."""
    while True:
        answer = await client.player.do(op)
        if answer != (409,) or op.kind not in SESSION_KINDS:
            return answer
        await asyncio.sleep(0.2)


def _possible(client: Client, op: Op | None) -> Iterator[State]:
    contents = client.player.contents
    before = at_any_time(client.states, contents)
    yield from before
    if op is None:
        return
    after: set[State] = set()
    for state in before:
        repo = state.repos[op.repo]
        if op.kind != "start":
            after.add(apply(state, op, contents)[0])
        if op.kind in ("start", "push-blob", "mount"):
            # Several requests, or a session whose place nobody learnt: the first makes the repository.
            after.add(state.with_repo(op.repo, repo.made()))
        if op.kind == "undo":
            after |= set(_undone_in_part(state, op, contents))
    yield from at_any_time(after, contents)


def _undone_in_part(state: State, op: Op, contents: Contents) -> Iterator[State]:
    """Some of it is back, of the last of which it may not be written down that it is."""
    repo = state.repos[op.repo]
    for number, step in enumerate(steps := repo.undone(state.damaged, contents)):
        for before in steps[max(number - 1, 0) : number + 1]:
            there = replace(step.repo, run=before.repo.run).normal(contents)
            yield state.with_repo(op.repo, there)


async def _resume(client: Client, op: Op | None, after: AllShown, count: Count) -> AllShown:
    """A chunk that was cut off may have arrived in part; then the upload is brought to its end from there."""
    if op is None or op.kind != "append":
        return after
    before, session = next(iter(client.states)).sessions[op.slot], after.sessions[op.slot]
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
    client.states = frozenset(
        state.with_session(op.slot, None).with_repo(
            session.repo, state.repos[session.repo].linked(UPLOADED).normal(client.player.contents)
        )
        for state in at_any_time(client.states, client.player.contents)
    )
    return await client.player.look(next(iter(client.states)))


async def _check_all(
    process: ForkedServer, clients: list[Client], database_url: str, store: Store, count: Count
) -> None:
    """Let nobody do anything, let days pass, and look: what is named is there, and nothing else."""
    async with AsyncExitStack() as stack:
        http = await _connect(process.start(), clients, stack)
        await asyncio.gather(*(_look(client, count) for client in clients))
        if count.violations or any(client.waiting for client in clients):
            return
        count.checks += 1
        for kind in ("retain", "collect", "retain", "collect", "collect", "collect"):
            for client in clients:
                await let_all_end(http, client.player.contents)
                await _do(client, Op("older", days=3), count)
            store.make_old()
            if kind == "collect":
                await collect(http)
                for client in clients:
                    _after_collection(client)
            else:
                for client, repo in product(clients, range(2)):
                    await _do(client, Op("retain", repo), count)
        await asyncio.gather(*(_look(client, count) for client in clients))
        for client in clients:
            repos = {repo for state in client.states for repo in state.repos}
            stay = [repo for repo in repos if repo.manifests != repo.reached(client.player.contents)]
            count.violations += [f"{repo} has what no tag reaches" for repo in stay]
        damaged = (await api(http, "GET", "/scrubs/damaged"))["items"]
        count.violations += [f"{one} is damaged" for one in damaged]
        count.violations += check_rows(database_url, store)
        count.violations += nothing_stays(database_url, store)


def _after_collection(client: Client) -> None:
    contents = client.player.contents
    client.states = frozenset(apply(state, Op("collect"), contents)[0] for state in client.states)


async def _do(client: Client, op: Op, count: Count) -> None:
    _told(client, op, await client.player.do(op), count)
