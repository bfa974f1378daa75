"""Guessing passwords (A26): from 100 addresses, at two replicas. What takes time is argon2, so its runs are
counted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import argon2
import pytest
from sqlalchemy import func, select, text, update

from registry.auth.apitokens import new_token
from registry.auth.attempts import PLACES_PER_ACCOUNT, ROWS_PER_KIND, trim
from registry.auth.buckets import Buckets, buckets_of
from registry.db.engine import Database
from registry.db.signins import sign_in_failures, sign_in_places
from registry.db.types import db_time
from tests.kit.access import Answer, ask, basic, bearer, make_user
from tests.kit.distribution import error_code
from tests.kit.postgres import until_somebody_waits
from tests.kit.server import Registry, running_registry, running_replicas
from tests.kit.sessions import sign_in

LIMIT = 4
ATTACKERS = [f"127.8.{number // 250}.{number % 250 + 1}" for number in range(100)]
HOME, HOTEL = "127.9.0.1", "127.9.0.2"


class Argon2:
    """How often the library has looked at a password."""

    def __init__(self) -> None:
        self.runs = 0


@pytest.fixture
def argon(monkeypatch: pytest.MonkeyPatch) -> Argon2:
    counted = Argon2()
    verify = argon2.PasswordHasher.verify

    def counting(*arguments: Any) -> Any:
        counted.runs += 1
        return verify(*arguments)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counting)
    return counted


@pytest.fixture
def nothing_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are remembered for as long as a test may take."""

    def kept(name: str, address: str | None, *, limit: int) -> Buckets:
        made = buckets_of(name, address, limit=limit)
        buckets = {kind: getattr(made, kind) for kind in Buckets.__slots__}
        slow = {kind: replace(each, seconds=1000 * each.seconds) for kind, each in buckets.items() if each}
        return replace(made, **slow)

    monkeypatch.setattr("registry.auth.attempts.buckets_of", kept)


class Internet:
    """Clients with addresses of their own, at several replicas."""

    def __init__(self, replicas: list[Registry]) -> None:
        self._replicas = replicas
        self._clients: dict[tuple[str, int], aiohttp.ClientSession] = {}
        self._stack = AsyncExitStack()

    async def client(self, address: str, replica: int = 0) -> aiohttp.ClientSession:
        """Somebody at that address."""
        key = address, replica
        if key not in self._clients:
            connector = aiohttp.TCPConnector(local_addr=(address, 0))
            session = aiohttp.ClientSession(self._replicas[replica].url, connector=connector)
            self._clients[key] = await self._stack.enter_async_context(session)
        return self._clients[key]

    async def guess(self, name: str, *, rounds: int, addresses: list[str] = ATTACKERS) -> list[Answer]:
        """Wrong passwords for ``name`` from every address at once, one after the other from each."""

        async def from_one(address: str) -> list[Answer]:
            answers = []
            for i in range(rounds):
                client = await self.client(address, i % len(self._replicas))
                headers = basic(name, f"a wrong password {address} {i}")
                answers.append(await ask(client, "GET", "/token", headers=headers))
            return answers

        found = await asyncio.gather(*map(from_one, addresses))
        return [answer for answers in found for answer in answers]

    async def close(self) -> None:
        """Hang up."""
        await self._stack.aclose()


@pytest.fixture
async def replicas(tmp_path: Path, database_url: str) -> AsyncIterator[list[Registry]]:
    async with running_replicas(tmp_path, database_url, 2, failed_sign_ins=LIMIT) as running:
        yield running


