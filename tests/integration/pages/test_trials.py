"""The page of a trial: why, what was seen, what was written, also while it goes on; and once more."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tests.kit.access import Answer, api, ask, give_role, make_user
from tests.kit.pagecontent import BAD, fill
from tests.kit.pagereading import send, send_from, sign_in, visitor, words_of
from tests.kit.plans import sent
from tests.kit.trials import Port, ScriptedWorker, tiny_image

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

QUERIES_MAX = 6


async def begun(port: Port) -> tuple[ScriptedWorker, Any, str]:
    """An image that a worker has just begun to try; the worker, its job and the trial."""
    worker = await port.worker("live")
    digest = await port.push(tiny_image())
    job = await worker.claim()
    (trial,) = await port.trials(digest)
    return worker, job, trial["id"]


async def write(worker: ScriptedWorker, job: Any, text: str, *, position: int = 0) -> None:
    message = {"protocol": job["protocol"], "lease": job["lease"], "run": 0, "name": "smoke"}
    answer = await worker.post("log", message | {"position": position, "text": text})
    assert answer.status == 200, answer.body


async def test_it_says_why_and_shows_what_was_seen(port: Port) -> None:
    content = await fill(port)
    async with visitor(port.registry) as stranger, visitor(port.registry) as writer:
        await sign_in(writer, port.registry)
        for name in ("good", "bad", "hostile", "index"):
            path = f"/trials/{content.trials[getattr(content, name)]}"
            for client in (stranger, writer):
                await ask(client, "GET", path)
                with sent() as statements:
                    answer = await ask(client, "GET", path)
                assert answer.status == 200
                assert len(statements) <= QUERIES_MAX, [one.text for one in statements]
                text = answer.body.decode()
                assert "<script>" not in text
                assert "\x1b" not in text
                assert len(answer.body) < 100_000
        path = f"/trials/{content.trials[content.bad]}"
        shown = words_of(await ask(writer, "GET", path))
        assert "exit code is 0 exit code 3 missed" in shown
        assert "no such table: users" in shown
        assert "Try it again" in shown
        assert "dashed" not in shown
        used = words_of(await ask(stranger, "GET", f"/trials/{content.trials[content.good]}"))
        assert "Memory at most 80.0 MiB of 96.0 MiB (83 %)" in used
        assert "Held back by the limit for 1.25 s" in used
        assert "Processes at most 5 of 256 (2 %) Processes that could not begin: 3" in used
        assert "The limit lies far above the picture. " in used
        assert "A dashed line is a limit." in used
        private = words_of(await ask(stranger, "GET", path))
        assert "exit code is 0 exit code 3 missed" in private
        assert "no such table" not in private
        assert "is for those who may push" in private
        assert "Try it again" not in private
        coloured = (await ask(writer, "GET", f"/trials/{content.trials[content.good]}")).body.decode()
        assert '<span class="t-green">listening on 80</span>' in coloured


async def test_steps_and_runs_of_any_length_are_drawn(port: Port) -> None:
    worker, job, trial = await begun(port)
    steps = [
        {"name": name, "seconds": seconds} for name, seconds in (("a", 1.7e308), ("b", 1.7e308), ("c", 2))
    ]
    assert (await worker.report(job, steps=steps, run={"seconds": 1.7e308})).status == 204
    answer = await ask(port.admin, "GET", f"/trials/{trial}", headers={"Accept": "text/html"})
    page = answer.body.decode()
    drawn = re.findall('<rect x="([^"]+)" width="([^"]+)"', page)
    assert drawn == [("0.0", "50.0"), ("50.0", "50.0"), ("99.5", "0.5")]
    assert "a more than 1000000000 b more than 1000000000 c 2.000" in words_of(answer)
    assert "after more than 1000000000 s" in words_of(answer)
    assert "0" * 20 not in words_of(answer)


async def test_the_newest_trials_of_all_that_a_visitor_may_see(port: Port) -> None:
    content = await fill(port)
    await port.push(tiny_image(), repository="team/hidden")
    async with visitor(port.registry) as stranger, visitor(port.registry) as writer:
        await sign_in(writer, port.registry)
        for client in (stranger, writer):
            await ask(client, "GET", "/trials")
            with sent() as statements:
                answer = await ask(client, "GET", "/trials")
            assert answer.status == 200
            assert len(statements) <= QUERIES_MAX, [one.text for one in statements]
            assert "<script>" not in answer.body.decode()
            assert ("team/hidden" in words_of(answer)) is (client is writer)
            failed = (await ask(client, "GET", "/trials?verdict=fail")).body.decode()
            assert content.bad in failed
            assert content.good not in failed
        assert (await ask(writer, "GET", "/trials?verdict=none")).status == 400


async def test_the_whole_log_has_a_page(port: Port) -> None:
    content = await fill(port)
    path = f"/trials/{content.trials[content.hostile]}/log"
    async with visitor(port.registry) as stranger, visitor(port.registry) as writer:
        assert (await ask(stranger, "GET", path)).status == 401
        await sign_in(writer, port.registry)
        answer = await ask(writer, "GET", path)
        assert "x" * 900_000 in answer.body.decode()
        assert '<span class="t-bold t-red">red</span>' in answer.body.decode()


async def test_it_is_shown_while_it_is_written(port: Port) -> None:
    worker, job, trial = await begun(port)
    await write(worker, job, "one\n\x1b[31mtw")
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        page = (await ask(person, "GET", f"/trials/{trial}")).body.decode()
        assert f'sse-connect="/trials/{trial}/live"' in page
        # Without JavaScript: so far.
        assert (
            '<span class="t-red">tw</span>'
            in (await ask(person, "GET", f"/trials/{trial}/log")).body.decode()
        )
        async with person.get(f"/trials/{trial}/live") as stream:
            assert stream.content_type == "text/event-stream"
            seen = await until(stream, "tw</span>")
            await write(worker, job, f"o\x1b[0m {BAD}\n", position=len("one\n\x1b[31mtw"))
            seen += await until(stream, "plain")
            assert (await worker.report(job, log="whole\n")).status == 204
            async with asyncio.timeout(20):
                seen += (await stream.read()).decode()
    assert "live: " not in seen
    assert '<span class="t-red">o</span>' in seen
    assert "<script>" not in seen
    assert "\x1b" not in seen
    assert "event: end\ndata: <p>The trial is over;" in seen
    for line in seen.split("\n"):
        assert line.partition(":")[0] in ("", "id", "event", "data", "retry"), line


async def until(stream: Any, text: str) -> str:
    seen = ""
    async with asyncio.timeout(20):
        while text not in seen:
            seen += (await stream.content.readany()).decode()
    return seen


async def test_live_is_for_those_who_may_read_the_log(port: Port) -> None:
    _, _, trial = await begun(port)
    async with visitor(port.registry) as stranger:
        assert (await ask(stranger, "GET", f"/trials/{trial}/live?wait=0")).status == 404
        await api(port.admin, "PATCH", "/repositories/team%2Fapp", json={"visibility": "public"})
        assert (await ask(stranger, "GET", f"/trials/{trial}/live?wait=0")).status == 401
        assert "sse-connect" not in (await ask(stranger, "GET", f"/trials/{trial}")).body.decode()


async def test_it_is_tried_again_by_a_form(port: Port) -> None:
    content = await fill(port)
    trial = content.trials[content.bad]
    password = await make_user(port.admin, "reader")
    await give_role(port.admin, "team/app", "user:reader", "reader")
    async with visitor(port.registry) as person, visitor(port.registry) as reader:
        await sign_in(person, port.registry)
        await sign_in(reader, port.registry, name="reader", password=password)
        before = await port.trials(content.bad)
        for answer in (
            await send_from(person, {"Origin": "https://evil.example"}, f"/trials/{trial}/again"),
            await send_from(person, {}, f"/trials/{trial}/again"),
            await send(reader, port.registry, f"/trials/{trial}/again"),
        ):
            assert answer.status == 403
        assert await port.trials(content.bad) == before
        answer: Answer = await send(person, port.registry, f"/trials/{trial}/again")
        assert answer.status == 303
        after = await port.trials(content.bad)
        assert answer.headers["Location"] == f"/trials/{after[0]['id']}"
        assert len(after) == len(before) + 1
        assert after[0]["created_by"] == "admin"
