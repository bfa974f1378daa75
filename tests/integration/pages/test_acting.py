"""Pages on which something is begun: an image tried and tagged, a worker made, keys and secrets replaced."""

from __future__ import annotations

import re
from pathlib import Path

import bcrypt
import pytest

from registry.contract import PROTOCOL_VERSION
from tests.kit.access import api, ask, give_role, have_namespaces, make_token, make_user
from tests.kit.pagecontent import MARKUP
from tests.kit.pagereading import read, send, send_from, sign_in, visitor, words_of
from tests.kit.receiver import running_receiver
from tests.kit.trials import Port, open_port, tiny_image
from tests.kit.upstream import add, claimed, ended, running_elsewhere

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

EVIL = {"Origin": "https://evil.example"}
PLACE = "/r/team/app/-"
COPYABLE = r'class="copyable"><code>([^<]+)</code>'


async def test_an_image_is_tried_from_its_page(port: Port) -> None:
    worker = await port.worker("w")
    digest = await port.push(tiny_image())
    job = await worker.claim()
    reader = await make_user(port.admin, "reader")
    await give_role(port.admin, "team/", "user:reader", "reader")
    path = f"{PLACE}/images/{digest}"
    async with visitor(port.registry) as person, visitor(port.registry) as other:
        await sign_in(person, port.registry)
        await sign_in(other, port.registry, name="reader", password=reader)
        # While it is tried there is nothing to begin.
        assert f"{path}/try" not in (await read(person, path)).body.decode()
        await worker.report(job, met=False, exit_code=1)
        assert f"{path}/try" in (await read(person, path)).body.decode()
        assert f"{path}/try" not in (await read(other, path)).body.decode()
        for headers in (EVIL, {}):
            assert (await send_from(person, headers, f"{path}/try")).status == 403
        assert (await send(other, port.registry, f"{path}/try")).status == 403
        begun = await send(person, port.registry, f"{path}/try")
        assert begun.status == 303
        trial = begun.headers["Location"].rpartition("/")[2]
        assert (await api(port.admin, "GET", f"/trials/{trial}"))["digest"] == digest
        await worker.report(await worker.claim())
        assert f"{path}/try" in (await read(person, path)).body.decode()


async def test_a_tag_is_copied_and_moved_from_its_page(port: Port) -> None:
    worker = await port.worker("w")
    first = await port.push(tiny_image(), tag="1")
    await worker.report(await worker.claim())
    second = await port.push(tiny_image(name="another"), tag="2")
    await worker.report(await worker.claim())
    reader = await make_user(port.admin, "reader")
    await give_role(port.admin, "team/", "user:reader", "reader")
    path = f"{PLACE}/tags/1"
    async with visitor(port.registry) as person, visitor(port.registry) as other:
        await sign_in(person, port.registry)
        await sign_in(other, port.registry, name="reader", password=reader)
        for form in ("copy", "move"):
            assert f"{path}/{form}" in (await read(person, path)).body.decode()
            assert f"{path}/{form}" not in (await read(other, path)).body.decode()
            assert (await send_from(person, EVIL, f"{path}/{form}", to="2")).status == 403
            assert (await send(other, port.registry, f"{path}/{form}", to="2")).status == 403
            assert (await send(person, port.registry, f"{path}/{form}")).status == 400
            refused = await send(person, port.registry, f"{path}/{form}", to=MARKUP)
            assert 400 <= refused.status < 500
            assert b"<script>" not in refused.body
        made = await send(person, port.registry, f"{path}/copy", to="stable", reason="it is good")
        assert (made.status, made.headers["Location"]) == (303, f"{PLACE}/tags/stable")
        assert (await api(port.admin, "GET", "/repositories/team%2Fapp/tags/stable"))["digest"] == first
        assert (await send(person, port.registry, f"{path}/move", to=second)).status == 303
        assert (await api(port.admin, "GET", "/repositories/team%2Fapp/tags/1"))["digest"] == second
        assert "it is good" in words_of(await read(person, f"{PLACE}/history/stable"))


async def test_one_reads_what_one_may(port: Port) -> None:
    await port.push(tiny_image())
    password = await make_user(port.admin, "alice")
    async with visitor(port.registry) as alice, visitor(port.registry) as admin:
        await sign_in(alice, port.registry, name="alice", password=password)
        await sign_in(admin, port.registry)
        page = words_of(await read(alice, "/account/rights"))
        assert "You hold no role." in page
        assert "a session of these pages" in page
        await give_role(port.admin, "team/app", "user:alice", "writer")
        shown = await read(alice, "/account/rights")
        assert 'href="/r/team/app"' in shown.body.decode()
        assert "writer" in words_of(shown)
        assert "administrator: may do everything" in words_of(await read(admin, "/account/rights"))
    async with visitor(port.registry) as limited:
        token = await make_token(port.admin, "repository:team/app:pull", name=MARKUP[:60])
        headers = {"Authorization": f"Bearer {token['token']}", "Accept": "text/html"}
        page = await ask(limited, "GET", "/account/rights", headers=headers)
        assert "It may repository:team/app:pull" in words_of(page)
        assert f'href="/tokens/{token["id"]}"' in page.body.decode()
        assert (await ask(limited, "GET", "/account/rights")).status == 401


