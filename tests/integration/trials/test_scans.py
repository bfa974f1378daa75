"""Scans as workers send them: whose they are, what is kept of them, and how long."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update

from registry.content.collecting import remove_blobs
from registry.db.content import blob_links, blobs
from registry.db.scans import components, image_scans, scan_components, scans
from registry.db.trials import parts
from registry.db.types import db_time
from registry.trials import scans as use
from registry.trials.scanned import parse_document
from tests.kit.access import api, ask
from tests.kit.scans import SCANNING, make_found, make_package, make_scan
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, tiny_image

TABLES = (scans, image_scans, components, scan_components)


async def counts(port: Port) -> list[int]:
    async with port.database.read() as connection:
        found = [await connection.execute(select(func.count()).select_from(table)) for table in TABLES]
        return [one.scalar_one() for one in found]


async def rows(port: Port, query: Any) -> list[Any]:
    async with port.database.read() as connection:
        return list((await connection.execute(query)).all())


async def shown(port: Port, digest: str) -> Any:
    (trial,) = await port.trials(digest)
    (part,) = trial["parts"]
    return part["scan"]


async def claim(port: Port, worker: ScriptedWorker, **able: Any) -> Any:
    await port.push(tiny_image())
    return await worker.claim(mechanisms=SCANNING, **able)


async def test_a_scan_is_kept_once_and_goes_with_its_image(port: Port) -> None:
    worker = await port.worker("w")
    job = await claim(port, worker)
    assert job["scan"] is True
    assert (await shown(port, job["digest"]))["state"] == "asked"
    zlib = make_package(licences=["Zlib"], owned_by=None)
    scan = make_scan(
        job,
        zlib,
        make_package("libssl3", "3.0.17", source="openssl"),
        make_package(
            "requests", "2.31.0", kind="python", ecosystem="PyPI", path="a", owned_by="python3-requests"
        ),
        make_package("requests", "2.31.0", kind="python", ecosystem="PyPI", path="b"),
        make_package("six", "1.16.0", kind="python", ecosystem="PyPI", path="c", owned_by="python3-six"),
        found=[make_found()],
        incomplete=[{"scanner": "rpm", "reason": "bdb", "layer": 0}],
        system={"id": "debian", "version": "12"},
    )
    assert (await worker.post("scan", scan)).status == 204
    # Sent again it is the same, also in other words for the same.
    assert (await worker.post("scan", scan)).status == 204
    other = await worker.post("scan", {**scan, "found": []})
    assert (other.status, other.json["detail"]) == (409, "another scan was taken for this lease already")
    standing = await shown(port, job["digest"])
    assert standing.pop("document_digest").startswith("sha256:")
    assert standing == {"state": "taken", "packages": 5, "found": 1, "incomplete": 1, "truncated": False}
    assert await counts(port) == [1, 1, 4, 4]
    owned = select(
        components.c.name, components.c.source, components.c.source_version, scan_components.c.owned
    )
    named = owned.join(scan_components, scan_components.c.component_id == components.c.id)
    assert await rows(port, named.order_by(components.c.name)) == [
        ("libssl3", "openssl", "3.0.17", False),
        ("requests", "requests", "2.31.0", False),
        ("six", "six", "1.16.0", True),
        ("zlib1g", "zlib1g", "1:1.2.13", False),
    ]
    ((system, worker_name),) = await rows(
        port,
        select(scans.c.system, image_scans.c.worker).join(image_scans, image_scans.c.scan_id == scans.c.id),
    )
    assert (system, worker_name) == ("debian 12", "w")
    assert (await worker.report(job)).status == 204
    late = await worker.post("scan", scan)
    assert late.status == 409
    assert "not a live one of this worker" in late.json["detail"]

    # The document is bytes that no repository shows, and names no lease.
    ((blob_digest, locator),) = await rows(
        port, select(blobs.c.digest, blobs.c.locator).join(scans, scans.c.blob_id == blobs.c.id)
    )
    assert (await ask(port.admin, "GET", f"/v2/{REPOSITORY}/blobs/{blob_digest}")).status == 404
    mounted = await ask(port.admin, "POST", f"/v2/{REPOSITORY}/blobs/uploads/", params={"mount": blob_digest})
    assert mounted.status == 202
    linked = select(func.count()).select_from(blob_links).join(blobs, blobs.c.id == blob_links.c.blob_id)
    assert await rows(port, linked.where(blobs.c.digest == blob_digest)) == [(0,)]
    assert port.registry.services is not None
    async with port.registry.services.blobs.open_blob(locator) as opened:
        packed = b"".join([chunk async for chunk in opened.chunks()])
    document = parse_document(packed)
    assert document.lease == ""
    assert [package.name for package in document.packages] == [one["name"] for one in scan["packages"]]

    # With the image go its rows, and with them what no collection took before.
    assert await use.sweep(port.database) == 0
    assert (await remove_blobs(port.database, "")).removed == 0
    assert await counts(port) == [1, 1, 4, 4]
    gone = await ask(port.admin, "DELETE", f"/v2/{REPOSITORY}/manifests/{job['digest']}")
    assert gone.status == 202
    assert await use.sweep(port.database) == 1
    assert await counts(port) == [0, 0, 0, 0]
    assert (await remove_blobs(port.database, "")).removed == 1
    trial = await api(port.admin, "GET", f"/trials/{job['trial']}")
    assert trial["parts"][0]["scan"]["packages"] == 5


async def test_only_the_newest_counts_and_packages_are_shared(port: Port) -> None:
    worker = await port.worker("w")
    image = tiny_image()
    await port.push(image)
    job = await worker.claim(mechanisms=SCANNING)
    assert (await worker.post("scan", make_scan(job, make_package("a"), make_package("b")))).status == 204
    assert (await worker.report(job)).status == 204
    await port.push(image, repository="other/app")
    elsewhere = await worker.claim(mechanisms=SCANNING)
    assert (elsewhere["repository"], elsewhere["digest"]) == ("other/app", job["digest"])
    # What is the same is one scan; each image has its own word.
    assert (
        await worker.post("scan", make_scan(elsewhere, make_package("a"), make_package("b")))
    ).status == 204
    assert await counts(port) == [1, 2, 2, 2]
    assert (await worker.report(elsewhere)).status == 204
    spec = {"version": 1, "command": ["/app"]}
    body = {"image": f"other/app@{job['digest']}", "spec": spec}
    await api(port.admin, "POST", "/trials", status=201, json=body)
    again = await worker.claim(mechanisms=SCANNING)
    assert (await worker.post("scan", make_scan(again, make_package("b"), make_package("c")))).status == 204
    assert await counts(port) == [2, 2, 3, 4]
    # The first is still the other image's.
    assert await use.sweep(port.database) == 0
    await api(port.admin, "DELETE", "/repositories/team%2Fapp", status=204)
    assert await use.sweep(port.database) == 1
    assert await counts(port) == [1, 1, 2, 2]


async def test_a_scan_is_of_its_lease_s_image_and_was_asked_for(port: Port) -> None:
    worker, other = await port.worker("w"), await port.worker("o")
    job = await claim(port, worker)
    scan = make_scan(job, make_package())

    async def refused(who: ScriptedWorker, message: Any, status: int, why: str) -> None:
        answer = await who.post("scan", message)
        assert (answer.status, why in answer.json["detail"]) == (status, True), answer.body

    await refused(other, scan, 409, "not a live one of this worker")
    await refused(worker, {**scan, "lease": "nobody"}, 409, "not a live one of this worker")
    await refused(worker, {**scan, "lease": ""}, 409, "not a live one of this worker")
    await refused(worker, {**scan, "digest": "sha256:" + "0" * 64}, 400, "the lease is for")
    await refused(worker, {**scan, "platform": "linux/arm64"}, 400, "the lease is for")
    await refused(worker, {**scan, "more": 1}, 400, "more: Extra inputs are not permitted")
    await refused(worker, {**scan, "packages": [make_package(layer=1)]}, 400, "names layer 1, and has 1")
    await refused(worker, {**scan, "found": [make_found(deleted_in_layer=7)]}, 400, "names layer 7")
    await refused(worker, {**scan, "packages": [make_package(kind="cpe")]}, 400, "packages.0.kind")
    await refused(worker, {**scan, "layers": [{"diff_id": "sha256:x"}]}, 400, "layers.0.diff_id")
    await refused(worker, {**scan, "packages": [make_package()] * 50_001}, 400, "packages")
    await refused(worker, json.dumps(scan).replace("zlib1g", "\\ud800").encode(), 400, "Invalid JSON")
    await refused(worker, b"{", 400, "this is no valid Scan")
    too_large = await worker.post("scan", b" " * (32 * 1024 * 1024 + 1))
    assert too_large.status == 413
    assert await counts(port) == [0, 0, 0, 0]
    assert (await ask(port.admin, "POST", "/worker/v1/scan", json=scan)).status == 401
    async with port.database.write() as connection:
        await connection.execute(update(parts).values(lease_expires_at=db_time()))
    await refused(worker, scan, 409, "not a live one of this worker")
    assert await counts(port) == [0, 0, 0, 0]

    # What moves a cursor, or PostgreSQL does not keep, does no harm.
    job = await claim(port, worker)
    evil = make_package("a\0b\x1b[2J\u202ec", path="x\ny", source="s\0")
    assert (await worker.post("scan", make_scan(job, evil, found=[make_found(title="t\x9bt")]))).status == 204
    assert await rows(port, select(components.c.name, components.c.source)) == [("a b [2J c", "s ")]

    # Two at once: one scan, and no error.
    job = await claim(port, worker)
    scan = make_scan(job, *(make_package(f"p{number}") for number in range(700)))
    both = await asyncio.gather(*(worker.post("scan", scan) for _ in range(4)))
    assert [one.status for one in both] == [204] * 4
    assert await rows(port, select(func.count()).select_from(components)) == [(701,)]


async def test_who_is_asked_to_scan(port: Port) -> None:
    worker = await port.worker("w")
    await port.push(tiny_image())
    plain = await worker.claim()
    assert "scan" not in plain
    assert (await shown(port, plain["digest"]))["state"] == "unable"
    answer = await worker.post("scan", make_scan(plain))
    assert (answer.status, answer.json["detail"]) == (409, "this lease's job is not to scan the image")
    assert (await worker.report(plain)).status == 204
    changed = await api(port.admin, "PATCH", "/repositories/team%2Fapp", json={"scan": False})
    assert changed["scan"] is False
    job = await claim(port, worker)
    assert "scan" not in job
    assert (await shown(port, job["digest"]))["state"] == "off"
    assert (await worker.post("scan", make_scan(job))).status == 409
    # It says so of new repositories, where a nearer one says nothing else.
    await api(port.admin, "PATCH", "/namespaces/team", json={"scan": False})
    await api(port.admin, "PUT", "/namespaces/team%2Fsub", status=201, json={"scan": True})
    found = {}
    for name in ("team/b", "team/sub/c", "d"):
        made = await api(port.admin, "POST", "/repositories", status=201, json={"name": name})
        found[name] = made["scan"]
    assert found == {"team/b": False, "team/sub/c": True, "d": True}
    assert (await api(port.admin, "GET", "/repositories/team%2Fapp"))["scan"] is False
    put = await api(port.admin, "PUT", "/repositories/team%2Fapp", json={})
    assert put["scan"] is False, "as a new one there"


async def test_of_two_different_scans_at_once_one_is_kept(port: Port) -> None:
    worker = await port.worker("w")
    job = await claim(port, worker)
    before = await stored(port)
    sent = [make_scan(job, make_package(f"p{number}")) for number in range(6)]
    answers = await asyncio.gather(*(worker.post("scan", scan) for scan in sent))
    assert sorted(one.status for one in answers) == [204, *(409,) * 5]
    assert await counts(port) == [1, 1, 1, 1]
    # The bytes of the others are gone again.
    assert await stored(port) == before + 1


async def stored(port: Port) -> int:
    """How many blobs and uploads the store holds."""
    assert port.registry.services is not None
    later = datetime.now(UTC) + timedelta(hours=1)
    return len([locator async for locator in port.registry.services.blobs.list_older(later)])
