"""What those who manage do in a browser: waivers, members, settings, webhooks."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from tests.kit.access import give_role, make_user
from tests.kit.browsing import PHONE, visiting
from tests.kit.receiver import running_receiver
from tests.kit.trials import Port, tiny_image

pytestmark = pytest.mark.asyncio(loop_scope="session")
WITH_AND_WITHOUT = pytest.mark.parametrize("scripts", [True, False])


@WITH_AND_WITHOUT
async def test_a_waiver_from_the_refusal_to_the_pull(chromium: Browser, port: Port, *, scripts: bool) -> None:
    worker = await port.worker("w")
    digest = await port.push(tiny_image())
    await worker.report(await worker.claim(), met=False, exit_code=3)
    password = await make_user(port.admin, "pusher")
    await give_role(port.admin, "team/app", "user:pusher", "writer")
    async with (
        visiting(chromium, port.registry, scripts=scripts) as pusher,
        visiting(chromium, port.registry, scripts=scripts) as engineer,
    ):
        await pusher.go(f"/sign-in?next=/r/team/app/-/waivers?digest={digest}")
        await pusher.sign_in(name="pusher", password=password)
        await pusher.require_good()
        await pusher.page.get_by_label("failed").check()
        await pusher.page.get_by_label("Why").fill("mended on Monday")
        await pusher.page.get_by_role("button", name="Ask for it").click()
        await pusher.page.get_by_text("mended on Monday by pusher").wait_for()
        assert (await port.pull(digest)).status == 403
        await engineer.go("/sign-in?next=/r/team/app")
        await engineer.sign_in()
        await engineer.page.get_by_role("link", name="Waivers").click()
        await engineer.require_good()
        await engineer.page.get_by_role("button", name="Grant waiver").click()
        await engineer.page.get_by_text("granted by admin").wait_for()
        assert (await port.pull(digest)).status == 200
        await engineer.page.get_by_role("button", name="End waiver").click()
        await engineer.page.get_by_text("ended by").or_(engineer.page.get_by_text("ended")).first.wait_for()
        await engineer.require_good()
        assert (await port.pull(digest)).status == 403


@WITH_AND_WITHOUT
async def test_a_webhook_that_works_and_is_seen_to(chromium: Browser, port: Port, *, scripts: bool) -> None:
    await port.push(tiny_image())
    async with running_receiver() as receiver, visiting(chromium, port.registry, scripts=scripts) as visit:
        await visit.go("/sign-in?next=/r/team/app")
        await visit.sign_in()
        await visit.page.get_by_role("link", name="Settings", exact=True).click()
        await visit.page.get_by_role("link", name="Webhooks").click()
        await visit.require_good()
        await visit.page.get_by_label("Address").fill(receiver.url)
        await visit.page.get_by_role("button", name="Make it").click()
        receiver.secrets.append(await visit.take_secret())
        await visit.page.get_by_role("link", name=receiver.url).click()
        await visit.page.get_by_role("button", name="Send a test").click()
        await receiver.until(1)
        await visit.page.reload()
        await visit.page.get_by_role("rowheader", name="webhook.test").wait_for()
        await visit.require_good()


async def test_roles_and_settings(chromium: Browser, port: Port) -> None:
    await port.push(tiny_image())
    await make_user(port.admin, "alice")
    async with visiting(chromium, port.registry, viewport=PHONE) as visit:
        await visit.go("/sign-in?next=/r/team/app/-/members")
        await visit.sign_in()
        await visit.page.get_by_label("Who").fill("user:alice")
        await visit.page.get_by_role("button", name="Give it").click()
        await visit.page.get_by_role("button", name="Take the role of user:alice").wait_for()
        await visit.require_good_in_each_look()
        for path in ("waivers", "webhooks", "settings"):
            await visit.go(f"/r/team/app/-/{path}")
            await visit.require_good_in_each_look()
        await visit.page.get_by_label("Visible").select_option("public")
        await visit.page.get_by_role("button", name="Change", exact=True).click()
        await visit.go("/r/team/app")
        assert "public" in await visit.text()
