"""What there is to see of a repository and its images, in a browser."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from tests.kit.access import api, give_role, make_user
from tests.kit.browsing import PHONE, visiting
from tests.kit.pagecontent import fill
from tests.kit.signing import attach, new_key, public_pem, signature_of
from tests.kit.trials import Port

pytestmark = pytest.mark.asyncio(loop_scope="session")
PAGES = (
    "/r/team/app",
    "/r/team/app/-/readme",
    "/search?q={good}",
    "/r/team/app/-/tags/2.0",
    "/trials/{trial}",
    "/r/team/app/-/compare?before=1.0&after=evil",
    "/r/team/app/-/compare?before=evil&after=2.0",
    "/r/team/app/-/images/{hostile}/packages",
    "/r/team/app/-/images/{index}/packages",
    "/r/team/app/-/images/{waiting}/packages",
    "/r/team/app/-/images/{good}/referrers",
)


async def test_each_page_is_for_everybody(chromium: Browser, port: Port) -> None:
    content, key = await fill(port), new_key()
    rule = {"on": "team/", "name": "the release key", "public_pem": public_pem(key)}
    await api(port.admin, "POST", "/signature-rules", status=201, json=rule)
    for signer in (key, new_key()):
        await attach(port.admin, "team/app", content.good, signature_of(content.good, signer))
    digests = {name: getattr(content, name) for name in ("good", "bad", "index", "hostile", "waiting")}
    digests["trial"] = content.trials[content.good]
    async with visiting(chromium, port.registry, viewport=PHONE) as visit:
        await visit.go("/sign-in")
        await visit.sign_in()
        for path in PAGES:
            assert await visit.go(path.format(**digests)) == 200
            await visit.require_good_in_each_look()
            assert await visit.page.title() != "owned"


@pytest.mark.parametrize("scripts", [True, False])
async def test_two_tags_are_compared(chromium: Browser, port: Port, *, scripts: bool) -> None:
    await fill(port)
    async with visiting(chromium, port.registry, scripts=scripts) as reader:
        await reader.go("/r/team/app")
        await reader.page.get_by_role("radio", name="1.0 as the first").check()
        await reader.page.get_by_role("radio", name="2.0 as the second").check()
        await reader.page.get_by_role("button", name="Compare").click()
        await reader.page.get_by_role("heading", name="From 1.0 to 2.0").wait_for()
        await reader.require_good()
        await reader.page.get_by_role("link", name="The other way round").click()
        await reader.page.get_by_role("heading", name="From 2.0 to 1.0").wait_for()


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_readme_is_written_and_read(chromium: Browser, port: Port, *, scripts: bool) -> None:
    await fill(port)
    password = await make_user(port.admin, "pusher")
    await give_role(port.admin, "team/app", "user:pusher", "writer")
    async with (
        visiting(chromium, port.registry, scripts=scripts) as pusher,
        visiting(chromium, port.registry, scripts=scripts) as reader,
    ):
        await pusher.go("/sign-in?next=/r/team/app")
        await pusher.sign_in(name="pusher", password=password)
        await pusher.page.get_by_role("link", name="README").click()
        field = pusher.page.get_by_label("Text (Markdown)")
        assert "gpj.exe" in (await field.input_value()).replace("\N{RIGHT-TO-LEFT OVERRIDE}", "")
        await field.fill("# What it is\n\nA *good* one.")
        await pusher.page.get_by_role("button", name="Save").click()
        await pusher.page.get_by_role("heading", name="What it is").wait_for()
        await pusher.require_good()
        await reader.go("/r/team/app")
        await reader.page.get_by_role("heading", name="What it is").wait_for()
        await reader.require_good()


async def test_the_key_for_the_search_leads_to_its_field(chromium: Browser, port: Port) -> None:
    await fill(port)
    async with visiting(chromium, port.registry) as visit:
        await visit.go("/r/team/app")
        await visit.page.get_by_label("Name has").press("/")
        assert await visit.page.get_by_label("Name has").input_value() == "/"
        await visit.page.get_by_role("heading", name="team/app").click()
        await visit.page.keyboard.press("/")
        await visit.page.wait_for_url("**/search*")
        await visit.page.keyboard.type("team/")
        assert await visit.page.get_by_label("Name", exact=True).input_value() == "team/"
        await visit.page.keyboard.press("Enter")
        await visit.page.get_by_role("link", name="team/app").wait_for()
        await visit.require_good()


@pytest.mark.parametrize("scripts", [True, False])
async def test_the_first_page_has_the_search(chromium: Browser, port: Port, *, scripts: bool) -> None:
    content = await fill(port)
    async with visiting(chromium, port.registry, scripts=scripts) as visit:
        await visit.go("/")
        await visit.require_good()
        field = visit.page.get_by_label("Image, digest, package or vulnerability")
        if scripts:
            await visit.page.keyboard.press("/")
            await visit.page.keyboard.type(content.good[:20])
            assert await field.input_value() == content.good[:20]
        await field.fill(content.good[:20])
        await field.press("Enter")
        await visit.page.get_by_role("link", name=f"team/app@{content.good[:15]}").click()
        await visit.page.get_by_text("did what was expected of it").wait_for()
