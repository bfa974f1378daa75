"""The version before this one and this one, side by side on one database and one store, as in an upgrade."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from registry.contract.report import Outbound, Report, RunLimits, Sample
from registry.db import migrate
from sandbox.client import registry_client
from sandbox.worker import Drain, _hand_in
from tests.kit.distribution import push_image, put_manifest, small_manifest, start_upload
from tests.kit.images import digest_of, file, make_image, make_layer
from tests.kit.postgres import PostgresServer
from tests.kit.previous import install_previous
from tests.kit.server import RegistryProcess
from tests.kit.trials import make_report, tiny_image, worker_token
from tests.kit.wheel import Installed

NAME = "team/app"
MIB = 1 << 20


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install_previous(tmp_path_factory.mktemp("previous"))


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """An address of a database without any table."""
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
def versions(previous: Installed, database: str, tmp_path: Path) -> Iterator[tuple[RegistryProcess, ...]]:
    """The old version and the new one, not started."""
    shared = {
        "storage_url": f"file://{tmp_path / 'blobs'}",
        "secret_key_file": str(tmp_path / "old" / "secret.key"),
    }
    old = RegistryProcess(
        tmp_path / "old",
        database,
        program=(str(previous.folder / "bin" / "seatrial"),),
        storage_url=shared["storage_url"],
    )
    new = RegistryProcess(tmp_path / "new", database, **shared)
    yield old, new
    old.stop()
    new.stop()


async def push_and_pull(pushes: aiohttp.ClientSession, pulls: aiohttp.ClientSession, tag: str) -> None:
    """An image pushed at one and pulled at the other, with all that a client asks; raises at any error."""
    image = make_image(make_layer(file("app", os.urandom(1000))))
    digest = await push_image(pushes, NAME, tag, image)
    async with pulls.head(f"/v2/{NAME}/manifests/{tag}") as response:
        assert (response.status, response.headers["Docker-Content-Digest"]) == (200, digest)
    for blob, content in image.blobs().items():
        kind = "manifests" if blob == digest else "blobs"
        async with pulls.get(f"/v2/{NAME}/{kind}/{blob}") as response:
            assert (response.status, await response.read()) == (200, content)
    async with pulls.get(f"/v2/{NAME}/tags/list") as response:
        assert tag in (await response.json())["tags"]


async def test_pushes_and_pulls_run_through_an_upgrade(
    versions: tuple[RegistryProcess, RegistryProcess], database: str, tmp_path: Path
) -> None:
    old, new = versions
    one = old.start()
    stop = asyncio.Event()

    async with one.client() as first:

        async def work(number: int) -> int:
            rounds = 0
            while not stop.is_set():
                await push_and_pull(first, first, f"w{number}")
                rounds += 1
            return rounds

        working = [asyncio.create_task(work(number)) for number in range(2)]
        begun = await start_upload(first, NAME)
        async with first.patch(begun, data=b"begun before the upgrade, ") as response:
            assert response.status == 202
        # The new version migrates while the old one serves.
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "admin.token").write_text(one.token)
        two = await asyncio.to_thread(new.start)
        assert migrate.look(database).before == migrate.newest()
        async with two.client() as second:
            for number in range(2):
                await push_and_pull(first, second, f"old{number}")
                await push_and_pull(second, first, f"new{number}")
            await upload_at_both(first, second, begun)
            await retag_and_delete(first, second)
            await retag_and_delete(second, first)
            await tokens_of_either(one.url, two.url, one.token)
        stop.set()
        assert min(await asyncio.gather(*working)) > 0


async def upload_at_both(first: aiohttp.ClientSession, second: aiohttp.ClientSession, begun: str) -> None:
    """What was begun at the old version ends at the new one; an upload changes version at each request."""
    content = b"begun before the upgrade, ended after it"
    async with second.put(begun, params={"digest": digest_of(content)}, data=b"ended after it") as response:
        assert response.status == 201, await response.text()
    content = os.urandom(4 * MIB)
    location = await start_upload(second, NAME)
    for i, client in enumerate((first, second, first, second)):
        headers = {"Content-Range": f"{i * MIB}-{(i + 1) * MIB - 1}"}
        async with client.patch(location, data=content[i * MIB : (i + 1) * MIB], headers=headers) as response:
            assert response.status == 202, await response.text()
    async with first.put(location, params={"digest": digest_of(content)}) as response:
        assert response.status == 201, await response.text()


async def retag_and_delete(first: aiohttp.ClientSession, second: aiohttp.ClientSession) -> None:
    """What one changes, the other answers by at its next request."""
    path = f"/v2/{NAME}/manifests/moving"
    image = make_image(make_layer(file("app", os.urandom(100))))
    await push_image(first, NAME, "moving", image)
    config = image.blobs()[next(d for d in image.blobs() if image.blobs()[d].startswith(b'{"architecture"'))]
    for number in range(3):
        raw = small_manifest(config=config, annotations={"n": f"{number}{os.urandom(4).hex()}"})
        assert (await put_manifest(first, NAME, "moving", raw)).status == 201
        async with second.get(path) as response:
            assert await response.read() == raw
    async with first.delete(path) as response:
        assert response.status == 202
    async with second.get(path) as response:
        assert response.status == 404


async def tokens_of_either(one: str, two: str, secret: str) -> None:
    """A token from one version's /token is one for the other."""
    asked = {"scope": f"repository:{NAME}:pull", "service": "seatrial"}
    for minted_at, used_at in ((one, two), (two, one)):
        async with aiohttp.ClientSession() as session:
            headers = {"Authorization": aiohttp.encode_basic_auth("admin", secret)}
            async with session.get(f"{minted_at}/token", params=asked, headers=headers) as response:
                assert response.status == 200, await response.text()
                token = (await response.json())["token"]
            bearer = {"Authorization": f"Bearer {token}"}
            async with session.get(f"{used_at}/v2/{NAME}/tags/list", headers=bearer) as response:
                assert response.status == 200, await response.text()


