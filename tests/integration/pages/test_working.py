"""Pages for whoever runs the registry: workers, the queue, storage, advisories."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import aiohttp
from sqlalchemy import update

from registry.db.accounts import workers
from registry.db.content import blobs
from registry.db.types import db_time
from tests.integration.pages.test_managing import read
from tests.kit.access import Answer, api, ask, give_role, make_user
from tests.kit.advisories import affects, record
from tests.kit.matching import advise
from tests.kit.pagereading import send, send_from, sign_in, visitor, words_of
from tests.kit.plans import plan_of, sent
from tests.kit.trials import Port, open_port, tiny_image


async def until(person: aiohttp.ClientSession, path: str, words: str) -> Answer:
    """The page, as soon as it says so."""
    async with asyncio.timeout(30):
        while words not in words_of(page := await ask(person, "GET", path)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return page


async def test_the_queue_says_what_waits_and_why_and_a_trial_is_cancelled(
    tmp_path: Path, database_url: str
) -> None:
    both = ("linux/amd64", "linux/arm64")
    opened = open_port(tmp_path / "data", database_url, trial_platforms=both)
    async with opened as port, visitor(port.registry) as person:
        digest = await port.push(tiny_image())
        other = await port.push(tiny_image("linux/arm64"), tag="2")
        await sign_in(person, port.registry)
        queue = words_of(await read(person, "/queue"))
        assert "Waiting 2, the oldest since just now" in queue
        assert "waits for a worker: none asks for jobs" in queue
        worker = await port.worker("w")
        job = await worker.claim()
        assert job["digest"] == digest
        page = await read(person, "/queue")
        assert "Tried now 1" in words_of(page)
        assert "tried by w admin just now" in words_of(page)
        assert "waits for a worker that runs linux/arm64: none of 1 does" in words_of(page)
        assert f"team/app@{digest[:19]}" in words_of(await read(person, "/workers/w"))
        found = await api(port.admin, "GET", "/queue?worker=w")
        assert [one["digest"] for one in found["items"]] == [digest]
        assert (found["queued"], found["leased"]) == (1, 1)
        with sent() as statements:
            await read(person, "/queue")
        plans = [await plan_of(port.database, one) for one in statements if "FROM parts" in one.text]
        # Most of all that was ever tried is done, and not read.
        assert plans
        # PostgreSQL reads a table of so few rows as a whole, whatever indexes there are.
        assert not any("SCAN parts\n" in plan for plan in plans), plans
        ids = {one["digest"]: one["id"] for one in await api(port.admin, "GET", "/trials?image=team/app")}
        (first, _) = re.findall(r'action="(/trials/[^"]+/cancel)"', page.body.decode())
        assert first == f"/trials/{ids[digest]}/cancel"
        assert (await send_from(person, {"Origin": "https://evil.example"}, first)).status == 403
        gone = await send(person, port.registry, first, **{"from": "queue"})
        assert (gone.status, gone.headers["Location"]) == (303, "/queue")
        assert (await worker.renew(job)).status == 409
        assert (await worker.report(job)).status == 409
        trial = words_of(await read(person, f"/trials/{ids[digest]}"))
        assert "cancelled by admin" in trial
        assert "Unknown is never good" in trial
        assert (await send(person, port.registry, first)).status == 409
        second = await api(port.admin, "POST", f"/trials/{ids[other]}/cancel")
        assert (second["state"], second["verdict"]) == ("done", "error")
        assert "Nothing waits, and nothing is tried now." in words_of(await read(person, "/queue"))
        events = await api(port.admin, "GET", "/audit?action=trial.cancelled")
        assert {one["data"]["digest"] for one in events["items"]} == {digest, other}


async def test_only_who_may_start_a_trial_cancels_it(port: Port) -> None:
    digest = await port.push(tiny_image())
    (trial,) = await port.trials(digest)
    reader = await make_user(port.admin, "reader")
    await give_role(port.admin, "team/app", "user:reader", "reader")
    stranger = await make_user(port.admin, "stranger")
    async with visitor(port.registry) as one, visitor(port.registry) as other:
        await sign_in(one, port.registry, name="reader", password=reader)
        await sign_in(other, port.registry, name="stranger", password=stranger)
        path = f"/trials/{trial['id']}"
        assert "Cancel it" not in words_of(await read(one, path))
        assert (await send(one, port.registry, f"{path}/cancel")).status == 403
        assert (await send(other, port.registry, f"{path}/cancel")).status == 404
        for path in ("/queue", "/workers", "/workers/w", "/storage", "/storage/preview"):
            assert (await ask(one, "GET", path)).status == 403
    (still,) = await port.trials(digest)
    assert still["state"] == "queued"


async def test_a_worker_is_bound_drained_resumed_and_revoked(port: Port) -> None:
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        assert "seatrial worker run --registry" in words_of(await read(person, "/workers"))
        worker = await port.worker("w")
        await worker.claim()
        assert "w gets jobs linux/amd64 just now 0" in words_of(await read(person, "/workers"))
        wanted = {"namespaces": "team other/*", "networks": "127.0.0.0/8", "slots": "3"}
        assert (await send_from(person, {}, "/workers/w/bind", **wanted)).status == 403
        assert (await send(person, port.registry, "/workers/w/bind", networks="nowhere")).status == 400
        assert (await send(person, port.registry, "/workers/w/bind", **wanted)).status == 303
        told = await api(port.admin, "GET", "/workers/w")
        assert (told["namespaces"], told["networks"], told["slots"]) == (
            ["team", "other/*"],
            ["127.0.0.0/8"],
            3,
        )
        assert (await send(person, port.registry, "/workers/w/bind")).status == 303
        assert (await api(port.admin, "GET", "/workers/w"))["slots"] is None
        for action, said in (
            ("drain", "gets no more jobs"),
            ("resume", "gets jobs"),
            ("revoke", "revoked"),
        ):
            assert (await send_from(person, {"Origin": "null"}, f"/workers/w/{action}")).status == 403
            assert (await send(person, port.registry, f"/workers/w/{action}")).status == 303
            assert f"Standing {said}" in words_of(await read(person, "/workers/w"))
        assert (await worker.post("claim", {})).status == 401
        await port.worker("gone")
        assert port.registry.services is not None
        async with port.registry.services.database.write() as connection:
            await connection.execute(update(workers).values(last_seen_at=None))
        assert "not heard of" in words_of(await read(person, "/workers/gone"))


async def test_collections_scrubs_and_damage_are_seen_and_begun(port: Port) -> None:
    await port.push(tiny_image())
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        shown = words_of(await read(person, "/storage"))
        assert "No blob is known to be damaged" in shown
        assert "Nothing is there that nothing names" in words_of(await ask(person, "GET", "/storage/preview"))
        for path in ("/storage/collections", "/storage/scrubs"):
            assert (await send_from(person, {"Origin": "https://evil.example"}, path)).status == 403
        assert (await send(person, port.registry, "/storage/scrubs", rate="fast")).status == 400
        assert (await send(person, port.registry, "/storage/scrubs", rate="1")).status == 400
        assert (await send(person, port.registry, "/storage/collections")).status == 303
        assert (await send(person, port.registry, "/storage/scrubs", rate="1GB/s")).status == 303
        await until(person, "/storage", "by admin ended")
        await until(person, "/storage", "2 of 2 blobs")
        assert port.registry.services is not None
        async with port.registry.services.database.write() as connection:
            await connection.execute(update(blobs).values(damage="digest", damaged_at=db_time()))
        damaged = words_of(await read(person, "/storage"))
        assert "its bytes are others" in damaged
        assert damaged.count("team/app") == 2
        assert (await send(person, port.registry, "/storage/scrubs/7/stop")).status == 404


async def test_advisories_tell_their_age_and_are_matched_again(port: Port) -> None:
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        assert "no vulnerability is known" in words_of(await read(person, "/advisories"))
        assert (await send(person, port.registry, "/advisories/matchings")).status == 404
        await advise(port, record("GHSA-1", affects("npm", "lodash", "introduced=0", "fixed=4.17.19")), day=1)
        shown = words_of(await read(person, "/advisories"))
        assert "old" in shown
        assert "Packages left 0" in shown
        assert (await send_from(person, {"Origin": "null"}, "/advisories/matchings")).status == 403
        assert (await send(person, port.registry, "/advisories/matchings")).status == 303
    async with visitor(port.registry) as stranger:
        assert (await ask(stranger, "GET", "/advisories")).status == 401
