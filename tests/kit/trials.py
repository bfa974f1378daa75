"""A registry with its people for tests of trials, and workers that do what the test's script says."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from registry.contract import PROTOCOL_VERSION
from registry.db.engine import Database
from tests.kit.access import Answer, ask
from tests.kit.distribution import push_image
from tests.kit.images import Image, file, make_image, make_index, make_layer
from tests.kit.server import Registry, running_registry

REPOSITORY = "team/app"
_NUMBERS = itertools.count()


def tiny_image(platform: str = "linux/amd64", **config: Any) -> Image:
    """A runnable image that no other test has; nobody ever runs it."""
    layer = make_layer(file("app", f"{next(_NUMBERS)}".encode()))
    return make_image(layer, config={"Cmd": ["/app"]} | config, platform=platform)


def tiny_index(*platforms: str) -> tuple[Image, tuple[Image, ...]]:
    """An index with a tiny image for each platform, and those images."""
    images = tuple(tiny_image(platform) for platform in platforms)
    return make_index(*images), images


@dataclass(slots=True)
class ScriptedWorker:
    """Speaks the worker protocol and runs nothing."""

    client: aiohttp.ClientSession = field(repr=False)
    name: str

    async def claim(
        self,
        *,
        wait_seconds: float = 0,
        platforms: tuple[str, ...] = ("linux/amd64",),
        slots: int = 64,
        **able: Any,
    ) -> Any:
        """The job claimed, or ``None``. It always says that it has slots, and of its disk and its mechanisms
        what is given."""
        message = {"platforms": platforms, "wait_seconds": wait_seconds, "slots": slots, **able}
        answer = await self.post("claim", {"protocol": PROTOCOL_VERSION, **message})
        assert answer.status == 200, answer.body
        return answer.json["job"]

    async def renew(self, job: Any) -> Answer:
        """Send the heartbeat of a job's lease."""
        return await self.post("renew", {"protocol": PROTOCOL_VERSION, "lease": job["lease"]})

    async def report(self, job: Any, **members: Any) -> Answer:
        """Report on a job."""
        return await self.post("report", make_report(job, **members))

    async def post(self, action: str, message: Any) -> Answer:
        """Send any message: bytes as they are, all else as JSON."""
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        return await ask(
            self.client,
            "POST",
            f"/worker/v1/{action}",
            data=io.BytesIO(data),
            headers={"Content-Type": "application/json"},
        )


def make_report(
    job: Any,
    *,
    met: bool | None = True,
    exit_code: int = 0,
    log: str = "hello\n",
    run: dict[str, Any] | None = None,
    **members: Any,
) -> dict[str, Any]:
    """A report on a job: one run that met its expectation or not, with members of its own from ``run``."""
    usual = {
        "name": "smoke",
        "command": ["/app"],
        "exit_code": exit_code,
        "reason": "exited",
        "seconds": 0.1,
        "log": log,
        "observations": [
            {"expectation": "exit code is 0", "seen": f"exit code {exit_code}", "met": met},
        ],
    }
    return {
        "protocol": PROTOCOL_VERSION,
        "lease": job["lease"],
        "digest": job["digest"],
        "platform": job["platform"],
        "tested": "the command exits 0",
        "runtime": "scripted 1.0",
        "runs": [usual | (run or {})],
        **members,
    }


def make_error(reason: str, *, retryable: bool = False) -> dict[str, Any]:
    """The members of a report that says why nothing is known."""
    return {
        "runs": [],
        "error": {"reason": reason, "message": f"it was {reason}", "retryable": retryable},
    }


@dataclass(slots=True)
class Port:
    """The registry with an administrator, somebody who may only pull, and workers."""

    registry: Registry
    admin: aiohttp.ClientSession = field(repr=False)
    reader: aiohttp.ClientSession = field(repr=False)
    stack: AsyncExitStack = field(repr=False)

    @property
    def database(self) -> Database:
        """The registry's database."""
        assert self.registry.services is not None
        return self.registry.services.database

    async def worker(self, name: str) -> ScriptedWorker:
        """A new worker with a token of its own."""
        token = await worker_token(self.admin, name)
        headers = {"Authorization": f"Bearer {token}"}
        client = aiohttp.ClientSession(self.registry.url, headers=headers)
        return ScriptedWorker(await self.stack.enter_async_context(client), name)

    async def puller(self, job: Any) -> aiohttp.ClientSession:
        """A client with the pull token of a job."""
        headers = {"Authorization": f"Bearer {job['pull_token']}"}
        client = aiohttp.ClientSession(self.registry.url, headers=headers)
        return await self.stack.enter_async_context(client)

    async def push(self, image: Image, *, repository: str = REPOSITORY, tag: str = "1") -> str:
        """Push as the administrator; returns the digest."""
        return await push_image(self.admin, repository, tag, image)

    async def trials(self, digest: str, *, client: aiohttp.ClientSession | None = None) -> Any:
        """The trials of an image, newest first."""
        answer = await ask(
            client or self.admin, "GET", "/api/v1/trials", params={"image": REPOSITORY, "digest": digest}
        )
        assert answer.status == 200, answer.body
        return answer.json

    async def state(self, reference: str, *, repository: str = REPOSITORY) -> str:
        """The state of an image that counts, as the gate sees it."""
        join = "@" if ":" in reference else ":"
        image = f"{repository}{join}{reference}"
        answer = await ask(self.admin, "GET", "/api/v1/gate", params={"image": image})
        assert answer.status == 200, answer.body
        return str(answer.json["state"])

    async def pull(
        self, reference: str, *, repository: str = REPOSITORY, client: aiohttp.ClientSession | None = None
    ) -> Answer:
        """Read a manifest, as the reader where nobody else is named."""
        return await ask(client or self.reader, "GET", f"/v2/{repository}/manifests/{reference}")


async def worker_token(admin: aiohttp.ClientSession, name: str) -> str:
    """A token for a worker of that name."""
    answer = await ask(admin, "POST", "/api/v1/tokens", json={"worker": name})
    assert answer.status == 201, answer.body
    return str(answer.json["token"])


async def pull_token(admin: aiohttp.ClientSession, repository: str = "*") -> str:
    """A token that may pull and nothing else."""
    body = {"name": "reader", "scopes": [f"repository:{repository}:pull"]}
    answer = await ask(admin, "POST", "/api/v1/tokens", json=body)
    assert answer.status == 201, answer.body
    return str(answer.json["token"])


@asynccontextmanager
async def open_port(data: Path, database_url: str, **settings: Any) -> AsyncIterator[Port]:
    """A registry in this process that tries what is pushed; the gate enforces and waits for nothing."""
    values: dict[str, Any] = {
        "gate": "enforce",
        "trial_on_push": True,
        "trial_platforms": ("linux/amd64",),
        "gate_wait_seconds": 0,
    }
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(
            running_registry(data, database_url, **(values | settings))
        )
        admin = await stack.enter_async_context(registry.client())
        reader = await stack.enter_async_context(registry.client(await pull_token(admin)))
        yield Port(registry, admin, reader, stack)
