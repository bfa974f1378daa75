"""The images of services: who may choose them, which they are, who is handed them, and what opens them."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from registry.contract.isolation import SPEC_NEWS
from registry.db.trials import parts
from tests.kit.access import api, ask, basic, give_role, make_user
from tests.kit.images import Image
from tests.kit.trials import REPOSITORY, Port, ScriptedWorker, make_error, tiny_image, tiny_index

BASE = "base/db"
SETTINGS = f"/repositories/{REPOSITORY.replace('/', '%2F')}"


def spec_of(image: str) -> dict[str, Any]:
    return {"version": 1, "services": [{"name": "db", "image": image, "ready": {"tcp": 5432}}]}


async def claim(worker: ScriptedWorker) -> Any:
    return await worker.claim(mechanisms=SPEC_NEWS)


async def with_base(port: Port, image: Image, *, verdict: bool = True) -> tuple[ScriptedWorker, str]:
    """A worker, and the digest of an image that it has tried as a service to be."""
    worker = await port.worker("one")
    digest = await port.push(image, repository=BASE)
    if verdict:
        while (job := await claim(worker)) is not None:
            await worker.report(job)
    return worker, digest


async def test_a_tag_is_the_image_that_it_named_when_the_spec_was_given(port: Port) -> None:
    index, (image, other) = tiny_index("linux/amd64", "linux/s390x")
    worker, first = await with_base(port, index)
    set_once = await api(port.admin, "PATCH", SETTINGS, status=404, json={"run_spec": spec_of(f"{BASE}:1")})
    assert "no repository" in set_once["detail"]
    app = await port.push(tiny_image())
    await worker.report(await claim(worker))
    shown = await api(port.admin, "PATCH", SETTINGS, json={"run_spec": spec_of(f"{BASE}:1")})
    assert shown["run_spec"]["services"][0]["image"] == f"{BASE}@{first}"

    # Who knows of no services is not handed it; who does is told the image for the platform, not the index.
    old = await port.worker("old")
    app_image = tiny_image()
    digest = await port.push(app_image)
    assert await old.claim() is None
    assert await old.claim(mechanisms=["seccomp", "run-spec secrets", "run-spec stubs"]) is None
    job = await claim(worker)
    assert job["digest"] == digest
    assert job["spec"]["services"][0]["image"] == f"{BASE}@{first}"
    assert job["services"] == [{"name": "db", "repository": BASE, "digest": image.digest}]
    # A worker has both on its disk.
    async with port.database.read() as connection:
        of_part = select(parts.c.size_bytes).where(parts.c.id == job["part"])
        size_bytes = (await connection.execute(of_part)).scalar_one()
    assert size_bytes == len(app_image.layers[0].blob) + len(image.layers[0].blob)

    # Its pull token opens both images, and nothing beside them.
    puller = await port.puller(job)
    elsewhere = await port.push(tiny_image(), repository=BASE, tag="2")
    for place, wanted in ((REPOSITORY, digest), (BASE, image.digest)):
        manifest = await port.pull(wanted, repository=place, client=puller)
        assert manifest.status == 200
        blob = manifest.json["layers"][0]["digest"]
        assert (await ask(puller, "GET", f"/v2/{place}/blobs/{blob}")).status == 200
        foreign = json.loads(other.manifest)["layers"][0]["digest"]
        assert (await ask(puller, "GET", f"/v2/{place}/blobs/{foreign}")).status in (403, 404)
    for place, name in ((REPOSITORY, app), (BASE, first), (BASE, elsewhere), (BASE, "1"), ("base/x", "1")):
        assert (await port.pull(name, repository=place, client=puller)).status in (401, 403, 404), name
    for path in (f"/v2/{BASE}/tags/list", f"/v2/{BASE}/blobs/uploads/"):
        method = "POST" if path.endswith("/") else "GET"
        assert (await ask(puller, method, path)).status in (401, 403), path
    await worker.report(job)
    assert (await port.pull(image.digest, repository=BASE, client=puller)).status == 401

    # The tag goes on; a trial that names it now is about another image, under another spec.
    second = await port.push(tiny_image(), repository=BASE)
    while (of_base := await claim(worker)) is not None:
        await worker.report(of_base)
    asked = {"image": f"{REPOSITORY}@{digest}", "spec": spec_of(f"{BASE}:1")}
    await api(port.admin, "POST", "/trials", status=201, json=asked)
    again = await claim(worker)
    assert again["services"] == [{"name": "db", "repository": BASE, "digest": second}]
    assert again["part"] != job["part"]


async def test_only_who_may_pull_an_admitted_image_chooses_it(port: Port) -> None:
    worker, digest = await with_base(port, tiny_image(), verdict=False)
    app = await port.push(tiny_image())
    password = await make_user(port.admin, "somebody")

    async def asked(client: aiohttp.ClientSession, image: str, status: int) -> str:
        body = {"image": f"{REPOSITORY}@{app}", "spec": spec_of(image)}
        answer = await api(client, "POST", "/trials", status=status, json=body)
        return str(answer.get("detail", ""))

    async with aiohttp.ClientSession(port.registry.url, headers=basic("somebody", password)) as client:
        await give_role(port.admin, REPOSITORY, "user:somebody", "maintainer")
        # What there is looks like what there is not.
        for image in (f"{BASE}:1", f"{BASE}:none", "no/such:1"):
            said = await asked(client, image, 400)
            assert said == (
                f"the service db: there is no image {image} in this registry that somebody may pull"
            )
        await give_role(port.admin, BASE, "user:somebody", "writer")
        # Nobody has tried it: who pushes reads it all the same, and yet it is nothing to rely on.
        assert f"the service db: {BASE}@{digest}" in await asked(client, f"{BASE}:1", 403)
        while (job := await claim(worker)) is not None:
            failed = job["repository"] == BASE
            await worker.report(job, **({"run": {"exit_code": 1}} if failed else {}))
        answer = await api(
            client,
            "POST",
            "/trials",
            status=201,
            json={"image": f"{REPOSITORY}@{app}", "spec": spec_of(f"{BASE}@{digest}")},
        )
        assert answer["state"] == "queued"
    (trial, *_) = await port.trials(app)
    assert trial["state"] == "queued"


@pytest.mark.parametrize("what", ["blocked", "deleted", "platform"])
async def test_one_that_cannot_be_had_any_more_is_the_verdict(port: Port, what: str) -> None:
    image = tiny_image("linux/arm64" if what == "platform" else "linux/amd64")
    worker, digest = await with_base(port, image)
    await port.push(tiny_image())
    await worker.report(await claim(worker))
    if what == "platform":
        await api(port.admin, "PATCH", f"/repositories/{BASE.replace('/', '%2F')}", json={"gate": "off"})
    await api(port.admin, "PATCH", SETTINGS, json={"run_spec": spec_of(f"{BASE}:1")})
    if what == "blocked":
        body = {"image": f"{BASE}@{digest}", "reason": "it is rotten"}
        await api(port.admin, "POST", "/gate/block", status=204, json=body)
    if what == "deleted":
        assert (await ask(port.admin, "DELETE", f"/v2/{BASE}/manifests/{digest}")).status == 202
    app = await port.push(tiny_image())
    while await claim(worker) is not None:
        pass
    (trial,) = await port.trials(app)
    said = {
        "blocked": "is blocked",
        "deleted": "cannot be run",
        "platform": "is not for linux/amd64; its platforms: linux/arm64",
    }
    assert trial["verdict"] == "error"
    assert trial["reason"].startswith(f"spec-invalid: the service db: {BASE}@{digest} {said[what]}")


async def test_a_service_that_failed_is_an_error_with_its_reason(port: Port) -> None:
    worker, _ = await with_base(port, tiny_image())
    await port.push(tiny_image())
    await worker.report(await claim(worker))
    await api(port.admin, "PATCH", SETTINGS, json={"run_spec": spec_of(f"{BASE}:1")})
    app = await port.push(tiny_image())
    assert (await worker.report(await claim(worker), **make_error("service-failed"))).status == 204
    (trial,) = await port.trials(app)
    assert (trial["verdict"], trial["reason"]) == ("error", "service-failed: it was service-failed")
