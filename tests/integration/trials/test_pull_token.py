"""A job's pull token opens its image while the lease lives, and nothing else at any time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.kit.access import ask
from tests.kit.images import Image
from tests.kit.trials import REPOSITORY, Port, open_port, tiny_image, tiny_index


async def head(client: aiohttp.ClientSession, path: str) -> int:
    return (await ask(client, "HEAD", path)).status


async def job_of(port: Port, image: Image) -> Any:
    await port.push(image)
    return await (await port.worker("one")).claim()


def blobs_of(image: Image) -> list[str]:
    manifest = json.loads(image.manifest)
    return [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]


async def test_it_opens_the_manifest_and_the_blobs_of_the_image(port: Port) -> None:
    image = tiny_image()
    puller = await port.puller(await job_of(port, image))
    answer = await port.pull(image.digest, client=puller)
    assert (answer.status, answer.body) == (200, image.manifest)
    for digest in blobs_of(image):
        assert (await ask(puller, "GET", f"/v2/{REPOSITORY}/blobs/{digest}")).status == 200


async def test_it_opens_nothing_else(port: Port) -> None:
    index, (image, other) = tiny_index("linux/amd64", "linux/s390x")
    await port.push(index)
    elsewhere = tiny_image()
    await port.push(elsewhere, repository="team/other")
    worker = await port.worker("one")
    job = await worker.claim()
    assert job["digest"] == image.digest
    puller = await port.puller(job)
    for path in (
        f"/v2/{REPOSITORY}/manifests/{index.digest}",
        f"/v2/{REPOSITORY}/manifests/{other.digest}",
        f"/v2/{REPOSITORY}/manifests/1",
        *(f"/v2/{REPOSITORY}/blobs/{digest}" for digest in blobs_of(other)),
        f"/v2/team/other/manifests/{elsewhere.digest}",
        f"/v2/{REPOSITORY}/tags/list",
        f"/v2/{REPOSITORY}/referrers/{image.digest}",
        "/v2/_catalog",
        "/api/v1/trials",
        f"/api/v1/trials/{job['trial']}",
        "/api/v1/repositories",
    ):
        assert (await ask(puller, "GET", path)).status in (401, 403, 404), path
    for method, path in (
        ("POST", f"/v2/{REPOSITORY}/blobs/uploads/"),
        ("PUT", f"/v2/{REPOSITORY}/manifests/2"),
        ("DELETE", f"/v2/{REPOSITORY}/manifests/{image.digest}"),
        ("POST", "/worker/v1/claim"),
        ("POST", "/worker/v1/report"),
    ):
        assert (await ask(puller, method, path, data=image.manifest)).status in (401, 403), path


async def test_it_is_dead_after_the_report(port: Port) -> None:
    image = tiny_image()
    await port.push(image)
    worker = await port.worker("one")
    job = await worker.claim()
    puller = await port.puller(job)
    assert (await port.pull(image.digest, client=puller)).status == 200
    await worker.report(job)
    assert (await port.pull(image.digest, client=puller)).status == 401


async def test_it_is_dead_after_the_lease(tmp_path: Path, database_url: str) -> None:
    async with open_port(tmp_path / "data", database_url, lease_seconds=1) as port:
        image = tiny_image()
        puller = await port.puller(await job_of(port, image))
        await asyncio.sleep(1.1)
        assert (await port.pull(image.digest, client=puller)).status == 401
        assert await head(puller, f"/v2/{REPOSITORY}/blobs/{blobs_of(image)[0]}") == 401


@pytest.mark.parametrize("gate", ["off", "warn", "enforce"])
async def test_a_blocked_image_is_not_handed_out(tmp_path: Path, database_url: str, gate: str) -> None:
    async with open_port(tmp_path / "data", database_url, gate=gate) as port:
        image = tiny_image()
        digest = await port.push(image)
        body = {"image": f"{REPOSITORY}@{digest}", "reason": "leaks a key"}
        assert (await ask(port.admin, "POST", "/api/v1/gate/block", json=body)).status == 204
        worker = await port.worker("one")
        assert await worker.claim() is None
        body.pop("reason")
        assert (await ask(port.admin, "POST", "/api/v1/gate/unblock", json=body)).status == 204
        assert (await worker.claim())["digest"] == digest