async def test_a_worker_is_made_and_its_token_shown_once(port: Port) -> None:
    auditor = await make_user(port.admin, "looker", auditor=True)
    async with visitor(port.registry) as person, visitor(port.registry) as looker:
        await sign_in(person, port.registry)
        await sign_in(looker, port.registry, name="looker", password=auditor)
        assert "No worker is known" in words_of(await read(person, "/workers"))
        assert (await send_from(person, EVIL, "/workers", name="one")).status == 403
        assert (await send(looker, port.registry, "/workers", name="one")).status == 403
        refused = await send(person, port.registry, "/workers", name=MARKUP)
        assert refused.status == 400
        assert b"<script>" not in refused.body
        made = await send(person, port.registry, "/workers", name="one")
        assert made.status == 201
        secret, command = re.findall(COPYABLE, made.body.decode())
        assert command.startswith(f"seatrial worker run --registry {port.registry.url} --token-file")
        assert secret not in (await read(person, "/workers")).body.decode()
        (one,) = (await api(port.admin, "GET", "/workers"))["items"]
        assert one["name"] == "one"
        message = {"protocol": PROTOCOL_VERSION, "platforms": ["linux/amd64"], "wait_seconds": 0, "slots": 1}
        async with port.registry.client(anonymous=True) as program:
            headers = {"Authorization": f"Bearer {secret}"}
            claim = await ask(program, "POST", "/worker/v1/claim", json=message, headers=headers)
        assert claim.status == 200, claim.body


async def test_signing_keys_are_shown_and_replaced(port: Port) -> None:
    auditor = await make_user(port.admin, "looker", auditor=True)
    path = "/administration/keys"
    async with visitor(port.registry) as person, visitor(port.registry) as looker:
        await sign_in(person, port.registry)
        await sign_in(looker, port.registry, name="looker", password=auditor)
        assert (await ask(looker, "GET", path)).status == 403
        before = (await api(port.admin, "GET", "/keys"))["items"]
        shown = words_of(await read(person, path))
        assert all(one["kid"] in shown for one in before)
        assert "PRIVATE" not in shown
        for form in ("rotate", "replace"):
            assert (await send_from(person, EVIL, f"{path}/{form}", ring="token")).status == 403
            assert (await send(looker, port.registry, f"{path}/{form}", ring="token")).status == 403
            refused = await send(person, port.registry, f"{path}/{form}", ring=MARKUP)
            assert refused.status == 400
            assert b"<script>" not in refused.body
        assert (await send(person, port.registry, f"{path}/replace", ring="token")).status == 400
        wrong = {"ring": "token", "confirm": "attestation"}
        assert (await send(person, port.registry, f"{path}/replace", **wrong)).status == 400
        assert (await api(port.admin, "GET", "/keys"))["items"] == before
        assert (await send(person, port.registry, f"{path}/rotate", ring="token")).status == 303
        after = (await api(port.admin, "GET", "/keys"))["items"]
        assert len(after) == len(before) + 1
        assert (
            await send(person, port.registry, f"{path}/replace", ring="token", confirm="token")
        ).status == 303
        last = (await api(port.admin, "GET", "/keys"))["items"]
        assert [one["retired_at"] is None for one in last if one["ring"] == "token"].count(True) == 1


async def test_a_webhook_gets_another_secret(tmp_path: Path, database_url: str) -> None:
    opened = open_port(tmp_path / "data", database_url, outgoing_networks=("127.0.0.0/8",))
    async with opened as port, running_receiver() as receiver, visitor(port.registry) as person:
        await sign_in(person, port.registry)
        made = await api(port.admin, "POST", "/webhooks", status=201, json={"url": receiver.url})
        path = f"/webhooks/{made['id']}"
        assert (await send_from(person, {}, f"{path}/rotate")).status == 403
        rotated = await send(person, port.registry, f"{path}/rotate")
        assert rotated.status == 201
        (secret,) = re.findall(COPYABLE, rotated.body.decode())
        assert secret not in (made["secret"], "")
        assert secret not in (await read(person, path)).body.decode()
        # What is sent from now on is signed with it.
        receiver.secrets.append(secret)
        assert (await send(person, port.registry, f"{path}/test")).status == 303
        await receiver.until(1)
        for bad in ({}, {"since": MARKUP}):
            refused = await send(person, port.registry, f"{path}/redeliver", **bad)
            assert refused.status == 400
            assert b"<script>" not in refused.body
        assert (await send_from(person, EVIL, f"{path}/redeliver", since="2026-01-01T00:00")).status == 403
        assert (
            await send(person, port.registry, f"{path}/redeliver", since="2026-01-01T00:00")
        ).status == 303
        await receiver.until(2)


