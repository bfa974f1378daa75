"""Registries that others wrote move in: docker-registry of Debian, distribution 3 and olareg."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.bench import peers
from tests.bench.load import Target
from tests.kit.distribution import push_image, put_manifest, small_index
from tests.kit.images import OCI_INDEX, file, make_image, make_index, make_layer, make_referrer
from tests.kit.server import Registry
from tests.kit.sources import ROOT

BASE = make_layer(file("base", os.urandom(3_000_000)))
FIRST = make_image(BASE, make_layer(file("a", b"one")))
SECOND = make_image(BASE, make_layer(file("a", b"two")))
INDEX = make_index(FIRST, make_image(make_layer(file("c", b"arm")), platform="linux/arm64"))
SIGNATURE = make_referrer(FIRST.digest, b"signed", artifact_type="test/signature", media_type="test/plain")
FALLBACK = f"sha256-{FIRST.digest[7:]}"
# Whether it lists its repositories, and no referrers; or the other way round.
PEERS = (
    pytest.param(lambda folder: peers.docker_registry(folder, core=None), True, id="docker-registry"),
    pytest.param(lambda folder: peers.distribution(folder, logs=False, core=None), True, id="distribution"),
    pytest.param(lambda folder: peers.olareg(folder, core=None), False, id="olareg"),
)


async def migrated(registry: Registry, *arguments: str) -> Any:
    """What ``seatrial migrate`` tells, where nothing failed."""
    environment = {**os.environ, "SEATRIAL_SERVER": registry.url, "SEATRIAL_TOKEN": registry.token}
    command = [sys.executable, "-m", "registry.main", "migrate", *arguments, "--json"]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("peer", "lists"), PEERS)
async def test_another_registry_moves_in(
    peer: Callable[[Path], AbstractContextManager[Target]], lists: bool, registry: Registry, tmp_path: Path
) -> None:
    with peer(tmp_path / "peer") as target:
        url = f"http://127.0.0.1:{target.port}"
        async with aiohttp.ClientSession(url) as pusher:
            for number in range(12):
                await push_image(pusher, "library/app", f"v{number}", (FIRST, SECOND)[number % 2])
            await push_image(pusher, "library/app", "multi", INDEX)
            await push_image(pusher, "library/app", SIGNATURE.digest, SIGNATURE)
            if lists:  # but no referrers: clients write a tag in the place of that
                index = small_index(SIGNATURE.manifest)
                answer = await put_manifest(pusher, "library/app", FALLBACK, index, OCI_INDEX)
                assert answer.status == 201, answer.body
            await push_image(pusher, "tools/one", "1", SECOND)
        names = [] if lists else ["library/app", "tools/one"]
        told = await migrated(registry, "registry", url, *names, "--into", "old")
        again = await migrated(registry, "registry", url, *names, "--into", "old")
    # And from the folder that it has left.
    kept = await migrated(
        registry,
        "folder",
        str(tmp_path / "peer/data"),
        "--into",
        "disk",
        "--data",
        str(tmp_path / "registry"),
    )
    for by_folder, by_api in zip(kept["repositories"], told["repositories"], strict=True):
        assert (by_folder["repository"], by_folder["failed"]) == (by_api["repository"], [])
        assert sorted(by_folder["new"]) == sorted(by_api["new"])
        assert by_folder["referrers"] == by_api["referrers"]
        # The registry has all bytes already.
        assert by_folder["blobs"] == 0
    app, tool = told["repositories"]
    assert (app["into"], len(app["new"]), app["referrers"]) == ("old/library/app", 13, 1)
    assert tool["new"] == ["1"]
    # What both repositories have is fetched once.
    assert (app["mounted"] + tool["mounted"], app["blobs"] + tool["blobs"]) == (3, 9)
    assert sum(one["blobs"] + one["manifests"] + len(one["new"]) for one in again["repositories"]) == 0
    async with registry.client() as client:
        for reference, image in (("v0", FIRST), ("v1", SECOND), ("multi", INDEX)):
            async with client.get(f"/v2/old/library/app/manifests/{reference}") as answer:
                assert await answer.read() == image.manifest
        async with client.get(f"/v2/old/library/app/blobs/{BASE.digest}") as answer:
            assert await answer.read() == BASE.blob
        async with client.get(f"/v2/old/library/app/referrers/{FIRST.digest}") as answer:
            listed = await answer.json(content_type=None)
            assert [one["digest"] for one in listed["manifests"]] == [SIGNATURE.digest]
        async with client.get("/v2/old/library/app/tags/list") as answer:
            assert FALLBACK not in (await answer.json())["tags"]
