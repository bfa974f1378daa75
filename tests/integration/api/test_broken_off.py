"""What PostgreSQL breaks off to end a deadlock is carried out again, and nobody is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import OperationalError

from registry.db.accounts import accounts
from registry.db.content import repositories, tags
from registry.db.engine import Database
from registry.db.events import epochs
from registry.db.types import db_time
from registry.http.again import TIMES, again_if_broken_off
from registry.http.metrics import METRICS, Metrics
from tests.kit.access import Answer, api, ask
from tests.kit.distribution import push_small
from tests.kit.images import OCI_INDEX, to_json
from tests.kit.postgres import until_somebody_waits, until_waiting
from tests.kit.server import Registry, running_registry

NAME = "team/app"
_RAISE = "RAISE EXCEPTION 'as in a deadlock' USING ERRCODE = '40P01';"
_FUNCTION = f"""CREATE FUNCTION break_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM nextval('times'); {_RAISE} END $$"""


@pytest.fixture
async def registry(tmp_path: Path, make_postgres_url: Callable[[], str]) -> AsyncIterator[Registry]:
    """On PostgreSQL: SQLite has one writer."""
    async with running_registry(tmp_path / "data", make_postgres_url()) as running:
        yield running


async def in_a_deadlock(database: Database, asking: Coroutine[Any, Any, Answer]) -> Answer:
    """What is asked for takes the repository, its tag and then the epochs, in one transaction. Here somebody
    has the epochs and waits for the repository, without a look whether that can end."""
    async with asyncio.timeout(120), database.write() as between, database.write() as other:
        await between.execute(select(tags).with_for_update())
        await other.execute(text("SET LOCAL deadlock_timeout = '1h'"))
        pid = (await other.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await other.execute(select(epochs).with_for_update())
        asked = asyncio.ensure_future(asking)
        await until_somebody_waits(database, between)
        wanting = asyncio.ensure_future(other.execute(select(repositories).with_for_update()))
        await until_waiting(database, pid)
        await between.rollback()
        await wanting
        assert not asked.done()
        await other.rollback()
        return await asked


async def test_who_loses_a_deadlock_is_answered_as_ever(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    database = registry.services.database
    first = await push_small(client, NAME, "v1")
    await push_small(client, NAME, "v1", annotations={"number": "2"})
    path = "/repositories/team%2Fapp/tags/v1"
    back = ask(
        client, "POST", f"/api/v1{path}/rollback", json={"to": first}, headers={"Idempotency-Key": "a" * 16}
    )
    assert (await in_a_deadlock(database, back)).status == 200
    assert (await api(client, "GET", path))["digest"] == first
    gone = ask(client, "DELETE", f"/v2/{NAME}/manifests/v1")
    assert (await in_a_deadlock(database, gone)).status == 202
    async with database.read_once() as connection:
        assert (await connection.execute(select(func.count()).select_from(tags))).scalar_one() == 0
    async with client.get("/metrics") as told:
        assert "seatrial_http_requests_repeated_total 2.0" in await told.text()


async def test_who_loses_each_time_is_told_to_come_again(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    database = registry.services.database
    async with database.write() as connection:
        await connection.execute(text("CREATE SEQUENCE times"))
        await connection.execute(text(_FUNCTION))
        await connection.execute(text("CREATE TRIGGER t BEFORE INSERT ON tags EXECUTE FUNCTION break_off()"))
    raw = to_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})
    answer = await ask(
        client, "PUT", f"/v2/{NAME}/manifests/v1", data=raw, headers={"Content-Type": OCI_INDEX}
    )
    assert (answer.status, "Retry-After" in answer.headers) == (503, True)
    async with database.read_once() as connection:
        assert (await connection.execute(text("SELECT last_value FROM times"))).scalar_one() == TIMES
        assert (await connection.execute(select(func.count()).select_from(repositories))).scalar_one() == 0


async def test_what_has_committed_is_not_done_again(make_postgres_url: Callable[[], str]) -> None:
    database, app = Database(make_postgres_url()), web.Application()
    app[METRICS] = Metrics()

    async def work(own: Database) -> None:
        async with own.write() as connection:
            await connection.execute(insert(accounts).values(name="ann", kind="user", created_at=db_time()))
        async with own.write() as connection:
            await connection.execute(text(f"DO $$ BEGIN {_RAISE} END $$"))

    with pytest.raises(OperationalError):
        await again_if_broken_off(make_mocked_request("PUT", "/", app=app), database.beginning_with, work)
    async with database.read_once() as connection:
        assert (await connection.execute(select(accounts.c.name))).scalars().all() == ["ann"]
    await database.close()