async def test_webhooks_of_a_namespace_and_of_everything(port: Port) -> None:
    await port.push(tiny_image())
    passwords = {role: await make_user(port.admin, role) for role in ("maintainer", "reader")}
    for role in passwords:
        await give_role(port.admin, "team/", f"user:{role}", role)
    wanted = {"url": "https://receiver.example/hook", "kinds": "tag.moved trial.*", "format": "docker"}
    async with (
        visitor(port.registry) as admin,
        visitor(port.registry) as person,
        visitor(port.registry) as reader,
    ):
        await sign_in(admin, port.registry)
        await sign_in(person, port.registry, name="maintainer", password=passwords["maintainer"])
        await sign_in(reader, port.registry, name="reader", password=passwords["reader"])
        assert "/webhooks?on=team/" in (await read(person, "/n/team")).body.decode()
        assert "/webhooks?on=team/" not in (await read(reader, "/n/team")).body.decode()
        assert (await send_from(person, EVIL, "/webhooks", on="team/", **wanted)).status == 403
        for fields in ({"on": "team/"}, {}):
            assert (await send(reader, port.registry, "/webhooks", **fields, **wanted)).status == 403
            query = f"?on={fields['on']}" if fields else ""
            assert (await ask(reader, "GET", f"/webhooks{query}")).status == 403
        assert (await send(person, port.registry, "/webhooks", **wanted)).status == 403
        made = await send(person, port.registry, "/webhooks", on="team/", **wanted)
        assert made.status == 201
        (secret,) = re.findall(COPYABLE, made.body.decode())
        page = await read(person, "/webhooks?on=team/")
        assert secret not in page.body.decode()
        (path,) = re.findall(r'href="(/webhooks/[^"?]+)"', page.body.decode())
        every = words_of(await read(admin, "/webhooks"))
        assert "https://receiver.example/hook team/ tag.moved, trial.* works" in every
        assert (await send(admin, port.registry, "/webhooks", **wanted)).status == 201
        assert "https://receiver.example/hook everything tag.moved" in words_of(
            await read(admin, "/webhooks")
        )
        assert (
            len(re.findall("receiver.example", (await read(person, "/webhooks?on=team/")).body.decode())) == 1
        )
        page = await read(person, path)
        (seen,) = re.findall('name="seen" value="([^"]+)"', page.body.decode())
        change = {"url": "https://other.example/", "kinds": "trial.*", "format": "cloudevents", "seen": seen}
        assert (await send_from(person, {}, f"{path}/change", **change)).status == 403
        for bad in ({"url": MARKUP}, {"kinds": MARKUP}, {"kinds": ""}, {"format": "x"}):
            refused = await send(person, port.registry, f"{path}/change", **change | bad)
            assert refused.status == 400, bad
            assert b"<script>" not in refused.body
        assert (await send(person, port.registry, f"{path}/change", **change)).status == 303
        assert (await send(person, port.registry, f"{path}/change", **change)).status == 412
        told = await api(port.admin, "GET", f"/webhooks/{path.rpartition('/')[2]}")
        assert (told["url"], told["kinds"], told["format"], told["ordered"]) == (
            "https://other.example/",
            ["trial.*"],
            "cloudevents",
            False,
        )
        gone = await send(person, port.registry, f"{path}/delete")
        assert gone.headers["Location"] == "/webhooks?on=team%2F"


async def test_how_long_a_repository_remembers_is_for_administrators(port: Port) -> None:
    await port.push(tiny_image())
    password = await make_user(port.admin, "owner")
    await give_role(port.admin, "team/app", "user:owner", "owner")
    form = f"{PLACE}/settings/keeping"
    wanted = {"trial_keep_days": "30", "history_keep_lines": "7", "log_keep_bytes": "2 GiB"}
    async with visitor(port.registry) as admin, visitor(port.registry) as owner:
        await sign_in(admin, port.registry)
        await sign_in(owner, port.registry, name="owner", password=password)
        assert form not in (await read(owner, f"{PLACE}/settings")).body.decode()
        assert (await send(owner, port.registry, form, **wanted)).status == 403
        assert (await send_from(admin, EVIL, form, **wanted)).status == 403
        for bad in ({"trial_keep_days": "0"}, {"history_keep_days": "x"}, {"log_keep_bytes": MARKUP}):
            refused = await send(admin, port.registry, form, **wanted | bad)
            assert refused.status == 400, bad
            assert b"<script>" not in refused.body
        assert (await send(admin, port.registry, form, **wanted)).status == 303
        told = await api(port.admin, "GET", "/repositories/team%2Fapp")
        names = ("trial_keep_days", "history_keep_lines", "history_keep_days", "log_keep_bytes")
        assert [told[name] for name in names] == [30, 7, None, 2 * 2**30]
        assert 'value="30"' in (await read(admin, f"{PLACE}/settings")).body.decode()
        assert (await send(admin, port.registry, form)).status == 303
        told = await api(port.admin, "GET", "/repositories/team%2Fapp")
        assert [told[name] for name in names] == [None] * 4


