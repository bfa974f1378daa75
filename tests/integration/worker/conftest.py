"""A real registry, real workers, real containers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.kit.access import ask
from tests.kit.distribution import push_image
from tests.kit.images import Image
from tests.kit.server import Registry, RegistryProcess
from tests.kit.trials import worker_token
from tests.kit.worker import WorkerProcess, why_no_runs, worker_process

REPOSITORY = "team/app"


@dataclass(slots=True)
class Yard:
    """A registry process and its workers."""

    process: RegistryProcess
    registry: Registry
    stack: ExitStack = field(repr=False)

    def worker(self, name: str, *, slots: int = 1) -> WorkerProcess:
        """A worker with a token of its own, not started."""

        async def make() -> str:
            async with self.registry.client() as admin:
                return await worker_token(admin, name)

        token = asyncio.run(make())
        return self.stack.enter_context(worker_process(self.registry.url, token, slots=slots))

    def push(self, image: Image, tag: str, *, repository: str = REPOSITORY) -> str:
        """Push an image; returns its digest."""

        async def push() -> str:
            async with self.registry.client() as admin:
                return await push_image(admin, repository, tag, image)

        return asyncio.run(push())

    def call(self, method: str, path: str, **options: Any) -> Any:
        """The JSON that the administrator gets."""

        async def call() -> Any:
            async with self.registry.client() as admin:
                answer = await ask(admin, method, path, **options)
                assert answer.status < 300, answer.body
                return answer.json if answer.body else None

        return asyncio.run(call())

    def verdict(self, tag: str) -> Any:
        """The newest trial of a tag, once it has a verdict."""
        query = {"image": REPOSITORY, "tag": tag, "wait": "60"}
        for _ in range(3):  # more than a minute nobody may wait at once
            trial = self.call("GET", "/api/v1/trials", params=query)[0]
            if trial["verdict"] is not None:
                break
        assert trial["verdict"] is not None, trial
        return trial

    def newest(self, tag: str) -> Any:
        """The newest trial of a tag, as it stands."""
        return self.call("GET", "/api/v1/trials", params={"image": REPOSITORY, "tag": tag})[0]


@pytest.fixture(scope="module")
def make_yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Yard]]:
    """Makes registries that enforce. What is to end by itself has time to: a machine may be busy."""
    why = why_no_runs()
    if why is not None:
        pytest.skip(why)
    with ExitStack() as stack:

        def make(**settings: str) -> Yard:
            values = {
                "gate": "enforce",
                "trial_on_push": "true",
                "limits__alive_seconds": "10",
                "gate_wait_seconds": "0",
            }
            data: Path = tmp_path_factory.mktemp("yard") / "data"
            process = RegistryProcess(data, **(values | settings))
            stack.callback(process.stop)
            return Yard(process, process.start(), stack)

        yield make
