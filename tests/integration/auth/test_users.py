"""Users: what administrators make of them, and what ends with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from registry.auth.firststart import ensure_admin
from registry.content import uploads
from registry.db.accounts import accounts
from registry.db.content import upload_sessions
from registry.db.events import events
from registry.errors import BlobUploadUnknownError, UnauthorizedError
from tests.kit.access import (
    api,
    ask,
    basic,
    bearer,
    give_role,
    make_repository,
    make_token,
    make_user,
    registry_token,
)
from tests.kit.distribution import push_small
from tests.kit.server import Registry, running_replicas
from tests.kit.sessions import signed_in

REPOSITORY = "team/app"
LIST = f"/v2/{REPOSITORY}/tags/list"
OFFLINE = {"service": "seatrial", "client_id": "docker", "offline_token": "true"}


async def ways_in(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, name: str, password: str
) -> list[tuple[str, str, dict[str, Any]]]:
    """A request for every credential that a user can have; each is answered with 200 while it is valid."""
    token = (await make_token(client, f"repository:{REPOSITORY}:pull,push", account=name))["token"]
    scope = f"repository:{REPOSITORY}:pull"
    answer = await ask(nobody, "GET", "/token", params=OFFLINE, headers=basic(name, password))
    form = {
        "grant_type": "refresh_token",
        "service": "seatrial",
        "client_id": "docker",
        "refresh_token": answer.json["refresh_token"],
    }
    by_password = await registry_token(nobody, scope, headers=basic(name, password))
    by_token = await registry_token(nobody, scope, headers=basic("x", token))
    return [
        ("GET", LIST, {"headers": basic(name, password)}),
        ("GET", LIST, {"headers": bearer(token)}),
        ("GET", LIST, {"headers": bearer(by_password)}),
        ("GET", LIST, {"headers": bearer(by_token)}),
        ("POST", "/token", {"data": form}),
        ("GET", "/api/v1/tokens", {"headers": await signed_in(nobody, name, password)}),
    ]


async def statuses(nobody: aiohttp.ClientSession, ways: list[tuple[str, str, dict[str, Any]]]) -> list[int]:
    return [(await ask(nobody, method, path, **options)).status for method, path, options in ways]


async def test_a_user_is_made_and_changed_under_its_entity_tag(client: aiohttp.ClientSession) -> None:
    path = "/api/v1/users/bob"
    wanted = {"admin": False, "auditor": True, "disabled": False}
    made = await ask(client, "PUT", path, json=wanted, headers={"If-None-Match": "*"})
    assert (made.status, made.json["auditor"], made.json["has_password"]) == (201, True, False)
    assert (await ask(client, "PUT", path, json=wanted, headers={"If-None-Match": "*"})).status == 412
    assert (await ask(client, "PUT", path, json=wanted)).status == 200
    shown = await ask(client, "GET", path)
    assert shown.json == made.json
    tag = shown.headers["ETag"]
    assert tag == made.headers["ETag"]
    changed = await ask(client, "PATCH", path, json={"disabled": True}, headers={"If-Match": tag})
    assert (changed.status, changed.json["auditor"]) == (200, True)
    assert changed.json["disabled_at"] is not None
    for method, options in (("PATCH", {"json": {"admin": True}}), ("DELETE", {})):
        old = await ask(client, method, path, headers={"If-Match": tag}, **options)
        assert (old.status, old.json["code"]) == (412, "PRECONDITION_FAILED")
    assert (await ask(client, "GET", path)).json == changed.json
    assert (await ask(client, "PUT", path, json={})).json["disabled_at"] is None
    await api(client, "DELETE", "/users/bob", status=204)
    for method in ("GET", "DELETE"):
        assert (await ask(client, method, path)).status == 404
    assert (await ask(client, "PATCH", path, json={})).status == 404
    await api(client, "PUT", "/users/w1", status=201, json={})
    await api(client, "POST", "/tokens", status=409, json={"worker": "w1"})


async def test_pages_by_prefix(client: aiohttp.ClientSession) -> None:
    for name in ("ann", "anna", "anne", "bob"):
        await api(client, "PUT", f"/users/{name}", status=201, json={})
    seen, cursor = [], None
    while True:
        asked = {"prefix": "ann", "limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = await api(client, "GET", "/users", params=asked)
        seen += [user["name"] for user in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == ["ann", "anna", "anne"]
    for prefix in ("annab", "Ann", "%", "\U0001f600"):
        assert (await api(client, "GET", "/users", params={"prefix": prefix}))["items"] == []


async def test_names_that_mean_something_else(client: aiohttp.ClientSession) -> None:
    for name in (
        "anonymous",
        "oidc",
        "registry",
        "token",
        "host",
        "worker",
        "worker-1",
        "workers",
        "a b",
        "A",
    ):
        answer = await ask(client, "PUT", f"/api/v1/users/{name}", json={})
        assert (answer.status, answer.json["code"]) == (400, "REQUEST_INVALID"), name
    await api(client, "PUT", "/users/coworker", status=201, json={})


async def test_who_may_look_and_who_may_change(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    bob = basic("bob", await make_user(client, "bob"))
    eve = basic("eve", await make_user(client, "eve", auditor=True))
    lists = ("/users", "/users/bob", "/users/bob/grants", "/groups", "/robots")
    for headers, expected in ((bob, [403, 200, 200, 403, 403]), (eve, [200] * 5), ({}, [401] * 5)):
        found = [(await ask(nobody, "GET", f"/api/v1{path}", headers=headers)).status for path in lists]
        assert found == expected
    # Whether there is an account is not told to those who may not look.
    for name in ("admin", "nobody"):
        answer = await ask(nobody, "GET", f"/api/v1/users/{name}", headers=bob)
        assert answer.status == 403
        assert answer.json["detail"].startswith("bob may not look at accounts, groups and roles of others;")
    before = await api(client, "GET", "/users")
    for headers in (bob, eve):
        for method, path, options in (
            ("POST", "/users", {"json": {"name": "x"}}),
            ("PUT", "/users/bob", {"json": {"admin": True}}),
            ("PATCH", "/users/bob", {"json": {"admin": True}}),
            ("PATCH", "/users/eve", {"json": {"admin": True}}),
            ("DELETE", "/users/bob", {}),
            ("POST", "/users/admin/password", {"json": {}}),
            ("PUT", "/groups/g", {}),
            ("PUT", "/groups/g/members/bob", {}),
        ):
            answer = await ask(nobody, method, f"/api/v1{path}", headers=headers, **options)
            assert answer.status == 403, (method, path)
    assert await api(client, "GET", "/users") == before


@pytest.mark.parametrize("how", ["disable", "delete"])
async def test_everything_ends_at_once(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, how: str
) -> None:
    assert registry.services is not None
    await make_repository(client, REPOSITORY)
    password = await make_user(client, "bob")
    await give_role(client, REPOSITORY, "user:bob", "writer")
    ways = await ways_in(client, nobody, "bob", password)
    async with registry.client(password, user="bob") as as_bob:
        begun = await ask(as_bob, "POST", f"/v2/{REPOSITORY}/blobs/uploads/")
        assert begun.status == 202
        upload = begun.headers["Location"]
        assert (await ask(as_bob, "PATCH", upload, data=b"half")).status == 202
        async with registry.services.database.read() as connection:
            locator = (await connection.execute(select(upload_sessions.c.locator))).scalar_one()
        assert await registry.services.blobs.upload_size(locator) == 4
        assert set(await statuses(nobody, ways)) == {200}
        if how == "disable":
            await api(client, "PATCH", "/users/bob", json={"disabled": True})
        else:
            await api(client, "DELETE", "/users/bob", status=204)
        assert set(await statuses(nobody, ways)) <= {400, 401}
        assert (await ask(as_bob, "PATCH", upload, data=b"more")).status == 401
    async with registry.services.database.read() as connection:
        assert (await connection.execute(select(upload_sessions.c.id))).all() == []
    with pytest.raises(BlobUploadUnknownError):
        await registry.services.blobs.upload_size(locator)
    if how == "disable":
        # What can only be had by signing in does not come back; what signs in does.
        await api(client, "PATCH", "/users/bob", json={"disabled": False})
        found = await statuses(nobody, ways)
        assert found[:2] == [200, 200]
        assert set(found[2:]) <= {400, 401}


async def test_a_request_from_before_begins_no_upload(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    """What was let in a moment before the account was disabled or deleted leaves nothing behind."""
    assert registry.services is not None
    services = registry.services
    for change in (("PATCH", {"json": {"disabled": True}}, 200), ("DELETE", {}, 204)):
        password = await make_user(client, "bob", admin=True)
        actor = await services.tokens.credentials.from_basic("bob", password, address=None)
        method, options, status = change
        await api(client, method, "/users/bob", status=status, **options)
        with pytest.raises(UnauthorizedError):
            await uploads.start(
                services.database,
                services.blobs,
                REPOSITORY,
                settings=services.settings,
                actor=actor,
                algorithm="sha256",
            )
        async with services.database.read() as connection:
            assert (await connection.execute(select(upload_sessions.c.id))).all() == []
        if method == "PATCH":
            await api(client, "DELETE", "/users/bob", status=204)


async def test_a_name_is_used_again_and_inherits_nothing(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    await make_repository(client, REPOSITORY)
    password = "a password of his"
    await make_user(client, "bob", password=password, admin=True)
    await give_role(client, "team/app", "user:bob", "owner")
    await api(client, "PUT", "/groups/devs", status=201)
    await api(client, "PUT", "/groups/devs/members/bob", status=201)
    ways = await ways_in(client, nobody, "bob", password)
    async with registry.client(password, user="bob") as as_bob:
        await push_small(as_bob, REPOSITORY, "1")
    await api(client, "DELETE", "/users/bob", status=204)
    await make_user(client, "bob", password=password)
    assert await api(client, "GET", "/users/bob/grants") == {"items": [], "next": None}
    assert (await api(client, "GET", "/groups/devs/members"))["items"] == []
    assert (await api(client, "GET", "/tokens", headers=basic("bob", password)))["items"] == []
    opened = await statuses(nobody, ways)
    assert opened[0] == 403  # the password is right, and opens nothing
    assert set(opened[1:]) <= {400, 401}
    history = await api(client, "GET", "/repositories/team%2Fapp/tags/1/history")
    assert [move["actor"] for move in history["items"]] == ["bob"]
    async with registry.services.database.read() as connection:
        numbers = select(events.c.actor, events.c.account_id).where(events.c.actor == "bob").distinct()
        (told,) = (await connection.execute(numbers)).all()
        present = select(accounts.c.id).where(accounts.c.name == "bob")
        assert (await connection.execute(present)).scalar_one() > told.account_id
        kinds = select(events.c.kind).where(events.c.target == "bob").order_by(events.c.id)
        found = list((await connection.execute(kinds)).scalars())
    assert [kind for kind in found if kind.startswith("user.")] == [
        "user.created",
        "user.deleted",
        "user.created",
    ]


LAST = [
    ("PATCH", "/users/admin", {"json": {"disabled": True}}),
    ("PATCH", "/users/admin", {"json": {"admin": False}}),
    ("PUT", "/users/admin", {"json": {"admin": False}}),
    ("PUT", "/users/admin", {"json": {"admin": True, "disabled": True}}),
    ("DELETE", "/users/admin", {}),
]


async def test_the_last_administrator_stays_whatever_is_tried(client: aiohttp.ClientSession) -> None:
    await make_user(client, "dan", admin=True)
    await api(
        client, "PATCH", "/users/dan", json={"disabled": True}
    )  # one that cannot sign in does not count
    for method, path, options in LAST:
        answer = await ask(client, method, f"/api/v1{path}", **options)
        assert (answer.status, answer.json["code"]) == (409, "CONFLICT"), (method, options)
    shown = await api(client, "GET", "/users/admin")
    assert (shown["admin"], shown["disabled_at"]) == (True, None)


@pytest.mark.parametrize(("method", "options"), [(method, options) for method, _, options in LAST])
async def test_of_two_administrators_on_two_replicas_one_stays(
    tmp_path: Path, make_postgres_url: Callable[[], str], method: str, options: dict[str, Any]
) -> None:
    async with running_replicas(tmp_path, make_postgres_url(), 2) as (one, two), one.client() as first:
        password = await make_user(first, "eve", admin=True)
        async with two.client(password, user="eve") as second:
            for _ in range(3):
                answers = await asyncio.gather(
                    ask(first, method, "/api/v1/users/eve", **options),
                    ask(second, method, "/api/v1/users/admin", **options),
                )
                won = [answer.status in (200, 204) for answer in answers]
                assert sum(won) == 1, [answer.status for answer in answers]
                assert {answer.status for answer in answers} - {200, 204} <= {401, 403, 409}
                if not won[0]:
                    break  # eve is the one who stayed
                assert (await ask(second, "GET", "/api/v1/users")).status in (401, 403)
                await api(first, "PUT", "/users/eve", status=201 if method == "DELETE" else 200,
                          json={"admin": True})  # fmt: skip
                made = await api(first, "POST", "/users/eve/password", json={"password": password})
                assert made == {"name": "eve"}


async def test_who_lost_the_right_meanwhile_takes_no_others(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    """Three administrators, of whom two disable each other at once: in turn, both would succeed."""
    await make_user(client, "dan", admin=True)
    eve = basic("eve", await make_user(client, "eve", admin=True))
    answers = await asyncio.gather(
        ask(client, "PATCH", "/api/v1/users/eve", json={"disabled": True}),
        ask(nobody, "PATCH", "/api/v1/users/admin", headers=eve, json={"disabled": True}),
    )
    assert sorted(answer.status for answer in answers) in ([200, 401], [200, 403])


async def test_a_limited_token_makes_nothing_stronger_than_itself(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_user(client, "eve", admin=True)
    await make_user(client, "ann", auditor=True)
    await make_user(client, "bob")
    limited = bearer((await make_token(client, "admin"))["token"])
    for method, path, body, status in (
        ("POST", "/users", {"name": "x", "admin": True}, 403),
        ("POST", "/users", {"name": "x", "auditor": True}, 403),
        ("PUT", "/users/x", {"admin": True}, 403),
        ("PATCH", "/users/bob", {"admin": True}, 403),
        ("PATCH", "/users/bob", {"auditor": True}, 403),
        ("POST", "/users/eve/password", {}, 403),
        ("POST", "/users/ann/password", {}, 403),
        ("POST", "/users/bob/password", {}, 200),
        ("POST", "/users", {"name": "joe"}, 201),
        ("PATCH", "/users/eve", {"disabled": True}, 200),
        ("PATCH", "/users/eve", {"disabled": False}, 403),
        ("PUT", "/users/eve", {"admin": False, "disabled": False}, 200),
        ("PATCH", "/users/bob", {"disabled": True}, 200),
        ("PATCH", "/users/bob", {"disabled": False}, 200),
    ):
        answer = await ask(nobody, method, f"/api/v1{path}", headers=limited, json=body)
        assert answer.status == status, (method, path, answer.body)
    found = {user["name"]: user["admin"] for user in (await api(client, "GET", "/users"))["items"]}
    assert found == {"admin": True, "ann": False, "bob": False, "eve": False, "joe": False}


async def test_keys_that_are_not_known_change_nothing(client: aiohttp.ClientSession) -> None:
    """Mass assignment: no key reaches a column that the route does not name."""
    await make_user(client, "bob")
    before = await api(client, "GET", "/users/bob")
    for key in ("is_admin", "id", "kind", "password_hash", "namespace_id", "credentials_after", "created_at"):
        for method, path in (("PATCH", "/users/bob"), ("PUT", "/users/bob"), ("POST", "/users")):
            answer = await ask(client, method, f"/api/v1{path}", json={"name": "x", key: 1})
            assert answer.status == 400, (key, method)
    assert await api(client, "GET", "/users/bob") == before


async def test_ones_own_password(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, REPOSITORY, visibility="internal")
    password = await make_user(client, "bob")
    ways = await ways_in(client, nobody, "bob", password)
    token = ways[1][2]["headers"]["Authorization"].removeprefix("Bearer ")
    path, new = "/users/bob/password", "another password"
    async with registry.client(password, user="bob") as bob:
        for body, status in (
            ({"password": new}, 400),
            ({"old_password": password}, 400),
            ({"password": new, "old_password": "wrong"}, 403),
            ({"password": new, "old_password": token}, 403),
            ({"password": "short", "old_password": password}, 400),
        ):
            await api(bob, "POST", path, status=status, json=body)
        assert set(await statuses(nobody, ways)) == {200}
        given = {"password": new, "old_password": password}
        assert await api(bob, "POST", path, json=given) == {"name": "bob"}
    found = await statuses(nobody, ways)
    assert found[1] == 200  # API tokens stay
    assert set(found[:1] + found[2:]) <= {400, 401}
    assert (await ask(nobody, "GET", LIST, headers=basic("bob", new))).status == 200
    await api(client, "POST", path, status=400, json={"old_password": new})
    made = await api(client, "POST", path, json={"keep_tokens": True})
    assert (await statuses(nobody, ways))[1] == 200
    assert (await ask(nobody, "GET", LIST, headers=basic("bob", new))).status == 401
    assert (await ask(nobody, "GET", LIST, headers=basic("bob", made["password"]))).status == 200
    await api(client, "POST", path, json={})
    assert set(await statuses(nobody, ways)) <= {400, 401}


async def test_the_first_administrator_does_not_come_back_by_a_restart(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    eve = basic("eve", await make_user(client, "eve", admin=True))
    await api(nobody, "DELETE", "/users/admin", status=204, headers=eve)
    assert await ensure_admin(registry.services.database, registry.services.settings) is None
    listed = await api(nobody, "GET", "/users", headers=eve)
    assert [user["name"] for user in listed["items"]] == ["eve"]
    assert (await ask(client, "GET", "/v2/")).status == 401
