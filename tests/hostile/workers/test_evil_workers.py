"""A worker whose token was stolen, or that was never honest: what it can do is lie about its own leases."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registry.contract.report import MAX_REPORT_BYTES
from tests.kit.access import api, ask, bearer
from tests.kit.trials import (
    REPOSITORY,
    Port,
    ScriptedWorker,
    make_error,
    make_report,
    open_port,
    tiny_image,
    tiny_index,
    worker_token,
)

INSIDE, OUTSIDE = {"X-Forwarded-For": "192.0.2.7"}, {"X-Forwarded-For": "203.0.113.7"}
HOSTILE = "\x1b]0;owned\x07\x1b[2J<script>alert(1)</script>\x00\u202eevil\r\n::error::\x85"


async def bind(port: Port, name: str, **binding: Any) -> Any:
    return await api(port.admin, "PATCH", f"/workers/{name}", json=binding)


async def leased(port: Port) -> tuple[ScriptedWorker, Any, str]:
    """An honest worker with a job, and the job's digest."""
    digest = await port.push(tiny_image())
    worker = await port.worker("honest")
    return worker, await worker.claim(), digest


async def assert_untouched(port: Port, worker: ScriptedWorker, job: Any, digest: str) -> None:
    """The honest worker's job is still its own, and its report is the one that counts."""
    (trial,) = await port.trials(digest)
    assert (trial["state"], trial["verdict"], trial["runs"]) == ("running", None, [])
    assert (await worker.renew(job)).status == 200
    assert (await worker.report(job, met=False, exit_code=3)).status == 204
    assert await port.state(digest) == "fail"


async def test_the_leases_of_others(port: Port) -> None:
    """Reports, errors and heartbeats for a lease that another holds, even where its name is known."""
    worker, job, digest = await leased(port)
    evil = await port.worker("evil")
    assert (await evil.report(job)).status == 409
    assert (await evil.report(job, **make_error("pull-failed", retryable=True))).status == 409
    assert (await evil.renew(job)).status == 409
    for lease in ("A" * 43, "-", job["lease"][:-1], job["lease"] + "A", job["part"], job["trial"]):
        assert (await evil.report({**job, "lease": lease})).status == 409
        assert (await evil.renew({"lease": lease})).status == 409
    stolen = await port.puller(job)
    for action in ("claim", "renew", "report"):
        async with stolen.post(f"/worker/v1/{action}", json=make_report(job)) as answer:
            assert answer.status == 401, "a pull token is no worker's token"
    await assert_untouched(port, worker, job, digest)


async def test_a_report_too_late(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, lease_seconds=1, trial_attempts=1) as port:
        evil, job, digest = await leased(port)
        await asyncio.sleep(1.1)
        assert (await evil.renew(job)).status == 409
        assert (await evil.report(job)).status == 409
        assert await port.state(digest) != "pass"
        assert (await port.trials(digest))[0]["runs"] == []


async def test_a_report_whose_worker_is_revoked_while_it_is_sent(port: Port) -> None:
    digest = await port.push(tiny_image())
    evil = await port.worker("evil")
    job = await evil.claim()
    report = json.dumps(make_report(job)).encode()

    async def pieces() -> AsyncIterator[bytes]:
        yield report[:-1]
        await asyncio.sleep(0.3)
        await api(port.admin, "POST", "/workers/evil/revoke", status=204)
        yield report[-1:]

    headers = {"Content-Type": "application/json"}
    answer = await ask(evil.client, "POST", "/worker/v1/report", data=pieces(), headers=headers)
    assert answer.status == 401, answer.body
    assert await port.state(digest) != "pass"


async def test_a_report_twice_and_at_once(port: Port) -> None:
    evil, job, digest = await leased(port)
    good, bad = make_report(job), make_report(job, met=False, exit_code=9)
    answers = await asyncio.gather(*(evil.post("report", said) for said in (bad, good, bad, good)))
    assert sorted(answer.status for answer in answers) == [204, 409, 409, 409]
    first = await port.state(digest)
    assert (await evil.report(job)).status == (await evil.report(job, met=False)).status == 409
    assert await port.state(digest) == first
    assert len((await port.trials(digest))[0]["runs"]) == 1


