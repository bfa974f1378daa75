"""The feed passes nothing over, whoever commits when; and is for those who may read what it tells."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import func, insert, select, text, update

from registry.auth.actor import REGISTRY, Actor
from registry.auth.places import namespace, repository
from registry.auth.secretkey import SecretKey
from registry.content import administration, namespaces
from registry.db.engine import Database
from registry.db.events import audit_keeping, events
from registry.db.outbox import record, record_all
from registry.db.types import db_time
from registry.db.webhooks import deliveries, webhooks
from registry.events.feed import read
from registry.events.sequence import sequence
from registry.events.signatures import make_secret
from registry.events.webhooks import Wanted, wrap_name
from registry.events.webhooks import create as create_webhook
from registry.net.guarded import GuardedClient
from registry.settings import Settings
from registry.storage.filesystem import FilesystemStore
from registry.trials.waiting import OF_A_PLACE
from tests.kit.access import api, give_role, make_user
from tests.kit.distribution import push_small
from tests.kit.receiver import running_receiver
from tests.kit.server import Registry
from tests.kit.sources import ROOT

NAME = "team/app"
KEY = SecretKey(bytes(32))
ROOT_USER = Actor(kind="user", name="root", is_admin=True)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await opened.close()


async def tell(database: Database, count: int, *, first: int = 0, repository: str = NAME) -> None:
    async with database.write() as connection:
        told = [{"number": first + number} for number in range(count)]
        await record_all(connection, "tag.moved", repository, REGISTRY, told)


async def place_all(database: Database) -> None:
    while await sequence(database, source="http://r"):
        pass


async def read_all(database: Database, after: str | None = None, **asked: Any) -> tuple[list[int], str]:
    """The numbers of all events after a cursor, and the last cursor."""
    found: list[int] = []
    while True:
        page = await read(database, actor=ROOT_USER, **asked, cursor=after, limit=7)
        found += [told.data["number"] for told in page.items]
        after = page.cursor
        if not page.more:
            return found, after


async def _waiting(database: Database, count: int, *, in_a_row: bool = False) -> None:
    """Until so many of this database's connections wait for a lock, or each of them but one for another of
    them."""
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    condition = f"WHERE pg_blocking_pids(pid) && ARRAY({waiting})" if in_a_row else ""
    query = text(f"SELECT count(*) FROM ({waiting}) AS waiting {condition}")
    async with asyncio.timeout(60):
        while True:
            async with database.read() as connection:
                if (await connection.execute(query)).scalar_one() == (count - 1 if in_a_row else count):
                    return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("of_namespace", [False, True])
async def test_giving_positions_and_deleting_what_has_webhooks_wait_for_each_other_in_one_order(
    make_postgres_url: Callable[[], str], tmp_path: Path, *, of_namespace: bool
) -> None:
    """Rows lie in another order than they were made in once one was changed, and a cascade goes by that."""
    database, settings = Database(make_postgres_url()), Settings(data=tmp_path)
    store = FilesystemStore(tmp_path)
    place = namespace("team") if of_namespace else repository(NAME)
    other, names = (namespace("a") if of_namespace else repository("a/z")), ("a/z", NAME)
    for name in names:
        if of_namespace:
            above = name.partition("/")[0]
            await namespaces.create(
                database, actor=ROOT_USER, name=above, wanted=namespaces.NamespaceChange()
            )
        else:
            await administration.create(
                database, settings, actor=ROOT_USER, name=name, wanted=administration.RepositoryChange()
            )
    wanted = Wanted(url="https://example.org/hook", kinds=("tag.*",))
    first, changed, passed, last = [
        (await create_webhook(database, KEY, GuardedClient(), actor=ROOT_USER, place=at, wanted=wanted))[0].id
        for at in (other, place, place, place)
    ]
    while await sequence(database, source="http://r"):
        pass
    for name in names:
        await tell(database, 1, repository=name)
    assert passed < last

    async def delete() -> None:
        if of_namespace:
            await namespaces.delete(
                database, store, settings, actor=ROOT_USER, name="team", with_content=False
            )
        else:
            await administration.delete(database, store, settings, actor=ROOT_USER, name=NAME)

    async with database.write() as holding_first, database.write() as holding_last:
        await holding_first.execute(select(webhooks).where(webhooks.c.id == first).with_for_update())
        giving = asyncio.create_task(sequence(database, source="http://r"))
        await _waiting(database, 1)
        async with database.write() as connection:
            moved = update(webhooks).where(webhooks.c.id == changed).values(next_at=db_time())
            await connection.execute(moved)
        await holding_last.execute(select(webhooks).where(webhooks.c.id == last).with_for_update())
        deleting = asyncio.create_task(delete())
        await _waiting(database, 2)
        await holding_first.rollback()
        await _waiting(database, 2, in_a_row=True)
        await holding_last.rollback()
        assert await giving == len(names)
        await deleting
    await database.close()


async def test_a_commit_that_comes_late_is_not_passed_over(
    make_postgres_url: Callable[[], str],
) -> None:
    database = Database(make_postgres_url())
    async with database.write() as connection:
        # It has its number first, and is committed last.
        await record(connection, "tag.moved", NAME, REGISTRY, {"number": 0})
        await tell(database, 1, first=1)
        await place_all(database)
        found, cursor = await read_all(database)
        assert found == [1]
    await place_all(database)
    assert (await read_all(database, cursor))[0] == [0]
    async with database.read() as connection:
        numbers = (await connection.execute(select(events.c.id).order_by(events.c.position))).scalars().all()
    assert numbers == sorted(numbers, reverse=True)
    await database.close()


async def test_many_who_write_and_place_at_once_leave_no_gap(make_postgres_url: Callable[[], str]) -> None:
    url = make_postgres_url()
    several = [Database(url) for _ in range(3)]
    done = asyncio.Event()
    found: list[int] = []

    async def placing(database: Database) -> None:
        while not done.is_set():
            await sequence(database, source="http://r", at_once=5)

    async def reading() -> None:
        cursor: str | None = "0"
        while len(found) < 300:
            more, cursor = await read_all(several[0], cursor)
            found.extend(more)

    tasks = [asyncio.create_task(placing(database)) for database in several]
    follower = asyncio.create_task(reading())
    await asyncio.gather(*(tell(several[number % 3], 3, first=3 * number) for number in range(100)))
    async with asyncio.timeout(120):
        await follower
    done.set()
    await asyncio.gather(*tasks)
    assert sorted(found) == list(range(300))
    for database in several:
        await database.close()


async def test_the_feed_goes_on_from_a_cursor_with_filters(database: Database) -> None:
    await tell(database, 10)
    await tell(database, 10, repository="other/app", first=10)
    await place_all(database)
    assert (await read_all(database))[0] == list(range(20))
    assert (await read_all(database, repository=NAME))[0] == list(range(10))
    assert (await read_all(database, kinds=("trial.*",)))[0] == []
    page = await read(database, actor=ROOT_USER, cursor="now", limit=5)
    assert (page.items, page.cursor, page.more) == ((), "20", False)
    await tell(database, 1, first=20)
    await place_all(database)
    assert (await read_all(database, page.cursor))[0] == [20]
    # Whoever comes when some is no longer kept is told so.
    async with database.write() as connection:
        await connection.execute(insert(audit_keeping).values(id=1, removed_position=5))
    for after, missed in (("4", True), ("5", False), (None, False)):
        page = await read(database, actor=ROOT_USER, cursor=after, limit=5)
        assert page.missed is missed


async def test_who_reads_the_feed(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await push_small(client, NAME, "1")
    password = await make_user(client, "rea")
    await give_role(client, NAME, "user:rea", "reader")
    async with registry.client(password, user="rea") as rea:
        await api(rea, "GET", "/events", status=403)
        await api(nobody, "GET", "/events", status=401)
        await api(nobody, "GET", "/events", status=401, params={"repository": NAME})
        await api(rea, "GET", "/events", status=403, params={"repository": "team/other"})
        asked = {"repository": NAME, "wait": "60"}
        cursor = "0"
        kinds: list[str] = []
        while "tag.moved" not in kinds:
            page = await api(rea, "GET", "/events", params={**asked, "cursor": cursor})
            kinds += [one["kind"] for one in page["items"]]
            cursor = page["cursor"]
        # Who holds a role is for auditors.
        assert set(kinds) == {"repository.created", "manifest.pushed", "tag.moved"}
        waiting = asyncio.create_task(api(rea, "GET", "/events", params={**asked, "cursor": cursor}))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        await push_small(client, NAME, "2", annotations={"a": "b"})
        page = await waiting
        assert page["items"][0]["kind"] == "manifest.pushed"
        assert time.monotonic() - began < 50, "it was woken"
    everything = await api(client, "GET", "/events", params={"kind": "grant.*,tag.*"})
    assert {one["kind"] for one in everything["items"]} == {"grant.given", "tag.moved"}
    for wrong in ({"cursor": "x"}, {"kind": "tag.*;"}, {"wait": "61"}, {"limit": "0"}):
        await api(client, "GET", "/events", status=400, params=wrong)


async def test_of_those_who_did_not_sign_in_only_some_wait(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await push_small(client, NAME, "1")
    await api(client, "PATCH", "/repositories/team%2Fapp", json={"visibility": "public"})
    changes: list[Any] = []
    async with asyncio.timeout(60):
        while not changes:  # else this is what they are told
            asked = {"repository": NAME, "kind": "repository.changed", "cursor": "0", "wait": "10"}
            changes = (await api(client, "GET", "/events", params=asked))["items"]
    asked = {"repository": NAME, "cursor": "now", "wait": "60"}
    waiting = [asyncio.create_task(api(nobody, "GET", "/events", params=asked)) for _ in range(OF_A_PLACE)]
    assert registry.services is not None
    room = registry.services.waiters
    async with asyncio.timeout(30):
        while room.count < OF_A_PLACE:  # noqa: ASYNC110  (nothing to wait on)
            await asyncio.sleep(0.01)
    assert room.count == OF_A_PLACE
    for path, more in (("/events", asked), ("/trials", {"image": NAME, "tag": "1", "wait": "30"})):
        refused = await api(nobody, "GET", path, status=429, params=more)
        assert "sign in" in refused["detail"]
    await api(nobody, "GET", "/events", params={**asked, "wait": "0"})
    await api(client, "GET", "/events", params={**asked, "wait": "0.1"})
    assert not any(task.done() for task in waiting)
    await push_small(client, NAME, "2", annotations={"a": "b"})
    await asyncio.gather(*waiting)
    assert room.count == 0
    await api(nobody, "GET", "/events", params={**asked, "wait": "0.1"})


async def test_a_reader_learns_nothing_of_before_it_had_this_name_and_could_be_read(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await push_small(client, "secret/plan", "1")
    password = await make_user(client, "rea")
    await api(client, "POST", "/namespaces", status=201, json={"name": "pub"})
    await give_role(client, "pub/", "user:rea", "reader")
    await api(client, "POST", "/repositories/secret%2Fplan/rename", json={"name": "pub/x"})
    await push_small(client, "pub/x", "inside", annotations={"a": "b"})
    await api(client, "PATCH", "/repositories/pub%2Fx", json={"visibility": "public"})
    await push_small(client, "pub/x", "open", annotations={"a": "c"})

    async def read_until_open(reader: aiohttp.ClientSession) -> list[Any]:
        found: list[Any] = []
        cursor = "0"
        while not any(one["data"].get("tag") == "open" for one in found):
            asked = {"repository": "pub/x", "wait": "10", "cursor": cursor}
            page = await api(reader, "GET", "/events", params=asked)
            found += page["items"]
            cursor = page["cursor"]
        return found

    def told(found: list[Any]) -> list[str]:
        return [one["kind"] for one in found]

    pushed = ["manifest.pushed", "tag.moved"]
    everything = await read_until_open(client)
    assert told(everything)[-5:] == [*pushed, "repository.changed", *pushed]
    assert "secret/plan" in str(everything)
    assert told(await read_until_open(nobody)) == ["repository.changed", *pushed]
    async with registry.client(password, user="rea") as rea:
        found = await read_until_open(rea)
        assert told(found) == ["repository.renamed", *pushed, "repository.changed", *pushed]
        assert found[0]["data"]["name"] == [None, "pub/x"]
        # Its namespace has another name, and so it has.
        await api(client, "POST", "/namespaces/pub/rename", json={"name": "team"})
        asked = {"repository": "team/x", "cursor": "0"}
        assert (await api(rea, "GET", "/events", params=asked))["items"] == []


async def test_couriers_that_are_killed_lose_nothing_and_make_no_delivery_twice(
    make_postgres_url: Callable[[], str], tmp_path: Path
) -> None:
    url = make_postgres_url()
    database = Database(url)
    count = 400
    async with running_receiver() as receiver:
        secret = make_secret()
        receiver.secrets = [secret]
        async with database.write() as connection:
            for webhook_id, ordered in (("plain", False), ("ordered", True)):
                await connection.execute(
                    insert(webhooks).values(
                        id=webhook_id,
                        url=receiver.url,
                        kinds='["tag.*"]',
                        format="cloudevents",
                        ordered=ordered,
                        secret=KEY.wrap(secret.encode(), name=wrap_name(webhook_id)),
                        created_by="a",
                        created_at=db_time(),
                    )
                )
        running = [start_courier(url) for _ in range(2)]
        try:
            for number in range(8):
                await tell(database, count // 8, first=number * count // 8)
                # Long enough to begin: then in the middle of it.
                await asyncio.sleep(0.3)
                victim = running.pop(0)
                victim.kill()
                await asyncio.to_thread(victim.wait)
                running.append(start_courier(url))
            async with asyncio.timeout(200):
                while await pending(database):  # noqa: ASYNC110  (other processes)
                    await asyncio.sleep(0.1)
        finally:
            for process in running:
                process.kill()
                process.wait()
    async with database.read() as connection:
        rows = select(deliveries.c.webhook_id, func.count(), func.count(deliveries.c.position.distinct()))
        made = (await connection.execute(rows.group_by(deliveries.c.webhook_id).order_by("webhook_id"))).all()
    assert [tuple(row) for row in made] == [("ordered", count, count), ("plain", count, count)]
    ids = {each.id for each in receiver.taken}
    assert len(ids) == 2 * count
    async with database.read() as connection:
        of_ordered = select(deliveries.c.id).where(deliveries.c.webhook_id == "ordered")
        in_order = (await connection.execute(of_ordered.order_by(deliveries.c.position))).scalars().all()
    first_seen = [each for each in dict.fromkeys(got.id for got in receiver.taken) if each in set(in_order)]
    assert first_seen == list(in_order)
    await database.close()


async def pending(database: Database) -> int:
    async with database.read() as connection:
        unplaced = select(func.count()).select_from(events).where(events.c.position.is_(None))
        waiting = select(func.count()).select_from(deliveries).where(deliveries.c.state == "pending")
        return int(
            (
                await connection.execute(select(unplaced.scalar_subquery() + waiting.scalar_subquery()))
            ).scalar_one()
        )


def start_courier(url: str) -> subprocess.Popen[bytes]:
    """A process that places and delivers, with leases of two seconds."""
    return subprocess.Popen([sys.executable, "-m", "tests.kit.courier", url], cwd=ROOT)
