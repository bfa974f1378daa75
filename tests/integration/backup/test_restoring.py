"""A backup of a registry that serves, and a registry out of it: on either database and either store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from registry.oci.digest import parse_digest
from registry.storage.age import Identity
from registry.trials.sigstore import BUNDLE
from registry.trials.verifying import parse_keys, read_bundle
from tests.integration.backup.conftest import Places
from tests.kit.access import api, ask, make_token
from tests.kit.distribution import push_blob, start_upload
from tests.kit.images import Image
from tests.kit.trials import Port, ScriptedWorker, make_index, tiny_image

WAYS = (
    ("sqlite+folder", "postgresql+s3"),
    ("postgresql+s3", "sqlite+folder"),
    ("postgresql+folder", "sqlite+s3"),
    ("sqlite+s3", "postgresql+folder"),
)
PLACE = "/repositories/team%2Fapp"
SECRET = {"name": "password", "value": "hidden from all", "repository": "team/app"}


async def use(port: Port) -> tuple[Image, ...]:
    """Push, try, tag, delete: something of all that a restore must bring back."""
    passing, failing, listed = tiny_image(), tiny_image(), tiny_image()
    worker = await port.worker("one")
    for number, image in enumerate((passing, failing)):
        await port.push(image, tag=f"{number}")
        job = await worker.claim()
        assert (await worker.report(job, met=not number, exit_code=number)).status == 204
    await port.push(make_index(passing, listed), tag="all")
    await port.push(failing, tag="0")
    rolled = await api(port.admin, "POST", f"{PLACE}/tags/0/rollback", json={}, status=200)
    assert rolled["digest"] == passing.digest
    await port.push(listed, tag="gone")
    assert (await ask(port.admin, "DELETE", "/v2/team/app/manifests/gone")).status == 202
    await api(port.admin, "POST", "/secrets", json=SECRET, status=201)
    await until_attested(port)
    return passing, failing, listed


async def all_jobs(worker: ScriptedWorker) -> AsyncIterator[Any]:
    """Carry out all that waits."""
    while (job := await worker.claim()) is not None:
        assert (await worker.report(job)).status == 204
        yield job


async def until_attested(port: Port) -> None:
    async with asyncio.timeout(60):
        while True:
            if all(one["signed_at"] for one in await attestations(port)):
                return
            await asyncio.sleep(0.05)


async def attestations(port: Port) -> list[Any]:
    found: list[Any] = (await api(port.admin, "GET", f"{PLACE}/attestations"))["items"]
    return found


async def seen(port: Port, images: tuple[Image, ...]) -> dict[str, Any]:
    """All that people see of a registry, but for what goes on: who asked when."""
    shown: dict[str, Any] = {"content": {}}
    for name in (await ask(port.admin, "GET", "/v2/_catalog")).json["repositories"]:
        tags = (await ask(port.admin, "GET", f"/v2/{name}/tags/list")).json["tags"]
        shown[f"tags of {name}"] = tags
        for tag in tags:
            where = f"/repositories/{name.replace('/', '%2F')}/tags/{tag}"
            shown[f"history of {name}:{tag}"] = await api(port.admin, "GET", f"{where}/history")
            shown[f"{name}:{tag}"] = (await ask(port.admin, "GET", f"/v2/{name}/manifests/{tag}")).body
    for image in images:
        for digest, content in image.blobs().items():
            kind = "manifests" if digest == image.digest else "blobs"
            answer = await ask(port.admin, "GET", f"/v2/team/app/{kind}/{digest}")
            assert (answer.status, answer.body) == (200, content)
        shown[f"trials of {image.digest}"] = await port.trials(image.digest)
        shown[f"state of {image.digest}"] = await port.state(image.digest)
        shown[f"referrers of {image.digest}"] = (
            await ask(port.admin, "GET", f"/v2/team/app/referrers/{image.digest}")
        ).json
    for path in (
        "/users",
        "/tokens",
        "/keys",
        "/workers",
        "/secrets?repository=team/app",
        f"{PLACE}/attestations",
        PLACE,
    ):
        listed = await api(port.admin, "GET", path)
        # The reader of a test is made anew each time it opens a registry.
        shown[path] = [
            {name: value for name, value in one.items() if not name.startswith("last_")}
            for one in listed.get("items", (listed,))
            if one.get("name") != "reader"
        ]
    return shown


async def verified(port: Port, keys: str) -> int:
    """Verify all that the registry has signed with keys that somebody kept; how many that is."""
    listed = await attestations(port)
    for one in listed:
        manifest = (await ask(port.admin, "GET", f"/v2/team/app/manifests/{one['referrer']}")).json
        assert manifest["artifactType"] == BUNDLE
        bundle = (await ask(port.admin, "GET", f"/v2/team/app/blobs/{manifest['layers'][0]['digest']}")).body
        read = read_bundle("it", bundle, parse_digest(one["digest"]), parse_keys(keys), repository="team/app")
        assert (read.refused, read.statement is None) == ("", False)
    return len(listed)


async def public_keys(port: Port) -> str:
    listed = (await api(port.admin, "GET", "/keys"))["items"]
    return "".join(key["public_pem"] for key in listed if key["ring"] == "attestation")


@pytest.mark.parametrize(("source", "target"), WAYS, ids=[" to ".join(way) for way in WAYS])
async def test_everything_comes_back(places: Places, tmp_path: Path, source: str, target: str) -> None:
    old, new = places.make("old", source, schema=True), places.make("new", target)
    kept = str(tmp_path / "kept")
    identity = Identity.make()
    (tmp_path / "key").write_text(identity.text())
    reads = ("--identity", str(tmp_path / "key"))
    async with old.open() as port:
        images = await use(port)
        token = (await make_token(port.admin, "repository:team/app:pull"))["token"]
        location = await start_upload(port.admin, "team/app")
        before, keys = await seen(port, images), await public_keys(port)
        # While it serves; what comes later is not in it.
        made = await old.run("create", kept, "--recipient", str(identity.recipient))
        await port.push(tiny_image(), tag="late")
    assert (made["has_secret_key"], made["missing"], made["said"]) == (True, {}, "")
    assert made["blobs"] == made["new_blobs"] > 0
    (listed,) = await old.run("list", kept)
    assert listed["id"] == made["id"]
    told = await old.run("verify", kept, *reads)
    assert (told["blobs"], told["bytes"], told["problems"]) == (made["blobs"], made["blob_bytes"], {})
    assert (await new.run("restore", kept, *reads, "--dry-run"))["dry_run"] is True
    done = await new.run("restore", kept, *reads)
    assert (done["id"], done["rows"], done["blobs"]) == (made["id"], made["rows"], made["blobs"])
    assert (new.data / "secret.key").read_text() == (old.data / "secret.key").read_text()
    (new.data / "admin.token").write_text((old.data / "admin.token").read_text())
    async with new.open() as port:
        assert await seen(port, images) == before
        assert await verified(port, keys) > 0
        reader = port.registry.client(token)
        async with reader, reader.get("/v2/team/app/tags/list") as response:
            assert "late" not in (await response.json())["tags"]
        # An upload in progress is in no backup.
        assert (await ask(port.admin, "PATCH", location, data=b"x")).status == 404
        # It goes on: with new rows, new bytes, and signatures of the same key.
        image = tiny_image()
        await port.push(image, tag="new")
        worker = await port.worker("another")
        jobs = [job async for job in all_jobs(worker)]
        assert image.digest == jobs[-1]["digest"]
        await push_blob(port.admin, "team/app", b"more")
        await until_attested(port)
        assert image.digest in {one["digest"] for one in await attestations(port)}
        await verified(port, keys)
        audit = await api(port.admin, "GET", "/audit", params={"action": "backup.restored"})
        assert [one["target"] for one in audit["items"]] == [made["id"]]
