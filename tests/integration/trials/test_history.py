"""Histories of trials: what changed from one to the next, by pages that cost what they show."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select, update

from registry.auth.actor import Actor, Role
from registry.auth.policy import Visibility, decide
from registry.auth.scopes import parse_token_scope
from registry.content.pullable import pullable_ids
from registry.db.content import repositories
from registry.db.engine import Database
from registry.db.trials import trials
from registry.db.types import db_time
from tests.kit.access import api, ask, basic, give_role, make_repository, make_user
from tests.kit.plans import recorded, require_ranges
from tests.kit.rows import FEW, fill_trials
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, make_error, tiny_image, tiny_index

MANY = 20_000
PATH = f"/repositories/{REPOSITORY.replace('/', '%2F')}/trials"


async def history(port: Port, path: str = PATH, client: Any = None, **query: str) -> Any:
    return await api(client or port.admin, "GET", path, params=query)


async def again(port: Port, worker: ScriptedWorker, **members: Any) -> None:
    answer = await ask(port.admin, "POST", "/api/v1/trials", json={"image": f"{REPOSITORY}:1"})
    assert answer.status == 201
    assert (await worker.report(await worker.claim(), **members)).status == 204


async def test_each_says_what_it_has_otherwise_than_the_one_before(port: Port) -> None:
    first = await port.push(tiny_image())
    worker = await port.worker("one")
    job = await worker.claim()
    assert (await worker.report(job, runtime="runc 1.0\x1b[2J")).status == 204
    await again(port, worker, runtime="runc 1.0\x1b[2J")
    await again(port, worker, met=False, exit_code=3, runtime="runsc 2", run={"seconds": 2.25})
    await again(port, worker, **make_error("layer-invalid"), runtime="")
    await again(port, worker, runtime="runsc 2")
    spec = {"version": 1, "cases": [{"name": "a", "expect": {"exit": 0}}], "attempts": 2, "pass": "any"}
    await api(port.admin, "POST", "/trials", status=201, json={"image": f"{REPOSITORY}:1", "spec": spec})
    job = await worker.claim()
    saw = [{"expectation": "exit code is 0", "seen": "exit code 1", "met": False}]
    usual = {"command": ["/app"], "reason": "exited", "seconds": 1, "log": "", "name": "a", "case": "a"}
    runs = [
        {**usual, "exit_code": 1, "observations": saw, "attempt": 1},
        {**usual, "exit_code": 0, "observations": [{**saw[0], "met": True}], "attempt": 2},
    ]
    assert (await worker.report(job, runs=runs, runtime="runsc 2")).status == 204
    second = await port.push(tiny_image(), tag="2")
    whole = (await history(port))["items"]
    assert [one["digest"] for one in whole] == [second, *[first] * 6]
    assert [one["verdict"] for one in whole] == [None, "warn", "pass", "error", "fail", "pass", "pass"]
    queued, flaky, passed, broken, failed, same, oldest = whole
    assert (queued["state"], queued["changes"], queued["seconds"]) == ("queued", None, None)
    assert oldest["changes"] is None
    assert (oldest["runtimes"], oldest["seconds"], oldest["failed"]) == (["runc 1.0?[2J"], 0.1, [])
    assert (same["changes"]["before"], same["changes"]["what"]) == (oldest["id"], [])
    assert failed["changes"] == {
        "before": same["id"],
        "what": ["verdict", "runtime", "failed"],
        "digest_before": None,
        "verdict_before": "pass",
        "runtimes_before": ["runc 1.0?[2J"],
        "failed_since": ["linux/amd64 smoke: exit code is 0"],
        "met_since": [],
    }
    assert (failed["seconds"], failed["failed"]) == (2.25, ["linux/amd64 smoke: exit code is 0"])
    assert broken["changes"]["what"] == ["verdict", "runtime", "failed"]
    assert passed["changes"]["what"] == ["verdict", "runtime"]
    assert (flaky["flaky_attempts"], flaky["failed"], flaky["seconds"]) == (1, [], 2)
    assert flaky["changes"]["what"] == ["verdict", "spec"]
    assert flaky["spec_digest"] != passed["spec_digest"] == "image"
    # Of another image there is none before: it is held against the newest of the repository.
    assert (await worker.report(await worker.claim())).status == 204
    newest = (await history(port, limit="1"))["items"][0]
    assert newest["changes"]["before"] == flaky["id"]
    assert newest["changes"]["digest_before"] == first
    assert newest["changes"]["what"] == ["image", "verdict", "spec", "runtime"]


async def test_what_an_index_saw_is_that_of_all_its_platforms(port: Port) -> None:
    index, _ = tiny_index("linux/amd64", "linux/s390x")
    digest = await port.push(index)
    worker = await port.worker("one")
    assert (await worker.report(await worker.claim(), met=False)).status == 204
    (entry,) = (await history(port, digest=digest))["items"]
    assert (entry["runtimes"], entry["failed"]) == (["scripted 1.0"], ["linux/amd64 smoke: exit code is 0"])


async def test_pages_and_filters(port: Port) -> None:
    digests = [await port.push(tiny_image(), tag=str(number)) for number in range(5)]
    worker = await port.worker("one")
    for _ in digests:
        await worker.report(await worker.claim())
    newest_first = digests[::-1]
    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        page = await history(port, limit="2", **({} if cursor is None else {"cursor": cursor}))
        seen += [one["digest"] for one in page["items"]]
        cursor, pages = page["next"], pages + 1
        async with port.database.write() as connection:  # a cursor names no row that could go
            gone = [one["id"] for one in page["items"]]
            await connection.execute(delete(trials).where(trials.c.id.in_(gone)))
    assert (seen, pages) == (newest_first, 3)
    digests = [await port.push(tiny_image(), tag=str(number)) for number in range(3)]
    for number in range(3):
        await worker.report(await worker.claim(), met=number != 1)
    await again_by_request(port, "2")

    async def found(**query: str) -> list[str]:
        return [one["digest"] for one in (await history(port, **query))["items"]]

    async with port.database.write() as connection:
        old = trials.c.digest == digests[0]
        await connection.execute(update(trials).where(old).values(created_at=db_time(timedelta(days=-9))))
    assert await found(verdict="fail") == [digests[1]]
    assert await found(cause="request") == [digests[2]]
    assert await found(digest=digests[2]) == [digests[2]] * 2 == await found(tag="2")
    assert await found(digest=digests[2], verdict="pass") == [digests[2]]
    a_week_ago = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 7 * 86400))
    assert await found(since=a_week_ago, verdict="pass") == [digests[2]]
    assert await found(digest=f"sha256:{'0' * 64}") == []
    listed = await ask(port.admin, "GET", "/api/v1/trials", params={"verdict": "pass", "since": a_week_ago})
    assert [one["digest"] for one in listed.json] == [digests[2]]
    for query in (
        {"verdict": "good"},
        {"cursor": "x"},
        {"cursor": "12"},
        {"cursor": "9" * 18 + ".a"},
        {"since": "7d"},
        {"tag": "1", "digest": digests[0]},
        {"digest": "sha256:short"},
        {"limit": "1001"},
    ):
        answer = await ask(port.admin, "GET", f"/api/v1{PATH}", params=query)
        assert (answer.status, "detail" in answer.json) == (400, True), query
    assert (await ask(port.admin, "GET", f"/api/v1{PATH}", params={"tag": "none"})).status == 404
    one_image = {"image": f"{REPOSITORY}:1", "verdict": "pass"}
    assert (await ask(port.admin, "GET", "/api/v1/trials", params=one_image)).status == 400


async def again_by_request(port: Port, tag: str) -> None:
    await api(port.admin, "POST", "/trials", status=201, json={"image": f"{REPOSITORY}:{tag}"})


async def test_a_page_costs_the_same_among_many(port: Port, database_url: str) -> None:
    await make_repository(port.admin, REPOSITORY)
    await asyncio.to_thread(fill_trials, database_url, REPOSITORY, MANY)
    image = f"sha256:{7:064x}"
    middle = (await history(port, limit="1000"))["next"]
    with recorded("trials") as statements:
        assert len((await history(port, limit="50"))["items"]) == 50
        assert len((await history(port, limit="50", cursor=middle))["items"]) == 50
        assert len((await history(port, digest=image, limit="50", cursor=middle))["items"]) == 50
        assert len((await history(port, verdict="fail"))["items"]) == MANY // FEW
    await require_ranges(port.database, statements)


async def test_hidden_trials_hide_no_others(port: Port, database_url: str) -> None:
    """However many newer ones there are that the caller may not see."""
    digest = await port.push(tiny_image())
    await api(port.admin, "PATCH", PATH.removesuffix("/trials"), json={"visibility": "public"})
    await make_repository(port.admin, "secret/app", visibility="private")
    await asyncio.to_thread(fill_trials, database_url, "secret/app", 6000)
    async with port.database.write() as connection:
        long_ago = update(trials).where(trials.c.digest == digest)
        await connection.execute(long_ago.values(created_at=db_time(timedelta(days=-9))))
    async with port.registry.client(anonymous=True) as nobody:
        answer = await ask(nobody, "GET", "/api/v1/trials")
        assert [trial["digest"] for trial in answer.json] == [digest]
        await api(port.admin, "PATCH", PATH.removesuffix("/trials"), json={"visibility": "private"})
        with recorded("trials") as statements:
            assert (await ask(nobody, "GET", "/api/v1/trials")).json == []
        assert not any("trials.created_at DESC" in one.text and "+" in one.text for one in statements)
        await api(port.admin, "PATCH", PATH.removesuffix("/trials"), json={"visibility": "public"})
        headers = basic("dora", await make_user(port.admin, "dora"))
        assert len((await ask(nobody, "GET", "/api/v1/trials", headers=headers)).json) == 1
        await give_role(port.admin, "secret/", "user:dora", "reader")
        answer = await ask(nobody, "GET", "/api/v1/trials", headers=headers)
        assert {trial["image"] for trial in answer.json} == {"secret/app"}


async def test_the_query_finds_what_the_policy_allows(database_url: str) -> None:
    names = ["team/app", "team/a_p", "team/sub/app", "teamx/app", "team-x/app", "x/b", "x/axp", "x"]
    kinds: tuple[Visibility, ...] = ("public", "internal", "private")
    rows = [(f"{name}-{kind}", kind) for name in names for kind in kinds]
    usual = {"gate": "off", "trial_on_push": False, "image_spec_allowed": False, "policy_version": 1}
    made = [{**usual, "name": name, "visibility": kind} for name, kind in rows]
    # More than a statement takes in one expression.
    many: dict[str, Role] = {f"n{number}/": "reader" for number in range(1500)}
    some: dict[str, Role] = {**many, "team/": "reader", "x/b-private": "writer"}
    accounts = (
        Actor(kind="anonymous", name="a"),
        Actor(kind="user", name="a"),
        Actor(kind="user", name="a", roles=some),
        Actor(kind="robot", name="a", roles={"x/": "owner"}),
        Actor(kind="user", name="a", is_auditor=True),
        Actor(kind="user", name="a", is_admin=True),
        Actor(kind="worker", name="a"),
    )
    database = Database(database_url)
    try:
        async with database.write() as connection:
            await connection.execute(repositories.insert().values(created_at=db_time()), made)
        for patterns in (None, ("*",), ("t*/a_p*", "team/*"), ("x/b-private",), ()):
            scopes = None
            if patterns is not None:
                scopes = tuple(parse_token_scope(f"repository:{pattern}:pull") for pattern in patterns)
            for account in accounts:
                actor = replace(account, scopes=scopes)
                wanted = {name for name, kind in rows if decide(actor, "pull", name, kind).allowed}
                ids = pullable_ids(actor, is_sqlite=database.is_sqlite)
                query = select(repositories.c.name)
                async with database.read() as connection:
                    query = query if ids is None else query.where(repositories.c.id.in_(ids))
                    found = set((await connection.execute(query)).scalars())
                assert found == wanted or (actor.kind == "worker" and not wanted), (account, patterns)
    finally:
        await database.close()
