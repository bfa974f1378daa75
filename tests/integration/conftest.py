"""Fixtures of all integration tests: a registry on each database, its administrator's client, nobody's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from argon2 import PasswordHasher

from registry.auth import passwords
from registry.db import engine
from registry.http import auditing, matching, server
from tests.kit.compiled import compile_once
from tests.kit.later import look_later
from tests.kit.server import Registry, running_registry


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """No registry in this process compiles a statement that another has compiled."""
    with pytest.MonkeyPatch.context() as patch:
        compile_once(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_loss_of_power() -> Iterator[None]:
    """No registry in this process waits for the disk at the end of a transaction on SQLite: only a host that
    goes down could tell. Those that are killed are processes of their own, and wait."""
    connect = engine._sqlite_connect

    def without_waiting(connection: Any, record: Any) -> None:
        connect(connection, record)
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous = OFF")
        cursor.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_sqlite_connect", without_waiting)
        yield


@pytest.fixture(autouse=True)
def written_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry in this process writes refusals and pulls when a test has it do so, and at its end: what it
    wrote by itself meanwhile would be rows of their own."""
    monkeypatch.setattr(auditing, "WRITE_SECONDS", 3600.0)


@pytest.fixture(autouse=True)
def swept_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry in this process sweeps when a test has it do so: not what the test is about to sweep, and
    not at its start, which would take longer than most tests."""

    async def never(*_given: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(server, "keep_swept", never)


@pytest.fixture(autouse=True)
def matched_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry in this process looks at its advisories at its start and when somebody asks for it: not
    while a test matches, or between a scan that comes and what is looked up for it."""
    monkeypatch.setattr(matching, "LOOK_SECONDS", 3600)


@pytest.fixture(autouse=True)
def looked_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry in this process leaves a test a second before it looks around by itself, unless there is
    something to look at."""
    look_later(monkeypatch)


@pytest.fixture(autouse=True)
def passwords_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry in this process hashes passwords by the least that argon2id can do: each user of a test
    would take as long as the rest of it. Tests of what it takes have a fixture of this name of their own."""

    def least(**_given: int) -> PasswordHasher:
        return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

    monkeypatch.setattr(passwords, "PasswordHasher", least)


@pytest.fixture
async def registry(tmp_path: Path, database_url: str) -> AsyncIterator[Registry]:
    """A registry in this process, fresh for each test, on SQLite and on PostgreSQL."""
    async with running_registry(tmp_path / "data", database_url) as running:
        yield running


@pytest.fixture
async def client(registry: Registry) -> AsyncIterator[aiohttp.ClientSession]:
    """The administrator."""
    async with registry.client() as session:
        yield session


@pytest.fixture
async def nobody(registry: Registry) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody without credentials."""
    async with registry.client(anonymous=True) as session:
        yield session


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The registry runs on uvloop, as ``serve`` does; a worker on the loop that its own command has."""
    if item.path.parent.name in ("sandbox", "worker"):
        return {"asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}
