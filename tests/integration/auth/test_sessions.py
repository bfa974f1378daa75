"""Cookie sessions: begun, used, listed, ended."""

from __future__ import annotations

from http.cookies import SimpleCookie
from pathlib import Path

import aiohttp

from tests.kit.access import api, ask, make_repository, make_user
from tests.kit.server import Registry, running_replicas
from tests.kit.sessions import COOKIE, OWN_PAGE, sign_in, signed_in


async def test_a_session_acts_as_its_account(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, "team/private")
    password = await make_user(client, "bob")
    answer = await sign_in(nobody, "bob", password)
    assert answer.status == 201
    assert answer.json["account"] == "bob"
    assert answer.headers["Cache-Control"] == "no-store"
    (cookie,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert (cookie.key, cookie["path"], cookie["samesite"], cookie["domain"]) == (COOKIE, "/", "Lax", "")
    assert cookie["httponly"]
    assert not cookie["secure"]
    assert cookie.value not in answer.body.decode()
    bob = OWN_PAGE | {"Cookie": f"{COOKIE}={cookie.value}"}
    assert [item["name"] for item in (await api(nobody, "GET", "/repositories", headers=bob))["items"]] == []
    assert (await ask(nobody, "GET", "/api/v1/users", headers=bob)).status == 403
    admin = await signed_in(nobody, "admin", registry.token)
    seen = await api(nobody, "GET", "/repositories", headers=admin)
    assert [item["name"] for item in seen["items"]] == ["team/private"]
    made = await api(
        nobody, "POST", "/tokens", status=201, headers=bob,
        json={"name": "x", "scopes": ["repository:x:pull"]},
    )  # fmt: skip
    assert made["account"] == "bob"


async def test_signing_out_ends_it_on_every_replica_at_once(tmp_path: Path, database_url: str) -> None:
    async with (
        running_replicas(tmp_path, database_url, 2) as (one, two),
        one.client() as client,
        one.client(anonymous=True) as here,
        two.client(anonymous=True) as there,
    ):
        bob = await signed_in(here, "bob", await make_user(client, "bob"))
        for browser in (here, there):
            assert len((await api(browser, "GET", "/sessions", headers=bob))["items"]) == 1
        answer = await ask(here, "DELETE", "/api/v1/sessions/current", headers=bob)
        assert answer.status == 204
        cleared = SimpleCookie(answer.headers["Set-Cookie"])[COOKIE]
        assert (cleared.value, cleared["max-age"]) == ("", "0")
        for browser in (there, here):
            assert (await ask(browser, "GET", "/api/v1/sessions", headers=bob)).status == 401
            assert (await ask(browser, "GET", "/api/v1/repositories", headers=bob)).status == 401
        assert (await ask(here, "DELETE", "/api/v1/sessions/current", headers=bob)).status == 204
        assert (await ask(here, "DELETE", "/api/v1/sessions/current", headers=OWN_PAGE)).status == 401
