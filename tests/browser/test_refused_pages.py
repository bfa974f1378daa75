"""Forms that are refused, and those that are asked about, in a browser: with JavaScript and without."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.kit.access import api
from tests.kit.browsing import visiting
from tests.kit.trials import Port, tiny_image

pytestmark = pytest.mark.asyncio(loop_scope="session")
WITH_AND_WITHOUT = pytest.mark.parametrize("scripts", [True, False])
LOOKS = pytest.mark.parametrize(
    "look", [{"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 740}}]
)


@WITH_AND_WITHOUT
async def test_who_was_slower_reads_what_stands_and_sends_it_once_more(
    chromium: Browser, port: Port, *, scripts: bool
) -> None:
    await port.push(tiny_image())
    async with visiting(chromium, port.registry, scripts=scripts) as visit:
        await visit.go("/sign-in?next=/r/team/app/-/settings")
        await visit.sign_in()
        tags = visit.page.get_by_label("Only tags")
        await tags.fill("mine*")
        await api(port.admin, "PATCH", "/repositories/team%2Fapp", json={"trial_tags": ["theirs"]})
        change = visit.page.locator("form", has=tags).get_by_role("button")
        await change.click()
        alert = visit.page.get_by_role("alert")
        assert "theirs" in await alert.inner_text()
        await expect(alert).to_be_focused()
        await expect(tags).to_have_value("mine*")
        await visit.require_good()
        await change.click()
        await expect(visit.page.get_by_role("alert")).to_have_count(0)
    assert (await api(port.admin, "GET", "/repositories/team%2Fapp"))["trial_tags"] == ["mine*"]


@LOOKS
async def test_what_is_wrong_is_told_with_its_field(
    chromium: Browser, port: Port, look: dict[str, object]
) -> None:
    await port.push(tiny_image())
    async with visiting(chromium, port.registry, **look) as visit:
        await visit.go("/sign-in?next=/r/team/app/-/settings")
        await visit.sign_in()
        days = visit.page.get_by_label("After how many days")
        await days.fill("soon")
        await visit.page.locator("form", has=days).get_by_role("button").click()
        await expect(days).to_have_value("soon")
        await expect(days).to_have_attribute("aria-invalid", "true")
        assert (await visit.page.title()).startswith("Not done: ")
        await visit.require_good()
        await visit.require_still()


@WITH_AND_WITHOUT
async def test_what_cannot_be_undone_is_asked(chromium: Browser, port: Port, *, scripts: bool) -> None:
    await port.push(tiny_image())
    await api(port.admin, "POST", "/schedules", status=201, json={"on": "team/app", "every_hours": 24})
    async with visiting(chromium, port.registry, scripts=scripts) as visit:
        await visit.go("/sign-in?next=/schedules?on=team/app")
        await visit.sign_in()
        await visit.page.get_by_role("button", name="Delete").click()
        await visit.page.get_by_role("link", name="Leave it as it is").click()
        await visit.page.get_by_role("button", name="Delete").click()
        await visit.say_yes()
        await expect(visit.page.get_by_role("button", name="Delete")).to_have_count(0)
        assert visit.page.url.endswith("/schedules?on=team%2Fapp")
