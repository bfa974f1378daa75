"""Old trials go, and never what a standing verdict rests on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, func, select, update

from registry.db.content import attestations
from registry.db.trials import parts, runs, trials
from registry.trials import logkeeping, requests
from registry.trials.keeping import Keeping, sweep
from tests.kit.access import api, ask, basic, give_role, make_user
from tests.kit.trials import REPOSITORY, Port, tiny_image, tiny_index

YEAR = Keeping(days=365, newest=3)


async def age(port: Port, *, days: int) -> None:
    past = datetime.now(UTC) - timedelta(days=days)
    async with port.database.write() as connection:
        await connection.execute(update(trials).values(created_at=past, finished_at=past))
        for table in (parts, runs):
            await connection.execute(update(table).values(finished_at=past))


async def count(port: Port, table: Any) -> int:
    async with port.database.read() as connection:
        return (await connection.execute(select(func.count()).select_from(table))).scalar_one()


async def again(port: Port, worker: Any, spec: dict[str, Any] | None = None) -> None:
    body = {"image": f"{REPOSITORY}:1", **({} if spec is None else {"spec": spec})}
    await api(port.admin, "POST", "/trials", status=201, json=body)
    assert (await worker.report(await worker.claim())).status == 204


async def test_old_trials_go_but_for_the_newest_and_what_stands(port: Port) -> None:
    digest = await port.push(tiny_image())
    worker = await port.worker("one")
    # The only one that asked this: its verdict is attested.
    assert (await worker.report(await worker.claim())).status == 204
    other = {"version": 1, "expect": {"exit": 0}}
    for _ in range(5):
        await again(port, worker, other)
    first, *rest = [one["id"] for one in (await port.trials(digest))[::-1]]
    assert await sweep(port.database, YEAR) == 0
    await age(port, days=364)
    assert await sweep(port.database, YEAR) == 0
    await age(port, days=366)
    queued = await api(port.admin, "POST", "/trials", status=201, json={"image": f"{REPOSITORY}:1"})
    await age(port, days=366)
    assert await sweep(port.database, YEAR) == 3
    kept = [one["id"] for one in await port.trials(digest)]
    assert kept == [queued["id"], *rest[:2:-1], first]
    assert await sweep(port.database, YEAR) == 0
    assert await port.state(digest) == "pass"
    assert await count(port, parts) == 2


async def test_an_image_is_tried_under_so_many_specs_and_no_more(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "SPECS_MAX", 3)
    digest = await port.push(tiny_image())
    worker = await port.worker("one")
    assert (await worker.report(await worker.claim())).status == 204
    specs = [{"version": 1, "env": {"N": str(number)}} for number in range(3)]
    for spec in (*specs[:2], *specs[:2]):
        await again(port, worker, spec)
    body = {"image": f"{REPOSITORY}:1", "spec": specs[2]}
    refused = await api(port.admin, "POST", "/trials", status=409, json=body)
    assert "was tried under 3 run specs" in refused["detail"]
    await again(port, worker)
    assert len(await port.trials(digest)) == 6
    # Another image is nothing to this one.
    await port.push(tiny_image(), tag="2")
    await api(port.admin, "POST", "/trials", status=201, json=body | {"image": f"{REPOSITORY}:2"})


async def test_a_repository_may_say_other_days(port: Port) -> None:
    digest = await port.push(tiny_image())
    worker = await port.worker("one")
    assert (await worker.report(await worker.claim())).status == 204
    for _ in range(5):
        await again(port, worker)
    path = f"/repositories/{REPOSITORY.replace('/', '%2F')}"
    assert (await api(port.admin, "GET", path))["trial_keep_days"] is None
    await age(port, days=40)
    assert await sweep(port.database, YEAR) == 0
    await api(port.admin, "PATCH", path, json={"trial_keep_days": 500})
    await age(port, days=400)
    assert await sweep(port.database, YEAR) == 0
    changed = await api(port.admin, "PATCH", path, json={"trial_keep_days": 30})
    assert changed["trial_keep_days"] == 30
    await age(port, days=29)
    assert await sweep(port.database, YEAR) == 0
    await age(port, days=31)
    assert await sweep(port.database, YEAR) == 3
    assert len(await port.trials(digest)) == YEAR.newest


async def test_the_oldest_logs_go_first_and_nothing_else(port: Port) -> None:
    worker = await port.worker("one")
    digests = []
    for number in range(3):
        digests.append(await port.push(tiny_image(Env=[f"N={number}"]), tag=str(number)))
        # Of 1000 bytes; PostgreSQL's text has no NUL.
        log = "\u00e9" * 498 + "\0" + str(number)
        assert (await worker.report(await worker.claim(), log=log)).status == 204
    assert await logkeeping.sweep(port.database, keep_bytes=3000) == 0
    path = f"/repositories/{REPOSITORY.replace('/', '%2F')}"
    await api(port.admin, "PATCH", path, json={"log_keep_bytes": 5000})
    assert await logkeeping.sweep(port.database, keep_bytes=0) == 0
    await api(port.admin, "PATCH", path, json={"log_keep_bytes": 2999})
    before = [(await port.trials(digest))[0] for digest in digests]
    assert await logkeeping.sweep(port.database, keep_bytes=2**40) == 1
    assert await logkeeping.sweep(port.database, keep_bytes=2**40) == 0
    after = [(await port.trials(digest))[0] for digest in digests]
    assert after[1:] == before[1:]
    (gone,) = after[0]["runs"]
    assert (gone["log"], gone["log_kept"], before[0]["runs"][0]["log_kept"]) == ("", False, True)
    assert after[0] | {"runs": [before[0]["runs"][0] | {"log": "", "log_kept": False}]} == after[0]
    shown = await ask(port.admin, "GET", f"/api/v1/trials/{after[0]['id']}/log")
    assert (shown.status, shown.body) == (200, b"(log no longer kept)\n")
    # Asked again, it has one again.
    body = {"image": f"{REPOSITORY}:0"}
    await api(port.admin, "POST", "/trials", status=201, json=body)
    assert (await worker.report(await worker.claim(), log="new")).status == 204
    (run,) = (await port.trials(digests[0]))[0]["runs"]
    assert (run["log"], run["log_kept"]) == ("new", True)
    assert await logkeeping.sweep(port.database, keep_bytes=2**40) == 0
    await api(port.admin, "PATCH", path, json={"log_keep_bytes": None})
    assert await logkeeping.sweep(port.database, keep_bytes=3) == 2
    assert [(await port.trials(one))[0]["runs"][0]["log"] for one in digests] == ["new", "", ""]


async def test_what_is_kept_is_for_administrators_to_say(port: Port) -> None:
    path = f"/repositories/{REPOSITORY.replace('/', '%2F')}"
    await port.push(tiny_image())
    headers = basic("mia", await make_user(port.admin, "mia"))
    await give_role(port.admin, REPOSITORY, "user:mia", "maintainer")
    await api(port.admin, "PATCH", path, json={"trial_keep_days": 30, "log_keep_bytes": 10})
    async with port.registry.client(anonymous=True) as client:
        for body in ({"trial_keep_days": 1}, {"log_keep_bytes": 0}, {"log_keep_bytes": None}):
            refused = await ask(client, "PATCH", f"/api/v1{path}", headers=headers, json=body)
            assert refused.status == 403, body
        put = await ask(client, "PUT", f"/api/v1{path}", headers=headers, json={"gate": "warn"})
    assert put.status == 200, put.body
    assert [put.json[name] for name in ("gate", "trial_keep_days", "log_keep_bytes")] == ["warn", 30, 10]
    for wrong in ({"trial_keep_days": 0}, {"log_keep_bytes": -1}, {"trial_keep_days": 36501}):
        assert (await ask(port.admin, "PATCH", f"/api/v1{path}", json=wrong)).status == 400


async def test_what_is_left_of_images_that_are_gone_goes(port: Port) -> None:
    index, images = tiny_index("linux/amd64", "linux/s390x")
    digest = await port.push(index)
    stays = await port.push(tiny_image(), tag="stays")
    worker = await port.worker("one")
    for _ in range(2):
        assert (await worker.report(await worker.claim(), log="x" * 1000)).status == 204
    await age(port, days=400)
    for one in (digest, *(image.digest for image in images)):
        answer = await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{one}")
        assert answer.status == 202
    # As long as something is attested of them.
    async with port.database.write() as connection:
        named = attestations.c.digest != stays
        left = (await connection.execute(select(attestations.c.id).where(named))).all()
    if left:
        await sweep(port.database, YEAR)
        async with port.database.write() as connection:
            await connection.execute(delete(attestations).where(named))
    await sweep(port.database, YEAR)
    async with port.database.read() as connection:
        for table in (trials, parts):
            found = (await connection.execute(select(table.c.digest))).scalars().all()
            assert found == [stays], table.name
    assert await count(port, runs) == 1
    (trial,) = await port.trials(stays)
    assert trial["runs"][0]["log"] == "x" * 1000
