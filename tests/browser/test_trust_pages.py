"""What those who say whom and what is trusted do in a browser: tokens, secrets, scanners, rules, issuers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from registry.contract.otherscanner import SCANNER_LABEL
from tests.kit.access import api, make_token
from tests.kit.browsing import visiting
from tests.kit.issuer import running_issuer
from tests.kit.pagecontent import MARKUP
from tests.kit.trials import Port, tiny_image
from tests.kit.workloads import AUDIENCE, SUBJECT, job_token

pytestmark = pytest.mark.asyncio(loop_scope="session")
WITH_AND_WITHOUT = pytest.mark.parametrize("scripts", [True, False])
LOOKS = pytest.mark.parametrize(
    ("name", "look"),
    [
        ("light", {"color_scheme": "light"}),
        ("dark", {"color_scheme": "dark"}),
        ("phone", {"viewport": {"width": 360, "height": 740}}),
    ],
)


@WITH_AND_WITHOUT
async def test_a_token_is_narrowed_and_replaced(chromium: Browser, port: Port, *, scripts: bool) -> None:
    await make_token(port.admin, "repository:team/app:pull", name=f"ci {MARKUP}"[:90])
    async with visiting(chromium, port.registry, scripts=scripts) as visit:
        await visit.go("/sign-in?next=/account")
        await visit.sign_in()
        await visit.page.get_by_role("link", name="ci <script>").click()
        await visit.require_good()
        await visit.page.get_by_label("Only from networks").fill("127.0.0.0/8")
        await visit.page.get_by_role("button", name="Change", exact=True).click()
        await visit.page.get_by_text("127.0.0.0/8").first.wait_for()
        await visit.page.get_by_label("This one works for").select_option("no longer")
        await visit.page.get_by_role("button", name="Rotate").click()
        secret = await visit.take_secret()
        async with port.registry.client(secret) as program:
            assert (await api(program, "GET", "/whoami"))["name"] == "admin"
        await visit.page.get_by_text("Made in the place of").first.wait_for()
        await visit.page.get_by_role("button", name="Revoke").click()
        await visit.say_yes()
        await visit.page.get_by_text("revoked").first.wait_for()
        await visit.require_good()


@WITH_AND_WITHOUT
async def test_a_secret_is_kept_and_forgotten(chromium: Browser, port: Port, *, scripts: bool) -> None:
    await port.push(tiny_image())
    async with visiting(chromium, port.registry, scripts=scripts) as visit:
        await visit.go("/sign-in?next=/r/team/app")
        await visit.sign_in()
        await visit.page.get_by_role("link", name="Settings", exact=True).click()
        await visit.page.get_by_role("link", name="Secrets").click()
        await visit.require_good()
        await visit.page.get_by_label("Name", exact=True).fill("DB_PASSWORD")
        await visit.page.get_by_label("Value").fill("of no concern to anybody")
        await visit.page.get_by_role("button", name="Keep it").click()
        await visit.page.get_by_role("rowheader", name="DB_PASSWORD").wait_for()
        await visit.page.locator("summary", has_text="Another value").click()
        await visit.require_good()
        assert "of no concern" not in await visit.page.content()
        await visit.page.locator("summary", has_text="Delete").click()
        await visit.page.get_by_label("Type DB_PASSWORD to confirm").fill("DB_PASSWORD")
        await visit.require_good()
        await visit.page.get_by_role("button", name="Delete DB_PASSWORD").click()
        await visit.page.get_by_text("There is no secret here").wait_for()


@LOOKS
async def test_a_scanner_is_looked_at_and_set(
    chromium: Browser, port: Port, name: str, look: dict[str, Any], pictures: Path
) -> None:
    worker = await port.worker("w")
    await port.push(tiny_image(Labels={SCANNER_LABEL: '{"version": 1}'}), repository="tools/looker")
    await worker.report(await worker.claim())
    async with visiting(chromium, port.registry, **look) as visit:
        await visit.go("/sign-in?next=/scanners?on=tools/")
        await visit.sign_in()
        await visit.require_good()
        await visit.page.get_by_label("Name", exact=True).fill("looker")
        await visit.page.get_by_label("Image", exact=True).fill("tools/none:1")
        await visit.page.get_by_role("button", name="Set it").click()
        await visit.page.get_by_text("there is no image tools/none:1").wait_for()
        await visit.require_good()
        await visit.page.get_by_label("Image", exact=True).fill("tools/looker:1")
        await visit.page.get_by_role("button", name="Look at it first").click()
        await visit.page.get_by_text("no worker that asks for jobs now").wait_for()
        await visit.require_good()
        await visit.page.screenshot(path=pictures / f"scanner-preview.{name}.png", full_page=True)
        await visit.page.get_by_role("button", name="Set it").click()
        await visit.page.get_by_role("button", name="Remove looker").wait_for()
        await visit.require_good()


@LOOKS
async def test_jobs_of_an_issuer_are_let_in(
    chromium: Browser, port: Port, name: str, look: dict[str, Any], pictures: Path
) -> None:
    async with running_issuer() as issuer, visiting(chromium, port.registry, **look) as visit:
        await visit.go("/sign-in?next=/administration/issuers")
        await visit.sign_in()
        await visit.page.get_by_label("Name", exact=True).fill("ci")
        await visit.page.get_by_label("Address").fill(issuer.url)
        await visit.page.get_by_role("button", name="Trust it").click()
        await visit.page.get_by_role("button", name="Ask it now").click()
        await visit.page.get_by_text("key-ES256").wait_for()
        await visit.require_good()
        await visit.page.screenshot(path=pictures / f"issuer.{name}.png", full_page=True)
        await visit.page.get_by_role("link", name="Which of its jobs get in").click()
        await visit.require_good()
        await visit.page.get_by_label("Name", exact=True).fill("main")
        await visit.page.get_by_label("Audience").fill(AUDIENCE)
        await visit.page.get_by_label("Claims").fill("no condition")
        await visit.page.get_by_label("Acts as").fill("admin")
        await visit.page.get_by_label("Within").fill("repository:team/app:pull")
        await visit.page.get_by_role("button", name="Make it").click()
        await visit.page.get_by_text("a condition is CLAIM=VALUE").wait_for()
        await visit.require_good()
        await visit.page.get_by_label("Claims").fill(f"sub={SUBJECT}")
        await visit.page.get_by_role("button", name="Make it").click()
        await visit.page.get_by_role("heading", name="main").wait_for()
        await visit.require_good()
        await visit.go("/administration/workload-rules")
        await visit.page.get_by_label("A job's token").fill(job_token(issuer))
        await visit.page.get_by_role("button", name="Look at it").click()
        await visit.page.get_by_text("It meets the rule main.").wait_for()
        await visit.require_good()
        await visit.page.screenshot(path=pictures / f"explained.{name}.png", full_page=True)
        await visit.page.get_by_label("A job's token").fill(job_token(issuer, sub="other"))
        await visit.page.get_by_role("button", name="Look at it").click()
        await visit.page.get_by_text("It gets nothing").wait_for()
        await visit.require_good()
