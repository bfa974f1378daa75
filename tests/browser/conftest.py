"""A browser for all tests here, and a registry that tries what is pushed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.kit.browser import find_chromium, running_chromium
from tests.kit.trials import Port, open_port


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """One for a test process; each test has contexts of its own."""
    program = find_chromium()
    if program is None:
        pytest.skip("there is no browser (package chromium)")
    async with running_chromium(program) as running:
        yield running


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where pictures are kept."""
    folder = Path(os.environ.get("SEATRIAL_TEST_SCREENSHOTS") or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest_asyncio.fixture(loop_scope="session")
async def port(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Port]:
    """A registry that tries what is pushed, and sends messages to programs of this host."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "seatrial.db").write_bytes(sqlite_template.read_bytes())
    url = f"sqlite:///{data / 'seatrial.db'}"
    async with open_port(data, url, outgoing_networks=("127.0.0.0/8",)) as opened:
        yield opened
