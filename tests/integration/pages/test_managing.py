"""Pages of those who manage a repository: what holds in it, its members, its waivers, its webhooks."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.kit.access import api, ask, give_role, make_user
from tests.kit.pagecontent import MARKUP
from tests.kit.pagereading import read, send, send_from, sign_in, visitor, words_of
from tests.kit.receiver import running_receiver
from tests.kit.trials import Port, open_port, tiny_image

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

PLACE = "/r/team/app/-"


async def test_visibility_and_gate_are_changed_by_a_form(port: Port) -> None:
    await port.push(tiny_image())
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        assert "enforces" in words_of(await read(person, f"{PLACE}/settings"))
        wanted = {"visibility": "public", "gate": "warn"}
        for headers in ({"Origin": "https://evil.example"}, {}):
            assert (await send_from(person, headers, f"{PLACE}/settings", **wanted)).status == 403
        assert (
            await send(person, port.registry, f"{PLACE}/settings", visibility="secret", gate="warn")
        ).status == 400
        assert (await send(person, port.registry, f"{PLACE}/settings", **wanted)).status == 303
        told = await api(port.admin, "GET", "/repositories/team%2Fapp")
        assert (told["visibility"], told["gate"]) == ("public", "warn")


async def test_what_is_tried_is_changed_by_a_form(port: Port) -> None:
    await port.push(tiny_image())
    path = f"{PLACE}/settings/trials"
    wanted = {"scan": "yes", "trial_tags": "v* main", "turned_bad": "warn", "turned_bad_days": "7"}
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        for headers in ({"Origin": "https://evil.example"}, {}):
            assert (await send_from(person, headers, path, **wanted)).status == 403
        for bad in ({"turned_bad": "fly"}, {"turned_bad_days": "1" * 5000}, {"trial_tags": MARKUP}):
            refused = await send(person, port.registry, path, **wanted | bad)
            assert refused.status == 400, bad
            assert b"<script>" not in refused.body
        assert (await send(person, port.registry, path, **wanted)).status == 303
        told = await api(port.admin, "GET", "/repositories/team%2Fapp")
        assert (told["scan"], told["trial_on_push"], told["image_spec_allowed"]) == (True, False, False)
        assert (told["trial_tags"], told["turned_bad"], told["turned_bad_days"]) == (
            ["v*", "main"],
            "warn",
            7,
        )
        shown = (await read(person, f"{PLACE}/settings")).body.decode()
        assert 'value="v* main"' in shown
        assert (await send(person, port.registry, path, trial_on_push="yes")).status == 303
        told = await api(port.admin, "GET", "/repositories/team%2Fapp")
        assert (told["scan"], told["trial_on_push"], told["trial_tags"]) == (False, True, None)
        assert (told["turned_bad"], told["turned_bad_days"]) == (None, None)


async def test_roles_are_given_and_taken(port: Port) -> None:
    await port.push(tiny_image())
    await make_user(port.admin, "alice")
    await give_role(port.admin, "team/", "user:alice", "reader")
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        wanted = {"member": "user:alice", "role": "maintainer"}
        assert (await send_from(person, {"Origin": "null"}, f"{PLACE}/members", **wanted)).status == 403
        assert (await send(person, port.registry, f"{PLACE}/members", **wanted)).status == 303
        shown = words_of(await read(person, f"{PLACE}/members"))
        assert "user:alice maintainer: also deletes, and sets what holds team/app" in shown
        assert "user:alice reader: pulls team/ (from above)" in shown
        for member in (MARKUP, "user:nobody"):
            answer = await send(person, port.registry, f"{PLACE}/members", member=member, role="reader")
            assert answer.status in (400, 404)
            assert b"<script>" not in answer.body
        taken = await send(person, port.registry, f"{PLACE}/members/take", member="user:alice")
        assert taken.status == 303
        assert (
            "maintainer: also"
            not in words_of(await read(person, f"{PLACE}/members")).partition("Give a role")[0]
        )


async def test_a_waiver_is_asked_for_granted_and_ended(port: Port) -> None:
    worker = await port.worker("w")
    digest = await port.push(tiny_image())
    await worker.report(await worker.claim(), met=False, exit_code=3)
    password = await make_user(port.admin, "pusher")
    await give_role(port.admin, "team/app", "user:pusher", "writer")
    reader = await make_user(port.admin, "reader")
    await give_role(port.admin, "team/app", "user:reader", "reader")
    async with (
        visitor(port.registry) as pusher,
        visitor(port.registry) as manager,
        visitor(port.registry) as puller,
    ):
        await sign_in(pusher, port.registry, name="pusher", password=password)
        await sign_in(puller, port.registry, name="reader", password=reader)
        await sign_in(manager, port.registry)
        refused = (await read(puller, f"/r/team/app/-/images/{digest}")).body.decode()
        assert f"/-/waivers?digest=sha256%3A{digest[7:]}" in refused
        assert f'value="{digest}"' in (await read(pusher, f"{PLACE}/waivers?digest={digest}")).body.decode()
        wanted = {"digest": digest, "state-fail": "yes", "days": "7", "reason": MARKUP}
        assert (await send(puller, port.registry, f"{PLACE}/waivers", **wanted)).status == 403
        for days in ("x", "0", "3651", "00000199999999999", "1" * 5000):
            answer = await send(pusher, port.registry, f"{PLACE}/waivers", **wanted | {"days": days})
            assert answer.status == 400, days[:20]
        assert (await send(pusher, port.registry, f"{PLACE}/waivers", **wanted)).status == 303
        page = await read(manager, f"{PLACE}/waivers")
        assert "asked for" in words_of(page)
        (grant,) = re.findall(r'action="(/waivers/[0-9]+/grant)"', page.body.decode())
        assert "/grant" not in (await read(pusher, f"{PLACE}/waivers")).body.decode()
        assert (await send(pusher, port.registry, grant)).status == 403
        assert (await send_from(manager, {"Sec-Fetch-Site": "cross-site"}, grant)).status == 403
        assert (await port.pull(digest)).status == 403
        assert (await send(manager, port.registry, grant)).status == 303
        assert (await port.pull(digest)).status == 200
        assert "granted by admin" in words_of(await read(puller, f"{PLACE}/waivers"))
        assert (await send(pusher, port.registry, grant.replace("grant", "revoke"))).status == 303
        assert (await port.pull(digest)).status == 403


async def test_an_image_is_blocked_and_unblocked(port: Port) -> None:
    worker = await port.worker("w")
    digest = await port.push(tiny_image())
    await worker.report(await worker.claim())
    path = f"/r/team/app/-/images/{digest}"
    async with visitor(port.registry) as person:
        await sign_in(person, port.registry)
        for headers in ({"Origin": "https://evil.example"}, {}):
            assert (await send_from(person, headers, f"{path}/block", reason="no")).status == 403
        assert (await send(person, port.registry, f"{path}/block")).status == 400
        assert (await port.pull(digest)).status == 200
        assert (await send(person, port.registry, f"{path}/block", reason=MARKUP)).status == 303
        assert (await port.pull(digest)).status == 403
        page = await read(person, path)
        assert f"is blocked: {MARKUP}" in words_of(page)
        assert (await send(person, port.registry, f"{path}/unblock")).status == 303
        assert (await port.pull(digest)).status == 200


async def test_a_webhook_is_made_tested_seen_and_deleted(tmp_path: Path, database_url: str) -> None:
    opened = open_port(tmp_path / "data", database_url, outgoing_networks=("127.0.0.0/8",))
    async with opened as port, running_receiver() as receiver, visitor(port.registry) as person:
        await port.push(tiny_image())
        await sign_in(person, port.registry)
        path = f"{PLACE}/webhooks"
        assert "Nobody is told" in words_of(await read(person, path))
        wanted = {"url": receiver.url, "kinds": "tag.moved", "format": "cloudevents"}
        assert (await send_from(person, {"Origin": "null"}, path, **wanted)).status == 403
        assert (await send(person, port.registry, path, url="javascript:alert(1)")).status == 400
        made = await send(person, port.registry, path, **wanted)
        assert made.status == 201, words_of(made)
        (secret,) = re.findall(r'class="copyable"><code>([^<]+)</code>', made.body.decode())
        receiver.secrets.append(secret)
        listed = await read(person, path)
        assert secret not in words_of(listed)
        (one,) = re.findall(r'href="(/webhooks/[^"]+)"', listed.body.decode())
        assert (await send(person, port.registry, f"{one}/test")).status == 303
        await receiver.until(1)
        async with asyncio.timeout(20):
            while "delivered" not in words_of(await ask(person, "GET", one)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        page = await read(person, one)
        assert "webhook.test what is sent" in words_of(page)
        (again,) = re.findall(rf'action="({one}/deliveries/[^"]+/redeliver)"', page.body.decode())
        assert (await send_from(person, {}, again)).status == 403
        assert (await send(person, port.registry, again)).status == 303
        first, second = await receiver.until(2)
        assert first.id == second.id
        for _ in range(2):  # a button that is pressed twice
            assert (await send(person, port.registry, f"{one}/switch", to="off")).status == 303
            assert "disabled" in words_of(await read(person, one))
        assert 'name="to" value="on"' in (await read(person, one)).body.decode()
        assert (await send(person, port.registry, f"{one}/switch", to="away")).status == 400
        assert (await send(person, port.registry, f"{one}/switch", to="on")).status == 303
        assert 'name="to" value="off"' in (await read(person, one)).body.decode()
        assert (await send_from(person, {"Origin": "https://evil.example"}, f"{one}/delete")).status == 403
        gone = await send(person, port.registry, f"{one}/delete")
        assert gone.headers["Location"] == path
        assert (await ask(person, "GET", one)).status == 404
