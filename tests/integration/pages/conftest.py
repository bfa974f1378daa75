"""A registry with something to look at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.trials import Port, open_port


@pytest.fixture
async def port(tmp_path: Path, database_url: str) -> AsyncIterator[Port]:
    """A registry that tries what is pushed, on SQLite and on PostgreSQL."""
    async with open_port(tmp_path / "data", database_url) as opened:
        yield opened
