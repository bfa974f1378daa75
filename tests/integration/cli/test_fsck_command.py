"""``seatrial fsck`` and ``seatrial scrub`` as people type them: what they print, and how they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.test_commands import Done, seatrial
from tests.kit.distribution import (
    EMPTY_CONFIG,
    push_blob,
    push_image,
    put_manifest,
    small_manifest,
    start_upload,
)
from tests.kit.images import Image, digest_of, file, make_image, make_layer
from tests.kit.server import Registry, RegistryProcess

LAYER = b"layer" * 1000


@pytest.fixture
def process(tmp_path: Path) -> Iterator[RegistryProcess]:
    server = RegistryProcess(tmp_path / "data", scrub_every_seconds="0")
    yield server
    server.stop()


async def push(registry: Registry) -> None:
    async with registry.client() as client:
        for content in (EMPTY_CONFIG, LAYER):
            await push_blob(client, "team/app", content)
        answer = await put_manifest(client, "team/app", "v1", small_manifest([LAYER]))
        assert answer.status == 201, answer.body


async def push_much(registry: Registry) -> None:
    async with registry.client() as client:
        await push_blob(client, "team/app", bytes(8 << 20))


def blobs_of(data: Path) -> list[Path]:
    return [one for one in (data / "blobs/blobs").glob("*/*") if one.stat().st_size == len(LAYER)]


def spoil(data: Path) -> None:
    (path,) = blobs_of(data)
    path.chmod(0o600)
    path.write_bytes(LAYER[::-1])


def fsck(process: RegistryProcess, *arguments: str) -> Done:
    return seatrial("fsck", "--data", str(process.data), *arguments, cwd=process.data.parent)


def test_fsck_tells_mends_and_exits(process: RegistryProcess, tmp_path: Path) -> None:
    asyncio.run(push(process.start()))
    beside = fsck(process)
    assert (beside.returncode, "All is well." in beside.stdout) == (0, True), beside.stderr
    process.stop()
    spoil(process.data)
    assert fsck(process).returncode == 0, "as many bytes as before"
    found = fsck(process, "--hash")
    assert found.returncode == 1
    assert f"wrong: blobs: {digest_of(LAYER)}: its bytes have another digest -> put it into" in found.stdout
    assert "Nothing was changed." in found.stdout
    found = fsck(process, "--hash", "--mend", "--json")
    told: dict[str, Any] = json.loads(found.stdout)
    assert (found.returncode, told["left"], told["mend"]) == (1, 1, True)
    assert [(one["what"], one["mended"]) for one in told["problems"]] == [(digest_of(LAYER), True)]
    assert {one["name"]: one["wrong"] for one in told["checks"]}["blobs"] == 1
    asyncio.run(push(process.start()))
    assert fsck(process, "--hash").returncode == 0, "the push healed it"
    nowhere = seatrial("fsck", "--data", str(tmp_path / "none"), cwd=tmp_path)
    assert (nowhere.returncode, nowhere.stdout) == (2, "")
    assert nowhere.stderr.startswith("seatrial: there is no folder")


def test_fsck_repairs_from_a_peer_a_layout_and_a_copy_of_the_store(
    process: RegistryProcess, tmp_path: Path
) -> None:
    asyncio.run(push(process.start()))
    copied = seatrial(
        "storage", "copy", "--data", str(process.data), "--to", f"file://{tmp_path}/copy", cwd=tmp_path
    )
    assert copied.returncode == 0, copied.stderr
    peer = RegistryProcess(tmp_path / "peer", visibility="public", scrub_every_seconds="0")
    try:
        there = peer.start()
        asyncio.run(push(there))
        for source in (f"file://{tmp_path}/copy", f"{there.url}/layout/team/app/"):
            spoil(process.data)
            assert fsck(process, "--hash").returncode == 1
            found = fsck(process, "--hash", "--from", source)
            assert (found.returncode, "-> take it from" in found.stdout) == (1, True)
            mended = fsck(process, "--hash", "--from", source, "--mend")
            assert mended.returncode == 0, mended.stdout
            assert "All is well." in mended.stdout
            assert fsck(process, "--hash").returncode == 0
            (path,) = (one for one in blobs_of(process.data) if one.read_bytes() == LAYER[::-1])
            path.unlink()  # as a collection does
    finally:
        peer.stop()
    for source, why in (
        (f"file://{tmp_path}/none", "there is no store in"),
        (f"file://{process.data.resolve()}/blobs", "names the store itself"),
        (str(tmp_path / "none"), "cannot be read"),
        (str(tmp_path / "copy"), "no readable index.json"),
        (str(tmp_path / "copy"), "and there are no backups in it"),
    ):
        refused = fsck(process, "--from", source)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert why in refused.stderr
    assert not (tmp_path / "none").exists()


def test_scrub_runs_tells_and_stops(process: RegistryProcess) -> None:
    registry = process.start()
    asyncio.run(push(registry))
    here, server = process.data.parent, {"SEATRIAL_SERVER": registry.url}

    def scrub(*arguments: str) -> Done:
        return seatrial("scrub", *arguments, cwd=here, env=server)

    done = scrub("run", "--rate", "1GiB", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["damaged"], told["bytes_per_second"], told["blobs_checked"]) == (0, 1 << 30, 2)
    spoil(process.data)
    done = scrub("run")
    assert done.returncode == 1
    assert "seatrial scrub damaged" in done.stderr
    assert digest_of(LAYER) in scrub("damaged").stdout
    (listed,) = json.loads(scrub("damaged", "--json").stdout)
    assert (listed["damage"], listed["repositories"]) == ("digest", ["team/app"])
    assert len(json.loads(scrub("status", "--json").stdout)) == 2
    refused = scrub("stop")
    assert (refused.returncode, refused.stderr) == (2, "seatrial: no scrub is going on\n")
    assert scrub("run", "--rate", "fast").returncode == 64
    asyncio.run(push_much(registry))
    begun = json.loads(scrub("run", "--no-wait", "--rate", "64KiB", "--json").stdout)
    assert begun["ended_at"] is None
    stopped = json.loads(scrub("stop", "--json").stdout)
    assert (stopped["id"], stopped["stopped"]) == (begun["id"], "admin stopped it")


def test_gc_says_what_will_go_and_takes_it(tmp_path: Path) -> None:
    given = {"collection_grace_seconds": "0", "collection_every_seconds": "0", "scrub_every_seconds": "0"}
    process = RegistryProcess(tmp_path / "data", **given)
    try:
        registry = process.start()
        asyncio.run(push(registry))
        server = {"SEATRIAL_SERVER": registry.url}

        def gc(*arguments: str) -> Done:
            return seatrial("gc", *arguments, cwd=tmp_path, env=server)

        asyncio.run(delete_image(registry))
        would = json.loads(gc("--dry-run", "--json").stdout)
        assert {one["kind"] for one in would} == {"link", "manifest"}
        assert {one["digest"] for one in would if one["kind"] == "link"} == {
            digest_of(EMPTY_CONFIG),
            digest_of(LAYER),
        }
        assert len(json.loads(gc("--dry-run", "--json").stdout)) == len(would), "nothing was changed"
        done = json.loads(gc("--json").stdout)
        assert (done["blobs_removed"], done["manifests_removed"], done["phase"]) == (2, 1, "done")
        assert done["freed_bytes"] == len(LAYER) + len(EMPTY_CONFIG)
        assert "done" in gc().stdout
        assert json.loads(gc("--dry-run", "--json").stdout) == []
        assert gc("--dry-run").stdout == "Nothing is to be removed.\n"
        assert [one["blobs_removed"] for one in json.loads(gc("--history", "--json").stdout)] == [0, 2]
        refused = gc("--dry-run", "--history")
        assert (refused.returncode, refused.stdout) == (64, "")
    finally:
        process.stop()


async def delete_image(registry: Registry) -> None:
    async with registry.client() as client:
        digest = digest_of(small_manifest([LAYER]))
        async with client.delete(f"/v2/team/app/manifests/{digest}") as response:
            assert response.status == 202


IMAGES = {
    "gzip": make_image(
        make_layer(file("a", b"a" * 5000)), make_layer(file("b", b"b")), config={"Cmd": ["/a"]}
    ),
    "zstd": make_image(make_layer(file("a", b"z" * 5000), compression="zstd"), platform="linux/arm64"),
}


def test_fsck_rebuilds_what_the_store_tells(process: RegistryProcess, tmp_path: Path) -> None:
    """Images as they were, but for their manifests; manifests that were pushed as blobs; and what is left."""
    inner, half = small_manifest([LAYER]), make_image(make_layer(file("c", b"c")))
    asyncio.run(push_to_lose(process.start(), inner, half))
    process.stop()
    for path in process.data.glob("seatrial.db*"):
        path.unlink()
    before = sorted(one.name for one in (process.data / "blobs").rglob("*"))
    refused = fsck(process, "--rebuild", "--from", str(tmp_path))
    assert (refused.returncode, refused.stdout) == (64, "")
    found = fsck(process, "--rebuild", "--json")
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    assert (told["rebuilt"], told["images"], told["manifests"], told["incomplete"]) == (False, 2, 1, 1)
    assert sorted(one.name for one in (process.data / "blobs").rglob("*")) == before
    assert not (process.data / "seatrial.db").exists(), "nothing was changed"
    for _ in range(2):
        done = fsck(process, "--rebuild", "--mend", "--into", "found/all", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
    assert told["tags"] == sorted(told["tags"], key=lambda tag: ("found", "image", "loose").index(tag[:5]))
    assert fsck(process, "--hash").returncode == 0
    asyncio.run(pull_what_was_found(process.start(), told["tags"], inner, half))


async def push_to_lose(registry: Registry, inner: bytes, half: Image) -> None:
    async with registry.client() as client:
        for name, image in IMAGES.items():
            await push_image(client, f"team/{name}", "v1", image)
        for content in (EMPTY_CONFIG, LAYER, inner, half.config):
            await push_blob(client, "team/blobs", content)
        await start_upload(client, "team/blobs")


async def pull_what_was_found(registry: Registry, tags: list[str], inner: bytes, half: Image) -> None:
    async with registry.client() as client, registry.client(anonymous=True) as nobody:
        by_config = {}
        for tag in tags:
            async with client.get(f"/v2/found/all/manifests/{tag}") as response:
                assert response.status == 200, tag
                raw = await response.read()
            by_config[json.loads(raw)["config"]["digest"]] = (tag, raw)
            for one in (json.loads(raw)["config"], *json.loads(raw)["layers"]):
                async with client.get(f"/v2/found/all/blobs/{one['digest']}") as response:
                    assert digest_of(await response.read()) == one["digest"]
        for image in IMAGES.values():
            tag, raw = by_config[digest_of(image.config)]
            assert tag.startswith("image-")
            original = json.loads(image.manifest)
            assert (json.loads(raw)["config"], json.loads(raw)["layers"]) == (
                original["config"],
                original["layers"],
            )
        assert by_config[digest_of(EMPTY_CONFIG)] == (f"found-{digest_of(inner)[7:19]}", inner)
        tag, raw = by_config[digest_of(b"{}")]
        assert tag == "loose-1"
        assert [one["digest"] for one in json.loads(raw)["layers"]] == [digest_of(half.config)]
        async with nobody.get("/v2/found/all/manifests/loose-1") as response:
            assert response.status == 401, "what was private stays so"
