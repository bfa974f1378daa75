"""Other scanners in a registry: who may set which, what a worker is told of them, and what becomes of it when
one says nothing."""

from __future__ import annotations

from typing import Any

from registry.contract.otherscanner import SCANNER_LABEL
from tests.kit.access import api, ask, make_repository
from tests.kit.matching import told
from tests.kit.scans import SCANNING, make_package, make_scan
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, tiny_image

OTHERS = (*SCANNING, "other scanners")
TOOL = "tools/looker"
GEM = make_package("rack", "1.0", kind="other", ecosystem="", path="Gemfile.lock", scanner="looker")


async def put(port: Port, *, on: str = REPOSITORY, status: int = 200, **members: Any) -> Any:
    body = {"on": on, "name": "looker", "image": f"{TOOL}:1", **members}
    return await api(port.admin, "PUT", "/scanners", status=status, json=body)


async def admitted(port: Port, worker: ScriptedWorker) -> str:
    """A scanner's image that the gate admits."""
    digest = await port.push(tiny_image(Labels={SCANNER_LABEL: '{"version": 1}'}), repository=TOOL)
    job = await worker.claim(mechanisms=OTHERS)
    assert job["digest"] == digest
    await worker.post("scan", make_scan(job))
    assert (await worker.report(job)).status == 204
    return digest


async def claimed(port: Port, worker: ScriptedWorker, name: str, *, able: Any = OTHERS) -> Any:
    digest = await port.push(tiny_image(name=name))
    job = await worker.claim(mechanisms=able)
    assert job["digest"] == digest
    return job


async def scanned(port: Port, job: Any) -> Any:
    (trial,) = await port.trials(job["digest"])
    (part,) = trial["parts"]
    return part["scan"]


async def gaps(port: Port, job: Any) -> list[tuple[str, str]]:
    path = f"/repositories/{REPOSITORY.replace('/', '%2F')}/scans/{job['digest']}/incomplete"
    page = await api(port.admin, "GET", path)
    return [(one["scanner"], one["reason"]) for one in page["items"]]


async def test_what_the_gate_admits_may_look(port: Port) -> None:
    await make_repository(port.admin, REPOSITORY)
    worker = await port.worker("w")
    missing = await put(port, status=400)
    assert f"the scanner looker: there is no image {TOOL}:1 in this registry" in missing["detail"]
    await port.push(tiny_image(name="looker"), repository=TOOL)
    none = await worker.claim(mechanisms=OTHERS)
    refused = await put(port, status=403)
    assert refused["detail"].startswith("the scanner looker: ")
    assert (await worker.report(none)).status == 204
    unlabelled = await put(port, status=400)
    assert unlabelled["detail"] == "the scanner looker: it is no scanner: it has no label io.seatrial.scanner"
    digest = await admitted(port, worker)
    assert "is no name of a scanner" in (await put(port, status=400, name="A B"))["detail"]
    placed = await put(port, on="team/")
    assert (placed["on"], placed["name"], placed["image"]) == ("team/", "looker", f"{TOOL}@{digest}")
    # Set again it is the same, and nobody is told.
    assert (await put(port, on="team/"))["image"] == placed["image"]
    assert [data["image"] for _, data in await told(port.database, "scanner.set")] == [placed["image"]]
    (found,) = (await api(port.admin, "GET", "/scanners", params={"on": REPOSITORY}))["items"]
    assert (found["on"], found["name"]) == ("team/", "looker")
    await put(port, name="nearer")
    await put(port)
    found = (await api(port.admin, "GET", "/scanners", params={"on": REPOSITORY}))["items"]
    assert [(one["on"], one["name"]) for one in found] == [(REPOSITORY, "looker"), (REPOSITORY, "nearer")]
    for number in range(6):
        await put(port, name=f"more{number}")
    assert "8 scanners look at images" in (await put(port, status=409, name="more6"))["detail"]
    query = {"on": REPOSITORY, "name": "nearer"}
    await api(port.admin, "DELETE", "/scanners", status=204, params=query)
    await api(port.admin, "DELETE", "/scanners", status=404, params=query)
    assert [data["scanner"] for _, data in await told(port.database, "scanner.removed")] == ["nearer"]


