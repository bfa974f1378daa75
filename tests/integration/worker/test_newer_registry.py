"""A registry that is newer than its worker, scripted: it asks for what the worker does not know."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from registry.contract.job import ClaimResponse
from tests.kit.worker import why_no_runs, worker_process
from tests.unit.sandbox.test_client import answered


async def test_a_job_that_is_not_known_is_given_back_and_the_worker_goes_on() -> None:
    why = why_no_runs()
    if why is not None:
        pytest.skip(why)
    answers = [
        answered(telepathy=True),
        answered(job={"platform": "no platform"}),
        ClaimResponse(protocol=1, job=None, drain=True).model_dump_json().encode(),
    ]
    reports: list[Any] = []

    async def claim(request: web.Request) -> web.Response:
        nonsense = {"Date": "Mon, 01 Jan 2024 00:00:00 +99999999999999999"}
        return web.Response(body=answers.pop(0), content_type="application/json", headers=nonsense)

    async def report(request: web.Request) -> web.Response:
        reports.append(json.loads(await request.read()))
        return web.Response(status=204)

    app = web.Application()
    app.add_routes([web.post("/worker/v1/claim", claim), web.post("/worker/v1/report", report)])
    async with TestServer(app) as server:
        with worker_process(str(server.make_url("")), "token") as worker:
            worker.start()
            assert await asyncio.to_thread(worker.wait) == 0, worker.log
    said, impossible = reports
    assert (said["lease"], said["runs"]) == ("lease-1", [])
    assert (said["error"]["reason"], said["error"]["retryable"]) == ("spec-invalid", True)
    assert "older than its registry" in said["error"]["message"]
    assert "telepathy" in said["error"]["message"]
    assert (impossible["lease"], impossible["error"]["reason"]) == ("lease-1", "platform-unsupported")
    # The last claim, which told it to drain, came after that.
    assert answers == []


async def test_a_registry_that_answers_at_once_is_not_asked_without_end() -> None:
    why = why_no_runs()
    if why is not None:
        pytest.skip(why)
    asked: list[float] = []

    async def claim(_: web.Request) -> web.Response:
        asked.append(asyncio.get_running_loop().time())
        answer = ClaimResponse(protocol=1, job=None, drain=len(asked) == 4)
        return web.Response(text=answer.model_dump_json(), content_type="application/json")

    app = web.Application()
    app.add_routes([web.post("/worker/v1/claim", claim)])
    async with TestServer(app) as server:
        with worker_process(str(server.make_url("")), "token") as worker:
            worker.start()
            assert await asyncio.to_thread(worker.wait) == 0, worker.log
    # Three pauses; the first question may have taken its time to arrive.
    assert asked[3] - asked[0] > 0.7
