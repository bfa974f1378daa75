"""``/api/v1``: accounts, tokens and workers, and what is answered to requests that are wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from registry.http.api.table import ROUTES
from tests.kit.access import (
    api,
    ask,
    basic,
    bearer,
    make_repository,
    make_token,
    make_user,
    make_worker_token,
    registry_token,
)
from tests.kit.server import Registry


async def test_users(client: aiohttp.ClientSession, nobody: aiohttp.ClientSession) -> None:
    made = await api(client, "POST", "/users", status=201, json={"name": "bob"})
    assert made["name"] == "bob"
    assert made["admin"] is False
    chosen = await api(
        client,
        "POST",
        "/users",
        status=201,
        json={"name": "eve", "password": "a password of hers", "admin": True},
    )
    assert "password" not in chosen
    listed = await api(client, "GET", "/users")
    assert [account["name"] for account in listed["items"]] == ["admin", "bob", "eve"]
    assert "argon2" not in str(listed)
    as_bob, as_eve = basic("bob", made["password"]), basic("eve", "a password of hers")
    assert (await ask(nobody, "GET", "/api/v1/users", headers=as_bob)).status == 403
    assert (await ask(nobody, "GET", "/api/v1/users", headers=as_eve)).status == 200
    await api(client, "POST", "/users", status=409, json={"name": "bob"})
    await api(client, "PATCH", "/users/nobody", status=404, json={"disabled": True})
    await api(client, "PATCH", "/users/bob", json={"disabled": True})
    await api(client, "PATCH", "/users/bob", json={"disabled": True})
    assert (await ask(nobody, "GET", "/api/v1/tokens", headers=as_bob)).status == 401


async def test_the_last_administrator_stays(client: aiohttp.ClientSession) -> None:
    await api(client, "PATCH", "/users/admin", status=409, json={"disabled": True})
    await make_user(client, "eve", admin=True)
    await api(client, "PATCH", "/users/eve", json={"disabled": True})
    await api(client, "PATCH", "/users/admin", status=409, json={"disabled": True})


async def test_two_administrators_cannot_disable_each_other(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    password = await make_user(client, "eve", admin=True)
    answers = await asyncio.gather(
        ask(client, "PATCH", "/api/v1/users/eve", json={"disabled": True}),
        ask(nobody, "PATCH", "/api/v1/users/admin", headers=basic("eve", password), json={"disabled": True}),
    )
    assert sorted(answer.status for answer in answers) in ([200, 403], [200, 401])


async def test_tokens(client: aiohttp.ClientSession, nobody: aiohttp.ClientSession) -> None:
    made = await make_token(client, "repository:team/*:push,pull", "admin", expires_seconds=60, name="ci")
    assert made["scopes"] == ["repository:team/*:pull,push", "admin"]
    assert made["token"].startswith("seatrial_")
    assert made["expires_at"].endswith("Z")
    password = await make_user(client, "bob")
    as_bob = basic("bob", password)
    own = await api(nobody, "POST", "/tokens", status=201, headers=as_bob,
                    json={"name": "mine", "scopes": ["repository:x:pull"]})  # fmt: skip
    for_bob = await make_token(client, "repository:y:pull", account="bob")
    assert own["account"] == for_bob["account"] == "bob"
    listed = (await api(nobody, "GET", "/tokens", headers=as_bob))["items"]
    assert [token["id"] for token in listed] == [own["id"], for_bob["id"]]
    everything = (await api(client, "GET", "/tokens"))["items"]
    assert {token["name"] for token in everything} == {"first start", "ci", "mine", "test"}
    assert "seatrial_" not in str(everything)
    await api(nobody, "DELETE", f"/tokens/{made['id']}", status=404, headers=as_bob)
    await api(nobody, "DELETE", f"/tokens/{for_bob['id']}", status=204, headers=as_bob)
    await api(client, "DELETE", f"/tokens/{own['id']}", status=204)
    await api(client, "DELETE", f"/tokens/{own['id']}", status=204)
    await api(client, "DELETE", "/tokens/nonsense", status=404)


async def test_a_limited_token_makes_no_wider_one(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    limited = await make_token(client, "repository:team/app:pull")
    other = await make_token(client, "repository:team/app:pull")
    as_limited = bearer(limited["token"])
    body = {"name": "wider", "scopes": ["repository:*:push"]}
    await api(nobody, "POST", "/tokens", status=403, headers=as_limited, json=body)
    await api(nobody, "POST", "/users", status=403, headers=as_limited, json={"name": "bob"})
    await api(nobody, "DELETE", f"/tokens/{other['id']}", status=403, headers=as_limited)
    for_registry = bearer(await registry_token(nobody, "repository:team/app:pull", headers=as_limited))
    for headers in (as_limited, for_registry):
        listed = await api(nobody, "GET", "/tokens", headers=headers)
        assert [token["id"] for token in listed["items"]] == [limited["id"]]
    await api(nobody, "DELETE", f"/tokens/{limited['id']}", status=204, headers=as_limited)
    await api(nobody, "GET", "/tokens", status=401, headers=as_limited)
    password = await make_user(client, "bob")
    for change, status in (
        ({"account": "admin"}, 403),
        ({"scopes": ["admin"]}, 400),
        ({"scopes": ["worker"]}, 400),
    ):
        wanted = {"name": "n", "scopes": ["repository:*:pull"]} | change
        await api(nobody, "POST", "/tokens", status=status, headers=basic("bob", password), json=wanted)


async def test_workers(client: aiohttp.ClientSession, nobody: aiohttp.ClientSession) -> None:
    token = await make_worker_token(client, "w1")
    second = await make_worker_token(client, "w1")
    (worker,) = (await api(client, "GET", "/workers"))["items"]
    assert worker == {
        "name": "w1",
        "platforms": [],
        "mechanisms": None,
        "disk_bytes": None,
        "disk_most_bytes": None,
        "waiting_parts": 0,
        "needed_bytes": None,
        "address": None,
        "last_seen_at": None,
        "drain_at": None,
        "revoked_at": None,
        "namespaces": None,
        "labels": [],
        "networks": None,
        "slots": None,
        "leases": 0,
    }

    async def claims(secret: str) -> int:
        body = {"protocol": 1, "platforms": ["linux/amd64"], "wait_seconds": 0}
        return (await ask(nobody, "POST", "/worker/v1/claim", headers=bearer(secret), json=body)).status

    assert await claims(token) != 401
    await api(client, "PUT", "/workers/w1/drain", status=204)
    (worker,) = (await api(client, "GET", "/workers"))["items"]
    assert worker["drain_at"] is not None
    await api(client, "DELETE", "/workers/w1/drain", status=204)
    (worker,) = (await api(client, "GET", "/workers"))["items"]
    assert worker["drain_at"] is None
    await api(client, "POST", "/workers/w1/revoke", status=204)
    (worker,) = (await api(client, "GET", "/workers"))["items"]
    assert worker["revoked_at"] is not None
    assert [await claims(token), await claims(second)] == [401, 401]
    again = await make_worker_token(client, "w1")
    assert await claims(again) != 401
    assert await claims(token) == 401
    for method, path in (
        ("PUT", "/workers/x/drain"),
        ("POST", "/workers/admin/revoke"),
        ("POST", "/workers/x/revoke"),
    ):
        await api(client, method, path, status=404)
    await api(client, "POST", "/tokens", status=409, json={"worker": "admin"})
    await api(client, "POST", "/users", status=409, json={"name": "w1"})


WRONG_BODIES: list[tuple[str, dict[str, Any], str]] = [
    ("/users", {}, "name: Field required"),
    ("/users", {"name": "bob", "admn": True}, "admn: Extra inputs are not permitted"),
    ("/users", {"name": "bob", "admin": "yes"}, "admin: Input should be a valid boolean"),
    ("/users", {"name": 5}, "name: Input should be a valid string"),
    ("/users", {"name": "Bob"}, "'Bob' is not a name for an account"),
    ("/users", {"name": "anonymous"}, "is not a name for an account"),
    ("/users", {"name": "a" * 65}, "is not a name for an account"),
    ("/users", {"name": "bob", "password": "short"}, "a password has 12 to 256 characters"),
    ("/tokens", {"scopes": ["admin"]}, "name: a token needs one"),
    ("/tokens", {"name": "n"}, "a token has 1 to 100 scopes"),
    ("/tokens", {"name": "n", "scopes": ["repository:a:fly"]}, "is not a scope"),
    ("/tokens", {"name": "n", "scopes": ["a"]}, "is not a scope"),
    ("/tokens", {"name": "", "scopes": ["admin"]}, "the name of a token"),
    ("/tokens", {"name": "a\nb", "scopes": ["admin"]}, "the name of a token"),
    ("/tokens", {"name": "n", "scopes": ["admin"], "expires_seconds": 0}, "a token expires"),
    ("/tokens", {"name": "n", "scopes": ["admin"], "expires_seconds": 10**18}, "a token expires"),
    ("/tokens", {"name": "n", "scopes": ["admin"], "expires_seconds": "1h"}, "expires_seconds: "),
    ("/tokens", {"worker": "w", "scopes": ["admin"]}, "a worker's token takes the worker's name"),
    ("/tokens", {"worker": "W"}, "is not a name for an account"),
    ("/repositories", {"name": "UPPER"}, "breaks the grammar"),
    ("/repositories", {"name": "a", "visibility": "secret"}, "visibility: "),
    ("/repositories", {"name": "a", "gate": "soft"}, "gate: "),
    ("/repositories", {"name": "a", "run_spec": {"version": 2}}, "the run spec is not valid"),
    (
        "/repositories",
        {"name": "a", "run_spec": "version: 1\nservices: []"},
        "services: Value should have at least 1",
    ),
    (
        "/repositories",
        {"name": "a", "run_spec": "version: 1\nservices: [{name: db, image: no/such, ready: {tcp: 1}}]"},
        "the service db: there is no image no/such:latest in this registry",
    ),
]


async def test_a_waiting_claim_ends_when_its_worker_is_revoked(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    token = await make_worker_token(client, "w1")
    body = {"protocol": 1, "platforms": ["linux/amd64"], "wait_seconds": 60}
    waiting = asyncio.create_task(ask(nobody, "POST", "/worker/v1/claim", headers=bearer(token), json=body))
    async with asyncio.timeout(50):
        while (await api(client, "GET", "/workers"))["items"][0]["last_seen_at"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await api(client, "POST", "/workers/w1/revoke", status=204)
        answer = await waiting
    assert answer.status == 401


async def test_a_wrong_body_is_named_and_changes_nothing(client: aiohttp.ClientSession) -> None:
    lists = ("/users", "/tokens", "/workers", "/repositories")
    before = [[_fixed(item) for item in (await api(client, "GET", path))["items"]] for path in lists]
    for path, body, said in WRONG_BODIES:
        answer = await ask(client, "POST", f"/api/v1{path}", json=body)
        assert answer.status == 400, body
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert said in answer.json["detail"]
        assert answer.json["status"] == 400
    after = [[_fixed(item) for item in (await api(client, "GET", path))["items"]] for path in lists]
    assert before == after


def _fixed(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "last_used_at"}


async def test_bodies_that_are_no_json(client: aiohttp.ClientSession) -> None:
    json_type = {"Content-Type": "application/json"}
    for raw, status in (
        (b"", 400),
        (b"[]", 400),
        (b'{"name": "bob", "name": "eve"}', 400),
        (b'{"name": NaN}', 400),
        (b"\xff\xfe{}", 400),
        (b"[" * 100_000, 400),
        (b'{"name": "' + b"x" * 300_000 + b'"}', 413),
    ):
        answer = await ask(client, "POST", "/api/v1/users", data=raw, headers=json_type)
        assert answer.status == status, raw[:40]
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = await ask(
            client, "POST", "/api/v1/users", data=b'{"name":"bob"}', headers={"Content-Type": kind}
        )
        assert answer.status == 415, kind
    gzip = json_type | {"Content-Encoding": "gzip"}
    assert (await ask(client, "POST", "/api/v1/users", data=b"{}", headers=gzip)).status == 415
    assert len((await api(client, "GET", "/users"))["items"]) == 1


async def test_pages(client: aiohttp.ClientSession) -> None:
    names = [f"r{number}" for number in range(7)]
    for name in names:
        await make_repository(client, name)
    seen, cursor, pages = [], None, 0
    while True:
        query = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = await api(client, "GET", "/repositories", params=query)
        seen += [item["name"] for item in page["items"]]
        pages += 1
        cursor = page["next"]
        if cursor is None:
            break
    assert (seen, pages) == (names, 3)
    exact = await api(client, "GET", "/repositories", params={"limit": "7"})
    assert exact["next"] is None
    for query in ({"limit": "0"}, {"limit": "-1"}, {"limit": "x"}, {"limit": "1001"}, {"limit": "9" * 30}):
        await api(client, "GET", "/repositories", status=400, params=query)
    await api(client, "GET", "/repositories", status=400, params={"limt": "3"})
    await api(client, "GET", "/repositories", status=400, params=[("limit", "3"), ("limit", "4")])


async def test_every_route_asks_for_its_right(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    password = await make_user(client, "bob")
    assert len(ROUTES) > 20
    for route in (route for route in ROUTES if route.right != "signing"):
        path = "/api/v1" + route.path.replace("{", "").replace("}", "")
        options = {"json": {}} if route.method in ("POST", "PATCH", "PUT") else {}
        wrong = await ask(nobody, route.method, path, headers=bearer("seatrial_x"), **options)
        assert wrong.status == 401
        assert wrong.headers["WWW-Authenticate"].startswith("Bearer")
        if route.right != "anyone":
            assert (await ask(nobody, route.method, path, **options)).status == 401, path
        if route.right == "admin":
            answer = await ask(nobody, route.method, path, headers=basic("bob", password), **options)
            assert answer.status == 403, path


async def test_a_character_that_no_name_has(client: aiohttp.ClientSession) -> None:
    for method, path in (
        ("GET", "/users?cursor=%00"),
        ("GET", "/tokens?cursor=%00"),
        ("GET", "/workers?cursor=%00"),
        ("GET", "/repositories?cursor=%00"),
        ("GET", "/trials/%00"),
        ("GET", "/trials/%00/log"),
        ("PATCH", "/users/%00"),
        ("DELETE", "/tokens/a%00b"),
        ("PUT", "/workers/%00/drain"),
        ("POST", "/workers/%00/revoke"),
    ):
        answer = await ask(client, method, f"/api/v1{path}")
        assert (answer.status, answer.json["code"]) == (400, "REQUEST_INVALID"), path


async def test_addresses_and_methods_that_are_none(client: aiohttp.ClientSession) -> None:
    for method, path, status in (
        ("GET", "/api/v1/nonsense", 404),
        ("GET", "/api/v2/users", 404),
        ("PUT", "/api/v1/users", 405),
        ("GET", "/api/v1/repositories/a%2Fb%2Fc", 404),
        ("GET", "/api/v1/repositories/A", 400),
        ("GET", "/api/v1/repositories/a%00b", 400),
        ("GET", "/api/v1/repositories/..%2Fx", 400),
    ):
        answer = await ask(client, method, path)
        assert answer.status == status, path
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_pages_of_other_sites_are_refused(client: aiohttp.ClientSession) -> None:
    await make_user(client, "bob")
    for site, status in (("cross-site", 403), ("same-site", 403), ("none", 200), ("same-origin", 200)):
        headers = {"Sec-Fetch-Site": site}
        answer = await ask(client, "POST", "/api/v1/users/bob/password", headers=headers, json={})
        assert answer.status == status, site