@pytest.fixture
async def internet(replicas: list[Registry]) -> AsyncIterator[Internet]:
    made = Internet(replicas)
    yield made
    await made.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_who_guesses_is_stopped_and_the_right_one_gets_in(
    replicas: list[Registry], internet: Internet, argon: Argon2
) -> None:
    async with replicas[0].client() as client:
        password = await make_user(client, "bob")
    assert (await sign_in(await internet.client(HOME), "bob", password)).status == 201
    argon.runs = 0
    began = time.monotonic()
    attack = asyncio.create_task(internet.guess("bob", rounds=6))
    while not attack.done():
        # A session always looks at the password anew.
        for replica in (0, 1):
            assert (await sign_in(await internet.client(HOME, replica), "bob", password)).status == 201
            argon.runs -= 1
    answers = await attack
    looked_at = Counter(answer.status for answer in answers)
    assert set(looked_at) == {401, 429}
    assert looked_at[401] == argon.runs, "what is refused unseen costs no argon2"
    # Each place has three tries of its own; all of them share those of the account, and one more each minute.
    minutes = (time.monotonic() - began) / 60
    assert 3 * len(ATTACKERS) <= looked_at[401] <= 5 * LIMIT + 3 * len(ATTACKERS) + minutes
    for refused in (answer for answer in answers if answer.status == 429):
        assert 1 < int(refused.headers["Retry-After"]) <= 121
        assert error_code(refused.body) == "TOOMANYREQUESTS"
    # Nobody of them gets in any more, though he guesses right; the right one does, from anywhere else.
    for address in ATTACKERS[::25]:
        for replica in (0, 1):
            guesser = await internet.client(address, replica)
            await fill_bucket(replicas[replica])
            assert (await sign_in(guesser, "bob", password)).status == 429
    assert (await sign_in(await internet.client(HOME, 1), "bob", password)).status == 201
    assert (await sign_in(await internet.client(HOTEL, 1), "bob", password)).status == 201


async def fill_bucket(registry: Registry) -> None:
    """As of now, what one more minute has let drain of an account's failures is there again."""
    assert registry.services is not None
    full = db_time(timedelta(minutes=5 * LIMIT))
    async with registry.services.database.write() as connection:
        of_name = update(sign_in_failures).where(sign_in_failures.c.kind == "name")
        assert (await connection.execute(of_name.values(empty_at=full))).rowcount == 1


@pytest.mark.usefixtures("nothing_drains")
async def test_names_that_nobody_has_cost_and_count_the_same(
    replicas: list[Registry], internet: Internet, argon: Argon2
) -> None:
    async with replicas[0].client() as client:
        await make_user(client, "bob")
    seen = {}
    for name, addresses in (("bob", ATTACKERS[:8]), ("no-such-name", ATTACKERS[8:16])):
        argon.runs = 0
        answers = []
        for address in addresses:
            answers += await internet.guess(name, rounds=LIMIT + 2, addresses=[address])
        statuses = [answer.status for answer in answers]
        looks = [answer.look for answer in answers if answer.status == 401]
        seen[name] = (statuses, argon.runs, looks)
    assert seen["bob"] == seen["no-such-name"]
    assert seen["bob"][1] == 5 * LIMIT + 3 * 3


@pytest.mark.usefixtures("nothing_drains")
async def test_a_spray_over_many_names_is_stopped(
    replicas: list[Registry], internet: Internet, argon: Argon2
) -> None:
    async with replicas[0].client() as client:
        password = await make_user(client, "bob")
    place = ATTACKERS[0]
    assert (await sign_in(await internet.client(place), "bob", password)).status == 201
    argon.runs = 0
    statuses = Counter[int]()
    for i in range(4 * LIMIT):
        guesser = await internet.client(place, i % 2)
        answer = await ask(guesser, "GET", "/v2/", headers=basic(f"name{i}", "a wrong password"))
        statuses[answer.status] += 1
    assert statuses == {401: 2 * LIMIT, 429: 2 * LIMIT}
    assert argon.runs == 2 * LIMIT
    # Who has worked from there before works on.
    for replica in (0, 1):
        assert (await sign_in(await internet.client(place, replica), "bob", password)).status == 201


