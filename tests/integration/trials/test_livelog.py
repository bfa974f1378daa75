"""What an image writes, while it writes it: told by workers, kept within bounds, watched by any replica."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import event, func, insert, select

from registry.contract import PROTOCOL_VERSION
from registry.db.engine import Database
from registry.db.trials import live_logs, parts, runs, trial_parts
from registry.db.types import db_time
from registry.http.api import livelog as streams
from registry.trials import livelog
from tests.integration.trials.test_replicas import replica
from tests.kit.access import Answer, api, ask, basic, give_role, make_user
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, make_error, open_port, tiny_image, tiny_index


async def tell(
    worker: ScriptedWorker, job: Any, position: int, text: str, *, run: int = 0, **members: Any
) -> Answer:
    chunk = {"lease": job["lease"], "run": run, "name": "smoke", "position": position, "text": text}
    return await worker.post("log", {"protocol": PROTOCOL_VERSION, **chunk, **members})


@asynccontextmanager
async def watched(client: Any, trial: str, after: str = "", **options: Any) -> AsyncIterator[Any]:
    """The events of a stream: id, kind and data of each; comments have none."""
    headers = {"Last-Event-ID": after} if after else {}
    async with client.get(f"/api/v1/trials/{trial}/log/live", headers=headers, **options) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["X-Accel-Buffering"] == "no"
        yield events(response)


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, str, Any]]:
    found: dict[str, str] = {}
    async for raw in response.content:
        name, _, value = raw.decode("ascii").removesuffix("\n").partition(": ")
        if name:
            found[name] = value
        elif "data" in found:
            yield found.get("id", ""), found["event"], json.loads(found["data"])
            found = {}


async def kept(port: Port) -> int:
    async with port.database.read() as connection:
        return (await connection.execute(select(func.count()).select_from(live_logs))).scalar_one()


async def test_output_is_seen_as_it_comes_and_goes_on_after_the_report(port: Port) -> None:
    await port.push(tiny_image())
    worker = await port.worker("one")
    job = await worker.claim()
    async with watched(port.admin, job["trial"]) as stream:
        _, kind, part = await anext(stream)
        assert (kind, part["state"], part["worker"], part["part"]) == ("part", "leased", "one", 0)
        assert (await tell(worker, job, 0, "one\n\x1b[2J\0")).json == {
            "protocol": 1,
            "position": 9,
            "full": False,
        }
        first, kind, said = await anext(stream)
        assert (kind, said["platform"], said["run"], said["text"]) == (
            "log",
            "linux/amd64",
            "smoke",
            "one\n\x1b[2J\ufffd",
        )
        # Sent again as its answer was lost, with some more.
        assert (await tell(worker, job, 4, "\x1b[2J\0two")).json["position"] == 12
        second, kind, said = await anext(stream)
        assert (kind, said["text"]) == ("log", "two")
        other = {"run": 1, "name": "other", "attempt": 2}
        assert (await tell(worker, job, 0, "2nd", **other)).status == 200
        _, _, said = await anext(stream)
        assert (said["run"], said["attempt"], said["text"]) == ("other", 2, "2nd")
        for position, run in ((99, 1), (12, 0), (1, 2)):
            answer = await tell(worker, job, position, "x", run=run)
            assert (answer.status, "does not follow" in answer.json["detail"]) == (400, True)
        stranger = await port.worker("two")
        assert (await tell(stranger, job, 3, "x", run=1)).status == 409
        report = make_runs("one\n\x1b[2J\ufffdtwo and the rest", "2nd")
        assert (await worker.report(job, runs=report)).status == 204
        rest = [event async for event in stream]
    assert [kind for _, kind, _ in rest if kind != "log"] == ["part", "end"]
    assert [said["text"] for _, kind, said in rest if kind == "log"] == []
    assert rest[-1][2]["verdict"] == "pass"
    assert (await tell(worker, job, 3, "x", run=1)).status == 409
    assert await kept(port) == 0
    # Whoever was cut off before goes on in what was reported.
    async with watched(port.admin, job["trial"], after=second) as stream:
        told = [said["text"] async for _, kind, said in stream if kind == "log"]
    assert told == [" and the rest", "2nd"]
    async with watched(port.admin, job["trial"], after=first) as stream:
        told = [said["text"] async for _, kind, said in stream if kind == "log"]
    assert "".join(told) == "two and the rest2nd"
    for after in ("x", "1.2", "1.2.3;", "9" * 20 + ".1.1", "1.1.1," * 600):
        headers = {"Last-Event-ID": after}
        path = f"/api/v1/trials/{job['trial']}/log/live"
        assert (await ask(port.admin, "GET", path, headers=headers)).status == 400, after
    async with watched(port.admin, job["trial"], after="9.9.999999999,9.9.9") as stream:
        assert [kind async for _, kind, _ in stream][-1] == "end"


def make_runs(*logs: str) -> list[dict[str, Any]]:
    usual = {"command": ["/app"], "exit_code": 0, "reason": "exited", "seconds": 1}
    saw = {"expectation": "exit code is 0", "seen": "exit code 0", "met": True}
    return [{**usual, "name": "smoke", "log": log, "observations": [saw]} for log in logs]


async def test_an_attempt_elsewhere_begins_anew(port: Port) -> None:
    index, _ = tiny_index("linux/amd64", "linux/s390x")
    await port.push(index)
    worker = await port.worker("one")
    job = await worker.claim()
    newest = (await api(port.admin, "GET", "/trials", params={"image": f"{REPOSITORY}:1"}))[0]["id"]
    async with watched(port.admin, newest) as stream:
        assert (await tell(worker, job, 0, "first")).status == 200
        while (await anext(stream))[1] != "log":
            pass
        lost = make_error("worker-lost", retryable=True)
        assert (await worker.report(job, **lost)).status == 204
        assert await kept(port) == 0
        again = None
        while again is None:
            again = await worker.claim(wait_seconds=5)
        assert (await tell(worker, again, 0, "second")).status == 200
        assert (await worker.report(again, log="second, whole")).status == 204
        texts = [said["text"] async for _, kind, said in stream if kind == "log"]
    assert "".join(texts) == "second, whole"


async def test_what_is_kept_is_bounded(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(livelog, "LIVE_MAX_CHARACTERS", 1000)
    monkeypatch.setattr(livelog, "PIECE_CHARACTERS", 300)
    await port.push(tiny_image())
    worker = await port.worker("one")
    job = await worker.claim()
    position = 0
    while position < 1000:
        taken = (await tell(worker, job, position, "\u00e9" * 70)).json
        assert taken["full"] == (taken["position"] == 1000)
        position = taken["position"]
    assert (await tell(worker, job, position, "more")).json == {"protocol": 1, "position": 1000, "full": True}
    assert await kept(port) == 4, "short ones are put together"
    text = ""
    async with asyncio.timeout(60), watched(port.admin, job["trial"]) as stream:
        while len(text) < 1000:
            _, kind, said = await anext(stream)
            text += said["text"] if kind == "log" else ""
    assert text == "\u00e9" * 1000
    too_long = await tell(worker, job, 1000, "x" * (64 * 1024 + 1))
    assert too_long.status == 400
    assert (await worker.post("log", b"x" * 500_000)).status == 413
    # A registry of the version before ends a lease and knows nothing of these rows.
    async with port.database.write() as connection:
        part = (await connection.execute(select(parts.c.id))).scalar_one()
        left = {"lease": "old", "run": 0, "position": 0, "part_id": part, "name": "n", "text": "t"}
        await connection.execute(insert(live_logs).values(left))
    assert await livelog.sweep(port.database) == 1
    assert (await livelog.sweep(port.database), await kept(port)) == (0, 4)


@asynccontextmanager
async def counted(url: str) -> AsyncIterator[tuple[Database, list[str]]]:
    """The database, opened for one who only looks, and the statements that were read with."""
    database, sent = Database(url), []
    try:
        async with database.read() as connection:
            engine = connection.engine.sync_engine
        event.listen(engine, "before_cursor_execute", lambda *seen: sent.append(seen[2]))
        yield database, sent
    finally:
        await database.close()


async def test_a_look_costs_the_same_however_many_parts_there_are(port: Port, database_url: str) -> None:
    many = 256
    await port.push(tiny_image())
    worker = await port.worker("one")
    job = await worker.claim()
    assert (await tell(worker, job, 0, "live 0")).status == 200
    async with port.database.write() as connection:
        part = (await connection.execute(select(parts))).one()._asdict()
        live = (await connection.execute(select(live_logs))).one()._asdict()
        done = {"state": "done", "verdict": "pass", "lease": None, "finished_at": db_time()}
        run = {"attempt": 1, "name": "smoke", "command": "[]", "reason": "exited", "seconds": 1}
        run |= {"oom_killed": False, "log_truncated": False, "observations": "[]", "finished_at": db_time()}
        for number in range(1, many):
            this = {"id": f"part-{number}", "platform": f"linux/p{number:03}", "lease": f"lease-{number}"}
            values = {**part, **this} if number % 2 else {**part, **this, **done}
            await connection.execute(insert(parts).values(values))
            await connection.execute(insert(trial_parts).values(trial_id=job["trial"], part_id=this["id"]))
            if number % 2:
                output = {"lease": this["lease"], "part_id": this["id"], "text": f"live {number}"}
                await connection.execute(insert(live_logs).values({**live, **output}))
            else:
                for log in ("", f"told {number}", ""):
                    await connection.execute(insert(runs).values({**run, "part_id": this["id"], "log": log}))
    texts: list[str] = []
    costs: list[int] = []
    cursors: Sequence[livelog.Cursor] = ()
    async with counted(database_url) as (database, sent):
        for _ in range(10 * many):
            sent.clear()
            seen = await livelog.look(database, job["trial"], cursors)
            assert seen is not None
            cursors = seen.cursors
            texts += [] if seen.output is None else [seen.output.text]
            costs.append(len([text for text in sent if text.startswith("SELECT")]))
            if not seen.more:
                break
    assert texts == [f"{'live' if number % 2 or not number else 'told'} {number}" for number in range(many)]
    assert (max(costs), costs[-1], len(cursors)) == (3, 2, many)
    # One look passes over a run without output, or over the end of a log: three for each part that is done.
    assert len(costs) == many + 3 * (many // 2 - 1) + 1


async def test_who_may_watch_and_for_how_long(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    await port.push(tiny_image())
    worker = await port.worker("one")
    job = await worker.claim()
    path = f"/api/v1/trials/{job['trial']}/log/live"
    assert (await ask(port.reader, "GET", path)).status == 403
    headers = basic("dora", await make_user(port.admin, "dora"))
    async with port.registry.client(anonymous=True) as nobody:
        assert (await ask(nobody, "GET", path)).status == 404
        assert (await ask(nobody, "GET", path, headers=headers)).status == 404
        await give_role(port.admin, REPOSITORY, "user:dora", "writer")
        monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.1)
        async with nobody.get(path, headers=headers) as response:
            seen = await response.content.readuntil(b": \n\n")
            assert seen.startswith(b"retry: 2000\n\nevent: part\n")
            metrics = (await ask(port.admin, "GET", "/metrics")).body
            assert b"\nseatrial_live_log_streams 1.0\n" in metrics
            monkeypatch.setattr(streams, "STREAMS_EACH_MAX", 1)
            refused = await ask(nobody, "GET", path, headers=headers)
            assert (refused.status, "you watch 1 logs already" in refused.json["detail"]) == (429, True)
            assert (await ask(port.admin, "GET", path, params={"wait": "0"})).status == 200
            monkeypatch.setattr(streams, "STREAMS_MAX", 1)
            refused = await ask(port.admin, "GET", path)
            assert (refused.status, refused.headers["Retry-After"]) == (429, "5")
            assert (await tell(worker, job, 0, "a secret")).status == 200
            await response.content.readuntil(b"a secret")
            await give_role(port.admin, REPOSITORY, "user:dora", "reader")
            assert (await tell(worker, job, 8, "another")).status == 200
            rest = await response.content.read()
            assert b"another" not in rest
            assert b"event: gone\n" in rest
        async with watched(port.admin, job["trial"]) as stream:
            await anext(stream)
            await api(port.admin, "DELETE", f"/repositories/{REPOSITORY.replace('/', '%2F')}", status=204)
            assert [kind async for _, kind, _ in stream][-1] == "gone"
        # Streams that ended are counted no more.
        assert (await ask(port.admin, "GET", path)).status == 404


async def test_one_that_watches_at_another_replica(
    tmp_path: Path, make_postgres_url: Callable[[], str]
) -> None:
    """And goes on here when that one ends."""
    url = make_postgres_url()
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(open_port(tmp_path / "data", url))
        await port.push(tiny_image())
        worker = await port.worker("one")
        job = await worker.claim()
        async with (
            replica(port, tmp_path, url) as other,
            other.client() as admin,
            watched(admin, job["trial"]) as events_there,
        ):
            assert (await tell(worker, job, 0, "over there")).status == 200
            await anext(events_there)
            last, kind, said = await anext(events_there)
            assert (kind, said["text"]) == ("log", "over there")
            ending = asyncio.create_task(rest_of(events_there))
            assert other.services is not None
            other.services.database.bell.mute()
            assert await ending == []
        assert (await worker.report(job, log="over there and here")).status == 204
        async with watched(port.admin, job["trial"], after=last) as events_here:
            texts = [said["text"] async for _, kind, said in events_here if kind == "log"]
        assert texts == [" and here"]


async def rest_of(stream: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in stream]
