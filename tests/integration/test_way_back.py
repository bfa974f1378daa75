"""docs/upgrade.md: from the version before this one to this one, and each of the ways back."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from registry.db import migrate
from tests.kit.access import ask
from tests.kit.distribution import push_image
from tests.kit.images import Image, file, make_image, make_layer
from tests.kit.previous import install_previous
from tests.kit.server import Registry, RegistryProcess
from tests.kit.sources import ROOT
from tests.kit.wheel import Installed

PAGE = ROOT / "docs" / "upgrade.md"
NAME = "team/app"


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install_previous(tmp_path_factory.mktemp("previous"))


def steps(tmp_path: Path) -> dict[str, str]:
    """The commands of each step that has some, by its number, with this test's places."""
    page = PAGE.read_text()
    for example in ("/srv/", "/var/lib/"):
        assert example in page
        page = page.replace(example, f"{tmp_path}/")
    parts = re.split(r"^## (\d)\. .*$", page, flags=re.MULTILINE)
    found = {}
    for number, text in zip(parts[1::2], parts[2::2], strict=True):
        found[number] = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    return {number: commands for number, commands in found.items() if commands}


def shell(tmp_path: Path, commands: str) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def an_image(content: str) -> Image:
    return make_image(make_layer(file("app", content.encode())))


async def pulled(client: aiohttp.ClientSession, tag: str, image: Image) -> bool:
    """Whether the tag is there; then all of the image is."""
    if (await ask(client, "GET", f"/v2/{NAME}/manifests/{tag}")).status == 404:
        return False
    for digest, content in image.blobs().items():
        kind = "manifests" if digest == image.digest else "blobs"
        answer = await ask(client, "GET", f"/v2/{NAME}/{kind}/{digest}")
        assert (answer.status, answer.body) == (200, content)
    return True


async def test_there_and_back(previous: Installed, tmp_path: Path) -> None:
    commands = steps(tmp_path)
    assert list(commands) == ["1", "4", "5"]
    data = tmp_path / "seatrial"
    old = RegistryProcess(data, program=(str(previous.folder / "bin" / "seatrial"),))
    new = RegistryProcess(data)
    back = RegistryProcess(tmp_path / "seatrial-old")
    first, second = an_image("first"), an_image("second")

    async def start(server: RegistryProcess) -> Registry:
        return await asyncio.to_thread(server.start)

    try:
        registry = await start(old)
        async with registry.client() as client:
            await push_image(client, NAME, "1", first)
        old.stop()
        before = migrate.look(f"sqlite:///{data / 'seatrial.db'}").before
        # The new version.
        registry = await start(new)
        assert migrate.look(f"sqlite:///{data / 'seatrial.db'}").before == migrate.newest()
        assert (before == migrate.newest()) != bool(list(data.glob("*.before-upgrade-from-*")))
        # This version's backup, which the one before has not yet: step 5 is for the next upgrade.
        shell(tmp_path, commands["1"])
        async with registry.client() as client:
            await push_image(client, NAME, "2", second)
        new.stop()
        # The first way back: nothing is lost.
        registry = await start(old)
        async with registry.client() as client:
            assert await pulled(client, "1", first)
            assert await pulled(client, "2", second)
        old.stop()
        # The second: what was pushed since is lost.
        if before != migrate.newest():
            shell(tmp_path, commands["4"])
            assert migrate.look(f"sqlite:///{data / 'seatrial.db'}").before == before
            registry = await start(old)
            async with registry.client() as client:
                assert await pulled(client, "1", first)
                assert not await pulled(client, "2", second)
                await push_image(client, NAME, "2", second)
                assert await pulled(client, "2", second)
            old.stop()
        # The third.
        shell(tmp_path, commands["5"])
        shutil.copyfile(data / "admin.token", tmp_path / "seatrial-old" / "admin.token")
        registry = await start(back)
        async with registry.client() as client:
            assert await pulled(client, "1", first)
            assert not await pulled(client, "2", second)
    finally:
        for server in (old, new, back):
            server.stop()