async def test_users_come_with_an_htpasswd_file(port: Port, capfd: pytest.CaptureFixture[str]) -> None:
    auditor = await make_user(port.admin, "looker", auditor=True)
    form = "/administration/htpasswd-imports"
    hashed = bcrypt.hashpw(b"a password of before", bcrypt.gensalt(4)).decode()
    lines = f"carol:{hashed}\r\nadmin:{hashed}\r\n{MARKUP}:x\r\nold:$apr1$abc$def"
    lines += f"\r\ndora {hashed}"
    async with visitor(port.registry) as person, visitor(port.registry) as looker:
        await sign_in(person, port.registry)
        await sign_in(looker, port.registry, name="looker", password=auditor)
        assert form in (await read(person, "/administration/users")).body.decode()
        assert form not in (await read(looker, "/administration/users")).body.decode()
        assert (await send_from(person, EVIL, form, htpasswd=lines)).status == 403
        assert (await send(looker, port.registry, form, htpasswd=lines)).status == 403
        assert (await send(person, port.registry, form)).status == 400
        shown = await send(person, port.registry, form, htpasswd=lines)
        words = words_of(shown)
        assert "Users that were made: 1" in words
        assert "2 admin" in words
        assert "4 old" in words
        assert "5 it is no line of NAME:HASH" in words
        assert b"<script>" not in shown.body
        log = capfd.readouterr()
        assert not any(hashed[10:] in said for said in (shown.body.decode(), log.out, log.err))
    async with visitor(port.registry) as carol:
        assert (
            await sign_in(carol, port.registry, name="carol", password="a password of before")
        ).status == 303


async def test_one_ends_all_that_one_was_given(port: Port) -> None:
    password = await make_user(port.admin, "alice")
    token = await make_token(port.admin, "repository:team/app:pull", account="alice")
    async with visitor(port.registry) as here, visitor(port.registry) as there:
        await sign_in(here, port.registry, name="alice", password=password)
        await sign_in(there, port.registry, name="alice", password=password)
        assert "/account/end" in (await read(here, "/account/sessions")).body.decode()
        assert (await send_from(here, EVIL, "/account/end", confirm="alice")).status == 403
        assert (await send(here, port.registry, "/account/end")).status == 400
        assert (await send(here, port.registry, "/account/end", confirm="Alice")).status == 400
        assert (await ask(there, "GET", "/account")).status == 200
        assert (await send(here, port.registry, "/account/end", confirm="alice")).status == 303
        for client in (here, there):
            assert (await ask(client, "GET", "/account")).status == 401
        async with port.registry.client(token["token"], user="alice") as program:
            assert (await ask(program, "GET", "/api/v1/whoami")).status == 401
        assert (await sign_in(here, port.registry, name="alice", password=password)).status == 303


async def test_an_image_of_another_registry_is_tried(tmp_path: Path, database_url: str) -> None:
    opened = open_port(tmp_path / "data", database_url, outgoing_networks=("127.0.0.0/8",))
    async with opened as port, running_elsewhere() as elsewhere, visitor(port.registry) as person:
        await have_namespaces(port.database, "team")
        elsewhere.hold("lib/app", "1", tiny_image())
        await sign_in(person, port.registry)
        path = "/upstreams?on=team/"
        assert "/upstreams/other/try" not in (await read(person, path)).body.decode()
        await add(port.admin, elsewhere.host)
        assert "/upstreams/other/try" in (await read(person, path)).body.decode()
        form = "/upstreams/other/try"
        assert (await send_from(person, EVIL, form, image="lib/app:1")).status == 403
        for bad in ({}, {"image": MARKUP}):
            refused = await send(person, port.registry, form, **bad, on="team/")
            assert refused.status == 400
            assert b"<script>" not in refused.body
        assert (await send(person, port.registry, form, image="lib/app:1", on="other/")).status == 404
        begun = await send(person, port.registry, form, image="lib/app:1", on="team/")
        assert begun.status == 303, words_of(begun)
        worker = await port.worker("w")
        await worker.report(await claimed(worker))
        trial = {"id": begun.headers["Location"].rpartition("/")[2]}
        assert (await ended(port.admin, trial))["verdict"] == "pass"
