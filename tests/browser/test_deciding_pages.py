"""What those who decide do in a browser: run specs, the gate, findings policies, signatures, blocks."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser

from tests.kit.access import api, give_role, make_user
from tests.kit.advisories import affects, record
from tests.kit.browsing import PHONE, visiting
from tests.kit.matching import advise
from tests.kit.pagecontent import VULNERABLE, fill
from tests.kit.scans import scan_next
from tests.kit.signing import new_key, public_pem
from tests.kit.trials import Port, tiny_image

pytestmark = pytest.mark.asyncio(loop_scope="session")
WITH_AND_WITHOUT = pytest.mark.parametrize("scripts", [True, False])
PLACE = "/r/team/app/-"


@WITH_AND_WITHOUT
async def test_a_run_spec_from_the_mistake_to_the_trial(
    chromium: Browser, port: Port, *, scripts: bool
) -> None:
    worker = await port.worker("w")
    await port.push(tiny_image())
    await worker.report(await worker.claim())
    async with visiting(chromium, port.registry, scripts=scripts) as visit:
        await visit.go("/sign-in?next=/r/team/app")
        await visit.sign_in()
        await visit.page.get_by_role("link", name="Gate", exact=True).click()
        await visit.page.get_by_role("link", name="Run spec").click()
        text = visit.page.get_by_label("Run spec", exact=True)
        await text.fill("version: 1\nexpect: {exits: 0}\n")
        await visit.page.get_by_role("button", name="Save it").click()
        await visit.page.get_by_text("did you mean 'exit'?").wait_for()
        assert await text.input_value() == "version: 1\nexpect: {exits: 0}\n"
        await visit.require_good()
        await text.fill("version: 1\nexpect: {exit: 0}\n")
        await visit.page.get_by_role("button", name="Check it").click()
        await visit.page.get_by_text("It can be used:").wait_for()
        await visit.require_good()
        await visit.page.get_by_role("button", name="Save it").click()
        await visit.page.get_by_text("Images are tried by the run spec of this repository").wait_for()
        await visit.page.get_by_label("Tag or digest").fill("1")
        await visit.page.get_by_role("button", name="Try an image by it now").click()
        await visit.page.wait_for_url("**/trials/*")
        assert (await worker.claim())["spec"]["expect"]["exit"] == 0


@WITH_AND_WITHOUT
async def test_a_block_from_what_it_hits_to_its_end(chromium: Browser, port: Port, *, scripts: bool) -> None:
    content = await fill(port)
    async with visiting(chromium, port.registry, scripts=scripts) as visit:
        await visit.go(f"/sign-in?next={PLACE}/blocks")
        await visit.sign_in()
        await visit.require_good()
        await visit.page.get_by_label("What", exact=True).select_option("package")
        await visit.page.get_by_label("Digest, or package").fill("npm/lodash<4.17.19")
        await visit.page.get_by_role("button", name="Show what it would refuse").click()
        await visit.page.get_by_text("Images that it would refuse now: 1").wait_for()
        await visit.require_good()
        await visit.page.get_by_label("Why").fill("GHSA-evil")
        await visit.page.get_by_role("button", name="Block it").click()
        await visit.page.get_by_text("it holds npm/lodash<4.17.19: GHSA-evil").wait_for()
        assert "is blocked" in (await port.pull(content.hostile)).body.decode()
        await visit.page.get_by_role("button", name="Lift block").click()
        await visit.page.get_by_text("Nothing is blocked").wait_for()
        await visit.require_good()


async def test_nobody_is_kept_out(chromium: Browser, port: Port) -> None:
    await fill(port)
    # A tag of one letter is a link that must be hit.
    await port.push(tiny_image(), tag="1")
    for tag in ("1.1", "1"):
        await port.pull(tag)
    assert port.registry.services is not None
    await port.registry.services.pulls.flush(port.database)
    async with visiting(chromium, port.registry, viewport=PHONE) as visit:
        await visit.go(f"/sign-in?next={PLACE}/run-spec?example=web-server")
        await visit.sign_in()
        await visit.require_good_in_each_look()
        await visit.page.get_by_role("button", name="Save it").click()
        for path in ("run-spec", "gate?gate=hold", "findings-policy", "signatures", "blocks"):
            assert await visit.go(f"{PLACE}/{path}") == 200
            await visit.require_good_in_each_look()
        await visit.go(f"{PLACE}/findings-policy")
        first = visit.page.get_by_role("group", name="Rule 1")
        await first.get_by_label("Severity").select_option("high")
        await visit.page.get_by_role("button", name="Show what it would refuse").click()
        await visit.page.get_by_text("would be refused by what was found in them").wait_for()
        await visit.require_good_in_each_look()
        await visit.page.get_by_role("button", name="Let it count").click()
        await visit.page.get_by_text("by the policy of this repository").wait_for()
        await visit.require_good_in_each_look()
        await visit.go(f"{PLACE}/signatures")
        await visit.page.get_by_label("Name", exact=True).fill("the release key")
        await visit.page.get_by_label("Public key").fill(public_pem(new_key()))
        await visit.page.get_by_role("button", name="Require it").click()
        await visit.page.get_by_role("button", name="Remove the rule the release key").wait_for()
        await visit.require_good_in_each_look()


@WITH_AND_WITHOUT
async def test_a_finding_from_the_refusal_to_the_waiver_that_lets_it_pass(
    chromium: Browser, port: Port, *, scripts: bool
) -> None:
    worker = await port.worker("w")
    harm = record("CVE-2020-8203", affects("npm", "lodash", "introduced=0", "fixed=4.17.19"))
    await advise(port, harm, day=1)
    policy = {"version": 1, "vulnerabilities": [{"fixable": True}], "licence_unknown": "warn"}
    await api(port.admin, "POST", "/repositories", status=201, json={"name": "team/app"})
    await api(port.admin, "PUT", "/findings-policy", json={"on": "team/app", "policy": policy})
    digest = await port.push(tiny_image())
    await scan_next(worker, VULNERABLE)
    await until(port, digest, "fail")
    password = await make_user(port.admin, "engineer")
    await give_role(port.admin, "team/app", "user:engineer", "writer")
    async with (
        visiting(chromium, port.registry, scripts=scripts) as engineer,
        visiting(chromium, port.registry, scripts=scripts) as manager,
    ):
        await engineer.go("/sign-in?next=/r/team/app/-/tags/1")
        await engineer.sign_in(name="engineer", password=password)
        await engineer.page.get_by_text("findings policy refuses").first.wait_for()
        await engineer.page.get_by_role("link", name="Findings", exact=True).click()
        await engineer.require_good()
        await engineer.page.get_by_role("link", name="Ask for a waiver of CVE-2020-8203 in lodash").click()
        await engineer.page.get_by_label("Why").fill("it is not reachable")
        await engineer.require_good()
        await engineer.page.get_by_role("button", name="Ask for it").click()
        await engineer.page.get_by_text("it is not reachable by engineer").wait_for()
        assert (await port.pull(digest)).status == 403
        await manager.go("/sign-in?next=/r/team/app/-/waivers")
        await manager.sign_in()
        await manager.page.get_by_role("button", name="Grant waiver").click()
        await manager.page.get_by_text("granted by admin").wait_for()
        await until(port, digest, "pass")
        assert (await port.pull(digest)).status == 200
        await engineer.go(f"/r/team/app/-/images/{digest}/findings")
        await engineer.page.get_by_text("granted, ends").wait_for()
        await engineer.require_good()


async def until(port: Port, digest: str, state: str) -> None:
    """Wait until an image has a state: what is judged aside takes its time."""
    async with asyncio.timeout(60):
        while await port.state(digest) != state:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
