"""Refusals are in the trail, and whoever provokes them cannot fill it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from registry.auth.actor import ANONYMOUS, Actor
from registry.db.engine import Database
from registry.db.events import events
from registry.events.refusals import OF_A_SOURCE, OF_ALL, ROW_SECONDS, Refusal, Refusals
from registry.http import auditing
from tests.kit.access import ask, basic, bearer, make_repository, make_token, make_user, registry_token
from tests.kit.server import Registry, running_registry

NAME = "team/app"
PATH = f"/v2/{NAME}/manifests/1"
ANN = Actor(kind="user", name="ann", account_id=7, address="192.0.2.7")


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await opened.close()


async def refused(database: Database) -> list[Any]:
    async with database.read() as connection:
        query = select(events).where(events.c.decision == "refused").order_by(events.c.id)
        return list(await connection.execute(query))


async def written(registry: Registry) -> list[tuple[str, str, str, str, int]]:
    """Kind, repository, target, actor and count of what was refused, empty where there is none."""
    services = registry.services
    assert services is not None
    await services.refusals.flush(services.database, everything=True)
    return [
        (row.kind, row.repository or "", row.target or "", row.actor, json.loads(row.data)["count"])
        for row in await refused(services.database)
    ]


def refusal(number: int = 0, *, actor: Actor = ANN) -> Refusal:
    return Refusal("access.refused", actor, "GET v2:manifests", f"team/{number}", None, "no right")


def counts(rows: list[Any]) -> list[int]:
    return [json.loads(row.data)["count"] for row in rows]


async def test_one_row_a_minute_says_how_many_there_were(database: Database) -> None:
    clock = Clock()
    refusals = Refusals(clock=clock)
    for _ in range(3):
        for _ in range(100):
            refusals.note(refusal())
        await refusals.flush(database)
        clock.now += 5
    assert counts(await refused(database)) == [100]
    clock.now += ROW_SECONDS
    await refusals.flush(database)
    await refusals.flush(database)
    assert counts(await refused(database)) == [100, 200]
    refusals.note(refusal())
    await refusals.flush(database)
    assert len(await refused(database)) == 2
    await refusals.flush(database, everything=True)
    assert counts(await refused(database)) == [100, 200, 1]


async def test_a_source_that_tries_everything_gets_few_rows(database: Database) -> None:
    clock = Clock()
    refusals = Refusals(clock=clock)
    for number in range(1000):
        refusals.note(refusal(number))
    await refusals.flush(database)
    rows = await refused(database)
    assert len(rows) == OF_A_SOURCE + 1
    assert sum(counts(rows)) == 1000
    folded = [row for row in rows if row.repository is None]
    assert [(row.actor, json.loads(row.data)["count"]) for row in folded] == [("ann", 1000 - OF_A_SOURCE)]
    clock.now += 2 * ROW_SECONDS
    await refusals.flush(database)
    refusals.note(refusal(5000))
    await refusals.flush(database)
    assert (await refused(database))[-1].repository == "team/5000"


async def test_many_sources_together_get_few_rows(database: Database) -> None:
    refusals = Refusals(clock=Clock())
    for number in range(1000):
        for each in range(3):
            stranger = Actor(kind="anonymous", name="anonymous", address=f"198.51.{number % 250}.{each}")
            refusals.note(refusal(number, actor=stranger))
    await refusals.flush(database)
    rows = await refused(database)
    assert len(rows) == OF_ALL + 1
    assert sum(counts(rows)) == 3000
    assert [row.address for row in rows if row.repository is None] == [None]


async def test_one_persons_ipv6_addresses_are_one_source(database: Database) -> None:
    refusals = Refusals(clock=Clock())
    for number in range(200):
        actor = Actor(kind="anonymous", name="anonymous", address=f"2001:db8::{number:x}")
        refusals.note(refusal(number, actor=actor))
    await refusals.flush(database)
    assert len(await refused(database)) == OF_A_SOURCE + 1


async def test_what_cannot_be_written_is_kept_for_later(database: Database) -> None:
    refusals = Refusals(clock=Clock())
    refusals.note(refusal())
    broken = Database("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(Exception, match="connection"):
        await refusals.flush(broken)
    await broken.close()
    refusals.note(refusal())
    await refusals.flush(database)
    assert counts(await refused(database)) == [2]


async def test_hostile_text_is_cleaned_and_cut(database: Database) -> None:
    refusals = Refusals(clock=Clock())
    hostile = "\x1b[2J\r\nadmin\u202e\0" + "x" * 5000
    refusals.note(Refusal("sign_in.refused", ANONYMOUS, "GET /token", None, hostile, hostile))
    await refusals.flush(database)
    (row,) = await refused(database)
    assert row.rule.startswith("?[2J??admin??xxx")
    assert len(row.rule) == 300
    assert row.target is None


async def test_the_way_that_clients_sign_in_is_no_refusal(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, NAME)
    for path in ("/v2/", PATH, "/api/v1/tokens"):
        assert (await ask(nobody, "GET", path)).status == 401
    narrow = await registry_token(nobody, headers=basic("admin", registry.token))
    assert (await ask(nobody, "GET", PATH, headers=bearer(narrow))).status == 401
    assert await written(registry) == []


async def test_two_who_write_at_once_count_once(database: Database) -> None:
    refusals = Refusals()
    refusals.note(refusal())
    await asyncio.gather(*(refusals.flush(database, everything=True) for _ in range(2)))
    assert counts(await refused(database)) == [1]


async def test_who_is_refused_is_told_of_with_reason_and_count(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, NAME)
    ann = basic("ann", await make_user(client, "ann"))
    for _ in range(4):
        assert (await ask(nobody, "GET", PATH, headers=ann)).status == 403
    assert (await ask(nobody, "POST", "/api/v1/users", headers=ann, json={"name": "eve"})).status == 403
    strangers = await registry_token(nobody, f"repository:{NAME}:pull", headers={})
    assert (await ask(nobody, "GET", PATH, headers=bearer(strangers))).status == 401
    limited = await make_token(client, "repository:other/*:pull")
    assert (await ask(nobody, "GET", PATH, headers=bearer(limited["token"]))).status == 403
    assert sorted(await written(registry)) == [
        ("access.refused", "", "", "ann", 1),
        ("access.refused", NAME, "", "admin", 1),
        ("access.refused", NAME, "", "ann", 4),
        ("access.refused", NAME, "", "anonymous", 1),
    ]
    assert registry.services is not None
    rows = {(row.actor, row.repository): row for row in await refused(registry.services.database)}
    assert rows["ann", NAME].rule.startswith("ann has no pull right on team/app")
    assert json.loads(rows["ann", NAME].data)["action"] == "GET v2:manifests"
    assert rows["admin", NAME].token_id == limited["id"]
    assert rows["ann", NAME].address == "127.0.0.1"
    assert "aiohttp" in rows["ann", NAME].client


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_was_refused_is_written_soon(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "WRITE_SECONDS", 0.05)
    async with (
        running_registry(tmp_path / "data", database_url) as registry,
        registry.client(anonymous=True) as nobody,
    ):
        assert (await ask(nobody, "GET", "/v2/", headers=bearer("strl_nothing"))).status == 401
        assert registry.services is not None
        async with asyncio.timeout(60):
            while not await refused(registry.services.database):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_wrong_passwords_are_counted_and_no_typed_text_is_kept(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_user(client, "ann")
    secret = "correct horse battery"
    for _ in range(2):
        assert (await ask(nobody, "GET", "/token", headers=basic("ann", "wrong"))).status == 401
    assert (await ask(nobody, "GET", "/v2/", headers=basic(secret, "wrong"))).status == 401
    form = {"grant_type": "password", "service": "seatrial", "username": "ann", "password": "wrong"}
    assert (await ask(nobody, "POST", "/token", data=form)).status == 401
    assert (await ask(nobody, "GET", "/v2/", headers=bearer("strl_nothing"))).status == 401
    assert (await ask(nobody, "POST", "/worker/v1/claim", headers=bearer("x"), json={})).status == 401
    found = await written(registry)
    assert {row[0] for row in found} == {"sign_in.refused"}
    assert sorted((row[2], row[4]) for row in found) == [
        *(("", 1), ("", 1), ("", 1)),
        *(("ann", 1), ("ann", 2)),
    ]
    assert registry.services is not None
    for row in await refused(registry.services.database):
        assert secret not in str(tuple(row))
        assert "wrong" not in str(tuple(row))
