"""The pages in a browser, with JavaScript and without: from the first visit to what somebody came for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.kit.browsing import visiting
from tests.kit.distribution import push_image
from tests.kit.server import Registry, running_registry
from tests.kit.trials import tiny_image

pytestmark = pytest.mark.asyncio(loop_scope="module")
LOOKS = (
    {"color_scheme": "light"},
    {"color_scheme": "dark"},
    {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
)


@pytest_asyncio.fixture(loop_scope="module")
async def registry(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Registry]:
    data = tmp_path / "data"
    data.mkdir()
    (data / "seatrial.db").write_bytes(sqlite_template.read_bytes())
    async with running_registry(data, f"sqlite:///{data / 'seatrial.db'}") as running:
        yield running


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_stranger_signs_in(chromium: Browser, registry: Registry, *, scripts: bool) -> None:
    async with registry.client() as admin:
        await push_image(admin, "team/app", "1.0", tiny_image())
    async with visiting(chromium, registry, scripts=scripts) as visit:
        assert await visit.go("/") == 200
        assert "Nothing here is public" in await visit.text()
        await visit.page.locator("header").get_by_role("link", name="Sign in").click()
        await visit.sign_in()
        assert "team/app" in await visit.text()
        await visit.require_good()
        await visit.page.get_by_role("button", name="Sign out").click()
        await visit.page.locator("header").get_by_role("link", name="Sign in").wait_for()
        assert "team/app" not in await visit.text()
        await visit.require_good()


@pytest.mark.parametrize("look", LOOKS, ids=["light", "dark", "phone"])
async def test_nobody_is_kept_out(chromium: Browser, registry: Registry, look: dict[str, object]) -> None:
    """axe finds nothing, and nothing is wider than the window."""
    async with registry.client() as admin:
        for number in range(3):
            await push_image(admin, f"team/{'long' * 12}/app{number}", "1.0", tiny_image())
    async with visiting(chromium, registry, **look) as visit:
        for path, status in (("/", 200), ("/nothing", 404), ("/sign-in", 200)):
            assert await visit.go(path) == status
            await visit.require_good()
        await visit.sign_in()
        await visit.require_good()
