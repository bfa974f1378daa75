"""Caps on trials: what is asked for beyond one is refused, and what is pushed waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import BigInteger, delete, literal, select, type_coerce, update

from registry.db.trials import trial_seconds, trials
from registry.settings import Settings
from tests.kit.access import Answer, api, ask, give_role, make_user
from tests.kit.distribution import push_image
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, open_port, tiny_image

TEAM = "/namespaces/team"
OTHER = "other/app"


async def test_a_namespace_that_had_its_seconds_waits_for_the_hour_to_pass(port: Port) -> None:
    await cap(port, trial_seconds_per_hour=10)
    worker = await port.worker("one")
    first = await port.push(tiny_image())
    await run(worker, seconds=4)
    assert (await start(port, first)).status == 201
    # Its services are waited for at its expense.
    await run(worker, seconds=3, services_seconds=4)
    waits = await port.push(tiny_image(), tag="waits")
    elsewhere = await port.push(tiny_image(), repository=OTHER)
    assert await run(worker, seconds=1) == elsewhere
    assert await worker.claim() is None
    (trial,) = await port.trials(waits)
    said = "waits: the namespace team has had 11 s of runs within an hour, and may have 10"
    assert (trial["state"], trial["reason"], trial["parts"][0]["reason"]) == ("queued", said, said)
    told = await api(port.admin, "GET", "/gate", params={"image": f"{REPOSITORY}@{waits}"})
    assert (told["state"], told["waits_for"]) == ("pending", said)
    refused = await start(port, first)
    assert refused.status == 429
    assert "the namespace team has had 11 s of runs" in refused.body.decode()
    assert 0 < int(refused.headers["Retry-After"]) <= 3900
    assert len(await port.trials(first)) == 2
    # What is said counts at once, as it is said.
    await cap(port, trial_seconds_per_hour=11)
    assert await worker.claim() is None
    await cap(port, trial_seconds_per_hour=12)
    job = await worker.claim()
    assert job["digest"] == waits
    assert (await worker.report(job, run={"seconds": 100})).status == 204
    again = await port.push(tiny_image(), tag="again")
    assert await worker.claim() is None
    async with port.database.write() as connection:
        # As if an hour and the rest of its five minutes had passed.
        until = type_coerce(trial_seconds.c.counts_until, BigInteger) - literal(7200 * 10**6, BigInteger)
        await connection.execute(update(trial_seconds).values(counts_until=until))
    assert (await start(port, first)).status == 201
    assert await run(worker, seconds=1) == again
    assert await run(worker, seconds=1) == first
    async with port.database.read() as connection:
        rows = (await connection.execute(select(trial_seconds.c.place, trial_seconds.c.seconds))).all()
    # What is over is forgotten, and what came since may be in two parts.
    assert ({row.place for row in rows}, sum(row.seconds for row in rows)) == ({"team/"}, 2.0)


async def test_a_part_without_a_trial_waits_for_the_cap_of_its_own_namespace(port: Port) -> None:
    await cap(port, trial_seconds_per_hour=10)
    worker = await port.worker("one")
    await port.push(tiny_image())
    await run(worker, seconds=12)
    await port.push(tiny_image(), tag="2")
    await port.push(tiny_image(), repository=OTHER)
    async with port.database.write() as connection:
        # Nothing leaves them so; a queue is looked at when something went wrong.
        await connection.execute(delete(trials).where(trials.c.state != "done"))
    queue = await api(port.admin, "GET", "/queue")
    assert {one["repository"]: (one["trial"], one["why"]) for one in queue["items"]} == {
        REPOSITORY: ("", "waits: the namespace team has had 12 s of runs within an hour, and may have 10"),
        OTHER: ("", ""),
    }


async def test_what_was_spent_goes_with_the_name(port: Port) -> None:
    await cap(port, trial_seconds_per_hour=10)
    worker = await port.worker("one")
    await port.push(tiny_image())
    await run(worker, seconds=12)
    await api(port.admin, "POST", "/namespaces/team/rename", json={"name": "crew"})
    await port.push(tiny_image(), repository="crew/app", tag="2")
    assert await worker.claim() is None
    async with port.database.read() as connection:
        rows = (await connection.execute(select(trial_seconds.c.place, trial_seconds.c.seconds))).all()
    assert [tuple(row) for row in rows] == [("crew/", 12.0)]


async def test_what_a_worker_says_of_its_seconds_stops_nobody_else(port: Port) -> None:
    await cap(port, trial_seconds_per_hour=10)
    workers = [await port.worker(name) for name in ("one", "two")]
    for tag in ("1", "2"):
        await port.push(tiny_image(), tag=tag)
    jobs = [await worker.claim() for worker in workers]
    for worker, job in zip(workers, jobs, strict=True):
        assert (await worker.report(job, run={"seconds": 1.7e308})).status == 204
    waits = await port.push(tiny_image(), tag="3")
    elsewhere = await port.push(tiny_image(), repository=OTHER)
    assert await run(workers[0], seconds=1) == elsewhere
    (trial,) = await port.trials(waits)
    assert trial["reason"].startswith("waits: the namespace team has had 172800 s of runs")


async def test_a_namespace_with_enough_in_the_queue_takes_pushes_alone(port: Port) -> None:
    first = await port.push(tiny_image())
    await cap(port, trial_queue_max=2)
    assert (await start(port, first)).status == 201
    pushed = [await port.push(tiny_image(), tag=f"{number}") for number in range(3)]
    refused = await start(port, pushed[0])
    assert (refused.status, refused.headers["Retry-After"]) == (429, "60")
    assert "the namespace team has as many images waiting to be tried as it may: 2" in refused.body.decode()
    assert [await port.state(digest) for digest in pushed] == ["pending"] * 3
    worker = await port.worker("one")
    for _ in range(3):
        await run(worker, seconds=1)
    assert (await start(port, first)).status == 201
    await cap(port, trial_queue_max=None)
    assert (await start(port, pushed[0])).status == 201


async def test_what_holds_where_a_namespace_says_nothing_and_for_each_actor(
    tmp_path: Path, database_url: str
) -> None:
    of_actor = {"trial_seconds_per_hour_of_actor": 10, "trial_queue_max_of_actor": 2}
    caps = {"trial_seconds_per_hour": 100, **of_actor}
    async with open_port(tmp_path / "data", database_url, **caps) as port:
        password = await make_user(port.admin, "rita")
        deep = "team/sub/app"
        for name in ("team", "other"):
            await api(port.admin, "POST", "/namespaces", status=201, json={"name": name})
            await give_role(port.admin, f"{name}/", "user:rita", "writer")
        worker = await port.worker("one")
        async with port.registry.client(password, user="rita") as rita:
            first = await push(rita, REPOSITORY, "1")
            await run(worker, seconds=20)
            held = await push(rita, OTHER, "1")
            mine = await port.push(tiny_image(), repository=deep)
            assert await run(worker, seconds=1) == mine
            assert await worker.claim() is None
            refused = await start(port, first, client=rita)
            assert refused.status == 429
            assert "rita has had 20 s of runs within an hour, and may have 10" in refused.body.decode()
            # Somebody else asks for it as well, and does not wait for rita's hour.
            assert (await start(port, held, repository=OTHER)).status == 201
            assert await run(worker, seconds=70) == held
            assert (await start(port, first)).status == 429
            async with port.database.write() as connection:
                mine_alone = trial_seconds.c.place == "rita"
                await connection.execute(update(trial_seconds).where(mine_alone).values(seconds=0))
            for tag in ("2", "3"):
                await push(rita, REPOSITORY, tag)
            refused = await start(port, first, client=rita)
            assert "rita has as many images waiting to be tried as it may: 2" in refused.body.decode()
            # The namespace above has had 20 + 1 s.
            await run(worker, seconds=79)
            assert await worker.claim() is None
            (trial, *_) = await api(port.admin, "GET", "/trials", params={"image": REPOSITORY})
            assert trial["reason"].startswith("waits: the namespace team has had 100 s of runs")


async def test_caps_are_set_by_administrators_alone(port: Port) -> None:
    await port.push(tiny_image())
    password = await make_user(port.admin, "otto")
    await give_role(port.admin, "team/", "user:otto", "owner")
    answer = await ask(port.admin, "GET", f"/api/v1{TEAM}")
    assert (answer.json["trial_queue_max"], answer.json["trial_seconds_per_hour"]) == (None, None)
    seen = {"If-Match": answer.headers["ETag"]}
    wanted = {"trial_queue_max": 7, "trial_seconds_per_hour": 600}
    changed = await api(port.admin, "PATCH", TEAM, json=wanted, headers=seen)
    assert {name: changed[name] for name in wanted} == wanted
    await api(port.admin, "PATCH", TEAM, status=412, json=wanted, headers=seen)
    for wrong in ({"trial_queue_max": 0}, {"trial_seconds_per_hour": -1}, {"trial_queue_max": "many"}):
        await api(port.admin, "PATCH", TEAM, status=400, json=wrong)
    async with port.registry.client(password, user="otto") as owner:
        for name in wanted:
            await api(owner, "PATCH", TEAM, status=403, json={name: None})
            await api(owner, "PUT", TEAM, status=403, json={name: 1000})
        body = {"name": "team/new", **wanted}
        await api(owner, "POST", "/namespaces", status=403, json=body)
        # What is left out is as if nothing had been said, but for the caps.
        await api(owner, "PUT", TEAM, json={"gate": "warn"})
    kept = await api(port.admin, "GET", TEAM)
    assert {name: kept[name] for name in ("gate", *wanted)} == {"gate": "warn", **wanted}


async def cap(port: Port, **caps: int | None) -> None:
    """Have a namespace that has these."""
    async with port.registry.client() as admin:
        if (await ask(admin, "PATCH", f"/api/v1{TEAM}", json=caps)).status == 404:
            await api(admin, "POST", "/namespaces", status=201, json={"name": "team", **caps})


async def start(
    port: Port, digest: str, *, repository: str = REPOSITORY, client: aiohttp.ClientSession | None = None
) -> Answer:
    """Ask for a trial."""
    body = {"image": f"{repository}@{digest}"}
    return await ask(client or port.admin, "POST", "/api/v1/trials", json=body)


async def push(client: aiohttp.ClientSession, repository: str, tag: str) -> str:
    return await push_image(client, repository, tag, tiny_image())


async def run(worker: ScriptedWorker, **seconds: float) -> Any:
    """Have the next image pass after a run of so many seconds; its digest."""
    job = await worker.claim()
    assert (await worker.report(job, run=seconds)).status == 204
    return job["digest"]


def test_nothing_is_capped_if_nothing_is_said() -> None:
    given = Settings.model_fields
    assert {given[name].default for name in given if name.startswith(("trial_queue", "trial_seconds"))} == {0}
