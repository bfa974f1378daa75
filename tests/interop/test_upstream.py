"""An image in a registry that others wrote is copied and waits for a worker."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import suppress
from pathlib import Path

import aiohttp

from tests.kit.access import api
from tests.kit.distribution import push_image
from tests.kit.images import make_index
from tests.kit.ports import free_port
from tests.kit.server import RegistryProcess
from tests.kit.trials import tiny_image

SECONDS = 60


async def test_an_image_of_cranes_registry(tools: Path, tmp_path: Path) -> None:
    crane, port = str(tools / "crane"), free_port()
    image = tiny_image()
    index = make_index(image, tiny_image("linux/arm64"))
    host = f"127.0.0.1:{port}"
    other = subprocess.Popen([crane, "registry", "serve", "--address", host])
    server = RegistryProcess(
        tmp_path / "data", trial_platforms="linux/amd64", outgoing_networks="127.0.0.0/8"
    )
    try:
        async with aiohttp.ClientSession(f"http://{host}") as pusher:
            for _ in range(SECONDS * 10):
                with suppress(aiohttp.ClientConnectorError):
                    async with pusher.get("/v2/") as answer:
                        assert answer.status == 200
                        break
                await asyncio.sleep(0.1)
            await push_image(pusher, "lib/app", "1", index)
        registry = await asyncio.to_thread(server.start)
        async with registry.client() as admin:
            await api(admin, "POST", "/namespaces", status=201, json={"name": "team"})
            upstream = {"name": "other", "namespace": "team", "host": host, "plain_http": True}
            await api(admin, "POST", "/upstreams", status=201, json=upstream)
            asked = {"upstream": "other", "image": "lib/app:1"}
            trial = await api(admin, "POST", "/trials", status=201, json=asked)
            for _ in range(SECONDS * 10):
                shown = await api(admin, "GET", f"/trials/{trial['id']}")
                if shown["parts"] or shown["state"] == "done":
                    break
                await asyncio.sleep(0.1)
        assert [part["digest"] for part in shown["parts"]] == [image.digest], shown["reason"]
    finally:
        await asyncio.to_thread(server.stop)
        other.terminate()
        other.wait(SECONDS)
