"""What is only scanned: who gets it, what its verdict rests on, and that nobody takes it for a run."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from sqlalchemy import select

from registry.cli.trial import _print_trial
from registry.contract.runspec import SCAN_ALONE_SPEC
from registry.db.content import attestations
from registry.trials.scanalone import NOT_RUN
from registry.trials.unattested import attest_missing
from tests.kit.access import api, ask, make_repository
from tests.kit.scans import SCANNING, make_found, make_package, make_scan
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, make_error, tiny_image, tiny_index

SPEC = json.loads(SCAN_ALONE_SPEC)


async def scan_alone(port: Port, name: str = REPOSITORY, **more: Any) -> None:
    """Let a repository ask for the scan alone."""
    await make_repository(port.admin, name)
    path = f"/repositories/{name.replace('/', '%2F')}"
    await api(port.admin, "PATCH", path, json={"run_spec": SPEC, **more})


async def end(worker: ScriptedWorker, job: Any, **scanned: Any) -> int:
    """Hand in a scan, and the report without a run."""
    assert (await worker.post("scan", make_scan(job, make_package(), **scanned))).status == 204
    return (await worker.report(job, runs=[], tested="", runtime="")).status


async def test_what_is_only_scanned_is_shown_as_not_run(
    port: Port, capsys: pytest.CaptureFixture[str]
) -> None:
    # Also where the repository wants no scans beside runs.
    await scan_alone(port, scan=False)
    index, (here, elsewhere) = tiny_index("linux/amd64", "linux/s390x")
    digest = await port.push(index)
    runs_only, scans = await port.worker("runs-only"), await port.worker("scans")
    assert await runs_only.claim(mechanisms=()) is None
    assert await runs_only.claim() is None
    # It is nobody's platform, and nothing of it is run.
    jobs = [await scans.claim(mechanisms=SCANNING) for _ in range(2)]
    assert {job["platform"] for job in jobs} == {"linux/amd64", "linux/s390x"}
    assert all(job["scan"] and job["spec"]["checks"] == ["scan"] for job in jobs)
    ran = await scans.report(jobs[0])
    assert (ran.status, ran.json["detail"]) == (
        400,
        "the report holds a run, and the run spec asks for the scan alone",
    )
    assert [await end(scans, job, found=[make_found()]) for job in jobs] == [204, 204]
    assert await port.state(digest) == "pass"
    for image in (here, elsewhere):
        assert await port.state(str(image.digest)) == "pass"
    (trial,) = await port.trials(digest)
    assert (trial["verdict"], trial["runs"]) == ("pass", [])
    for part in trial["parts"]:
        assert part["scan_alone"] is True
        assert part["reason"] == f"{NOT_RUN}; scanned: 1 packages, 1 found"
        assert part["record"]["runtime"] == ""
    capsys.readouterr()
    _print_trial(trial)
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("  not run: its run spec asks for the scan alone") == 2
    export = f"/api/v1/trials/{trial['id']}/export"
    suites = ET.fromstring((await ask(port.admin, "GET", export, params={"format": "junit"})).body)
    assert (suites.get("tests"), suites.get("skipped"), suites.get("failures")) == ("4", "2", "0")
    assert {one.get("message") for one in suites.iter("skipped")} == {NOT_RUN}
    text = (await ask(port.admin, "GET", export, params={"format": "markdown"})).body.decode()
    assert text.count("`it is run`") == 2
    sarif = (await ask(port.admin, "GET", export, params={"format": "sarif"})).json
    results = sarif["runs"][0]["results"]
    assert [one["level"] for one in results] == ["none", "none"]
    assert all(NOT_RUN in one["message"]["text"] for one in results)
    # No result is claimed of what was not run, also not by who looks for what was left out.
    await attest_missing(port.database)
    async with port.database.read() as connection:
        found = (await connection.execute(select(attestations.c.kind, attestations.c.found))).all()
    assert len(found) == 3
    assert {row.kind for row in found} == {"summary"}
    assert all(json.loads(row.found)["not_run"] is True for row in found)


async def test_without_a_whole_scan_nothing_passes(port: Port) -> None:
    await scan_alone(port)
    worker = await port.worker("w")
    reasons = []
    for scanned in (
        None,
        {"incomplete": [{"scanner": "rpm", "reason": "bdb", "layer": 0}]},
        {"truncated": True},
    ):
        digest = await port.push(tiny_image())
        job = await worker.claim(mechanisms=SCANNING)
        assert job["digest"] == digest
        if scanned is None:
            assert (await worker.report(job, runs=[], tested="", runtime="")).status == 204
        else:
            assert await end(worker, job, **scanned) == 204
        (trial,) = await port.trials(digest)
        assert (trial["verdict"], await port.state(digest)) == ("error", "error")
        reasons.append(trial["reason"].removeprefix(NOT_RUN))
    assert reasons == [
        ", and the worker sent none",
        "; scanned: 1 packages, 0 found; 1 could not be looked at",
        "; scanned: 1 packages, 0 found; there was more than a scan may hold",
    ]
    digest = await port.push(tiny_image())
    job = await worker.claim(mechanisms=SCANNING)
    assert (await worker.report(job, **make_error("pull-failed"))).status == 204
    (trial,) = await port.trials(digest)
    assert (trial["verdict"], trial["reason"]) == ("error", "pull-failed: it was pull-failed")


async def test_a_request_cannot_replace_the_run_by_a_scan(port: Port) -> None:
    digest = await port.push(tiny_image())
    worker = await port.worker("w")
    assert (await worker.report(await worker.claim(), met=False)).status == 204
    assert await port.state(digest) == "fail"
    body = {"image": f"{REPOSITORY}@{digest}", "spec": SPEC}
    trial = await api(port.admin, "POST", "/trials", json=body, status=201)
    job = await worker.claim(mechanisms=SCANNING)
    assert job["trial"] == trial["id"]
    assert await end(worker, job) == 204
    ended = await api(port.admin, "GET", f"/trials/{trial['id']}")
    assert (ended["verdict"], await port.state(digest)) == ("pass", "fail")
    mixed = {**body, "spec": {**SPEC, "expect": {"exit": 0}}}
    refused = await ask(port.admin, "POST", "/api/v1/trials", json=mixed)
    assert refused.status == 400
    assert "nothing can stand beside it: leave out expect" in refused.body.decode()
