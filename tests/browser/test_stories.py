"""What people come for, from where they begin to where they are done, with JavaScript and without."""

from __future__ import annotations

import asyncio
import re
import shutil

import pytest
from playwright.async_api import Browser

from tests.kit.access import give_role, make_user
from tests.kit.browsing import visiting
from tests.kit.clients import client_home
from tests.kit.server import ADMIN
from tests.kit.trials import Port, pull_token, tiny_image

pytestmark = pytest.mark.asyncio(loop_scope="session")
WITH_AND_WITHOUT = pytest.mark.parametrize("scripts", [True, False])


@WITH_AND_WITHOUT
async def test_who_pushed_is_refused_and_mends_it(chromium: Browser, port: Port, *, scripts: bool) -> None:
    """From the last line of podman to why, what the image wrote, and the command that shows it at home."""
    if shutil.which("podman") is None:
        pytest.skip("there is no podman")
    worker = await port.worker("w")
    digest = await port.push(tiny_image(), tag="1.0")
    log = "starting\nno such table: users\n"
    assert (await worker.report(await worker.claim(), met=False, exit_code=3, log=log)).status == 204
    password = await make_user(port.admin, "pusher")
    await give_role(port.admin, "team/app", "user:pusher", "writer")
    token = await pull_token(port.admin, "team/app")
    with client_home() as clients:
        clients.sign_in(port.registry.host, ADMIN, token)
        image = f"{port.registry.host}/team/app:1.0"
        screen = await asyncio.to_thread(clients.screen, "podman", "pull", "--tls-verify=false", image)
    assert screen.code != 0
    (address,) = set(re.findall(r"https?://[^\s()\"]+/trials/[0-9a-f-]+", " ".join(screen.lines)))
    async with visiting(chromium, port.registry, scripts=scripts) as visit:
        assert (await visit.page.goto(address)).status == 404  # type: ignore[union-attr]
        await visit.sign_in(name="pusher", password=password)
        assert visit.page.url == address
        assert (
            await visit.page.locator(".sentence").inner_text()
            == "Expected: exit code is 0; seen: exit code 3"
        )
        told = await visit.text()
        assert "no such table: users" in told
        assert f"seatrial run {port.registry.host}/team/app@{digest}" in told
        await visit.require_good()
        # Mended and pushed again; the page is where it was, and the new one passes.
        mended = await port.push(tiny_image(Env=["TABLES=made"]), tag="1.0")
        assert (await worker.report(await worker.claim())).status == 204
        await visit.page.get_by_role("link", name="team/app", exact=True).click()
        await visit.page.get_by_role("link", name="1.0", exact=True).click()
        await visit.page.get_by_text(
            "It was run once in isolation, and did what was expected"
        ).first.wait_for()
        assert mended in await visit.text()
        await visit.require_good()
    assert (await port.pull("1.0")).status == 200


@WITH_AND_WITHOUT
async def test_a_reader_finds_an_image_and_pulls_it(chromium: Browser, port: Port, *, scripts: bool) -> None:
    """From a name half known to a pull by digest."""
    worker = await port.worker("w")
    digest = await port.push(tiny_image(), tag="1.0")
    assert (await worker.report(await worker.claim())).status == 204
    await port.push(tiny_image(), tag="2.0-rc.1")
    password = await make_user(port.admin, "reader")
    await give_role(port.admin, "team/app", "user:reader", "reader")
    async with visiting(chromium, port.registry, scripts=scripts) as visit:
        await visit.go("/search?q=team")
        assert "team/app" not in await visit.page.locator("main ul, main .empty").first.inner_text()
        await visit.page.locator("header").get_by_role("link", name="Sign in").click()
        await visit.sign_in(name="reader", password=password)
        assert visit.page.url.endswith("/search?q=team")
        await visit.page.locator("main").get_by_role("link", name="team/app").click()
        await visit.page.get_by_label("State").select_option("pass")
        await visit.page.get_by_role("button", name="Show").click()
        assert "2.0-rc.1" not in await visit.page.locator("main table").inner_text()
        await visit.page.get_by_role("link", name="1.0", exact=True).click()
        await visit.require_good()
        await visit.page.get_by_text("By digest, which never moves").click()
        command = f"podman pull {port.registry.host}/team/app@{digest}"
        await visit.page.get_by_text(command, exact=True).wait_for()
        for tab in ("Trials", "Referrers"):
            await visit.page.get_by_role("link", name=tab, exact=True).last.click()
            await visit.require_good()
        assert await visit.page.get_by_role("link", name="Findings").count() == 0
        assert await visit.page.get_by_role("button", name="Block it").count() == 0
    assert (await port.pull(digest)).status == 200
