"""Pulls by day: counted wherever they are answered, written seldom, lost only by a kill."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from registry.db.engine import Database
from registry.db.events import audit_keeping, pull_days
from registry.events import pulls
from registry.events.pulls import PullCounts, Pulled, Tally
from tests.kit.access import ask, basic, make_repository, make_user
from tests.kit.distribution import push_small
from tests.kit.server import Registry, RegistryProcess

NAME = "team/app"
DIGEST = "sha256:" + "a" * 64


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await opened.close()


async def rows(database: Database) -> list[Any]:
    async with database.read() as connection:
        return list(await connection.execute(select(pull_days).order_by(pull_days.c.actor)))


async def pull_rows(database: Database) -> int:
    async with database.read() as connection:
        return int((await connection.execute(select(audit_keeping.c.pull_rows))).scalar_one())


async def test_each_get_of_a_manifest_counts_and_nothing_else(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, NAME, visibility="public")
    digest = await push_small(client, NAME, "1")
    ann = basic("ann", await make_user(client, "ann"))
    path = f"/v2/{NAME}/manifests"
    for _ in range(3):  # the second and third are answered from what is known
        assert (await ask(nobody, "GET", f"{path}/1", headers=ann)).status == 200
        assert (await ask(nobody, "HEAD", f"{path}/1", headers=ann)).status == 200
    assert (await ask(nobody, "GET", f"{path}/{digest}", headers=ann)).status == 200
    tagged = {"If-None-Match": f'"{digest}"'}
    assert (await ask(nobody, "GET", f"{path}/1", headers=tagged)).status == 304
    assert (await ask(nobody, "GET", f"{path}/2", headers=ann)).status == 404
    services = registry.services
    assert services is not None
    assert await rows(services.database) == []
    await services.pulls.flush(services.database)
    ann_row, anonymous = sorted(await rows(services.database), key=lambda row: row.actor, reverse=True)
    if ann_row.actor == "anonymous":
        ann_row, anonymous = anonymous, ann_row
    assert (ann_row.actor, ann_row.repository, ann_row.digest) == ("ann", NAME, digest)
    assert ann_row[5] == 4
    assert (ann_row.tag, ann_row.address) == (None, "127.0.0.1")
    assert (anonymous.actor, anonymous[5], anonymous.tag) == ("anonymous", 1, "1")


async def test_a_head_that_was_remembered_counts_when_it_is_a_get(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    digest = await push_small(client, NAME, "1")
    for method in ("HEAD", "HEAD", "GET"):
        assert (await ask(client, method, f"/v2/{NAME}/manifests/1")).status == 200
    assert registry.services is not None
    await registry.services.pulls.flush(registry.services.database)
    (row,) = await rows(registry.services.database)
    assert (row.digest, row.tag, row[5]) == (digest, "1", 1)


async def test_sums_of_several_processes_meet_in_one_row(database: Database) -> None:
    one, other = PullCounts(), PullCounts()
    pulled = Pulled("ann", NAME, DIGEST)
    by_tag, by_other = Tally(pulled, "1"), Tally(pulled, "2")
    one.note(by_other, "192.0.2.2", 2.0)
    one.note(by_tag, "192.0.2.1", 1.0)
    other.note(Tally(pulled, None), "192.0.2.3", 3.0)
    other.note(Tally(pulled._replace(actor="bob"), "1"), None, 4.0)
    await one.flush(database)
    assert [(row[5], row.tag, row.address) for row in await rows(database)] == [(2, "2", "192.0.2.2")]
    one.note(by_tag, "192.0.2.1", 5.0)
    await one.flush(database)
    await other.flush(database)
    await one.flush(database)
    ann, bob = await rows(database)
    assert (ann.actor, ann[5], ann.tag, ann.address) == ("ann", 4, None, "192.0.2.3")
    assert (bob.actor, bob[5]) == ("bob", 1)
    assert await pull_rows(database) == 2


async def test_more_than_is_remembered_is_said_to_be_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulls, "KEYS_MAX", 3)
    counts = PullCounts()
    for number in range(5):
        tally = Tally(Pulled(f"u{number}", NAME, DIGEST), None)
        for _ in range(2):
            counts.note(tally, None, 0.0)
    assert counts.lost == 4
    await counts.flush(database)
    assert [row[5] for row in await rows(database)] == [2, 2, 2]


async def test_what_cannot_be_written_is_kept_for_later(database: Database) -> None:
    counts = PullCounts()
    for number in range(150):
        counts.note(Tally(Pulled(f"u{number:03}", NAME, DIGEST), None), None, 0.0)
    broken = Database("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(Exception, match="connection"):
        await counts.flush(broken)
    await broken.close()
    counts.note(Tally(Pulled("u000", NAME, DIGEST), "1"), None, 1.0)
    await counts.flush(database)
    found = await rows(database)
    assert len(found) == 150
    assert (found[0].actor, found[0][5]) == ("u000", 2)


async def test_what_was_counted_is_written_when_the_server_ends(tmp_path: Path, database_url: str) -> None:
    process = RegistryProcess(tmp_path / "data", database_url)
    server = process.start()
    async with server.client() as client:
        digest = await push_small(client, NAME, "1")
        for _ in range(5):
            assert (await ask(client, "GET", f"/v2/{NAME}/manifests/1")).status == 200
    process.stop()
    database = Database(database_url)
    (row,) = await rows(database)
    await database.close()
    assert (row.actor, row.digest, row[5]) == ("admin", digest, 5)
