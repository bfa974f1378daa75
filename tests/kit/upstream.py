"""A registry that is asked for images: it answers as the script says, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from tests.kit.access import api
from tests.kit.images import Image

SECONDS = 60
"""How long is waited for what must happen."""


@dataclass(frozen=True, slots=True)
class Said:
    """One answer; ``waits`` holds its body back until it is set."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    waits: asyncio.Event | None = None


@dataclass(slots=True)
class Elsewhere:
    """``answers`` are by path; ``asked`` has each request: host, path, and its ``Authorization``."""

    host: str = ""
    other_host: str = ""
    answers: dict[str, Said] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    serving: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    """What answers instead, if it is given."""

    def hold(self, repository: str, tag: str, image: Image) -> None:
        """Have an image."""
        base = f"/v2/{repository}"
        said = Said(body=image.manifest, headers={"Content-Type": image.media_type})
        self.answers[f"{base}/manifests/{tag}"] = self.answers[f"{base}/manifests/{image.digest}"] = said
        for digest, content in image.blobs().items():
            self.answers[f"{base}/blobs/{digest}"] = Said(body=content)

    def times(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(each == path for _, each, _ in self.asked)

    async def until(self, path: str) -> None:
        """Wait until a path was asked for."""
        for _ in range(600):
            if self.times(path):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(self.asked)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer by the script."""
        path = request.rel_url.raw_path
        self.asked.append((request.headers["Host"], path, request.headers.get("Authorization")))
        said = self.answers.get(path, Said(404))
        if said.waits is not None:
            await said.waits.wait()
        return web.Response(status=said.status, body=said.body, headers=said.headers)


@asynccontextmanager
async def running_elsewhere() -> AsyncIterator[Elsewhere]:
    """Serve on two addresses of this machine, as two hosts."""
    made = Elsewhere()
    app = web.Application()

    async def serve(request: web.Request) -> web.StreamResponse:
        return await (made.serving or made.serve)(request)

    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    first = web.TCPSite(runner, "127.0.0.1", 0)
    await first.start()
    port = runner.addresses[0][1]
    await web.TCPSite(runner, "127.0.0.2", port).start()
    made.host, made.other_host = f"127.0.0.1:{port}", f"127.0.0.2:{port}"
    try:
        yield made
    finally:
        await runner.cleanup()


async def add(client: aiohttp.ClientSession, host: str, **given: Any) -> Any:
    """Add an upstream, as the administrator."""
    body = {"name": "other", "namespace": "team", "host": host, "plain_http": True, **given}
    return await api(client, "POST", "/upstreams", status=201, json=body)


async def start(client: aiohttp.ClientSession, image: str, *, upstream: str = "other", **given: Any) -> Any:
    """Have an image of it tried."""
    body = {"upstream": upstream, "image": image, **given}
    return await api(client, "POST", "/trials", status=201, json=body)


async def ended(client: aiohttp.ClientSession, trial: Any) -> Any:
    """The trial, once it is done."""
    for _ in range(SECONDS * 10):
        shown = await api(client, "GET", f"/trials/{trial['id']}")
        if shown["state"] == "done":
            return shown
        await asyncio.sleep(0.1)
    raise AssertionError(shown)


async def claimed(worker: Any) -> Any:
    """The next job, once there is one."""
    for _ in range(SECONDS):
        if (job := await worker.claim(wait_seconds=1)) is not None:
            return job
    raise AssertionError("no job")
