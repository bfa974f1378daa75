"""Findings policies in a registry: what a scan found is part of the verdict and of what the gate says, and is
judged again without a run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update

from registry.cli.trial import _print_trial
from registry.db.content import manifests, repositories
from registry.db.engine import Database
from registry.db.findings import image_findings
from registry.db.matchings import changed_images, rejudgings
from registry.db.types import db_time
from registry.storage.filesystem import FilesystemStore
from registry.storage.threads import Threads
from registry.trials.imagefindings import NOTHING, with_findings
from registry.trials.judging import judge_image
from registry.trials.rejudging import ask_again
from tests.kit.access import api, ask, make_repository
from tests.kit.advisories import CVSS3, affects, record
from tests.kit.matching import advise, count, told
from tests.kit.postgres import until_somebody_waits
from tests.kit.scans import SCANNING, make_found, make_package, make_scan, scan_next
from tests.kit.signing import attach, new_key, public_pem, signature_of
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, open_port, tiny_image, tiny_index

LODASH = make_package("lodash", "4.17.15", kind="npm", ecosystem="npm")
CVE = "CVE-2020-8203"
OF_LODASH = record(
    CVE,
    affects("npm", "lodash", "introduced=0", "fixed=4.17.19"),
    severity=[{"type": "CVSS_V3", "score": CVSS3}],
)
HARMLESS = record("CVE-2020-1", affects("npm", "other", "introduced=0", "fixed=1"))
POLICY = {"version": 1, "vulnerabilities": [{"severity": "high", "fixable": True}], "secrets": "high"}
RULE = "high or worse, with a fix"


async def put_policy(port: Port, policy: Any = POLICY, on: str = REPOSITORY) -> Any:
    return await api(port.admin, "PUT", "/findings-policy", json={"on": on, "policy": policy})


async def until(port: Port, digest: str, state: str, *, repository: str = REPOSITORY) -> None:
    """Wait until an image has a state: what is judged aside takes its time."""
    async with asyncio.timeout(60):
        while (now := await port.state(digest, repository=repository)) != state:
            assert now != "", "there is no such image"
            await asyncio.sleep(0.05)


async def ways(port: Port, digest: str) -> set[int]:
    """What a reader is answered on each way to the bytes of the image that tag 1 stands at."""
    image = json.loads((await ask(port.admin, "GET", f"/v2/{REPOSITORY}/manifests/{digest}")).body)
    blobs = [image["config"]["digest"], *(one["digest"] for one in image["layers"])]
    paths = [f"manifests/{digest}", "manifests/1", *(f"blobs/{one}" for one in blobs)]
    answers = [
        await ask(port.reader, method, f"/v2/{REPOSITORY}/{path}")
        for method in ("GET", "HEAD")
        for path in paths
    ]
    return {answer.status for answer in answers}


async def tried(port: Port, worker: ScriptedWorker, *packages: Any, **scanned: Any) -> str:
    digest = await port.push(tiny_image())
    job = await scan_next(worker, *packages, **scanned)
    assert (job["digest"], job["scan"]) == (digest, True)
    return digest


async def test_what_is_moved_is_judged_by_what_counts_there(port: Port) -> None:
    for name in ("strict", "team"):
        await api(port.admin, "POST", "/namespaces", status=201, json={"name": name})
    await put_policy(port, on="strict/")
    await advise(port, OF_LODASH, HARMLESS, day=1)
    worker = await port.worker("w")
    digest = await tried(port, worker, LODASH)
    await until(port, digest, "pass")

    async def move(what: str, to: str) -> None:
        await api(port.admin, "POST", f"/{what}/rename", json={"name": to})

    assert REPOSITORY == "team/app"
    await move("repositories/team%2Fapp", "strict/app")
    await until(port, digest, "fail", repository="strict/app")
    await move("repositories/strict%2Fapp", "team/app")
    await until(port, digest, "pass")
    await move("namespaces/team", "strict/team")
    await until(port, digest, "fail", repository="strict/team/app")
    await move("namespaces/strict%2Fteam", "team")
    await until(port, digest, "pass")


async def test_a_refusal_says_what_is_wrong_and_it_is_judged_again_without_a_run(
    port: Port, capsys: pytest.CaptureFixture[str]
) -> None:
    # Where findings are judged, images are scanned, whatever the repository wants.
    await make_repository(port.admin, REPOSITORY, scan=False)
    await put_policy(port)
    await advise(port, OF_LODASH, HARMLESS, day=1)
    worker = await port.worker("w")
    digest = await tried(port, worker, LODASH)
    await until(port, digest, "fail")
    (trial,) = await port.trials(digest)
    assert trial["verdict"] == "fail"
    said = f"{CVE} in lodash 4.17.15 (critical, fixed in 4.17.19)"
    assert said in trial["reason"]
    (part,) = trial["parts"]
    assert part["verdict"] == "pass", "the run itself was good"
    assert part["findings"]["verdict"] == "fail"
    assert [one["id"] for one in part["findings"]["reasons"]] == [CVE]
    capsys.readouterr()
    _print_trial(trial)
    printed = capsys.readouterr().out
    assert f"fail: {CVE} lodash 4.17.15 critical, fixed in 4.17.19 ({RULE})" in printed

    assert await ways(port, digest) == {403}
    refused = await port.pull(digest)
    (error,) = refused.json["errors"]
    assert said in error["message"]
    assert f"(rules: {RULE})" in error["message"]
    assert "build the image with the fixed versions" in error["message"]
    assert error["detail"]["findings_count"] == 1
    (named,) = error["detail"]["findings"]
    assert (named["id"], named["package"], named["fixed_version"]) == (CVE, "lodash", "4.17.19")
    explained = await api(port.admin, "GET", "/gate", params={"image": f"{REPOSITORY}@{digest}"})
    assert said in explained["reason"]

    # What another policy would do is told before it counts.
    asked = {"on": "team/", "policy": {"version": 1, "vulnerabilities": [{"severity": "critical"}]}}
    page = await api(port.admin, "POST", "/findings-policy/preview", json=asked)
    (would,) = page["items"]
    assert (would["digest"], would["state"], would["verdict"], page["next"]) == (digest, "fail", "fail", None)
    assert "(rules: critical)" in would["reason"]

    # Advisories say nothing of it any more: it is good again. And bad again. No job in all of that.
    await advise(port, HARMLESS, day=2)
    await until(port, digest, "pass")
    assert await ways(port, digest) == {200}
    await advise(port, OF_LODASH, HARMLESS, day=3)
    await until(port, digest, "fail")
    assert await ways(port, digest) == {403}
    assert await worker.claim(mechanisms=SCANNING) is None
    changes = [(data["from"], data["to"]) for _, data in await told(port.database, "verdict.changed")]
    assert changes == [("pending", "fail"), ("fail", "pass"), ("pass", "fail")]
    async with asyncio.timeout(60):
        # Nothing that is asked for stays undone.
        while (left := await count(port.database, rejudgings)) > 0:
            assert left == 1
            await asyncio.sleep(0.05)
    assert len(await port.trials(digest)) == 1

    # Another policy, and none.
    await put_policy(port, {**POLICY, "vulnerabilities": [{"kev": True}], "advisories_missing": "warn"})
    await until(port, digest, "warn")
    await put_policy(port)
    await until(port, digest, "fail")
    cleared = await ask(port.admin, "DELETE", "/api/v1/findings-policy", params={"on": REPOSITORY})
    assert cleared.status == 204
    await until(port, digest, "pass")
    kinds = ("findings_policy.set", "findings_policy.cleared")
    assert [len(await told(port.database, kind)) for kind in kinds] == [3, 1]


async def test_what_is_not_known_is_no_pass(port: Port) -> None:
    await make_repository(port.admin, REPOSITORY)
    await put_policy(port)
    worker = await port.worker("w")
    # Nobody has looked anything up.
    digest = await tried(port, worker, LODASH)
    await until(port, digest, "error")
    (trial,) = await port.trials(digest)
    assert "there are no advisories" in trial["reason"]
    # As soon as there are some it is judged by them, though they say nothing of it.
    await advise(port, HARMLESS, day=1)
    await until(port, digest, "pass")
    # A worker that does not scan, and a scan that is not whole.
    unscanned = await port.push(tiny_image())
    assert (await worker.report(await worker.claim())).status == 204
    await until(port, unscanned, "error")
    gap = [{"scanner": "rpm", "reason": "bdb", "layer": 0}]
    partly = await tried(port, worker, LODASH, incomplete=gap)
    await until(port, partly, "error")
    await put_policy(port, {**POLICY, "incomplete": "warn", "scan_missing": "fail"})
    await until(port, partly, "warn")
    await until(port, unscanned, "fail")
    # What an image's own metadata lowers is not believed.
    secret = make_found(severity="info", real_severity="high")
    await until(port, await tried(port, worker, LODASH, found=[secret]), "fail")


async def test_a_waiver_excuses_one_finding_for_a_while(port: Port) -> None:
    await make_repository(port.admin, REPOSITORY)
    await advise(port, OF_LODASH, HARMLESS, day=1)
    await put_policy(port)
    worker = await port.worker("w")
    digest = await tried(port, worker, LODASH)
    await until(port, digest, "fail")
    body = {
        "image": f"{REPOSITORY}@{digest}",
        "finding": CVE,
        "package": "lodash",
        "reason": "only in tests",
        "expires_at": "2099-01-01T00:00:00Z",
    }
    wrong = await ask(port.admin, "POST", "/api/v1/waivers", json={**body, "states": ["fail"]})
    assert wrong.status == 400
    late = await ask(port.admin, "POST", "/api/v1/waivers", json=body)
    assert late.status == 400, "longer than a waiver may be"
    explained = await api(port.admin, "GET", "/gate", params={"image": f"{REPOSITORY}@{digest}"})
    assert explained["state"] == "fail"
    soon = {**body, "expires_at": in_days(5)}
    other = await api(port.admin, "POST", "/waivers", status=201, json={**soon, "package": "underscore"})
    await api(port.admin, "POST", f"/waivers/{other['id']}/grant")
    waiver = await api(port.admin, "POST", "/waivers", status=201, json=soon)
    assert (waiver["finding"], waiver["states"]) == (CVE, [])
    assert await port.state(digest) == "fail", "nobody granted it"
    await api(port.admin, "POST", f"/waivers/{waiver['id']}/grant")
    await until(port, digest, "pass")
    (trial,) = await port.trials(digest)
    (excused,) = trial["parts"][0]["findings"]["excused"]
    assert excused["id"] == CVE
    assert "only in tests" in excused["excused"]
    # A report of it says so as well, and writes the statement of VEX for other tools.
    path = f"/repositories/{REPOSITORY.replace('/', '%2F')}/scans/{digest}/report"
    (reported,) = (await api(port.admin, "GET", path))["vulnerabilities"]
    assert (reported["excused"]["by"], reported["excused"]["author"]) == ("waiver", "admin")
    (statement,) = (await api(port.admin, "GET", path, params={"format": "openvex"}))["statements"]
    assert (statement["vulnerability"]["name"], statement["status"]) == (CVE, "affected")
    said = statement["action_statement"]
    assert said.startswith(f"waiver {waiver['id']} until ")
    assert said.endswith(": only in tests")
    await api(port.admin, "POST", f"/waivers/{waiver['id']}/revoke")
    await until(port, digest, "fail")


async def judged(port: Port) -> None:
    """Wait until nobody asks for an image to be judged any more."""
    asked = 1
    async with asyncio.timeout(60):
        while asked:
            await asyncio.sleep(0.05)
            asked = await count(port.database, rejudgings)


async def test_statements_by_trusted_keys_excuse_findings(port: Port) -> None:
    await make_repository(port.admin, REPOSITORY)
    await put_policy(port)
    await advise(port, OF_LODASH, HARMLESS, day=1)
    digest = await tried(port, await port.worker("w"), LODASH)
    await until(port, digest, "fail")
    statement = {
        "vulnerability": {"name": CVE},
        "products": [{"@id": f"pkg:oci/app@{digest}"}],
        "status": "not_affected",
        "justification": "component_not_present",
    }
    document = {"@context": "https://openvex.dev/ns/v0.2.0", "author": "us", "statements": [statement]}
    key, other = new_key(), new_key()
    bundle, foreign = (
        signature_of(digest, one, kind="https://openvex.dev/ns", predicate=document) for one in (key, other)
    )
    wanted = {"on": REPOSITORY, "name": "ours", "public_pem": public_pem(key)}

    async def trust() -> str:
        return str((await api(port.admin, "POST", "/signature-rules", json=wanted, status=201))["id"])

    rule = await trust()
    # A key that is trusted is one that must sign.
    await attach(port.admin, REPOSITORY, digest, signature_of(digest, key))
    await attach(port.admin, REPOSITORY, digest, foreign)
    await judged(port)
    assert await port.state(digest) == "fail", "anybody may attach statements"
    referrer = await attach(port.admin, REPOSITORY, digest, bundle)
    await until(port, digest, "pass")
    (trial,) = await port.trials(digest)
    (excused,) = trial["parts"][0]["findings"]["excused"]
    assert (excused["id"], excused["excused"]) == (CVE, "vex of us: not_affected, component_not_present")
    # What is taken away excuses nothing any more: the statement, or the trust in its key.
    gone = await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{referrer}")
    assert gone.status == 202
    await until(port, digest, "fail")
    await attach(port.admin, REPOSITORY, digest, bundle)
    await until(port, digest, "pass")
    await api(port.admin, "DELETE", f"/signature-rules/{rule}", status=204)
    await until(port, digest, "fail")
    await trust()
    await until(port, digest, "pass")


def in_days(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_an_index_is_as_good_as_its_worst_platform_and_a_policy_above_counts(port: Port) -> None:
    await make_repository(port.admin, REPOSITORY)
    await advise(port, OF_LODASH, HARMLESS, day=1)
    await put_policy(port, on="team/")
    shown = await api(port.admin, "GET", "/findings-policy", params={"on": REPOSITORY})
    assert (shown["on"], shown["policy"]) == ("team/", POLICY)
    worker = await port.worker("w")
    index, images = tiny_index("linux/amd64", "linux/amd64")
    digest = await port.push(index)
    for packages in ((), (LODASH,)):
        await scan_next(worker, *packages)
    await until(port, digest, "fail")
    states = sorted([await port.state(str(image.digest)) for image in images])
    assert states == ["fail", "pass"]
    (error,) = (await port.pull(digest)).json["errors"]
    assert error["detail"]["findings"][0]["id"] == CVE
    await advise(port, HARMLESS, day=2)
    await until(port, digest, "pass")
    # A nearer one counts alone.
    await put_policy(port, {"version": 1, "secrets": "low"})
    await advise(port, OF_LODASH, HARMLESS, day=3)
    await api(port.admin, "PUT", "/findings-policy", json={"on": "team/", "policy": {"version": 1}})
    await until(port, digest, "pass")
    await ask(port.admin, "DELETE", "/api/v1/findings-policy", params={"on": "team/"})
    gone = await ask(port.admin, "GET", "/api/v1/findings-policy", params={"on": "team/"})
    assert gone.status == 404


async def test_who_judges_holds_nothing_that_one_who_asks_for_more_waits_for(
    tmp_path: Path, make_postgres_url: Callable[[], str]
) -> None:
    """One asks for all images of an index while another of them is judged, which asks for the first, too."""
    url = make_postgres_url()
    async with open_port(tmp_path / "data", url) as port:
        await make_repository(port.admin, REPOSITORY)
        await advise(port, HARMLESS, day=1)
        await put_policy(port)
        worker = await port.worker("w")
        index, _ = tiny_index("linux/amd64", "linux/amd64")
        digest = await port.push(index)
        for _ in range(2):
            job = await worker.claim(mechanisms=SCANNING)
            assert (await worker.post("scan", make_scan(job))).status == 204
            assert (await worker.report(job)).status == 204
        await until(port, digest, "pass")
    # With the registry's own loops at an end: this alone judges.
    store, parsers = FilesystemStore(tmp_path / "data"), Threads("parser", 1)
    database = Database(url)
    rows = select(manifests.c.id).where(manifests.c.digest != digest, manifests.c.state == "pass")
    async with database.read() as connection:
        first, second = (await connection.execute(rows.order_by(manifests.c.id))).scalars()
    async with database.write() as asking:
        await ask_again(asking, manifests.c.id == first)
        async with database.write() as connection:
            await connection.execute(delete(image_findings).where(image_findings.c.manifest_id == first))
            await ask_again(connection, manifests.c.id == second)
        judging = asyncio.create_task(judge_image(database, store, second, parsers=parsers))
        await until_somebody_waits(database, asking)
        # Only held by who waits for this transaction could it not be had at once.
        await asking.execute(text("SET LOCAL lock_timeout = '500ms'"))
        await ask_again(asking, manifests.c.id == second)
    await judging
    assert await count(database, rejudgings) == 2, "it was asked for again meanwhile"
    assert await count(database, image_findings) == 1
    await database.close()
    parsers.close()


async def test_what_the_same_policy_made_of_the_same_scan_is_taken_over(port: Port) -> None:
    await make_repository(port.admin, REPOSITORY)
    await advise(port, OF_LODASH, HARMLESS, day=1)
    await put_policy(port, on="team/")
    worker = await port.worker("w")
    image = tiny_image()
    for repository in (REPOSITORY, "team/other"):
        digest = await port.push(image, repository=repository)
        if repository != REPOSITORY:
            # What was run already is not run again, if nobody asks for it.
            await api(port.admin, "POST", "/trials", json={"image": f"{repository}:1"}, status=201)
        job = await scan_next(worker, LODASH)
        assert job["repository"] == repository
        await until(port, digest, "fail", repository=repository)
    # As in a promotion, which cannot read the scan: at once, and by nobody who looks again.
    async with port.database.write() as connection:
        other = select(manifests.c.id, manifests.c.repository_id).join(
            repositories, repositories.c.id == manifests.c.repository_id
        )
        here = other.where(repositories.c.name == "team/other", manifests.c.digest == digest)
        row = (await connection.execute(here)).one()
        for table in (image_findings, rejudgings):
            await connection.execute(delete(table).where(table.c.manifest_id == row.id))
        wanted = [(digest, "pass", "")]
        ((_, state, reason),) = await with_findings(connection, row.repository_id, "team/other", wanted)
        assert state == "fail"
        assert CVE in reason
        assert (await connection.execute(select(rejudgings))).all() == []
        # Nothing is taken from where it is about to be judged again: nobody would do so here.
        first = await connection.scalar(
            select(manifests.c.id).where(manifests.c.digest == digest, manifests.c.id != row.id)
        )
        for due in (
            insert(rejudgings).values(manifest_id=first, asked_at=db_time()),
            insert(changed_images).values(manifest_id=first, first_change=1),
        ):
            await connection.execute(delete(image_findings).where(image_findings.c.manifest_id == row.id))
            await connection.execute(due)
            ((_, state, _),) = await with_findings(connection, row.repository_id, "team/other", wanted)
            assert state == "pending"
            await connection.execute(delete(due.table).where(due.table.c.manifest_id == first))
        # Nothing is taken from where somebody excused something, or another policy counts.
        for change in ({"excused": "{}"}, {"excused": NOTHING, "policy_digest": "sha256:0"}):
            await connection.execute(delete(image_findings).where(image_findings.c.manifest_id == row.id))
            await connection.execute(update(image_findings).values(change))
            ((_, state, _),) = await with_findings(connection, row.repository_id, "team/other", wanted)
            assert state == "pending"


async def test_who_may_what_and_what_is_no_policy(port: Port) -> None:
    await make_repository(port.admin, REPOSITORY)
    body = {"on": REPOSITORY, "policy": POLICY}
    assert (await ask(port.reader, "PUT", "/api/v1/findings-policy", json=body)).status == 403
    wrong = {**body, "policy": "version: 1\nvulnerabilities: [{severity: worst}]"}
    refused = await ask(port.admin, "PUT", "/api/v1/findings-policy", json=wrong)
    assert refused.status == 400
    assert "the findings policy is not valid: line 2" in refused.json["detail"]
    # A name that would never apply denies nothing.
    wrong = {**body, "policy": "version: 1\nlicences: {deny: [GPL-3]}"}
    refused = await ask(port.admin, "PUT", "/api/v1/findings-policy", json=wrong)
    assert refused.status == 400
    assert "licences: SPDX has no GPL-3; what it does not know" in refused.json["detail"]
    none = await ask(port.admin, "DELETE", "/api/v1/findings-policy", params={"on": REPOSITORY})
    assert (none.status, none.json["detail"]) == (404, f"{REPOSITORY} has no findings policy of its own")
