"""What those who manage people do in a browser: namespaces, robots, users, groups, tokens, the trail."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser

from tests.kit.access import api, ask, give_role, make_token, make_user
from tests.kit.browsing import PHONE, visiting
from tests.kit.receiver import running_receiver
from tests.kit.trials import Port, tiny_image

pytestmark = pytest.mark.asyncio(loop_scope="session")
WITH_AND_WITHOUT = pytest.mark.parametrize("scripts", [True, False])


@WITH_AND_WITHOUT
async def test_an_owner_gives_a_pipeline_its_robot(chromium: Browser, port: Port, *, scripts: bool) -> None:
    await port.push(tiny_image())
    async with visiting(chromium, port.registry, scripts=scripts) as visit:
        await visit.go("/sign-in?next=/administration")
        await visit.sign_in()
        await visit.page.locator("main").get_by_role("link", name="Namespaces").click()
        await visit.page.get_by_role("link", name="team", exact=True).click()
        await visit.require_good()
        await visit.page.get_by_role("link", name="Robots").click()
        await visit.page.get_by_label("Its own name").fill("ci")
        await visit.page.get_by_role("button", name="Make it").click()
        await visit.require_good()
        await visit.page.get_by_role("link", name="Give or take roles").click()
        await visit.page.get_by_label("Who").fill("robot:team+ci")
        await visit.page.get_by_role("button", name="Give it").click()
        await visit.go("/n/team/-/robots/ci")
        form = visit.page.locator("form", has=visit.page.get_by_label("Lives for"))
        await form.get_by_label("Name").fill("pipeline")
        await form.get_by_label("May do").fill("repository:team/*:pull")
        await form.get_by_role("button", name="Make it").click()
        secret = await visit.take_secret()
        async with port.registry.client(secret) as program:
            assert (await ask(program, "GET", "/v2/team/app/tags/list")).status == 200
        await visit.page.get_by_role("button", name="Rotate pipeline").click()
        newer = await visit.take_secret()
        assert newer != secret
        await visit.page.get_by_role("button", name="Disable").click()
        await visit.page.get_by_role("button", name="Enable").wait_for()
        async with port.registry.client(newer) as program:
            assert (await ask(program, "GET", "/v2/team/app/tags/list")).status == 401


@WITH_AND_WITHOUT
async def test_an_administrator_makes_a_user_who_changes_the_password(
    chromium: Browser, port: Port, *, scripts: bool
) -> None:
    async with (
        visiting(chromium, port.registry, scripts=scripts) as visit,
        visiting(chromium, port.registry, scripts=scripts) as person,
    ):
        await visit.go("/sign-in?next=/administration")
        await visit.sign_in()
        await visit.page.get_by_role("link", name="Users").click()
        await visit.page.locator("form.card").get_by_label("Name").fill("carol")
        await visit.page.get_by_role("button", name="Make it").click()
        password = await visit.take_secret()
        await person.go("/sign-in?next=/account/password")
        await person.sign_in(name="carol", password=password)
        await person.page.get_by_label("The old one").fill(password)
        await person.page.get_by_label("The new one").fill("a password of my own")
        await person.page.get_by_role("button", name="Change").click()
        await person.sign_in(name="carol", password="a password of my own")
        await person.page.get_by_text("(this one)").wait_for()
        await visit.page.get_by_role("link", name="carol").click()
        await visit.page.get_by_role("button", name="Disable").click()
        await visit.page.get_by_role("button", name="Enable").wait_for()
        await visit.require_good()
        await person.go("/account")
        assert "Sign in first" in await person.text()


@WITH_AND_WITHOUT
async def test_an_administrator_with_tokens_and_webhooks(
    chromium: Browser, port: Port, *, scripts: bool
) -> None:
    """A pipeline's token leaked: it is found, and ended; a webhook tells of what goes on from now on, and the
    trail of who did what."""
    await port.push(tiny_image())
    leaked = str((await make_token(port.admin, "repository:team/*:pull,push", name="leaked"))["token"])
    async with (
        running_receiver() as receiver,
        visiting(chromium, port.registry, scripts=scripts) as visit,
        port.registry.client(leaked) as thief,
    ):
        assert (await ask(thief, "GET", "/v2/team/app/tags/list")).status == 200
        await visit.go("/")
        await visit.page.locator("header").get_by_role("link", name="Sign in").click()
        await visit.sign_in()
        await visit.page.get_by_role("link", name="Administration").click()
        await visit.page.get_by_role("link", name="Tokens", exact=True).click()
        await visit.page.get_by_label("State").select_option("active")
        await visit.page.get_by_role("button", name="Show").click()
        await visit.require_good()
        await visit.page.get_by_role("button", name="Revoke leaked").click()
        await visit.say_yes()
        await visit.page.get_by_label("State").select_option("revoked")
        await visit.page.get_by_role("button", name="Show").click()
        await visit.page.get_by_role("rowheader", name="leaked").wait_for()
        assert (await ask(thief, "GET", "/v2/team/app/tags/list")).status == 401

        await visit.page.get_by_role("link", name="Repositories").click()
        await visit.page.get_by_role("link", name="team/app").click()
        await visit.page.get_by_role("link", name="Settings", exact=True).click()
        await visit.page.get_by_role("link", name="Webhooks").click()
        await visit.page.get_by_label("Address").fill(receiver.url)
        await visit.page.get_by_label("Events").fill("tag.moved")
        await visit.page.get_by_role("button", name="Make it").click()
        receiver.secrets.append(await visit.take_secret())
        await port.push(tiny_image(), tag="2")
        await receiver.until(1)
        await visit.page.get_by_role("link", name=receiver.url).click()
        await visit.page.get_by_role("rowheader", name="tag.moved").wait_for()
        # What the receiver answered is written down a moment after it has.
        again = visit.page.get_by_role("button", name="Send again")
        async with asyncio.timeout(20):
            while not await again.count():
                await visit.page.reload()
        await again.click()
        await receiver.until(2)
        await visit.page.get_by_role("button", name="Disable").click()
        await visit.page.get_by_role("button", name="Enable").wait_for()
        await visit.require_good()

        await visit.page.get_by_role("link", name="Administration").click()
        await visit.page.get_by_role("link", name="Audit trail").click()
        await visit.page.get_by_label("What").select_option("token.revoked")
        await visit.page.get_by_role("button", name="Show").click()
        await visit.page.get_by_role("table").get_by_role("link", name="token.revoked").wait_for()
        await visit.page.get_by_role("link", name="Show all").click()
        for kind in ("webhook.created", "webhook.changed"):
            await visit.page.get_by_role("table").get_by_role("link", name=kind).wait_for()
        await visit.require_good()
        await visit.page.get_by_role("button", name="Sign out").click()
        await visit.page.locator("header").get_by_role("link", name="Sign in").wait_for()


ISSUER = {
    "name": "ci",
    "url": "https://issuer.example",
    "client_id": "registry",
    "groups_claim": "groups",
    "groups": {"staff": "devs"},
    "roles": {"bosses": "auditor"},
}
PAGES = (
    "/administration",
    "/administration/robots",
    "/administration/users",
    "/administration/users/admin",
    "/administration/users/alice",
    "/administration/groups",
    "/administration/groups/devs",
    "/administration/issuers",
    "/administration/issuers/ci",
    "/account/password",
    "/administration/tokens",
    "/administration/tokens?account=admin",
    "/administration/audit",
    "/administration/audit?actor=admin&action=user.created",
    "/access",
    "/access?actor=alice&action=push&target=team%2Fapp",
    "/namespaces",
    "/n/team",
    "/n/team/-/members",
    "/n/team/-/settings",
    "/n/team/-/robots",
    "/n/team/-/robots/ci",
    "/repositories/new?namespace=team",
    "/r/team/app/-/settings",
    "/r/team/app/-/deleted",
    "/r/team/app/-/tags/1/delete",
    "/r/team/app/-/images/{digest}/pulls",
    "/account",
    "/account/sessions",
    "/?namespace=team",
)


async def test_nobody_is_kept_out(chromium: Browser, port: Port) -> None:
    digest = await port.push(tiny_image())
    await make_user(port.admin, "alice")
    for path in ("groups/devs", "groups/devs/members/alice"):
        await api(port.admin, "PUT", f"/{path}", status=201)
    await api(port.admin, "POST", "/issuers", status=201, json=ISSUER)
    identity = {"subject": "7", "account": "alice"}
    await api(port.admin, "POST", "/issuers/ci/identities", status=201, json=identity)
    await give_role(port.admin, "team/", "group:devs", "reader")
    async with visiting(chromium, port.registry, viewport=PHONE) as visit:
        await visit.go("/sign-in?next=/n/team/-/robots")
        await visit.sign_in()
        await visit.page.get_by_label("Its own name").fill("ci")
        await visit.page.get_by_role("button", name="Make it").click()
        for path in PAGES:
            assert await visit.go(path.format(digest=digest)) == 200, path
            await visit.require_good_in_each_look()
