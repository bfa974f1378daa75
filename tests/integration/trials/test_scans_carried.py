"""Images that are not run again: their scan goes where their report goes, or they are scanned."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete

from registry.db.scans import image_scans
from registry.trials import scans as use
from tests.kit.access import api, ask, make_repository
from tests.kit.images import Image
from tests.kit.promoting import TO, promoted
from tests.kit.scans import SCANNING, make_package, make_scan
from tests.kit.trials import Port, ScriptedWorker, tiny_image


async def scanned(port: Port, repository: str, digest: str) -> list[tuple[str, int]]:
    """Who scanned an image of a repository, and how many packages were found."""
    found = await api(port.admin, "GET", f"/repositories/{repository.replace('/', '%2F')}/scans/{digest}")
    return [(one["worker"], one["packages"]) for one in found]


async def part(port: Port, repository: str, digest: str) -> Any:
    answer = await ask(port.admin, "GET", "/api/v1/trials", params={"image": repository, "digest": digest})
    (found,) = answer.json[0]["parts"]
    return found


async def finish(worker: ScriptedWorker, *, scan: bool, mechanisms: tuple[str, ...] = SCANNING) -> Any:
    """Try the next image; with ``scan`` it is scanned."""
    job = await worker.claim(mechanisms=mechanisms)
    assert job.get("scan", False) is scan
    if scan:
        assert (await worker.post("scan", make_scan(job, make_package()))).status == 204
    assert (await worker.report(job)).status == 204
    return job


async def test_a_kept_report_comes_with_its_scan_or_not_at_all(port: Port) -> None:
    async def push(image: Image, name: str, **settings: Any) -> str:
        if name != "ruled":
            await make_repository(port.admin, f"team/{name}")
        await api(port.admin, "PATCH", f"/repositories/team%2F{name}", json=settings or {"gate": "enforce"})
        return await port.push(image, repository=f"team/{name}")

    worker = await port.worker("w")
    image = tiny_image()
    digest = await push(image, "first")
    await finish(worker, scan=True)
    # It is taken with its scan, and neither run nor scanned again.
    await push(image, "second")
    assert await worker.claim(mechanisms=SCANNING) is None
    assert await scanned(port, "team/second", digest) == [("w", 1)]
    found = await part(port, "team/second", digest)
    assert (found["scan"]["state"], found["scan"]["packages"], found["attempts"]) == ("taken", 1, 0)
    # Where no scan is wanted none comes along.
    await push(image, "unscanned", scan=False)
    assert await worker.claim(mechanisms=SCANNING) is None
    assert await scanned(port, "team/unscanned", digest) == []
    assert (await part(port, "team/unscanned", digest))["scan"]["state"] == "off"
    # A findings policy wants one, whatever the repository says.
    await make_repository(port.admin, "team/ruled")
    policy = {"on": "team/ruled", "policy": {"version": 1, "secrets": "high"}}
    await api(port.admin, "PUT", "/findings-policy", json=policy)
    await push(image, "ruled", scan=False)
    assert await worker.claim(mechanisms=SCANNING) is None
    assert await scanned(port, "team/ruled", digest) == [("w", 1)]
    # The copy's scan is the copy's: it stays when the first image goes.
    for name in ("first", "unscanned", "ruled"):
        await api(port.admin, "DELETE", f"/repositories/team%2F{name}", status=204)
    assert await use.sweep(port.database) == 0
    assert await scanned(port, "team/second", digest) == [("w", 1)]
    # Where it is gone the report is no answer, and the image is scanned.
    async with port.database.write() as connection:
        await connection.execute(delete(image_scans))
    assert await use.sweep(port.database) == 1
    await push(image, "third")
    await finish(worker, scan=True)
    assert await scanned(port, "team/third", digest) == [("w", 1)]

    # Of an image that nobody could scan the report stands, and says so, while there is nobody who can.
    other = tiny_image()
    digest = await push(other, "fourth")
    await finish(worker, scan=False, mechanisms=())
    await push(other, "fifth")
    assert await worker.claim() is None
    assert (await part(port, "team/fifth", digest))["scan"]["state"] == "unable"
    assert await scanned(port, "team/fifth", digest) == []
    assert await worker.claim(mechanisms=SCANNING) is None
    await push(other, "sixth")
    await finish(worker, scan=True)
    assert await scanned(port, "team/sixth", digest) == [("w", 1)]


async def test_a_promotion_takes_the_scan_along(port: Port) -> None:
    worker = await port.worker("w")
    digest = await port.push(tiny_image())
    await finish(worker, scan=True)
    await make_repository(port.admin, TO, gate="enforce")
    await promoted(port)
    assert await scanned(port, TO, digest) == [("w", 1)]
    assert (await part(port, TO, digest))["scan"]["state"] == "taken"
    # An image that was never scanned is not one in which nothing was found.
    digest = await port.push(tiny_image(), tag="2")
    await finish(worker, scan=False, mechanisms=())
    await promoted(port, "team/app:2", f"{TO}:2")
    assert await port.state(digest, repository=TO) == "pass"
    assert await scanned(port, TO, digest) == []
    assert (await part(port, TO, digest))["scan"] is None
    # Asked for, it is scanned there.
    await api(port.admin, "POST", "/trials", json={"image": f"{TO}@{digest}"}, status=201)
    await finish(worker, scan=True)
    assert await scanned(port, TO, digest) == [("w", 1)]
