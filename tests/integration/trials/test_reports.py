"""Reports: exactly one for each lease, by who holds it, about its image; all else changes nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from registry.contract.report import MAX_REPORT_BYTES
from tests.kit.access import ask
from tests.kit.trials import REPOSITORY, Port, make_report, open_port, tiny_image

BLIND_RUN = make_report({"lease": "", "digest": "", "platform": ""})["runs"][0] | {"observations": []}


async def leased(port: Port) -> tuple[Any, Any, str]:
    digest = await port.push(tiny_image())
    worker = await port.worker("one")
    return worker, await worker.claim(), digest


async def assert_unchanged(port: Port, worker: Any, job: Any, digest: str) -> None:
    """The part is still leased, and the right report is still taken."""
    (trial,) = await port.trials(digest)
    assert (trial["state"], trial["verdict"], trial["runs"]) == ("running", None, [])
    assert await port.state(digest) == "pending"
    assert (await worker.report(job)).status == 204
    assert await port.state(digest) == "pass"


async def test_a_second_report_is_refused(port: Port) -> None:
    worker, job, digest = await leased(port)
    assert (await worker.report(job, met=False, exit_code=3)).status == 204
    second = await worker.report(job)
    assert second.status == 409
    assert "not a live one of this worker" in second.json["detail"]
    assert await port.state(digest) == "fail"
    assert len((await port.trials(digest))[0]["runs"]) == 1


async def test_two_reports_at_once_are_one(port: Port) -> None:
    worker, job, digest = await leased(port)
    answers = await asyncio.gather(*(worker.report(job) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [204, 409, 409, 409]
    assert len((await port.trials(digest))[0]["runs"]) == 1


async def test_a_late_report_is_refused(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, lease_seconds=1, trial_attempts=1) as port:
        worker, job, digest = await leased(port)
        await asyncio.sleep(1.1)
        assert (await worker.report(job)).status == 409
        (trial,) = await port.trials(digest)
        assert trial["verdict"] in (None, "error")
        assert trial["runs"] == []


async def test_another_worker_s_report_is_refused(port: Port) -> None:
    worker, job, digest = await leased(port)
    other = await port.worker("two")
    assert (await other.report(job)).status == 409
    assert (await other.renew(job)).status == 409
    await assert_unchanged(port, worker, job, digest)


async def test_reports_that_are_wrong_change_nothing(port: Port) -> None:
    worker, job, digest = await leased(port)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"digest": f"sha256:{'0' * 64}"}, "the lease is for"),
        ({"platform": "linux/arm64"}, "the lease is for"),
        ({"runs": []}, "at least one run with at least one observation"),
        ({"runs": [BLIND_RUN]}, "at least one run with at least one observation"),
        ({"verdict": "pass"}, "verdict"),
        ({"error": {"reason": "bored", "message": "x"}}, "error.reason"),
        ({"tested": "x" * 301}, "tested"),
        ({"runs": "none"}, "runs"),
        ({"lease": "\0"}, "lease"),
        ({"runs": [BLIND_RUN | {"exit_code": 256}]}, "exit_code"),
        ({"runs": [BLIND_RUN | {"exit_code": -1}]}, "exit_code"),
        ({"runs": [BLIND_RUN | {"signal": 2**40}]}, "signal"),
        ({"runs": [BLIND_RUN | {"memory_peak_bytes": 2**63}]}, "memory_peak_bytes"),
    ]
    for members, said in wrong:
        answer = await worker.report(job, **members)
        assert answer.status == 400, members
        assert said in answer.json["detail"]
    await assert_unchanged(port, worker, job, digest)


async def test_an_oversize_report_is_refused(port: Port) -> None:
    worker, job, digest = await leased(port)
    assert (await worker.report(job, log="x" * MAX_REPORT_BYTES)).status == 413
    await assert_unchanged(port, worker, job, digest)


async def test_what_is_no_message_is_refused(port: Port) -> None:
    worker = await port.worker("one")
    for body in (b"", b"null", b"[]", b"{", b"\xff", b'{"protocol":"1"}', b"[" * 5000):
        for action in ("claim", "renew", "report"):
            assert (await worker.post(action, body)).status == 400, body


async def test_a_lease_that_is_no_name_is_refused(port: Port) -> None:
    worker = await port.worker("one")
    for lease in ("", "\0", "a b", "x" * 129):
        answer = await worker.renew({"lease": lease})
        assert (answer.status, "lease" in answer.json["detail"]) == (400, True)


async def test_another_version_of_the_protocol_is_named(port: Port) -> None:
    worker = await port.worker("one")
    for action in ("claim", "renew", "report"):
        answer = await worker.post(action, {"protocol": 2, "anything": "else"})
        assert answer.status == 426
        assert answer.json["code"] == "PROTOCOL_UNSUPPORTED"
        assert "version 2" in answer.json["detail"]
        assert answer.headers["Upgrade"] == "seatrial-worker/1"


async def test_an_unknown_platform_in_a_claim_is_refused(port: Port) -> None:
    worker = await port.worker("one")
    answer = await worker.post("claim", {"protocol": 1, "platforms": ["linux"], "wait_seconds": 0})
    assert answer.status == 400


async def test_what_an_image_wrote_is_kept_but_moves_no_cursor(port: Port) -> None:
    worker, job, digest = await leased(port)
    hostile = "\x1b[2J\x00 bell\x07\u202e" + "é" * 5
    report = make_report(job, met=False, log=hostile)
    report["runs"][0]["observations"][0]["seen"] = hostile
    assert (await worker.post("report", report)).status == 204
    (trial,) = await port.trials(digest)
    assert "\x1b" not in trial["reason"]
    assert "\x00" not in trial["reason"]
    assert trial["runs"][0]["log"] == hostile.replace("\x00", "\ufffd")
    refused = await port.pull(digest)
    assert "\\u001b" not in refused.body.decode()


async def test_lone_surrogates_never_reach_the_database(port: Port) -> None:
    worker, job, digest = await leased(port)
    raw = json.dumps(make_report(job, log="MARK")).replace("MARK", "\\ud800").encode()
    assert (await worker.post("report", raw)).status == 400
    await assert_unchanged(port, worker, job, digest)


async def test_a_downgrade_is_a_warning_that_stays_on_record(port: Port) -> None:
    worker, job, digest = await leased(port)
    mechanisms = [{"name": "seccomp", "applied": False, "detail": "runc was built without"}]
    await worker.report(job, downgrades=["seccomp"], mechanisms=mechanisms)
    (trial,) = await port.trials(digest)
    assert (trial["verdict"], await port.state(digest)) == ("warn", "warn")
    assert trial["reason"] == "run without seccomp: the command exits 0; seen: exit code 0"
    record = trial["parts"][0]["record"]
    assert record["downgrades"] == ["seccomp"]
    assert record["mechanisms"] == mechanisms
    assert "lease" not in record


async def test_a_worker_s_token_opens_the_worker_api_only(port: Port) -> None:
    digest = await port.push(tiny_image())
    worker = await port.worker("one")
    for method, path in (
        ("GET", "/v2/"),
        ("GET", f"/v2/team/app/manifests/{digest}"),
        ("GET", "/v2/team/app/tags/list"),
        ("POST", "/v2/team/app/blobs/uploads/"),
        ("GET", "/v2/_catalog"),
        ("GET", "/token?scope=repository:team/app:pull"),
        ("GET", "/api/v1/trials"),
        ("GET", "/api/v1/workers"),
        ("POST", "/api/v1/gate/block"),
    ):
        answer = await ask(worker.client, method, path)
        assert answer.status == 401, path


async def test_nobody_else_s_token_opens_the_worker_api(port: Port) -> None:
    for client in (port.admin, port.reader):
        for action in ("claim", "renew", "report"):
            answer = await ask(client, "POST", f"/worker/v1/{action}", data=b"{}")
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_runs_of_cases_are_judged_by_what_was_asked(port: Port) -> None:
    """Each run is kept with its case and attempt; a pass after a failure is flaky, a case that lacks is not
    a pass."""
    digest = await port.push(tiny_image())
    worker = await port.worker("one")
    assert (await worker.report(await worker.claim())).status == 204
    spec = {"version": 1, "attempts": 3, "cases": [{"name": "web"}, {"name": "help", "attempts": 1}]}

    stub = {"name": "db", "port": 5432, "connections": 2, "requests": [], "full": False}

    async def tried(*runs: tuple[str, int | None, bool]) -> Any:
        asked = {"image": f"{REPOSITORY}@{digest}", "spec": spec}
        assert (await ask(port.admin, "POST", "/api/v1/trials", json=asked)).status == 201
        job = await worker.claim()
        assert job["spec"]["cases"] == [{"name": "web"}, {"name": "help", "attempts": 1}]
        whole = make_report(job)["runs"][0]
        said = [
            whole
            | {"name": case, "case": case, "observations": [{"expectation": "it", "seen": "so", "met": met}]}
            | ({} if attempt is None else {"attempt": attempt, "stubs": [stub]})
            for case, attempt, met in runs
        ]
        assert (await worker.report(job, runs=said)).status == 204
        return (await port.trials(digest))[0]

    trial = await tried(("web", 1, False), ("web", 2, True), ("help", None, True))
    assert (trial["verdict"], trial["flaky"], trial["flaky_attempts"]) == ("warn", True, 1)
    assert trial["reason"].startswith("flaky: it failed once before it passed")
    kept = [(run["case"], run["attempt"]) for run in trial["runs"]]
    assert kept == [("web", 1), ("web", 2), ("help", None)]
    assert [use.get("attempt") for use in trial["parts"][0]["record"]["runs"]] == [1, 2, None]
    assert [use.get("stubs") for use in trial["parts"][0]["record"]["runs"]] == [[stub], [stub], None]
    metrics = (await ask(port.admin, "GET", "/metrics")).body
    assert b"seatrial_trial_flaky_attempts_total 1.0" in metrics

    trial = await tried(("web", 1, True))
    assert (trial["verdict"], trial["flaky"]) == ("error", False)
    assert trial["reason"].startswith("case help: the worker did not run it")
    trial = await tried(("web", 1, True), ("help", None, False))
    assert (trial["verdict"], trial["reason"]) == ("fail", "case help: expected: it; seen: so")