async def test_a_report_about_something_else(port: Port) -> None:
    evil, job, digest = await leased(port)
    other = await port.push(tiny_image(), tag="other")
    blind = make_report(job)["runs"][0] | {"observations": []}
    unseen = make_report(job, met=None)
    for members in (
        {"digest": other},
        {"digest": f"sha256:{'0' * 64}"},
        {"digest": REPOSITORY},
        {"platform": "linux/arm64"},
        {"platform": "linux/amd64\n"},
        {"runs": []},
        {"runs": [blind]},
        {"verdict": "pass"},
        {"repository": "team/other"},
        {"runs": [*unseen["runs"], {**blind, "exit_code": 10**9}]},
    ):
        assert (await evil.post("report", make_report(job) | members)).status == 400, members
    await assert_untouched(port, evil, job, digest)
    assert await port.state(other) == "pending"


async def test_what_was_not_seen_is_no_pass(port: Port) -> None:
    evil, job, digest = await leased(port)
    assert (await evil.report(job, met=None)).status == 204
    assert await port.state(digest) == "error"


async def test_too_much_of_everything(port: Port) -> None:
    evil, job, digest = await leased(port)
    run = make_report(job)["runs"][0]
    large = b'{"protocol":1,"lease":"' + b"x" * (2 * MAX_REPORT_BYTES) + b'"}'
    deep = b'{"protocol":1,"runs":' + b"[" * 200_000
    for raw, status in (
        (large, 413),
        (deep, 400),
        (json.dumps(make_report(job, log="x" * MAX_REPORT_BYTES)).encode(), 413),
        (json.dumps(make_report(job) | {"runs": [run] * 21}).encode(), 400),
        (json.dumps(make_report(job) | {"runs": [run | {"command": ["x"] * 2001}]}).encode(), 400),
        (json.dumps(make_report(job) | {"downgrades": ["x"] * 51}).encode(), 400),
        (json.dumps(make_report(job)).replace("0.1", "1e999").encode(), 400),
        (json.dumps(make_report(job)).replace("0.1", "NaN").encode(), 400),
        (json.dumps(make_report(job)).replace("0.1", "9" * 5000).encode(), 400),
    ):
        assert (await evil.post("report", raw)).status == status, raw[:60]
    for platforms in (["linux/amd64"] * 17, [], ["x" * 60_000], ["linux"], ["linux/amd64\0"]):
        answer = await evil.post("claim", {"protocol": 1, "platforms": platforms, "wait_seconds": 0})
        assert answer.status == 400, platforms
    for slots in (0, -1, 65, 10**30, "2", None):
        message = {"protocol": 1, "platforms": ["linux/amd64"], "wait_seconds": 0, "slots": slots}
        assert (await evil.post("claim", message)).status == 400, slots
    await assert_untouched(port, evil, job, digest)


async def test_markup_and_control_characters(port: Port, capfd: pytest.CaptureFixture[str]) -> None:
    """What an image or a worker wrote is data: it moves no cursor, ends no line and is nobody's markup."""
    evil, job, digest = await leased(port)
    report = make_report(job, met=False, exit_code=1, log=HOSTILE, tested=HOSTILE, runtime=HOSTILE)
    run = report["runs"][0]
    run["name"] = HOSTILE[:60]
    run["command"] = [HOSTILE]
    run["observations"][0] |= {"seen": HOSTILE, "expectation": HOSTILE}
    assert (await evil.post("report", report)).status == 204
    (trial,) = await port.trials(digest)
    for text in (trial["reason"], trial["runs"][0]["name"]):
        assert text.isprintable(), text
    assert trial["runs"][0]["log"] == HOSTILE.replace("\x00", "\ufffd")
    refused = await port.pull(digest)
    assert refused.status == 403
    for answer in (refused, await ask(port.admin, "GET", "/api/v1/trials", params={"image": REPOSITORY})):
        assert "json" in answer.headers["Content-Type"], "no browser takes it for a page"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert not [byte for byte in answer.body if byte < 32 or byte == 127]
        assert all("\x1b" not in value for value in answer.headers.values())
    assert refused.json["errors"][0]["message"].isprintable()
    assert "\x1b" not in capfd.readouterr().err
    error = {"runs": [], "error": {"reason": "pull-failed", "message": HOSTILE}}
    digest = await port.push(tiny_image(), tag="2")
    assert (await evil.post("report", make_report(await evil.claim()) | error)).status == 204
    assert (await port.trials(digest))[0]["reason"].isprintable()


