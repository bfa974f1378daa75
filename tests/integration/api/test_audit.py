"""``/api/v1/audit``: who may read it, by which filters, and that it comes whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from sqlalchemy import func, insert, select, text, update

from registry.auth.actor import Actor
from registry.db.access import grants, tombstones
from registry.db.accounts import accounts
from registry.db.content import repositories
from registry.db.engine import Database, move_epoch
from registry.db.events import events, pull_days
from registry.db.types import db_time
from registry.events import trail
from registry.events.trail import Filters
from tests.kit.access import api, ask, basic, make_repository, make_token, make_user
from tests.kit.distribution import push_small
from tests.kit.plans import recorded, require_ranges
from tests.kit.server import Registry

NAME = "team/app"
ROOT = Actor(kind="user", name="root", account_id=1, is_admin=True)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 12000


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await opened.close()


async def few(database: Database) -> None:
    """Very many events of two actors, two targets and so on: what follows from that is long."""
    rows = [
        {
            "kind": "tag.moved" if number % 2 else "tag.deleted",
            "repository": f"team/{number % 2}",
            "target": f"t{number % 4}" if number % 4 < 2 else None,
            "actor": f"u{number % 2}",
            "token_id": f"k{number % 4}" if number % 4 < 2 else None,
            "decision": "refused" if number % 4 == 0 else "allowed",
            "data": "{}",
            "at": BEGAN + timedelta(seconds=number),
        }
        for number in range(ROWS)
    ]
    async with database.write() as connection:
        await connection.execute(insert(events), rows)
        await connection.execute(text("ANALYZE"))


async def fill(database: Database, count: int) -> None:
    """So many events, one each second, of a few actors and many of everything else."""
    rows = [
        {
            "kind": "tag.moved" if number % 2 else "tag.deleted",
            "repository": f"team/{number % 100}",
            "target": f"t{number % 50}" if number % 5 == 0 else None,
            "actor": f"u{number % 20}",
            "token_id": f"k{number % 30}" if number % 3 == 0 else None,
            "decision": "refused" if number % 40 == 0 else "allowed",
            "data": "{}",
            "at": BEGAN + timedelta(seconds=number),
        }
        for number in range(count)
    ]
    async with database.write() as connection:
        await connection.execute(insert(events), rows)


async def all_lines(database: Database, filters: Filters, **options: Any) -> list[trail.Line]:
    """All of them, in pages of 37."""
    found: list[trail.Line] = []
    after = None
    while True:
        page = await trail.list_lines(database, actor=ROOT, filters=filters, limit=37, after=after, **options)
        found += page
        if len(page) < 37:
            return found
        after = page[-1].cursor


async def make_auditor(registry: Registry, client: aiohttp.ClientSession, name: str) -> dict[str, str]:
    """A user who is an auditor; the header to sign in with."""
    headers = basic(name, await make_user(client, name))
    assert registry.services is not None
    async with registry.services.database.write() as connection:
        await connection.execute(update(accounts).where(accounts.c.name == name).values(is_auditor=True))
        await move_epoch(connection, "access")
    return headers


async def test_each_filter_and_page_finds_what_it_should(database: Database) -> None:
    await fill(database, 300)
    at = BEGAN + timedelta(seconds=100)
    cases = [
        (Filters(), range(300)),
        (Filters(actor="u3"), range(3, 300, 20)),
        (Filters(action="tag.deleted"), range(0, 300, 2)),
        (Filters(repository="team/7"), range(7, 300, 100)),
        (Filters(target="t5"), range(5, 300, 50)),
        (Filters(token="k9"), range(9, 300, 30)),
        (Filters(decision="refused"), range(0, 300, 40)),
        (Filters(decision="allowed", until=at), [n for n in range(100) if n % 40]),
        (Filters(since=at), range(100, 300)),
        (Filters(since=at, until=at + timedelta(seconds=5)), range(100, 105)),
        (Filters(actor="u1", repository="team/1", action="tag.moved"), [1, 101, 201]),
        (Filters(actor="nobody"), []),
    ]
    for filters, expected in cases:
        seconds = [(line.at - BEGAN).seconds for line in await all_lines(database, filters)]
        assert seconds == list(expected)[::-1], filters
        seconds = [(line.at - BEGAN).seconds for line in await all_lines(database, filters, order="oldest")]
        assert seconds == list(expected), filters


async def test_each_filter_reads_a_range_of_an_index(database: Database) -> None:
    await few(database)
    at = BEGAN + timedelta(seconds=ROWS // 2)
    middle = await trail.list_lines(database, actor=ROOT, filters=Filters(until=at), limit=1, after=None)
    cursor = middle[0].cursor
    alone: list[dict[str, Any]] = [
        {},
        *({name: value} for name, value in (("actor", "u1"), ("action", "tag.moved"), ("target", "t1"))),
        *({name: value} for name, value in (("repository", "team/1"), ("token", "k1"))),
        *({"decision": value} for value in ("allowed", "refused")),
    ]
    begin, end = at - timedelta(seconds=ROWS // 3), at + timedelta(seconds=ROWS // 3)
    times: list[dict[str, Any]] = [{}, {"since": begin}, {"until": end}, {"since": begin, "until": end}]
    with recorded("events") as statements:
        for one in alone:
            for when in times:
                for order in ("newest", "oldest"):
                    for after in (None, cursor):
                        await trail.list_lines(
                            database,
                            actor=ROOT,
                            filters=Filters(**one, **when),
                            limit=50,
                            after=after,
                            order=order,  # type: ignore[arg-type]
                        )
    assert len(statements) == len(alone) * len(times) * 4
    await require_ranges(database, statements)


async def test_pulls_of_a_digest_are_a_range_of_an_index(database: Database) -> None:
    rows = [
        {"digest": f"sha256:{number % 300:064}", "day": number // 300, "repository": f"r{number % 7}",
         "actor": f"u{number % 11}", "count": 1, "last_at": BEGAN}
        for number in range(ROWS)
    ]  # fmt: skip
    async with database.write() as connection:
        await connection.execute(insert(pull_days), rows)
        await connection.execute(text("ANALYZE"))
    digest = rows[5]["digest"]
    with recorded("pull_days") as statements:
        found: list[trail.Pulls] = []
        while True:
            after = found[-1].cursor if found else None
            page = await trail.list_pulls(
                database, actor=ROOT, digest=str(digest), repository=None, limit=3, after=after
            )
            found += page
            if len(page) < 3:
                break
    assert [pulls.day.toordinal() for pulls in found] == sorted(
        (pulls.day.toordinal() for pulls in found), reverse=True
    )
    assert len(found) == ROWS // 300
    await require_ranges(database, statements)


async def test_a_change_is_found_by_who_did_it_and_with_what(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    made = await make_token(client, "admin", "repository:*:pull")
    async with registry.client(made["token"]) as other:
        await make_repository(other, NAME)
        await api(other, "PATCH", "/repositories/team%2Fapp", json={"gate": "enforce"})
    found = await api(client, "GET", "/audit", params={"token": made["id"], "action": "repository.changed"})
    (line,) = found["items"]
    assert (line["actor"], line["repository"], line["decision"], line["rule"]) == (
        *("admin", NAME),
        *("allowed", "administrator"),
    )
    assert line["address"] == "127.0.0.1"
    assert "aiohttp" in line["client"]
    assert line["data"]["gate"] == ["off", "enforce"]
    page = await api(client, "GET", "/audit", params={"limit": "1"})
    following = await api(client, "GET", "/audit", params={"limit": "1", "cursor": page["next"]})
    assert following["items"][0]["id"] < page["items"][0]["id"]


async def test_auditors_read_and_others_are_refused(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    auditor = await make_auditor(registry, client, "eva")
    bob = basic("bob", await make_user(client, "bob"))
    digest = "sha256:" + "0" * 64
    for path in ("/audit", "/audit/export", f"/audit/pulls?digest={digest}"):
        assert (await ask(nobody, "GET", f"/api/v1{path}", headers=auditor)).status == 200
        assert (await ask(nobody, "GET", f"/api/v1{path}", headers=bob)).status == 403
        assert (await ask(nobody, "GET", f"/api/v1{path}")).status == 401
    limited = await make_token(client, "repository:*:pull")
    narrow = await make_token(client, "audit")
    for token, status in ((limited, 403), (narrow, 200)):
        async with registry.client(token["token"]) as other:
            assert (await ask(other, "GET", "/api/v1/audit")).status == status
            assert (await ask(other, "GET", "/api/v1/workers")).status == 403


async def test_wrong_questions_are_refused(client: aiohttp.ClientSession) -> None:
    for query in (
        "cursor=x",
        "cursor=1.-1",
        "cursor=99999999999999999999.1",
        "since=yesterday",
        "since=2026-01-01T00:00:00",
        "action=no.such",
        "decision=maybe",
        "order=best",
        "limit=0",
    ):
        assert (await ask(client, "GET", f"/api/v1/audit?{query}")).status == 400, query
    for query in ("", "digest=x", f"digest=sha256:{'0' * 64}&cursor=a|b"):
        assert (await ask(client, "GET", f"/api/v1/audit/pulls?{query}")).status == 400, query


async def test_an_export_comes_whole_and_goes_on_where_it_ended(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    await fill(registry.services.database, 1200)
    whole = await ask(client, "GET", "/api/v1/audit/export", params={"until": "2026-01-02T00:00:00Z"})
    assert whole.headers["Content-Type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in whole.body.splitlines()]
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
    assert len({line["id"] for line in lines}) == len(lines) == 1200
    rest = await ask(
        client,
        "GET",
        "/api/v1/audit/export",
        params={"until": "2026-01-02T00:00:00Z", "cursor": lines[1000]["cursor"]},
    )
    assert [json.loads(line) for line in rest.body.splitlines()] == lines[1001:]
    told = await api(client, "GET", "/audit", params={"action": "audit.exported"})
    assert [line["data"]["after"] for line in told["items"]] == [lines[1000]["cursor"], None]


async def test_an_export_shows_no_line_that_another_may_still_precede(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    await make_repository(client, NAME)
    assert registry.services is not None
    async with registry.services.database.write() as connection:
        await connection.execute(update(events).values(at=db_time(timedelta(minutes=1))))
    assert (await ask(client, "GET", "/api/v1/audit/export")).body == b""
    async with registry.services.database.write() as connection:
        await connection.execute(update(events).values(at=db_time(-timedelta(seconds=11))))
    lines = (await ask(client, "GET", "/api/v1/audit/export")).body.splitlines()
    assert "repository.created" in {json.loads(line)["action"] for line in lines}


async def test_hostile_text_is_plain_in_every_line(registry: Registry, client: aiohttp.ClientSession) -> None:
    hostile = "evil\x1b[2J\u009b31m\u202e=cmd|' /C calc'!A0"
    async with client.get("/api/v1/audit", headers={"User-Agent": "a\u009b\u202eb"}) as response:
        assert response.status == 200
    await make_repository(client, NAME)
    digest = await push_small(client, NAME, "1")
    blocked = {"image": f"{NAME}@{digest}", "reason": "no"}
    await api(client, "POST", "/gate/block", status=204, json=blocked)
    assert registry.services is not None
    async with registry.services.database.write() as connection:
        await connection.execute(
            update(events).values(data=json.dumps({"x": hostile}), at=db_time(-timedelta(minutes=1)))
        )
    for path in ("/audit", "/audit/export"):
        body = (await ask(client, "GET", f"/api/v1{path}")).body
        assert body.isascii()
        assert b"\x1b" not in body
        assert json.dumps(hostile).encode() in body


async def test_who_has_an_image(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, NAME, visibility="public")
    digest = await push_small(client, NAME, "1")
    bob, eve = basic("bob", await make_user(client, "bob")), basic("eve", await make_user(client, "eve"))
    for headers in (bob, bob, {}):
        assert (await ask(nobody, "GET", f"/v2/{NAME}/manifests/1", headers=headers)).status == 200
    services = registry.services
    assert services is not None
    database = services.database
    await services.pulls.flush(database)
    shown = await api(client, "GET", "/audit/pulls", params={"digest": digest})
    assert [(row["actor"], row["count"], row["tag"], row["address"]) for row in shown["items"]] == [
        ("bob", 2, "1", "127.0.0.1"),
        ("anonymous", 1, "1", "127.0.0.1"),
    ]
    async with database.write() as connection:
        now = (await connection.execute(select(db_time()))).scalar_one()
    assert shown["items"][0]["day"] in (f"{now:%Y-%m-%d}", f"{now - timedelta(hours=1):%Y-%m-%d}")
    # A maintainer sees the pulls of the own repository, and only those.
    async with database.write() as connection:
        account = select(accounts.c.id).where(accounts.c.name == "eve").scalar_subquery()
        place = select(repositories.c.id).where(repositories.c.name == NAME).scalar_subquery()
        await connection.execute(
            insert(grants).values(
                repository_id=place, account_id=account, role="maintainer", created_at=db_time()
            )
        )
        await move_epoch(connection, "access")
    path = f"/api/v1/audit/pulls?digest={digest}"
    assert (await ask(nobody, "GET", path, headers=eve)).status == 403
    assert (await ask(nobody, "GET", f"{path}&repository=other/app", headers=eve)).status == 403
    assert (await ask(nobody, "GET", f"{path}&repository={NAME}", headers=bob)).status == 403
    own = await ask(nobody, "GET", f"{path}&repository={NAME}", headers=eve)
    assert len(own.json["items"]) == 2
    # What was pulled from an earlier repository of that name is not hers to know.
    async with database.write() as connection:
        await connection.execute(insert(tombstones).values(name=NAME, deleted_at=db_time()))
    assert (await ask(nobody, "GET", f"{path}&repository={NAME}", headers=eve)).json["items"] == []
    assert len((await api(client, "GET", f"/audit/pulls?digest={digest}&repository={NAME}"))["items"]) == 2


async def test_readers_who_follow_miss_nothing_that_is_written_at_once(database: Database) -> None:
    """What an export has passed, nothing is added to: not by writers that commit in another order."""

    async def write(number: int) -> None:
        async with database.write() as connection:
            await connection.execute(
                insert(events).values(kind="tag.moved", actor=f"w{number}", data="{}", at=db_time())
            )
            await asyncio.sleep(0.01 * (number % 3))

    async with asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(write(number))
    early = await all_lines(database, Filters(), order="oldest")
    assert early == []
    async with database.write() as connection:
        await connection.execute(update(events).values(at=db_time(-timedelta(seconds=11))))
    assert len(await all_lines(database, Filters(), order="oldest")) == 30
    async with database.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(events))).scalar_one() == 30
