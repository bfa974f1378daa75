"""A receiver of webhooks: a real server that answers as its script says, and checks every signature."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web
from standardwebhooks.webhooks import Webhook

Answer = Callable[[int], Awaitable[web.StreamResponse | None]]


@dataclass(frozen=True, slots=True)
class Got:
    """One request whose signature was right; ``status`` is what was answered, 0 for a broken connection."""

    id: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def position(self) -> int:
        """Where the CloudEvent stands in the feed."""
        return int(self.json["id"])


@dataclass(slots=True)
class Receiver:
    """``answers`` says what comes for the n-th request, which is ``coming``: a status, or 0 for a reset.
    ``says`` is the text of it. ``got`` are all that came, ``taken`` those that were answered with 2xx."""

    port: int
    secrets: list[str] = field(default_factory=list)
    answers: Callable[[int], int] = lambda number: 204
    says: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0
    got: list[Got] = field(default_factory=list)
    coming: Got | None = None
    at_once: int = 0
    most_at_once: int = 0

    @property
    def url(self) -> str:
        """Where to send to."""
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def taken(self) -> list[Got]:
        """What was answered with success."""
        return [each for each in self.got if 200 <= each.status < 300]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Take one delivery."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            body = await request.read()
            for secret in self.secrets:
                Webhook(secret).verify(body.decode(), dict(request.headers))
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.coming = Got(headers["webhook-id"], headers, body, 0)
            status = self.answers(len(self.got))
            self.got.append(replace(self.coming, status=status))
            await asyncio.sleep(self.delay_seconds)
            if status == 0:
                assert request.transport is not None
                request.transport.abort()
            return web.Response(
                status=status or 500, text=self.says or f"answer {len(self.got)}", headers=self.headers
            )
        finally:
            self.at_once -= 1

    async def until(self, count: int, seconds: float = 60) -> list[Got]:
        """Wait until so many were taken."""
        end = asyncio.get_running_loop().time() + seconds
        while len(self.taken) < count:
            assert asyncio.get_running_loop().time() < end, [
                (each.status, each.json.get("type")) for each in self.got
            ]
            await asyncio.sleep(0.02)
        return self.taken


@asynccontextmanager
async def running_receiver(port: int = 0, **given: Any) -> AsyncIterator[Receiver]:
    """Listen on loopback while the block runs; a ``port`` may be one where nobody listened before."""
    listener = socket.create_server(("127.0.0.1", port))
    receiver = Receiver(listener.getsockname()[1], **given)
    app = web.Application()
    app.router.add_post("/hook", receiver.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    try:
        yield receiver
    finally:
        await runner.cleanup()