async def test_a_token_from_another_address(port: Port) -> None:
    """On claim, renew, report and pull, and for a claim that waits already."""
    digest = await port.push(tiny_image())
    token = await worker_token(port.admin, "evil")
    await bind(port, "evil", networks=["192.0.2.0/24"])
    nobody = await port.stack.enter_async_context(port.registry.client(anonymous=True))

    async def post(action: str, message: Any, where: dict[str, str], *, text: str = token) -> Any:
        return await ask(nobody, "POST", f"/worker/v1/{action}", json=message, headers=bearer(text) | where)

    claim = {"protocol": 1, "platforms": ["linux/amd64"], "wait_seconds": 0}
    refused = await post("claim", claim, OUTSIDE)
    assert refused.status == 401
    assert "the token of worker evil may not be used from 203.0.113.7" in refused.json["detail"]
    job = (await post("claim", claim, INSIDE)).json["job"]
    path = f"/v2/{REPOSITORY}/manifests/{digest}"
    for where, status in ((INSIDE, 200), (OUTSIDE, 401), (INSIDE, 200), ({}, 401)):
        assert (await ask(nobody, "GET", path, headers=bearer(job["pull_token"]) | where)).status == status
    assert (await post("renew", {"protocol": 1, "lease": job["lease"]}, OUTSIDE)).status == 401
    assert (await post("report", make_report(job), OUTSIDE)).status == 401
    assert (await post("renew", {"protocol": 1, "lease": job["lease"]}, INSIDE)).status == 200
    waiting = asyncio.create_task(post("claim", claim | {"wait_seconds": 60, "slots": 2}, INSIDE))
    await asyncio.sleep(0.3)
    await bind(port, "evil", networks=["198.51.100.0/24"])
    assert (await waiting).status == 401, "a claim that waits learns of it"
    assert (await post("report", make_report(job), INSIDE)).status == 401
    # The worker's networks and its token's own hold both.
    shown = (await api(port.admin, "GET", "/tokens", params={"account": "evil"}))["items"][0]
    await bind(port, "evil", networks=["192.0.2.0/24", "203.0.113.0/24"])
    await api(
        port.admin, "PATCH", f"/tokens/{shown['id']}", json={"networks": ["203.0.113.0/24", "10.0.0.0/8"]}
    )
    assert (await post("report", make_report(job), INSIDE)).status == 401
    assert (await post("report", make_report(job), OUTSIDE)).status == 204


async def test_more_leases_than_slots(port: Port) -> None:
    for number in range(6):
        await port.push(tiny_image(), tag=str(number))
    evil = await port.worker("evil")
    first = await evil.post("claim", {"protocol": 1, "platforms": ["linux/amd64"], "wait_seconds": 0})
    assert first.json["job"] is not None
    again = await evil.post("claim", {"protocol": 1, "platforms": ["linux/amd64"], "wait_seconds": 0})
    assert again.json["job"] is None, "who says nothing has room for one"
    await bind(port, "evil", slots=3)
    jobs = [job for job in await asyncio.gather(*(evil.claim(slots=64) for _ in range(8))) if job]
    assert len(jobs) == 2
    shown = await api(port.admin, "GET", "/workers/evil")
    assert (shown["leases"], shown["slots"]) == (3, 3)
    assert await evil.claim(slots=64) is None
    waiting = asyncio.create_task(evil.claim(slots=64, wait_seconds=30))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    assert (await evil.report(jobs[0])).status == 204
    assert (await waiting) is not None, "a slot that is free again is seen by who waits"
    await bind(port, "evil", slots=1)
    assert (await evil.report(jobs[1])).status == 204
    assert await evil.claim(slots=64) is None


async def test_lies_about_platforms_and_labels(tmp_path: Path, database_url: str) -> None:
    platforms = ("linux/amd64", "linux/arm64")
    async with open_port(tmp_path / "data", database_url, trial_platforms=platforms) as port:
        digest = await port.push(tiny_image("linux/arm64"))
        await api(
            port.admin,
            "PATCH",
            f"/repositories/{REPOSITORY.replace('/', '%2F')}",
            json={"worker_label": "arm"},
        )
        evil = await port.worker("evil")
        assert await evil.claim(platforms=platforms) is None, (
            "what it says opens nothing that its row does not"
        )
        labelled = {"protocol": 1, "platforms": list(platforms), "wait_seconds": 0, "labels": ["arm"]}
        assert (await evil.post("claim", labelled)).status == 400
        await bind(port, "evil", labels=["fast"])
        assert await evil.claim(platforms=platforms) is None
        await bind(port, "evil", labels=["arm"])
        # A platform that it has not it may claim: what it cannot run it can only report to be an error.
        job = await evil.claim(platforms=platforms)
        assert (await evil.report({**job, "platform": "linux/amd64"})).status == 400
        assert (await evil.report(job, **make_error("platform-unsupported"))).status == 204
        assert await port.state(digest) != "pass"