async def test_what_would_be_set_is_told_and_nothing_is(port: Port) -> None:
    await make_repository(port.admin, REPOSITORY)
    worker = await port.worker("w")
    body = {"on": REPOSITORY, "name": "looker", "image": f"{TOOL}:1"}

    async def preview(*, status: int = 200, **members: Any) -> Any:
        return await api(port.admin, "POST", "/scanners/preview", status=status, json=body | members)

    digest = await port.push(tiny_image(Labels={SCANNER_LABEL: '{"version": 1}'}), repository=TOOL)
    job = await worker.claim(mechanisms=SCANNING)
    for members in ({}, {"name": "A B"}, {"image": f"{TOOL}:2"}):
        said = await preview(status=403 if not members else 400, **members)
        assert said["detail"] == (await put(port, status=said["status"], **members))["detail"]
    assert (await worker.report(job)).status == 204
    told_before = await preview()
    (image,) = told_before.pop("images")
    assert told_before == {
        "on": REPOSITORY,
        "name": "looker",
        "image": f"{TOOL}@{digest}",
        "replaces": None,
    }
    assert (image["platform"], image["format"], image["command"]) == ("linux/amd64", "seatrial", None)
    assert (image["memory_bytes"], image["wall_seconds"], image["workers"]) == (2**30, 300.0, 0)
    # A worker that knows of other scanners asks.
    await claimed(port, worker, "a")
    assert (await preview())["images"][0]["workers"] == 1
    await api(port.admin, "PUT", "/workers/w/drain", status=204)
    assert (await preview())["images"][0]["workers"] == 0
    assert (await api(port.admin, "GET", "/scanners", params={"on": REPOSITORY}))["items"] == []
    above = await put(port, on="team/")
    assert (await preview())["replaces"] == above
    for number in range(7):
        await put(port, name=f"more{number}")
    assert (await preview())["replaces"] == above
    assert "8 scanners look" in (await preview(status=409, name="more7"))["detail"]
    assert await told(port.database, "scanner.removed") == []


async def test_a_worker_has_it_look_and_what_is_missing_makes_the_scan_incomplete(
    port: Port,
) -> None:
    await make_repository(port.admin, REPOSITORY)
    worker = await port.worker("w")
    digest = await admitted(port, worker)
    await put(port, on="team/")
    await put(port, name="second")
    # One that knows of none gets a job that it can read.
    job = await claimed(port, worker, "a", able=SCANNING)
    assert "scanners" not in job
    assert (await worker.post("scan", make_scan(job))).status == 204
    assert (await scanned(port, job))["incomplete"] == 2
    await worker.report(job)

    job = await claimed(port, worker, "b")
    asked = {"repository": TOOL, "digest": digest}
    assert job["scanners"] == [{"name": "looker", **asked}, {"name": "second", **asked}]
    puller = await port.puller(job)
    assert (await ask(puller, "GET", f"/v2/{TOOL}/manifests/{digest}")).status == 200
    looked = {"image": f"{TOOL}@{digest}", "said": "looker 1", "state": "complete"}
    scan = make_scan(
        job,
        make_package(),
        GEM,
        others=[{"name": "looker", **looked}],
        reported=[{"scanner": "looker", "id": "CVE-2026-2", "package": 1, "severity": "critical"}],
    )
    assert (await worker.post("scan", scan)).status == 204
    assert (await worker.post("scan", scan)).status == 204
    assert (await scanned(port, job))["incomplete"] == 1
    assert await gaps(port, job) == [("second", "the worker did not have it look at the image")]
    await worker.report(job)
    assert (await ask(puller, "GET", f"/v2/{TOOL}/manifests/{digest}")).status == 401

    # Another image in its place is none that was asked for.
    job = await claimed(port, worker, "c")
    other = [{"name": name, **looked} for name in ("looker", "second")]
    other[1]["image"] = f"{TOOL}@sha256:" + "0" * 64
    await worker.post("scan", make_scan(job, others=other))
    assert (await scanned(port, job))["incomplete"] == 1
    await worker.report(job)

    blocked = {"image": f"{TOOL}@{digest}", "reason": "it lies"}
    await api(port.admin, "POST", "/gate/block", status=204, json=blocked)
    job = await claimed(port, worker, "d")
    assert "scanners" not in job
    await worker.post("scan", make_scan(job))
    assert await gaps(port, job) == [(one, f"{TOOL}@{digest} is blocked") for one in ("looker", "second")]


