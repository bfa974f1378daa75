"""What those who run a registry do in a browser: what it keeps, how much it holds, who works for it."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from tests.kit.access import api
from tests.kit.advisories import affects, record
from tests.kit.browsing import PHONE, visiting
from tests.kit.matching import advise
from tests.kit.retention import carry_out, names, pushed, set_policy
from tests.kit.trials import Port, tiny_image

pytestmark = pytest.mark.asyncio(loop_scope="session")
WITH_AND_WITHOUT = pytest.mark.parametrize("scripts", [True, False])
ON = "team/app"


@WITH_AND_WITHOUT
async def test_a_policy_from_its_preview_to_its_undo(chromium: Browser, port: Port, *, scripts: bool) -> None:
    await pushed(port.admin, "v1", "v2", "v3", "latest")
    async with visiting(chromium, port.registry, scripts=scripts) as visit:
        await visit.go("/sign-in?next=/r/team/app/-/settings")
        await visit.sign_in()
        await visit.page.get_by_role("link", name="Retention").click()
        await visit.require_good()
        first = visit.page.get_by_role("group", name="Rule 1")
        await first.get_by_label("Keep").select_option("glob")
        await first.get_by_label("Pattern").fill("v*")
        await first.get_by_label("the last").fill("1")
        second = visit.page.get_by_role("group", name="Rule 2")
        await second.get_by_label("Pattern").fill("latest")
        await visit.page.get_by_role("button", name="See what would go").click()
        await visit.page.get_by_text("From team/app 2 of 4 tags").wait_for()
        await visit.require_good()
        assert len(await names(port.admin)) == 4
        await visit.page.get_by_role("button", name="Set this policy").click()
        await visit.page.get_by_text("This counts, set on team/app").wait_for()
        await visit.page.get_by_role("link", name="See what would go now").click()
        await visit.page.get_by_role("button", name="Carry it out now").click()
        await visit.page.get_by_role("link", name="Run 1").wait_for()
        await carry_out(port.admin, ON)
        await visit.page.get_by_role("link", name="Run 1").click()
        await visit.require_good()
        assert await names(port.admin) == {"v3", "latest"}
        await visit.page.get_by_role("button", name="Bring it back").click()
        await visit.page.get_by_text("restored").first.wait_for()
        assert len(await names(port.admin)) == 4
        await visit.require_good()


@WITH_AND_WITHOUT
async def test_a_trial_that_waits_is_cancelled(chromium: Browser, port: Port, *, scripts: bool) -> None:
    await port.push(tiny_image())
    await port.worker("w")
    async with visiting(chromium, port.registry, scripts=scripts) as visit:
        await visit.go("/sign-in?next=/administration")
        await visit.sign_in()
        await visit.page.get_by_role("link", name="Queue of trials").click()
        await visit.require_good()
        await visit.page.get_by_role("button", name="Cancel the trial of team/app@sha256").click()
        await visit.page.get_by_text("Nothing waits, and nothing is tried now.").wait_for()
        await visit.require_good()
        await visit.page.get_by_role("link", name="Workers").click()
        await visit.page.get_by_role("link", name="w", exact=True).click()
        await visit.page.get_by_role("button", name="Give it no more jobs").click()
        await visit.page.get_by_text("gets no more jobs").wait_for()
        await visit.require_good()
        await visit.page.get_by_role("button", name="Give it jobs again").click()
        await visit.page.get_by_role("button", name="Give it no more jobs").wait_for()


async def test_nobody_is_kept_out(chromium: Browser, port: Port) -> None:
    await pushed(port.admin, "v1.0.0", "v2.0.0", "latest", "old")
    await set_policy(port.admin, "team/", keep=[{"last": 5}], untagged_days=7)
    await set_policy(
        port.admin, ON, keep=[{"last": 1}, {"tags": {"by": "glob", "pattern": "v*"}}], cap_percent=90
    )
    await api(port.admin, "POST", "/tag-rules", status=201, json={"on": ON, "by": "semver", "pattern": "*"})
    await api(port.admin, "PATCH", "/quota", json={"on": ON, "tags": 6, "bytes": 2**20})
    await api(port.admin, "PATCH", "/quota", json={"on": "team/", "tags": 7})
    run = await carry_out(port.admin, ON)
    worker = await port.worker("w")
    waiting = await port.push(tiny_image(), tag="waiting")
    await port.push(tiny_image(), tag="tried")
    await worker.claim()
    await worker.report(await worker.claim())
    await port.push(tiny_image(), tag="last")
    (trial,) = await port.trials(waiting)
    await advise(port, record("GHSA-1", affects("npm", "lodash", "introduced=0", "fixed=4.17.19")), day=1)
    await api(port.admin, "POST", "/collections", status=202)
    await api(port.admin, "POST", "/scrubs", status=202, json={})
    await api(port.admin, "POST", "/schedules", status=201, json={"on": ON, "every_hours": 24})
    hook = {"repository": ON, "name": "ci", "call_back": "https://receiver.example/"}
    await api(port.admin, "POST", "/hooks", status=201, json=hook)
    upstream = {"namespace": "team", "name": "hub", "host": "docker.example"}
    await api(port.admin, "POST", "/upstreams", status=201, json=upstream)
    await api(port.admin, "POST", "/repositories", status=201, json={"name": "prod/app"})
    promoted = {"source": f"{ON}:tried", "to": "prod/app", "reason": "it is time"}
    await api(port.admin, "POST", "/promotions", status=201, json=promoted)
    pages = (
        f"/retention?on={ON}",
        f"/retention/preview?on={ON}",
        f"/retention/preview?on={ON}&keep-0-pattern=v*",
        f"/retention/runs?on={ON}",
        f"/retention/runs/{run['id']}",
        "/retention?on=team/",
        f"/tag-rules?on={ON}",
        f"/tag-rules?on={ON}&by=glob&pattern=v*",
        f"/quota?on={ON}",
        "/quotas",
        "/workers",
        "/workers/w",
        "/queue",
        f"/trials/{trial['id']}",
        "/storage",
        "/storage/preview",
        "/advisories",
        "/administration",
        f"/schedules?on={ON}",
        f"/trial-hooks?on={ON}",
        "/upstreams?on=team/",
        "/promotions?on=prod/app",
        f"/promotions/preview?on=prod/app&source={ON}:tried",
        "/promotions",
        "/",
    )
    async with visiting(chromium, port.registry, viewport=PHONE) as visit:
        await visit.go("/sign-in")
        await visit.sign_in()
        for path in pages:
            assert await visit.go(path) == 200
            await visit.require_good_in_each_look()