async def test_a_revoked_worker_replays_what_it_has(port: Port) -> None:
    evil, job, digest = await leased(port)
    await port.push(tiny_image(), tag="2")
    puller = await port.puller(job)
    assert (await port.pull(digest, client=puller)).status == 200
    waiting = asyncio.create_task(
        evil.post("claim", {"protocol": 1, "platforms": ["linux/s390x"], "wait_seconds": 60})
    )
    await asyncio.sleep(0.3)
    await api(port.admin, "POST", "/workers/honest/revoke", status=204)
    told = await waiting
    assert told.status == 401 or told.json["job"] is None
    for action, message in (("report", make_report(job)), ("renew", {"protocol": 1, "lease": job["lease"]})):
        assert (await evil.post(action, message)).status == 401
    assert (
        await evil.post("claim", {"protocol": 1, "platforms": ["linux/amd64"], "wait_seconds": 0})
    ).status == 401
    assert (await port.pull(digest, client=puller)).status == 401
    again = await port.worker("honest")
    assert (await evil.renew(job)).status == 401, "what was revoked stays so when the worker is let in again"
    assert (await port.pull(digest, client=puller)).status == 401
    assert await again.claim() is not None


async def test_a_revoked_token_of_a_worker_that_works_on(port: Port) -> None:
    """One of two tokens of a worker: its claim that waits gets no job."""
    stolen, kept = await port.worker("one"), await port.worker("one")
    waiting = asyncio.create_task(
        stolen.post("claim", {"protocol": 1, "platforms": ["linux/amd64"], "wait_seconds": 60})
    )
    await asyncio.sleep(0.3)
    first = (await api(port.admin, "GET", "/tokens", params={"account": "one"}))["items"][0]
    await api(port.admin, "DELETE", f"/tokens/{first['id']}", status=204)
    digest = await port.push(tiny_image())
    assert (await waiting).status == 401
    assert (await kept.claim())["digest"] == digest


async def test_a_pull_token_opens_one_image(port: Port) -> None:
    index, (image, other) = tiny_index("linux/amd64", "linux/s390x")
    await port.push(index)
    elsewhere = await port.push(tiny_image(), repository="team/other")
    evil = await port.worker("evil")
    job = await evil.claim()
    assert job["digest"] == image.digest
    puller = await port.puller(job)
    assert (await port.pull(image.digest, client=puller)).status == 200
    foreign = json.loads(other.manifest)["layers"][0]["digest"]
    for path in (
        f"/v2/{REPOSITORY}/manifests/{other.digest}",
        f"/v2/{REPOSITORY}/manifests/{index.digest}",
        f"/v2/{REPOSITORY}/manifests/1",
        f"/v2/{REPOSITORY}/blobs/{foreign}",
        f"/v2/{REPOSITORY}/tags/list",
        f"/v2/team/other/manifests/{elsewhere}",
        "/v2/_catalog",
        "/api/v1/tokens",
        "/api/v1/workers",
    ):
        assert (await ask(puller, "GET", path)).status in (401, 403, 404), path
    mount = f"/v2/team/other/blobs/uploads/?mount={foreign}&from={REPOSITORY}"
    assert (await ask(puller, "POST", mount)).status in (401, 403)
    assert (
        await ask(puller, "GET", "/token?service=seatrial&scope=repository:team/other:pull")
    ).status == 401


async def test_a_worker_s_token_opens_nothing_else(port: Port) -> None:
    token = await worker_token(port.admin, "evil")
    digest = await port.push(tiny_image())
    nobody: aiohttp.ClientSession = await port.stack.enter_async_context(port.registry.client(anonymous=True))
    for method, path in (
        ("GET", "/v2/"),
        ("GET", f"/v2/{REPOSITORY}/manifests/{digest}"),
        ("GET", "/token"),
        ("GET", "/api/v1/tokens"),
        ("POST", "/api/v1/tokens"),
        ("PATCH", "/api/v1/workers/evil"),
        ("DELETE", "/api/v1/workers/evil/drain"),
    ):
        assert (await ask(nobody, method, path, headers=bearer(token))).status in (401, 403), path