async def test_what_another_scanner_reports_decides_and_may_be_excused(port: Port) -> None:
    await make_repository(port.admin, REPOSITORY)
    worker = await port.worker("w")
    digest = await admitted(port, worker)
    await put(port)
    policy = {
        "version": 1,
        "vulnerabilities": [{"severity": "critical"}],
        "advisories_missing": "warn",
        "ecosystem_not_covered": "warn",
    }
    await api(port.admin, "PUT", "/findings-policy", json={"on": REPOSITORY, "policy": policy})
    job = await claimed(port, worker, "a")
    looked = {"name": "looker", "image": f"{TOOL}@{digest}", "said": "looker 1", "state": "complete"}
    reported = [
        {"scanner": "looker", "id": "CVE-2026-2", "package": 0, "severity": "critical", "fixed_version": "2"}
    ]
    assert (await worker.post("scan", make_scan(job, GEM, others=[looked], reported=reported))).status == 204
    await worker.report(job)
    (trial,) = await port.trials(job["digest"])
    assert trial["verdict"] == "fail"
    assert "CVE-2026-2 in rack 1.0 (critical, fixed in 2)" in trial["reason"]


async def test_what_came_from_where_nobody_else_looked_is_incomplete(port: Port) -> None:
    await make_repository(port.admin, REPOSITORY)
    worker = await port.worker("w")
    digest = await admitted(port, worker)
    image = tiny_image()
    await port.push(image, repository="team/base")
    job = await worker.claim(mechanisms=OTHERS)
    assert (job["digest"], "scanners" in job) == (image.digest, False)
    await worker.post("scan", make_scan(job))
    await worker.report(job)
    await put(port, on="team/")
    # What is known of it elsewhere is not enough here: it is tried, and scanned, anew.
    await port.push(image)
    again = await worker.claim(mechanisms=OTHERS)
    asked = [{"name": "looker", "repository": TOOL, "digest": digest}]
    assert (again["digest"], again["scanners"]) == (image.digest, asked)
    await worker.post("scan", make_scan(again))
    await worker.report(again)
    assert await gaps(port, again) == [("looker", "the worker did not have it look at the image")]
    # Of what was scanned before it was set a policy asks for no more than there was.
    for name, verdict in (("team/base", "pass"), (REPOSITORY, "error")):
        body = {"on": name, "policy": {"version": 1, "secrets": "high"}}
        page = await api(port.admin, "POST", "/findings-policy/preview", json=body)
        assert [one["verdict"] for one in page["items"]] == [verdict], name
    # And of what comes by another way than a push as much as of all others.
    body = {"source": "team/base:1", "to": "team/other:1"}
    await api(port.admin, "POST", "/promotions", status=201, json=body)
    body = {"on": "team/other", "policy": {"version": 1, "secrets": "high"}}
    page = await api(port.admin, "POST", "/findings-policy/preview", json=body)
    (one,) = page["items"]
    assert (one["verdict"], "looker could not look at it" in one["reason"]) == ("error", True)
    # Set again, to another image of it or nearer by, it has still not looked, and excuses nothing.
    newer = await admitted(port, worker)
    for on, tag in (("team/", f"{TOOL}@{digest}"), ("team/", f"{TOOL}@{newer}"), ("team/other", f"{TOOL}:1")):
        await put(port, on=on, image=tag)
        for name, verdict in (("team/base", "pass"), ("team/other", "error")):
            body = {"on": name, "policy": {"version": 1, "secrets": "high"}}
            page = await api(port.admin, "POST", "/findings-policy/preview", json=body)
            assert [one["verdict"] for one in page["items"]] == [verdict], (on, tag, name)


async def test_a_scan_names_only_scanners_and_packages_that_are_in_it(port: Port) -> None:
    await make_repository(port.admin, REPOSITORY)
    worker = await port.worker("w")
    job = await claimed(port, worker, "a")
    reported = [{"scanner": "looker", "id": "CVE-2026-2", "package": 3}]
    refused = await worker.post("scan", make_scan(job, make_package(), reported=reported))
    assert refused.status == 400
    assert "it names package 3, and has 1, counted from 0" in refused.json["detail"]