@pytest.mark.usefixtures("nothing_drains")
async def test_failures_on_one_replica_count_on_the_other(
    replicas: list[Registry], internet: Internet
) -> None:
    for i in range(LIMIT):
        answer = await ask(await internet.client(HOME, 0), "GET", "/v2/", headers=basic("bob", f"wrong {i}"))
        assert answer.status == 401
    for replica in (1, 0):
        answer = await ask(await internet.client(HOME, replica), "GET", "/v2/", headers=basic("bob", "wrong"))
        assert answer.status == 429
    form = {"grant_type": "password", "service": "seatrial", "username": "bob", "password": "wrong"}
    assert (await ask(await internet.client(HOME, 1), "POST", "/token", data=form)).status == 429
    assert (await sign_in(await internet.client(HOME, 1), "bob", "wrong")).status == 429
    assert (await sign_in(await internet.client(HOTEL, 1), "bob", "wrong")).status == 401


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_who_guesses_holds_one_connection_of_a_process(
    tmp_path: Path, database_url: str, argon: Argon2
) -> None:
    """All failures at one account wait for the same row, which another replica may hold."""
    async with running_registry(tmp_path / "data", database_url) as registry:
        internet = Internet([registry])
        assert (await internet.guess("bob", rounds=1, addresses=[HOTEL]))[0].status == 401
        assert registry.services is not None
        other = Database(database_url)
        argon.runs = 0
        async with other.write() as holder:
            row = select(sign_in_failures.c.key).where(sign_in_failures.c.kind == "name").with_for_update()
            assert len((await holder.execute(row)).all()) == 1
            guesses = asyncio.create_task(internet.guess("bob", rounds=1, addresses=ATTACKERS[:40]))
            while argon.runs < 40:  # noqa: ASYNC110  (threads)
                await asyncio.sleep(0.01)
            await until_somebody_waits(registry.services.database, holder)
            # Each look at an API token that is not known is a question to the database.
            answers = [
                await ask(await internet.client(HOME), "GET", "/api/v1/workers", headers=bearer(new_token()))
                for _ in range(5)
            ]
            assert [answer.status for answer in answers] == [401] * 5
            assert not guesses.done()
        assert {answer.status for answer in await guesses} == {401}
        await other.close()
        await internet.close()


async def test_failures_are_forgotten_and_never_fill_the_table(database_url: str) -> None:
    database = Database(database_url)
    most = ROWS_PER_KIND + 50
    numbers = (
        f"(WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {most}) SELECT i FROM r)"
    )
    numbers += "" if database.is_sqlite else " AS r"
    future = 4_000_000_000_000_000  # in the year 2096
    async with database.write() as connection:
        await connection.execute(
            text(
                "INSERT INTO sign_in_failures (key, kind, empty_at) "
                f"SELECT 'fresh' || i, 'fresh', {future} + i FROM {numbers}"
            )
        )
        await connection.execute(text("INSERT INTO sign_in_failures VALUES ('old', 'place', 1)"))
        await connection.execute(text(f"INSERT INTO sign_in_failures VALUES ('new', 'place', {future})"))
    await trim(database)
    async with database.read() as connection:
        table = sign_in_failures
        count = await connection.scalar(select(func.count()).where(table.c.kind == "fresh"))
        first = await connection.scalar(select(func.min(table.c.empty_at)).where(table.c.kind == "fresh"))
        places = (
            (await connection.execute(select(table.c.key).where(table.c.kind == "place"))).scalars().all()
        )
    assert count == ROWS_PER_KIND
    assert first is not None
    assert first.timestamp() * 1e6 == pytest.approx(future + 51, abs=1)
    assert places == ["new"]
    await database.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_database_that_takes_no_rows_makes_guessing_no_cheaper(
    tmp_path: Path, database_url: str, argon: Argon2
) -> None:
    async with running_registry(tmp_path / "data", database_url, failed_sign_ins=3) as registry:
        async with registry.client() as client:
            password = await make_user(client, "bob")
        assert registry.services is not None
        async with registry.services.database.write() as connection:
            for table in ("sign_in_failures", "sign_in_places"):
                await connection.execute(
                    text(
                        f"CREATE TRIGGER no_room_{table} BEFORE INSERT ON {table} "
                        "BEGIN SELECT RAISE(ABORT, 'no room'); END"
                    )
                )
        async with registry.client(anonymous=True) as nobody:
            answers = [
                await ask(nobody, "GET", "/v2/", headers=basic("eve", f"a wrong password {i}"))
                for i in range(6)
            ]
            assert [answer.status for answer in answers] == [401] * 3 + [429] * 3
            assert argon.runs == 3
            assert (await ask(nobody, "GET", "/v2/", headers=basic("bob", password))).status == 200


async def test_an_account_has_so_many_places(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.auth.attempts.PLACES_PER_ACCOUNT", 3)
    assert PLACES_PER_ACCOUNT > 3
    async with running_registry(tmp_path / "data", database_url) as registry:
        internet = Internet([registry])
        async with registry.client() as client:
            password = await make_user(client, "bob")
        for address in ATTACKERS[:5]:
            assert (await sign_in(await internet.client(address), "bob", password)).status == 201
        await internet.close()
        assert registry.services is not None
        async with registry.services.database.read() as connection:
            places = await connection.execute(select(sign_in_places.c.place))
            assert sorted(places.scalars()) == ATTACKERS[2:5]
