"""The page of one token: changed downward, replaced, revoked, by whoever manages it and by nobody else."""

from __future__ import annotations

import re

import aiohttp
import pytest

from tests.kit.access import api, ask, give_role, make_token, make_user
from tests.kit.pagecontent import MARKUP
from tests.kit.pagereading import read, send, send_from, sign_in, visitor, words_of
from tests.kit.server import Registry

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

EVIL = {"Origin": "https://evil.example"}
SCOPE = "repository:team/app:pull"
COPYABLE = r'class="copyable"><code>([^<]+)</code>'


async def test_a_token_is_changed_downward(registry: Registry, client: aiohttp.ClientSession) -> None:
    password = await make_user(client, "alice")
    async with visitor(registry) as alice, registry.client(password, user="alice") as program:
        token = await make_token(program, SCOPE, networks=["10.0.0.0/8"])
        path = f"/tokens/{token['id']}"
        await sign_in(alice, registry, name="alice", password=password)
        assert f'href="{path}"' in (await ask(alice, "GET", "/account")).body.decode()
        shown = words_of(await read(alice, path))
        assert f"Account alice State works May do {SCOPE} From 10.0.0.0/8 Made" in shown
        assert token["token"] not in shown
        wanted = {"name": f"ci {MARKUP}"[:90], "networks": "10.1.0.0/16", "expires_at": "2100-01-01T10:00"}
        for headers in (EVIL, {}):
            assert (await send_from(alice, headers, f"{path}/change", **wanted)).status == 403
        for bad, status in (
            ({"networks": "0.0.0.0/0"}, 403),
            ({"networks": "nowhere"}, 400),
            ({"expires_at": "2199-01-01T10:00"}, 403),
            ({"expires_at": MARKUP}, 400),
            ({"name": "x" * 101}, 400),
        ):
            refused = await send(alice, registry, f"{path}/change", **bad)
            assert refused.status == status, bad
            assert b"<script>" not in refused.body
        assert await api(program, "GET", f"/tokens/{token['id']}") == {
            name: value for name, value in token.items() if name != "token"
        }
        assert (await send(alice, registry, f"{path}/change", expires_at="2027-01-01T10:00")).status == 303
        del wanted["expires_at"]
        assert (await send(alice, registry, f"{path}/change", **wanted)).status == 303
        told = await api(program, "GET", f"/tokens/{token['id']}")
        assert (told["name"], told["networks"]) == (wanted["name"], ["10.1.0.0/16"])
        assert told["expires_at"].startswith("2027-01-01T10:00:00")
        page = await read(alice, path)
        assert 'value="10.1.0.0/16"' in page.body.decode()
        assert MARKUP not in page.body.decode()


async def test_a_token_is_replaced_and_ended(registry: Registry, client: aiohttp.ClientSession) -> None:
    token = await make_token(client, "admin")
    path = f"/tokens/{token['id']}"
    async with visitor(registry) as person:
        await sign_in(person, registry)
        assert (await send_from(person, EVIL, f"{path}/rotate", overlap="day")).status == 403
        for bad in ({}, {"overlap": "for ever"}):
            assert (await send(person, registry, f"{path}/rotate", **bad)).status == 400
        made = await send(person, registry, f"{path}/rotate", overlap="none")
        assert made.status == 201
        assert made.headers["Cache-Control"] == "no-store"
        (secret,) = re.findall(COPYABLE, made.body.decode())
        shown = await read(person, path)
        assert secret not in shown.body.decode()
        (after,) = re.findall(r'href="(/tokens/[^"]+)"', shown.body.decode())
        assert "State over" in words_of(shown)
        for known, status in ((token["token"], 401), (secret, 200)):
            async with registry.client(known) as program:
                assert (await ask(program, "GET", "/api/v1/whoami")).status == status
        assert f"Made in the place of {token['id']}" in words_of(await read(person, after))
        assert (await send_from(person, {}, f"{after}/revoke")).status == 403
        assert (await send(person, registry, f"{after}/revoke")).status == 303
        page = await read(person, after)
        assert "State revoked" in words_of(page)
        assert f"{after}/change" not in page.body.decode()
        async with registry.client(secret) as program:
            assert (await ask(program, "GET", "/api/v1/whoami")).status == 401
        assert (await send(person, registry, f"{after}/rotate", overlap="hour")).status == 409


async def test_whose_token_it_is(registry: Registry, client: aiohttp.ClientSession) -> None:
    await api(client, "POST", "/namespaces", status=201, json={"name": "team"})
    await api(client, "PUT", "/robots/team%2Bci", status=201, json={})
    passwords = {name: await make_user(client, name) for name in ("owner", "other")}
    await give_role(client, "team/", "user:owner", "owner")
    of_robot = await make_token(client, SCOPE, account="team+ci")
    of_admin = await make_token(client, SCOPE)
    async with visitor(registry) as owner, visitor(registry) as other:
        await sign_in(owner, registry, name="owner", password=passwords["owner"])
        await sign_in(other, registry, name="other", password=passwords["other"])
        path = f"/tokens/{of_robot['id']}"
        page = await read(owner, path)
        assert 'href="/n/team/-/robots/ci"' in page.body.decode()
        assert f'href="{path}"' in (await ask(owner, "GET", "/n/team/-/robots/ci")).body.decode()
        assert (await send(owner, registry, f"{path}/change", name="deploys")).status == 303
        assert (await api(client, "GET", f"/tokens/{of_robot['id']}"))["name"] == "deploys"
        for person, token in ((other, of_robot), (other, of_admin), (owner, of_admin)):
            theirs = f"/tokens/{token['id']}"
            assert (await ask(person, "GET", theirs)).status == 404
            for form, fields in (
                ("change", {"name": "mine"}),
                ("rotate", {"overlap": "hour"}),
                ("revoke", {}),
            ):
                assert (await send(person, registry, f"{theirs}/{form}", **fields)).status == 404
        assert (await api(client, "GET", f"/tokens/{of_admin['id']}"))["state"] == "active"
    async with visitor(registry) as admin:
        await sign_in(admin, registry)
        assert (
            f'href="/tokens/{of_robot["id"]}"'
            in (await ask(admin, "GET", "/administration/tokens")).body.decode()
        )
        await make_token(client, SCOPE, account="other")
        (theirs,) = (await api(client, "GET", "/tokens?account=other"))["items"]
        page = await read(admin, f"/tokens/{theirs['id']}")
        assert 'href="/administration/tokens?account=other"' in page.body.decode()
