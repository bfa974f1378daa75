"""One's own tokens and sessions, made and ended by forms."""

from __future__ import annotations

import re

import aiohttp
import pytest

from tests.kit.access import api, ask, basic, make_user
from tests.kit.pagecontent import MARKUP, TURNED
from tests.kit.pagereading import HTML, read, send, send_from, sign_in, visitor, words_of
from tests.kit.plans import sent
from tests.kit.server import Registry

# What a page shows, the API reads, and its own tests do so on both databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

QUERIES_MAX = 6


async def test_a_token_is_made_shown_once_and_revoked(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    password = await make_user(client, "alice")
    async with visitor(registry) as alice:
        await sign_in(alice, registry, name="alice", password=password)
        assert "You have no API token" in words_of(await ask(alice, "GET", "/account"))
        given = {"name": f"ci {MARKUP}"[:90], "scopes": "repository:team/app:pull\r\nrepository:x/*:pull"}
        made = await send(alice, registry, "/account/tokens", lives="day", networks="127.0.0.0/8", **given)
        assert made.status == 201, words_of(made)
        assert made.headers["Cache-Control"] == "no-store"
        assert b"<script>" not in made.body
        (token,) = re.findall(r'class="copyable"><code>([^<]+)</code>', made.body.decode())
        async with registry.client(token, user="alice") as program:
            told = await api(program, "GET", "/whoami")
            assert told["name"] == "alice"
        with sent() as statements:
            listed = await ask(alice, "GET", "/account")
        assert len(statements) <= QUERIES_MAX
        shown = words_of(listed)
        assert token not in shown
        assert "repository:team/app:pull repository:x/*:pull" in shown
        assert "from 127.0.0.0/8" in shown
        assert "in 23 hours" in shown
        (path,) = re.findall(r'action="(/account/tokens/[^"]+/revoke)"', listed.body.decode())
        assert (await send_from(alice, {"Origin": "https://evil.example"}, path)).status == 403
        assert (await send_from(alice, {}, path)).status == 403
        assert (await send(alice, registry, path)).status == 303
        assert "revoked" in words_of(await ask(alice, "GET", "/account"))
        async with registry.client(token, user="alice") as program:
            assert (await ask(program, "GET", "/api/v1/whoami")).status == 401


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "name is missing"),
        ({"name": "x", "scopes": "everything"}, "everything"),
        ({"name": "x"}, "a token has 1 to 100 scopes"),
        ({"name": "x", "scopes": "repository:a/b:pull", "networks": "nowhere"}, "nowhere"),
    ],
)
async def test_what_is_wrong_with_a_token_is_told(
    registry: Registry, client: aiohttp.ClientSession, fields: dict[str, str], says: str
) -> None:
    async with visitor(registry) as person:
        await sign_in(person, registry)
        answer = await send(person, registry, "/account/tokens", **fields)
        assert answer.status == 400
        assert says in words_of(answer)
        (first,) = (await api(client, "GET", "/tokens?account=admin"))["items"]
        assert first["name"] not in ("x", "")


async def test_sessions_are_shown_and_ended(registry: Registry, client: aiohttp.ClientSession) -> None:
    password = await make_user(client, "alice")
    async with visitor(registry) as here, visitor(registry) as there, visitor(registry) as admin:
        strange = {"User-Agent": f"evil {MARKUP} {TURNED}"}
        await sign_in(here, registry, name="alice", password=password)
        await ask(there, "GET", "/", headers=strange)
        await sign_in(there, registry, name="alice", password=password)
        await sign_in(admin, registry)
        with sent() as statements:
            answer = await ask(here, "GET", "/account/sessions")
        assert len(statements) <= QUERIES_MAX
        page = answer.body.decode()
        assert words_of(answer).count("(this one)") == 1
        paths = re.findall(r'action="(/account/sessions/[^"]+/revoke)"', page)
        assert len(paths) == 2
        # Another's cannot be ended, and is not told from none.
        own = re.findall(r'action="(/account/sessions/[^"]+/revoke)"',
                         (await ask(admin, "GET", "/account/sessions")).body.decode())  # fmt: skip
        assert len(own) == 1
        assert (await send(here, registry, own[0])).status == 404
        assert (await send_from(here, {"Origin": "null"}, paths[1])).status == 403
        assert (await send(here, registry, paths[1])).status == 303
        assert "Sign out" not in words_of(await ask(there, "GET", "/"))
        assert "Sign out" in words_of(await ask(here, "GET", "/"))


async def test_strangers_have_no_account(registry: Registry, nobody: aiohttp.ClientSession) -> None:
    for path in ("/account", "/account/sessions"):
        answer = await ask(nobody, "GET", path, headers=HTML)
        assert answer.status == 401
        assert f'name="next" value="{path}"' in answer.body.decode()


async def test_a_token_is_replaced_and_a_client_is_signed_out(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    password = await make_user(client, "alice")
    async with visitor(registry) as alice:
        await sign_in(alice, registry, name="alice", password=password)
        wanted = {"name": "ci", "scopes": "repository:team/*:pull", "lives": "ever"}
        made = await send(alice, registry, "/account/tokens", **wanted)
        (first,) = re.findall(r'class="copyable"><code>([^<]+)</code>', made.body.decode())
        listed = await ask(alice, "GET", "/account")
        assert "ci works repository:team/*:pull never" in words_of(listed), "it lives for ever, as was said"
        (rotate,) = re.findall(r'action="(/account/tokens/[^"]+/rotate)"', listed.body.decode())
        assert (await send_from(alice, {"Origin": "null"}, rotate)).status == 403
        assert (await send_from(alice, {}, rotate)).status == 403
        newer = await send(alice, registry, rotate)
        assert newer.status == 201
        (second,) = re.findall(r'class="copyable"><code>([^<]+)</code>', newer.body.decode())
        for secret in (first, second):
            async with registry.client(secret) as program:
                assert (await ask(program, "GET", "/api/v1/whoami")).status == 200
        assert (await send(alice, registry, rotate)).status == 409, "it was replaced already"

        asked = {"service": "seatrial", "client_id": f"cli {MARKUP}"[:60], "offline_token": "true"}
        given = await ask(nobody, "GET", "/token", params=asked, headers=basic("alice", password))
        assert given.status == 200, given.body
        page = await read(alice, "/account/sessions")
        assert asked["client_id"] in words_of(page)
        (end,) = re.findall(r'action="(/account/refresh-tokens/[^"]+/revoke)"', page.body.decode())
        assert (await send_from(alice, {"Origin": "https://evil.example"}, end)).status == 403
        assert (await send(alice, registry, end)).status == 303
        form = {"grant_type": "refresh_token", "refresh_token": given.json["refresh_token"]}
        refused = await ask(nobody, "POST", "/token", data=form | {"service": "seatrial", "client_id": "x"})
        assert refused.status in (400, 401)
        shown = words_of(await read(alice, "/account/sessions"))
        assert asked["client_id"] not in shown
        assert "stay signed in None." in shown
