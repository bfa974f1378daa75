"""``seatrial fsck`` and ``seatrial scrub`` as people type them: what they print, and how they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.test_commands import Done, seatrial
from tests.kit.distribution import EMPTY_CONFIG, push_blob, put_manifest, small_manifest
from tests.kit.images import digest_of
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
