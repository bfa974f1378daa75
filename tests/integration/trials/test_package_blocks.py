"""Blocks of packages: what scans found, and what they find later, wherever the image comes from."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select

from registry.db.content import manifests
from registry.db.gate import block_components
from tests.kit.access import api, ask, make_repository
from tests.kit.images import Image
from tests.kit.matching import told
from tests.kit.scans import SCANNING, make_package, make_scan
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, tiny_image

OTHER = "other/app"
SAID = "it holds npm/lodash<4.17.19: CVE-2020-8203"


def lodash(version: str) -> dict[str, Any]:
    return make_package("lodash", version, kind="npm", ecosystem="npm")


async def block(port: Port, package: str, on: str = "team/", reason: str = "CVE-2020-8203") -> Any:
    body = {"on": on, "package": package, "reason": reason}
    return await api(port.admin, "POST", "/gate/blocks", status=201, json=body)


async def unblock(port: Port, made: Any) -> None:
    await api(port.admin, "DELETE", f"/gate/blocks/{made['id']}", status=204)


async def scanned(
    port: Port, worker: ScriptedWorker, image: Image, *packages: Any, on: str = REPOSITORY, read: int = 0
) -> str:
    """Push an image and have it scanned; ``read`` is what who pulls it is answered before."""
    digest = await port.push(image, repository=on)
    job = await worker.claim(mechanisms=SCANNING)
    assert job["digest"] == digest
    assert not read or await status(port, digest, on=on) == read
    assert (await worker.post("scan", make_scan(job, *packages))).status == 204
    assert (await worker.report(job)).status == 204
    return digest


async def status(port: Port, digest: str, on: str = REPOSITORY) -> int:
    """What who may push is answered, who reads what nobody else may."""
    return (await port.pull(digest, repository=on, client=port.admin)).status


async def opened(port: Port, *names: str) -> ScriptedWorker:
    for name in names:
        await make_repository(port.admin, name, gate="off")
    return await port.worker("w")


async def test_what_holds_a_package_is_refused_now_and_later(port: Port) -> None:
    worker = await opened(port, REPOSITORY, OTHER, "team/second")
    image = tiny_image()
    old = await scanned(port, worker, image, lodash("4.17.15"), make_package())
    new = await scanned(port, worker, tiny_image(), lodash("4.17.21"))
    strange = await scanned(port, worker, tiny_image(), lodash("latest"))
    without = await scanned(port, worker, tiny_image(), make_package())
    elsewhere = await scanned(port, worker, tiny_image(), lodash("4.17.14"), on=OTHER)

    made = await block(port, "npm/lodash<4.17.19")
    # Where nobody can compare the version, it may be that one.
    assert (made["kind"], made["package"], made["digest"], made["images"]) == (
        ("package", "npm/lodash<4.17.19", "", 2)
    )
    images = (old, new, strange, without)
    assert [await status(port, one) for one in images] == [403, 200, 403, 200]
    assert await status(port, elsewhere, on=OTHER) == 200
    (error,) = (await port.pull(old)).json["errors"]
    assert f"is blocked: {SAID}" in error["message"]
    explained = await api(port.admin, "GET", "/gate", params={"image": f"{REPOSITORY}@{old}"})
    assert (explained["state"], explained["decision"], explained["reason"]) == ("blocked", "refuse", SAID)
    layer = image.layers[0].digest
    assert (await ask(port.reader, "GET", f"/v2/{REPOSITORY}/blobs/{layer}")).status == 403

    # What is scanned later is caught by its scan, not before.
    later = await scanned(port, worker, tiny_image(), lodash("3.0.0"), read=200)
    assert await status(port, later) == 403
    # What is not scanned again brings its scan along, and what is moved into the place meets the block.
    await port.push(image, repository="team/second")
    assert await worker.claim(mechanisms=SCANNING) is None
    assert await status(port, old, on="team/second") == 403
    await api(port.admin, "POST", "/repositories/other%2Fapp/rename", json={"name": "team/moved"})
    assert await status(port, elsewhere, on="team/moved") == 403
    caught = [data for _, data in await told(port.database, "image.blocked")]
    assert caught[0] == {
        "kind": "package",
        "digest": "",
        "package": "npm/lodash<4.17.19",
        "reason": SAID,
        "block": made["id"],
    }
    assert {(one["digest"], one["reason"], one["block"]) for one in caught[1:]} == {
        (one, SAID, made["id"]) for one in (later, old, elsewhere)
    }

    # One image is not let go alone, and what another block refuses stays refused.
    kept = await api(port.admin, "POST", "/gate/unblock", status=409, json={"image": f"{REPOSITORY}@{old}"})
    assert f"is blocked by block {made['id']} on team/: {SAID}" in kept["detail"]
    wider = await block(port, "npm/lodash<4.17.15", on="*", reason="older ones")
    await unblock(port, made)
    assert [await status(port, one) for one in (*images, later)] == [200, 200, 403, 200, 403]
    assert await status(port, elsewhere, on="team/moved") == 403
    # Said again it is another reason, and no second block.
    again = await block(port, "npm/lodash<4.17.15", on="*", reason="they are old")
    listed = await api(port.admin, "GET", "/gate/blocks")
    assert [(one["id"], one["reason"]) for one in listed["items"]] == [
        (again["id"], "it holds npm/lodash<4.17.15: they are old")
    ]
    assert again["id"] != wider["id"]
    await unblock(port, again)
    for one, on in ((old, "team/second"), (later, REPOSITORY), (elsewhere, "team/moved")):
        assert await status(port, one, on=on) == 200
    async with port.database.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(block_components))).scalar() == 0


async def test_by_which_names_a_package_is_found(port: Port) -> None:
    worker = await opened(port, REPOSITORY)
    packages = (
        make_package("libssl3", "3.0.11-1~deb12u2", source="openssl", source_version="3.0.11-1~deb12u2"),
        make_package("Zope.Interface", "5.0", kind="python", ecosystem="PyPI"),
        make_package("lodash", "4.17.15", kind="npm", ecosystem="npm", owned_by="node-lodash"),
    )
    digest = await scanned(port, worker, tiny_image(), *packages)
    for package, images in (
        ("Debian:12/openssl", 1),
        ("Debian/openssl<3.0.12", 1),
        ("Debian:12/libssl3=3.0.11-1~deb12u2", 1),
        ("Debian:12/openssl<3.0.11", 0),
        ("Debian:1/openssl", 0),
        ("Ubuntu/openssl", 0),
        ("PyPI/zope_interface>=5,<6", 1),
        ("npm/lodash", 1),
    ):
        seen = await api(
            port.admin, "POST", "/gate/blocks/preview", json={"on": REPOSITORY, "package": package}
        )
        assert [one["digest"] for one in seen["items"]] == [digest] * images, package
        made = await block(port, package, on=REPOSITORY)
        assert (made["package"], made["images"]) == (package, images)
        assert await status(port, digest) == (403 if images else 200), package
        await unblock(port, made)
        assert await status(port, digest) == 200
    body = {"on": REPOSITORY, "reason": "r"}
    for wrong, why in (
        ({}, "a digest or a package"),
        ({"package": "npm/a", "digest": digest}, "not both"),
        ({"package": "npm/a", "layer": True}, "not both"),
        ({"package": "lodash"}, "is not ECOSYSTEM/NAME"),
        ({"package": "npm/<4"}, "is not ECOSYSTEM/NAME"),
        ({"package": "debian/openssl"}, "there is no ecosystem 'debian'"),
        ({"package": "npm/lodash<"}, "no bound of versions"),
        ({"package": "npm/lodash<latest"}, "'latest' is no version of npm"),
        ({"package": "npm/" + "a" * 200}, "at most 200 characters"),
        ({"package": "npm/lod\nash"}, "a line of at most"),
    ):
        answer = await ask(port.admin, "POST", "/api/v1/gate/blocks", json=body | wrong)
        assert (answer.status, why in answer.json["detail"]) == (400, True), (wrong, answer.body)
    assert (
        await ask(port.reader, "POST", "/api/v1/gate/blocks", json=body | {"package": "npm/a"})
    ).status == 403
    assert (await api(port.admin, "GET", "/gate/blocks"))["items"] == []


async def test_a_block_and_scans_at_once_miss_nothing(port: Port) -> None:
    worker = await opened(port, REPOSITORY, OTHER)
    scans = []
    for number in range(8):
        await port.push(tiny_image(), repository=(REPOSITORY, OTHER)[number % 2])
        job = await worker.claim(mechanisms=SCANNING)
        # Some bring a package that no scan has had.
        scans.append(make_scan(job, lodash(f"4.0.{number // 2}")))
    sent = [worker.post("scan", one) for one in scans]
    made, *answers = await asyncio.gather(block(port, "npm/lodash<5", on="*"), *sent)
    assert [answer.status for answer in answers] == [204] * 8
    assert await read(port, *(one["digest"] for one in scans)) == []
    await unblock(port, made)


async def test_a_block_and_scans_that_come_along_at_once_miss_nothing(port: Port) -> None:
    names = [f"team/r{number}" for number in range(6)]
    worker = await opened(port, REPOSITORY, *names)
    image = tiny_image()
    digest = await scanned(port, worker, image, lodash("4.17.15"))
    pushes = [port.push(image, repository=name) for name in names]
    made, *pushed = await asyncio.gather(block(port, "npm/lodash", on="*"), *pushes)
    assert pushed == [digest] * 6
    assert await worker.claim(mechanisms=SCANNING) is None
    assert await read(port, digest) == []
    await unblock(port, made)
    assert len(await read(port, digest)) == 7


async def read(port: Port, *digests: str) -> list[str]:
    """Which images no block refuses."""
    query = select(manifests.c.digest).where(
        manifests.c.digest.in_(digests), manifests.c.blocked_reason.is_(None)
    )
    async with port.database.read() as connection:
        return list((await connection.execute(query)).scalars())


async def test_what_a_block_would_refuse_is_told_by_pages_to_who_may_make_it(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.http.api.gate.HITS_MAX", 2)
    worker = await opened(port, REPOSITORY, OTHER)
    held = [await scanned(port, worker, tiny_image(), lodash(f"4.17.{number}")) for number in range(5)]
    elsewhere = await scanned(port, worker, tiny_image(), lodash("1.0.0"), on=OTHER)
    wanted = {"on": REPOSITORY, "package": "npm/lodash<4.17.4"}
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = await api(port.admin, "POST", "/gate/blocks/preview", json=wanted | cursor)
        assert len(page["items"]) <= 2
        found += page["items"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert [one["digest"] for one in found] == held[:4]
    assert [one["packages"] for one in found] == [[f"lodash 4.17.{number}"] for number in range(4)]
    assert not any(one["blocked"] for one in found)
    everywhere = {"on": "*", "package": "npm/lodash=1.0.0"}
    (one,) = (await api(port.admin, "POST", "/gate/blocks/preview", json=everywhere))["items"]
    assert (one["repository"], one["digest"]) == (OTHER, elsewhere)
    await api(port.reader, "POST", "/gate/blocks/preview", status=403, json=wanted)
    await api(port.admin, "POST", "/gate/blocks/preview", status=400, json={"on": REPOSITORY})
    await api(port.admin, "POST", "/gate/blocks/preview", status=404, json=wanted | {"on": "none/app"})
    assert (await api(port.admin, "GET", "/gate/blocks"))["items"] == []
