"""docs/growing.md, run as it stands: only the example's places are others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.kit.distribution import push_blob, push_image
from tests.kit.images import make_image
from tests.kit.postgres import PostgresServer
from tests.kit.s3 import S3Server
from tests.kit.server import Registry, RegistryProcess
from tests.kit.sources import ROOT

PAGE = ROOT / "docs" / "growing.md"
NAME = "team/app"
SERVE = "seatrial serve --listen 0.0.0.0:8470"


@pytest.fixture
def steps(tmp_path: Path, postgres: PostgresServer, s3: S3Server) -> Iterator[list[str]]:
    """The commands of each step, with this test's places."""
    name = postgres.create()
    replaced = {
        "/var/lib/seatrial": str(tmp_path / "data"),
        "/etc/seatrial/s3-credentials": str(s3.credentials),
        "postgresql://seatrial@db.example/seatrial": f"'{postgres.url(name)}'",
        "'s3://seatrial/blobs?endpoint_url=https://s3.example'": f"'{s3.url()}'",
    }
    page = PAGE.read_text()
    for example, place in replaced.items():
        assert example in page
        page = page.replace(example, place)
    yield re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    postgres.drop(name)


def shell(folder: Path, *steps: str) -> str:
    """Run these steps as one script; what it prints."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(steps)],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder)},
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def serving(folder: Path, *steps: str, token: str) -> Iterator[Registry]:
    """Run the last step, on a free port, for as long as the block runs."""
    read_end, write_end = os.pipe()
    script = "\n".join(steps)
    assert SERVE in script
    script = script.replace(SERVE, f"exec seatrial serve --listen 127.0.0.1:0 --ready-fd {write_end}")
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder)},
        cwd=folder, pass_fds=(write_end,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        os.close(write_end)
        with os.fdopen(read_end) as ready:
            told = json.loads(ready.read())
        yield Registry(told["address"].removeprefix("http://"), token)
    finally:
        process.terminate()
        assert process.wait(120) == 0


async def test_a_registry_grows_by_the_page(steps: list[str], tmp_path: Path) -> None:
    where, ahead, rest, start = steps
    server = RegistryProcess(tmp_path / "data")
    registry = server.start()
    try:
        async with registry.client() as client:
            await push_image(client, NAME, "1", make_image())
            told = shell(tmp_path, where, ahead)
            assert "A server runs: what is pushed from now on is not in the copy" in told
            assert "The copy is not finished" in told
            late = await push_blob(client, NAME, b"late")
            image = make_image(config={"Cmd": ["/late"]})
            await push_image(client, NAME, "late", image)
    finally:
        server.stop()
    assert "both sides are equal" in shell(tmp_path, where, rest)
    (tmp_path / "data" / "seatrial.db").rename(tmp_path / "old.db")
    (tmp_path / "data" / "blobs").rename(tmp_path / "old-blobs")
    # Twice: the second is the replica on another host, with a data folder of its own.
    key = tmp_path / "data" / "secret.key"
    other = where.replace(f"SEATRIAL_DATA={tmp_path / 'data'}", f"SEATRIAL_DATA={tmp_path / 'other'}")
    assert other != where
    with (
        serving(tmp_path, where, start, token=registry.token) as first,
        serving(tmp_path, other, start, token=registry.token) as second,
    ):
        assert f"SEATRIAL_SECRET_KEY_FILE={key}" in start
        for replica in (first, second):
            async with replica.client() as client:
                assert await tags(client) == ["1", "late"]
                async with client.get(f"/v2/{NAME}/blobs/{late}") as response:
                    assert await response.read() == b"late"
                async with client.get(f"/v2/{NAME}/manifests/late") as response:
                    assert await response.read() == image.manifest
        async with first.client() as one, second.client() as two:
            await push_image(one, NAME, "new", make_image(config={"Cmd": ["/new"]}))
            assert await tags(two) == ["1", "late", "new"]


async def tags(client: aiohttp.ClientSession) -> list[str]:
    async with client.get(f"/v2/{NAME}/tags/list") as response:
        assert response.status == 200, await response.text()
        return list((await response.json())["tags"])
