"""Fixtures of the distribution API's tests, beside those of all integration tests."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.kit.server import running_registry


@pytest.fixture
async def registry_once(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """The administrator of a registry on SQLite only, for long tables of what never reaches a database."""
    path = tmp_path / "seatrial.db"
    shutil.copyfile(sqlite_template, path)
    async with (
        running_registry(tmp_path / "data", f"sqlite:///{path}") as running,
        running.client() as session,
    ):
        yield session
