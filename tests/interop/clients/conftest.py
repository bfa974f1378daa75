"""One registry for all clients, and homes for who is signed in and who is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kit.access import make_repository
from tests.kit.clients import Clients, client_home
from tests.kit.server import ADMIN, Registry, RegistryProcess


@pytest.fixture(scope="session")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """The real ``seatrial serve``, without trials; each test has repositories of its own."""
    made = RegistryProcess(tmp_path_factory.mktemp("registry") / "data")
    yield made
    made.stop()


@pytest.fixture(scope="session")
def registry(process: RegistryProcess) -> Registry:
    """It listens."""
    return process.start()


@pytest.fixture
def server_log(process: RegistryProcess) -> Path:
    """What the server has logged."""
    return process.log


@pytest.fixture
def clients(tools: Path, registry: Registry) -> Iterator[Clients]:
    """Clients of the administrator, who has signed in before."""
    with client_home(tools) as made:
        made.sign_in(registry.host, ADMIN, registry.token)
        yield made


@pytest.fixture
def stranger(tools: Path) -> Iterator[Clients]:
    """Clients of somebody without credentials."""
    with client_home(tools) as made:
        yield made


@pytest.fixture
def make_public(registry: Registry) -> Callable[[str], str]:
    """Makes a public repository; returns its name with the host."""

    async def make(name: str) -> None:
        async with registry.client() as client:
            await make_repository(client, name, visibility="public")

    def run(name: str) -> str:
        asyncio.run(make(name))
        return f"{registry.host}/{name}"

    return run
