"""Fixtures of all integration tests: a registry on each database, its administrator's client, nobody's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.kit.server import Registry, running_registry


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
