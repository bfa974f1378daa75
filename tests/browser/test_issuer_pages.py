"""Somebody signs in with an issuer, from the page that asked for it and back to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.kit.access import make_repository
from tests.kit.browsing import visiting
from tests.kit.issuer import CLIENT_ID, CLIENT_SECRET, LOOPBACK, running_issuer
from tests.kit.server import running_registry
from tests.kit.workloads import trust

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_person_signs_in_with_an_issuer(
    chromium: Browser, tmp_path: Path, sqlite_template: Path, *, scripts: bool
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "seatrial.db").write_bytes(sqlite_template.read_bytes())
    url = f"sqlite:///{data / 'seatrial.db'}"
    async with (
        running_issuer() as issuer,
        running_registry(data, url, outgoing_networks=LOOPBACK) as registry,
        registry.client() as admin,
        visiting(chromium, registry, scripts=scripts) as visit,
    ):
        issuer.person = {"sub": "7", "preferred_username": "anna"}
        await make_repository(admin, "team/app", visibility="internal")
        await trust(admin, issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, create_accounts=True)
        assert await visit.go("/r/team/app") == 401
        await visit.require_good()
        await visit.page.get_by_role("link", name="Sign in with ci").click()
        await visit.page.get_by_role("link", name="anna").wait_for()
        assert visit.page.url == f"{registry.url}/r/team/app"
        await visit.require_good()
        # The way back opens once.
        assert await visit.go("/oauth/callback/ci?code=1&state=1") == 400
        assert "Error code" in await visit.text()
        await visit.require_good()
