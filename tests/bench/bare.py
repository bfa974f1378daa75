"""``python -m tests.bench.bare PORT uvloop|stdlib FILE``: what aiohttp costs before a registry does anything.

One route, one answer: the bytes of FILE as a manifest.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop
from aiohttp import web

from tests.kit.images import OCI_MANIFEST


async def serve(port: int, body: bytes) -> None:
    """Serve until killed."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=OCI_MANIFEST)

    app = web.Application()
    app.router.add_get("/v2/{name:.+}/manifests/{reference}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    work = serve(int(sys.argv[1]), Path(sys.argv[3]).read_bytes())
    if sys.argv[2] == "uvloop":
        uvloop.run(work)
    else:
        asyncio.run(work)