async def test_a_worker_of_this_version_reports_to_the_version_before(
    previous: Installed, database: str, tmp_path: Path
) -> None:
    """What that one does not know of a run is left out, and the rest of the report counts, here too where the
    image is copied."""
    program = (str(previous.folder / "bin" / "seatrial"),)
    shared = {"trial_on_push": "true", "storage_url": f"file://{tmp_path / 'blobs'}"}
    old = RegistryProcess(tmp_path / "old", database, program=program, **shared)
    new = RegistryProcess(
        tmp_path / "new", database, secret_key_file=str(tmp_path / "old" / "secret.key"), **shared
    )
    image = tiny_image()
    try:
        registry = old.start()
        async with registry.client() as admin:
            await push_image(admin, NAME, "1", image)
            token = await worker_token(admin, "one")
            async with registry_client(registry.url, token) as client:
                # It knows of no disks, and would hand a job to a worker that has no room for it.
                full = await client.claim(("linux/amd64",), wait_seconds=0, disk_bytes=0)
                assert (full.job, full.drain) == (None, False)
                # It refuses a claim that says more than it knows of: then it is asked again.
                claiming = client.claim(
                    ("linux/amd64",), wait_seconds=5, disk_bytes=2**40, mechanisms=("seccomp",)
                )
                job = (await claiming).job
                assert job is not None
                said = Report.model_validate(make_report(job.model_dump(mode="json")), strict=False)
                tried = Outbound(address="192.0.2.1", port=80, protocol="tcp", attempts=1, service="db")
                news: dict[str, object] = {"pids_peak": 3, "outbound": (tried,), "services_seconds": 2.0}
                news["samples"] = (Sample(seconds=0.1, pids=3, layer_bytes=4096),)
                news |= {"limits": RunLimits(pids=64, wall_seconds=60.0), "pids_refused": 2}
                report = said.model_copy(update={"runs": (said.runs[0].model_copy(update=news),)})
                await _hand_in(client, job, report, Drain(asked=asyncio.Event(), now=asyncio.Event()))
            async with admin.get("/api/v1/trials", params={"image": f"{NAME}:1"}) as response:
                (trial,) = await response.json()
        assert (trial["verdict"], trial["runs"][0]["log"]) == ("pass", "hello\n")
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "admin.token").write_text(registry.token)
        upgraded = new.start()
        async with upgraded.client() as admin, registry_client(upgraded.url, token) as client:
            await push_image(admin, NAME, "2", tiny_image())
            job = (await client.claim(("linux/amd64",), wait_seconds=0)).job
            assert job is not None
            report = Report.model_validate(make_report(job.model_dump(mode="json")), strict=False)
            await client.report(report)
            await push_image(admin, "team/copy", "1", image)
            async with admin.get("/api/v1/trials", params={"image": "team/copy:1"}) as response:
                (copied,) = await response.json()
        assert (copied["state"], copied["parts"][0]["reused_from"]) == ("done", trial["id"])
    finally:
        old.stop()
        new.stop()
