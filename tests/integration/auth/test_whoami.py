"""Who somebody is by his credential, and what a token of scope ``account`` does for its owner."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from tests.kit.access import Answer, api, ask, basic, bearer, give_role, make_repository, make_user
from tests.kit.access import registry_token as fetch
from tests.kit.server import Registry
from tests.kit.sessions import signed_in

OFFLINE = {"service": "seatrial", "client_id": "docker", "offline_token": "true"}


async def whoami(nobody: aiohttp.ClientSession, headers: dict[str, str]) -> Any:
    answer = await ask(nobody, "GET", "/api/v1/whoami", headers=headers)
    assert answer.status == 200, answer.body
    for secret in headers.values():
        assert secret.split()[-1] not in answer.body.decode()
    return answer.json


async def token_of(
    nobody: aiohttp.ClientSession, headers: dict[str, str], *scopes: str, **more: Any
) -> dict[str, Any]:
    body = {"name": "one", "scopes": scopes, **more}
    made: dict[str, Any] = await api(nobody, "POST", "/tokens", status=201, headers=headers, json=body)
    return made


async def test_each_credential_tells_whose_it_is_and_until_when(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, "team/app")
    password = await make_user(client, "bob", auditor=True)
    await give_role(client, "team/", "user:bob", "owner")
    bob = basic("bob", password)
    told = await whoami(nobody, bob)
    assert told == {
        "name": "bob",
        "kind": "user",
        "admin": False,
        "auditor": True,
        "roles": [{"on": "team/", "role": "owner"}],
        "came_with": "password",
        "scopes": None,
        "networks": None,
        "token_id": None,
        "expires_at": None,
    }
    by_session = await whoami(nobody, await signed_in(nobody, "bob", password))
    assert by_session == told | {"came_with": "session", "expires_at": by_session["expires_at"]}
    assert by_session["expires_at"] > "2"
    scopes = ["repository:team/*:pull", "audit", "account"]
    made = await token_of(nobody, bob, *scopes, expires_seconds=3600, networks=["127.0.0.0/8"])
    by_token = {
        "came_with": "API token",
        "scopes": scopes,
        "networks": ["127.0.0.0/8"],
        "token_id": made["id"],
        "expires_at": made["expires_at"],
    }
    assert await whoami(nobody, bearer(made["token"])) == told | by_token
    text = await fetch(nobody, "repository:team/app:pull", headers=bearer(made["token"]))
    asked = {"came_with": "registry token", "scopes": ["repository:team/app:pull"], "expires_at": None}
    assert await whoami(nobody, bearer(text)) == told | by_token | asked
    await api(client, "PUT", "/robots/team+ci", status=201, json={})
    robot = await token_of(client, {}, "repository:team/app:push", account="team+ci")
    assert (await whoami(nobody, bearer(robot["token"])))["kind"] == "robot"
    assert (await ask(nobody, "GET", "/api/v1/whoami")).status == 401


@pytest.mark.parametrize("noun", ["sessions", "refresh-tokens"])
async def test_a_token_of_scope_account_manages_what_its_owner_is_signed_in_with(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, noun: str
) -> None:
    password = await make_user(client, "bob")
    for name, secret in (("bob", password), ("admin", registry.token)):
        given = await ask(nobody, "GET", "/token", params=OFFLINE, headers=basic(name, secret))
        assert "refresh_token" in given.json
        await signed_in(nobody, name, secret)
    bob, everything = basic("bob", password), "repository:*:pull,push,delete,trial,configure,administer"
    own = bearer((await token_of(nobody, bob, "account"))["token"])
    limited = bearer((await token_of(nobody, bob, everything))["token"])

    async def tried(method: str, headers: dict[str, str], rest: str = "") -> Answer:
        return await ask(nobody, method, f"/api/v1/{noun}{rest}", headers=headers)

    (mine,) = (await tried("GET", own)).json["items"]
    (his,) = (await tried("GET", basic("admin", registry.token), "?account=admin")).json["items"]
    assert mine["account"] == "bob"
    assert (await tried("GET", own, "?account=admin")).status == 403
    assert (await tried("DELETE", own, f"/{his['id']}")).status == 404
    for method, rest in (("GET", ""), ("DELETE", f"/{mine['id']}")):
        assert "of scope account" in (await tried(method, limited, rest)).json["detail"]
    assert (await tried("DELETE", own, f"/{mine['id']}")).status == 204
    assert (await tried("GET", own)).json["items"] == []
    # It opens nothing else.
    assert (await ask(nobody, "GET", "/v2/team/app/tags/list", headers=own)).status in (401, 403)
    assert (await ask(nobody, "GET", "/api/v1/users", headers=own)).status == 403
    body = {"name": "bob", "password": own["Authorization"].split()[1]}
    assert (await ask(nobody, "POST", "/api/v1/sessions", json=body)).status == 403
    for scopes in (["repository:*:pull"], ["audit"]):
        wanted = {"name": "more", "scopes": scopes}
        assert (await ask(nobody, "POST", "/api/v1/tokens", json=wanted, headers=own)).status in (400, 403)
