"""The pages in a browser, with JavaScript and without: from the first visit to what somebody came for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.kit.browsing import PHONE, visiting
from tests.kit.distribution import push_image
from tests.kit.pagecontent import BAD, fill
from tests.kit.server import Registry, running_registry
from tests.kit.trials import Port, tiny_image

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
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


async def test_nobody_is_kept_out(chromium: Browser, registry: Registry) -> None:
    """axe finds nothing, and nothing is wider than the window."""
    async with registry.client() as admin:
        for number in range(3):
            await push_image(admin, f"team/{'long' * 12}/app{number}", "1.0", tiny_image())
    async with visiting(chromium, registry, viewport=PHONE) as visit:
        for path, status in (("/", 200), ("/nothing", 404), ("/sign-in", 200)):
            assert await visit.go(path) == status
            await visit.require_good_in_each_look()
        await visit.sign_in()
        await visit.require_good_in_each_look()


async def test_images_in_each_state(chromium: Browser, port: Port) -> None:
    content = await fill(port)
    async with visiting(chromium, port.registry, viewport=PHONE) as visit:
        await visit.go("/sign-in")
        await visit.sign_in()
        for address in ("tags/1.0", "tags/1.1", "tags/2.0", f"images/{content.referrer}"):
            assert await visit.go(f"/r/team/app/-/{address}") == 200
            await visit.require_good_in_each_look()


@pytest.mark.parametrize("scripts", [True, False])
async def test_who_was_refused_sees_why(chromium: Browser, port: Port, *, scripts: bool) -> None:
    await fill(port)
    async with visiting(chromium, port.registry, scripts=scripts) as visit:
        await visit.go("/")
        await visit.page.get_by_role("link", name="team/app").click()
        await visit.page.get_by_label("State").select_option("fail")
        await visit.page.get_by_role("button", name="Show").click()
        await visit.page.get_by_role("link", name="1.1", exact=True).click()
        await visit.page.get_by_text("You may not pull it").wait_for()
        assert "seen: exit code 3" in await visit.text()
        await visit.require_good()


async def test_a_log_is_watched_while_it_is_written(chromium: Browser, port: Port) -> None:
    worker = await port.worker("live")
    digest = await port.push(tiny_image())
    job = await worker.claim()
    (trial,) = await port.trials(digest)
    told = {"protocol": job["protocol"], "lease": job["lease"], "run": 0, "name": "smoke"}
    async with visiting(chromium, port.registry) as visit:
        await visit.go(f"/sign-in?next=/trials/{trial['id']}")
        await visit.sign_in()
        log = visit.page.get_by_label("While it is tried")
        first = f"first line\n\x1b[31m{BAD}\n"
        assert (await worker.post("log", told | {"position": 0, "text": first})).status == 200
        await log.get_by_text("first line").wait_for()
        await visit.require_good()
        # Nobody who listens is told each line; whoever goes there reads them, the newest in sight.
        assert await log.get_attribute("aria-live") == "off"
        assert await visit.page.get_by_label("How it goes").get_attribute("role") == "status"
        second = "\x1b[0msecond line\n" + "and on\n" * 100
        answer = await worker.post("log", told | {"position": len(first), "text": second})
        assert answer.status == 200
        await log.get_by_text("second line").wait_for()
        assert (await worker.report(job, log=first + second)).status == 204
        await visit.page.get_by_text("The trial is over").wait_for()
        assert (await log.inner_text()).count("second line") == 1
        assert await log.evaluate("(one) => one.scrollHeight > one.clientHeight && one.scrollTop === 0")
        assert await visit.page.title() != "owned"
        await visit.require_good()
        await visit.require_still()


@pytest.mark.parametrize("scripts", [True, False])
async def test_an_image_is_tried_again(chromium: Browser, port: Port, *, scripts: bool) -> None:
    content = await fill(port)
    async with visiting(chromium, port.registry, scripts=scripts) as visit:
        await visit.go(f"/sign-in?next=/trials/{content.trials[content.bad]}")
        await visit.sign_in()
        await visit.page.get_by_role("button", name="Try it again").click()
        await visit.page.get_by_text("Its verdict is on its way").first.wait_for()
        assert len(await port.trials(content.bad)) == 2
        await visit.require_good()


@pytest.mark.parametrize("scripts", [True, False])
async def test_somebody_makes_a_token_and_ends_it(
    chromium: Browser, registry: Registry, *, scripts: bool
) -> None:
    async with visiting(chromium, registry, scripts=scripts) as visit:
        await visit.go("/sign-in?next=/account")
        await visit.sign_in()
        await visit.require_good()
        form = visit.page.locator("form.card")
        await form.get_by_label("Name").fill("ci")
        await form.get_by_label("May do").fill("repository:team/app:pull,push")
        await form.get_by_role("button", name="Make it").click()
        secret = await visit.take_secret()
        async with registry.client(secret) as program:
            async with program.get("/v2/") as answer:
                assert answer.status == 200
            await visit.page.get_by_role("button", name="Revoke ci").click()
            await visit.say_yes()
            await visit.page.get_by_text("revoked", exact=True).wait_for()
            async with program.get("/v2/") as answer:
                assert answer.status == 401
        await visit.page.get_by_role("link", name="Sessions").click()
        await visit.page.get_by_text("(this one)").wait_for()
        await visit.require_good()


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_tag_is_rolled_back(chromium: Browser, port: Port, *, scripts: bool) -> None:
    first = await port.push(tiny_image())
    await port.push(tiny_image())
    async with visiting(chromium, port.registry, scripts=scripts) as visit:
        await visit.go("/sign-in?next=/r/team/app/-/tags/1")
        await visit.sign_in()
        await visit.page.get_by_role("link", name="History").click()
        await visit.require_good()
        await visit.page.get_by_role("link", name=f"Back to {first[:19]}").click()
        await visit.require_good()
        await visit.page.get_by_label("Why").fill("the second one is broken")
        await visit.page.get_by_role("button", name="Roll back").click()
        await visit.page.get_by_text("the second one is broken").wait_for()
        await visit.require_good()
        assert "rolled back by admin" in await visit.text()


async def test_somebody_searches(chromium: Browser, port: Port) -> None:
    await fill(port)
    async with visiting(chromium, port.registry, viewport=PHONE) as visit:
        await visit.go("/sign-in?next=/search")
        await visit.sign_in()
        await visit.require_good_in_each_look()
        await visit.page.get_by_label("Name").fill("lodash")
        await visit.page.get_by_role("button", name="Search").click()
        await visit.page.get_by_role("link", name="team/app@sha256").click()
        await visit.page.get_by_text("GHSA-evil").wait_for()
        assert await visit.go("/search?q=team") == 200
        await visit.require_good_in_each_look()
