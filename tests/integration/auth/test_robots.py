"""Robots: whose they are, what they may hold, and what goes with them."""

from __future__ import annotations

from urllib.parse import quote

import aiohttp
import pytest
from sqlalchemy import delete, select, update

from registry.db.access import namespaces
from registry.db.accounts import accounts
from registry.db.content import repositories
from registry.db.engine import move_epoch
from tests.kit.access import (
    api,
    ask,
    basic,
    bearer,
    give_role,
    have_namespaces,
    make_repository,
    make_token,
    make_user,
    registry_token,
)
from tests.kit.distribution import push_small
from tests.kit.server import Registry

CI = "/robots/team%2Fapp+ci"


async def owner_of(client: aiohttp.ClientSession, on: str, name: str) -> dict[str, str]:
    """A user who owns a place; its sign-in."""
    password = await make_user(client, name)
    await give_role(client, on, f"user:{name}", "owner")
    return basic(name, password)


async def test_owners_of_the_namespace_manage_its_robots(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    await have_namespaces(registry.services.database, "team/app", "team", "other")
    owner = await owner_of(client, "team/", "ann")
    path = f"/api/v1{CI}"
    made = await ask(nobody, "PUT", path, headers=owner | {"If-None-Match": "*"}, json={})
    assert (made.status, made.json["name"], made.json["namespace"]) == (201, "team/app+ci", "team/app")
    assert (await ask(nobody, "PUT", path, headers=owner | {"If-None-Match": "*"}, json={})).status == 412
    assert (await ask(nobody, "PUT", path, headers=owner, json={})).status == 200
    shown = await ask(nobody, "GET", path, headers=owner)
    assert (shown.json, shown.headers["ETag"]) == (made.json, made.headers["ETag"])
    await api(nobody, "PUT", "/robots/team+x", status=201, headers=owner, json={"disabled": True})
    for namespace, names in (("team", ["team+x"]), ("team/app", ["team/app+ci"]), ("team/none", [])):
        asked = {"namespace": namespace}
        listed = await api(nobody, "GET", "/robots", headers=owner, params=asked)
        assert [robot["name"] for robot in listed["items"]] == names
    listed = await api(client, "GET", "/robots")
    assert [robot["name"] for robot in listed["items"]] == ["team+x", "team/app+ci"]
    page = await api(client, "GET", "/robots", params={"limit": "1"})
    assert (len(page["items"]), page["next"]) == (1, "team+x")
    old = {"If-Match": '"0-0"'}
    assert (await ask(nobody, "DELETE", path, headers=owner | old)).status == 412
    await api(nobody, "DELETE", CI, status=204, headers=owner)
    await api(nobody, "GET", CI, status=404, headers=owner)
    await api(nobody, "DELETE", CI, status=404, headers=owner)
    await api(nobody, "PUT", "/robots/team%2Fnone+ci", status=404, headers=owner, json={})


@pytest.mark.parametrize("role", ["maintainer", None])
async def test_nobody_else_learns_of_them(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, role: str | None
) -> None:
    assert registry.services is not None
    await have_namespaces(registry.services.database, "team/app", "team", "other")
    await api(client, "PUT", CI, status=201, json={})
    eve = await owner_of(client, "other/", "eve")
    if role is not None:
        await give_role(client, "team/", "user:eve", role)
    before = await api(client, "GET", "/robots")
    for headers in (eve, {}):
        for method, options in (("GET", {}), ("PUT", {"json": {"disabled": True}}), ("DELETE", {})):
            there, not_there, no_namespace = [
                await ask(
                    nobody, method, f"/api/v1/robots/{quote(name, safe='+')}", headers=headers, **options
                )
                for name in ("team/app+ci", "team/app+no", "team/xyz+ci")
            ]
            assert there.status == not_there.status == no_namespace.status == (403 if headers else 401)
            assert there.look == not_there.look
        for query in ("", "?namespace=team%2Fapp", "?namespace=team"):
            answer = await ask(nobody, "GET", f"/api/v1/robots{query}", headers=headers)
            assert answer.status == (403 if headers else 401)
        path = f"/api/v1{CI}/grants"
        assert (await ask(nobody, "GET", path, headers=headers)).status == (403 if headers else 401)
    assert await api(client, "GET", "/robots") == before


async def test_names_that_mean_something_else(registry: Registry, client: aiohttp.ClientSession) -> None:
    assert registry.services is not None
    await have_namespaces(registry.services.database, "team")
    for own in (
        "anonymous",
        "oidc",
        "registry",
        "token",
        "worker",
        "worker-1",
        "",
        "A",
        "a+b",
        "-",
        "x" * 65,
    ):
        answer = await ask(client, "PUT", f"/api/v1/robots/team+{own}", json={})
        assert (answer.status, answer.json["code"]) == (400, "REQUEST_INVALID"), own
    for name in ("ci", "+ci", "UPPER+ci", "a//b+ci", "..%2Fa+ci"):
        answer = await ask(client, "PUT", f"/api/v1/robots/{name}", json={})
        assert answer.status in (400, 404), name
    for path in ("/users/team+ci", "/groups/team+ci"):
        await api(client, "PUT", path, status=400, json={})
    await api(client, "POST", "/tokens", status=400, json={"worker": "team+ci"})
    assert (await api(client, "GET", "/robots"))["items"] == []


async def test_what_a_robot_does(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    database = registry.services.database
    await make_repository(client, "team/app")
    await make_repository(client, "other/app")
    await make_repository(client, "teams/app")
    await have_namespaces(database, "team", "teams", "other", "team/sub")
    await api(client, "PUT", "/robots/team+ci", status=201, json={})
    await give_role(client, "team/", "robot:team+ci", "writer")
    await give_role(client, "team/sub/", "robot:team+ci", "reader")
    elsewhere = ("namespaces/other", "repositories/other%2Fapp", "repositories/teams%2Fapp")
    for place in elsewhere:
        answer = await ask(client, "PUT", f"/api/v1/{place}/members/robot:team+ci", json={"role": "reader"})
        assert (answer.status, answer.json["code"]) == (400, "REQUEST_INVALID")
    token = (await make_token(client, "repository:*:pull,push", account="team+ci"))["token"]
    async with registry.client(token, user="team+ci") as robot:
        digest = await push_small(robot, "team/app", "1")
        for path, status in (
            (f"/v2/team/app/manifests/{digest}", 200),
            ("/v2/other/app/tags/list", 403),
            ("/api/v1/robots/team+ci", 200),
            ("/api/v1/robots/team+ci/grants", 200),
            ("/api/v1/robots/team+xx", 403),
            ("/api/v1/users", 403),
            ("/api/v1/namespaces/team/members", 403),
        ):
            assert (await ask(robot, "GET", path)).status == status, path
        roles = (await api(robot, "GET", "/robots/team+ci/grants"))["items"]
        assert {role["on"]: role["role"] for role in roles} == {"team/": "writer", "team/sub/": "reader"}
        # A page is for people; and a robot has no password, whatever its row says.
        body = {"name": "team+ci", "password": token}
        assert (await ask(nobody, "POST", "/api/v1/sessions", json=body)).status in (401, 403)
        eve = await make_user(client, "eve")
        async with database.write() as connection:
            hashed = select(accounts.c.password_hash).where(accounts.c.name == "eve").scalar_subquery()
            await connection.execute(
                update(accounts).where(accounts.c.name == "team+ci").values(password_hash=hashed)
            )
        assert (await ask(nobody, "GET", "/v2/", headers=basic("team+ci", eve))).status == 401
        # What moved away from its namespace is not its any more.
        assert (await ask(robot, "GET", "/v2/team/app/tags/list")).status == 200
        await give_role(client, "team/app", "robot:team+ci", "owner")
        async with database.write() as connection:
            moved = update(repositories).where(repositories.c.name == "team/app").values(name="other/moved")
            await connection.execute(moved)
            await move_epoch(connection, "access")
        assert (await ask(robot, "GET", "/v2/other/moved/tags/list")).status == 403


@pytest.mark.parametrize("how", ["disable", "delete", "namespace"])
async def test_it_ends_at_once(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, how: str
) -> None:
    assert registry.services is not None
    database = registry.services.database
    await make_repository(client, "team/app", visibility="internal")
    await have_namespaces(database, "team")
    await api(client, "PUT", "/robots/team+ci", status=201, json={})
    token = (await make_token(client, "repository:*:pull", account="team+ci"))["token"]
    by_token = await registry_token(nobody, "repository:team/app:pull", headers=basic("x", token))
    ways = [bearer(token), bearer(by_token)]

    async def opened() -> list[int]:
        return [(await ask(nobody, "GET", "/v2/team/app/tags/list", headers=way)).status for way in ways]

    assert await opened() == [200, 200]
    if how == "disable":
        await api(client, "PUT", "/robots/team+ci", json={"disabled": True})
        assert await opened() == [401, 401]
        await api(client, "PUT", "/robots/team+ci", json={})
        assert await opened() == [200, 401]
        return
    if how == "delete":
        await api(client, "DELETE", "/robots/team+ci", status=204)
    else:
        async with database.write() as connection:
            await connection.execute(delete(namespaces).where(namespaces.c.name == "team"))
            await move_epoch(connection, "access")
    assert await opened() == [401, 401]
    await have_namespaces(database, "team")
    await api(client, "PUT", "/robots/team+ci", status=201, json={})
    assert await opened() == [401, 401]
    assert (await api(client, "GET", "/robots/team+ci/grants"))["items"] == []


async def test_a_limited_token_manages_where_it_covers_that(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    await have_namespaces(registry.services.database, "team", "team/app", "other")
    await owner_of(client, "team/", "ann")
    for scope, at_team, at_app in (
        ("repository:team/app/*:administer", 403, 201),
        ("repository:team/*:pull,push,delete,configure,trial", 403, 403),
        ("repository:team/*:administer", 201, 201),
    ):
        token = bearer((await make_token(client, scope, account="ann"))["token"])
        for name, status in (("team+ci", at_team), ("team%2Fapp+ci", at_app), ("other+ci", 403)):
            answer = await ask(nobody, "PUT", f"/api/v1/robots/{name}", headers=token, json={})
            assert answer.status == status, (scope, name)
            if answer.status == 201:
                await api(client, "DELETE", f"/robots/{name}", status=204)
