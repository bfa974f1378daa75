"""Findings where somebody works against them: who pushes, who promotes, who sets policies."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from registry.db.content import blobs, manifests
from registry.db.findings import image_findings
from registry.db.matchings import rejudgings
from registry.db.scans import image_scans, scans
from registry.db.types import db_time
from registry.trials import matcher
from tests.integration.trials.test_findings_policy import POLICY, advise, put_policy, tried, until
from tests.integration.trials.test_scan_alone import end, scan_alone
from tests.kit.access import api, ask, make_repository
from tests.kit.advisories import affects, record
from tests.kit.promoting import TO, promoted
from tests.kit.scans import SCANNING, make_package, make_scan
from tests.kit.trials import REPOSITORY, Port, tiny_image


async def manifest_id(port: Port, digest: str) -> int:
    async with port.database.read() as connection:
        return int((await connection.execute(select(manifests.c.id).filter_by(digest=digest))).scalar_one())


async def test_packages_that_are_made_up_are_not_all_looked_up(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One at a time: all of them are matched whatever fits in memory.
    monkeypatch.setattr(matcher, "MATCHES_AT_ONCE", 1)
    monkeypatch.setattr(matcher, "LOOKED_AT_MAX", 60)
    kernel = [record(f"CVE-2020-{n}", affects("Debian:12", "linux", "introduced=0")) for n in range(20)]
    await make_repository(port.admin, REPOSITORY)
    await put_policy(port)
    await advise(port, *kernel, day=1)
    worker = await port.worker("w")
    digest = await port.push(tiny_image())
    job = await worker.claim(mechanisms=SCANNING)
    made_up = [make_package(f"linux-{n}", f"{n}", source="linux") for n in range(4)]
    refused = await worker.post("scan", make_scan(job, *made_up))
    assert refused.status == 400
    assert "held against more than 60 records of advisories" in refused.json["detail"]
    assert "4 of them are from linux" in refused.json["detail"]
    # What a worker sends instead says so, and that is never a pass.
    gap = {"scanner": "worker", "reason": "the scan was refused"}
    assert (await worker.post("scan", make_scan(job, incomplete=[gap]))).status == 204
    assert (await worker.report(job)).status == 204
    await until(port, digest, "error")

    digest = await tried(port, worker, *made_up[:3])
    found = f"/repositories/{REPOSITORY.replace('/', '%2F')}/scans/{digest}/vulnerabilities"
    assert len((await api(port.admin, "GET", found, params={"limit": 100}))["items"]) == 60
    await advise(port, *kernel[:19], day=2)
    assert len((await api(port.admin, "GET", found, params={"limit": 100}))["items"]) == 57


async def test_an_image_that_cannot_be_judged_holds_up_no_other(port: Port) -> None:
    await make_repository(port.admin, REPOSITORY)
    await put_policy(port, {"version": 1, "secrets": "low"})
    worker = await port.worker("w")
    broken, other = [await tried(port, worker, make_package(version=each)) for each in ("1", "2")]
    for digest in (broken, other):
        await until(port, digest, "pass")
    broken_id, other_id = [await manifest_id(port, digest) for digest in (broken, other)]
    query = (
        select(blobs.c.locator)
        .join(scans, scans.c.blob_id == blobs.c.id)
        .join(image_scans, image_scans.c.scan_id == scans.c.id)
    )
    async with port.database.write() as connection:
        locator = (await connection.execute(query.where(image_scans.c.manifest_id == broken_id))).scalar_one()
        (path,) = [one for one in port_data(port).rglob("*") if one.is_file() and one.name in locator]
        path.unlink()
        path.mkdir()
        asked = {"manifest_id": broken_id, "asked_at": db_time(-timedelta(hours=1))}
        await connection.execute(insert(rejudgings).values(asked))
        # The other's time has come: an excuse has ended, say.
        past = {"changes_at": db_time(-timedelta(seconds=1)), "verdict": "fail"}
        this = update(image_findings).where(image_findings.c.manifest_id == other_id)
        await connection.execute(this.values(past))
    judged = select(image_findings.c.verdict).where(image_findings.c.manifest_id == other_id)
    async with asyncio.timeout(60):
        while True:
            async with port.database.read() as connection:
                if (await connection.execute(judged)).scalar_one() == "pass":
                    break
            await asyncio.sleep(0.05)
    async with port.database.read() as connection:
        assert (await connection.execute(select(rejudgings.c.manifest_id))).scalars().all() == [broken_id]
    path.rmdir()


def port_data(port: Port) -> Path:
    assert port.registry.services is not None
    return port.registry.services.settings.data


async def test_a_scan_with_gaps_passes_by_a_policy_and_no_longer_than_that_counts(port: Port) -> None:
    lenient: dict[str, Any] = {"version": 1, "incomplete": "warn"}
    await scan_alone(port)
    await put_policy(port, lenient)
    worker = await port.worker("w")
    digest = await port.push(tiny_image())
    assert await end(worker, await worker.claim(mechanisms=SCANNING), truncated=True) == 204
    await until(port, digest, "warn")
    # Nor elsewhere.
    await scan_alone(port, TO, scan=False)
    body = {"source": f"{REPOSITORY}:1", "to": f"{TO}:1"}
    refused = await ask(port.admin, "POST", "/api/v1/promotions", json=body)
    assert (refused.status, "more than a scan may hold" in refused.json["detail"]) == (403, True)
    gone = await ask(port.admin, "DELETE", "/api/v1/findings-policy", params={"on": REPOSITORY})
    assert gone.status == 204
    await until(port, digest, "error")
    explained = await api(port.admin, "GET", "/gate", params={"image": f"{REPOSITORY}@{digest}"})
    assert "there was more than a scan may hold" in explained["reason"]

    # One that is whole goes there with its scan, whatever else is scanned there.
    whole = await port.push(tiny_image(), tag="2")
    assert await end(worker, await worker.claim(mechanisms=SCANNING)) == 204
    await promoted(port, f"{REPOSITORY}:2", f"{TO}:2")
    assert await port.state(whole, repository=TO) == "pass"


async def test_what_waits_for_a_policy_that_is_gone_waits_no_longer(port: Port) -> None:
    await make_repository(port.admin, REPOSITORY)
    await make_repository(port.admin, TO)
    await put_policy(port, POLICY, on=TO)
    worker = await port.worker("w")
    digest = await tried(port, worker)
    assert await port.state(digest) == "pass"
    # As where it was cleared between the report and the judging.
    async with port.database.write() as connection:
        this = update(manifests).where(manifests.c.digest == digest)
        await connection.execute(this.values(state="pending"))
        asked = {"manifest_id": await manifest_id(port, digest), "asked_at": db_time()}
        await connection.execute(insert(rejudgings).values(asked))
    await until(port, digest, "pass")
