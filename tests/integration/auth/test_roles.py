"""Roles given on namespaces and repositories, to users, robots and groups, over the API."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import aiohttp
import pytest
from sqlalchemy import insert, select

from registry.db.access import group_members, groups
from registry.db.accounts import accounts
from registry.db.engine import move_epoch
from registry.db.events import events
from tests.kit.access import (
    Answer,
    api,
    ask,
    basic,
    bearer,
    give_role,
    have_namespaces,
    make_repository,
    make_token,
    make_user,
)
from tests.kit.server import Registry

TEAM, APP = "/namespaces/team/members", "/repositories/team%2Fapp/members"


async def test_who_reads_what_follows_from_the_roles_at_once(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    for name in ("team/app", "team/sub/app", "other/app"):
        await make_repository(client, name)
    await have_namespaces(registry.services.database, "team", "team/sub")
    bob = basic("bob", await make_user(client, "bob"))

    async def reads() -> list[str]:
        listed = await api(nobody, "GET", "/repositories", headers=bob)
        return [item["name"] for item in listed["items"]]

    async def pulls(name: str) -> bool:
        return (await ask(nobody, "GET", f"/v2/{name}/tags/list", headers=bob)).status == 200

    assert not await pulls("team/app")
    given = await ask(client, "PUT", f"/api/v1{APP}/user:bob", json={"role": "reader"})
    assert (given.status, given.json["member"], given.json["on"]) == (201, "user:bob", "team/app")
    assert [await pulls(name) for name in ("team/app", "team/sub/app", "other/app")] == [True, False, False]
    await give_role(client, "team/", "user:bob", "reader")
    assert [await pulls(name) for name in ("team/app", "team/sub/app", "other/app")] == [True, True, False]
    await api(client, "DELETE", f"{TEAM}/user:bob", status=204)
    assert [await pulls(name) for name in ("team/app", "team/sub/app")] == [True, False]
    await api(client, "PUT", "/groups/devs", status=201)
    await api(client, "PUT", "/groups/devs/members/bob", status=201)
    await api(client, "PUT", "/groups/devs/members/bob")
    await give_role(client, "team/sub/", "group:devs", "writer")
    assert await pulls("team/sub/app")
    await api(client, "DELETE", "/groups/devs/members/bob", status=204)
    assert not await pulls("team/sub/app")
    await api(client, "PUT", "/groups/devs/members/bob", status=201)
    await api(client, "DELETE", "/groups/devs", status=204)
    assert not await pulls("team/sub/app")
    await api(client, "DELETE", f"{APP}/user:bob", status=204)
    assert not await pulls("team/app")
    assert await reads() == []


async def test_a_change_is_told_once_and_the_list_says_where_it_comes_from(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    await make_repository(client, "team/sub/app")
    await have_namespaces(registry.services.database, "team", "team/sub", "team/other")
    await make_user(client, "bob")
    await api(client, "PUT", "/groups/devs", status=201)
    await api(client, "PUT", "/groups/devs/members/bob", status=201)
    await api(client, "PUT", "/robots/team+ci", status=201, json={})
    on_app = "/repositories/team%2Fsub%2Fapp/members"
    assert (await ask(client, "PUT", f"/api/v1{on_app}/user:bob", json={"role": "reader"})).status == 201
    for _ in range(2):
        changed = await ask(client, "PUT", f"/api/v1{on_app}/user:bob", json={"role": "maintainer"})
        assert (changed.status, changed.json["role"]) == (200, "maintainer")
    await give_role(client, "team/", "group:devs", "writer")
    await give_role(client, "team/sub/", "robot:team+ci", "reader")
    await give_role(client, "team/other/", "user:bob", "owner")

    def shown(page: dict[str, list[dict[str, object]]]) -> list[tuple[object, ...]]:
        return [(item["member"], item["role"], item["on"], item.get("inherited")) for item in page["items"]]

    assert shown(await api(client, "GET", on_app)) == [
        ("user:bob", "maintainer", "team/sub/app", False),
        ("group:devs", "writer", "team/", True),
        ("robot:team+ci", "reader", "team/sub/", True),
    ]
    assert shown(await api(client, "GET", "/namespaces/team%2Fsub/members")) == [
        ("group:devs", "writer", "team/", True),
        ("robot:team+ci", "reader", "team/sub/", False),
    ]
    held = [
        ("user:bob", "maintainer", "team/sub/app", None),
        ("group:devs", "writer", "team/", None),
        ("user:bob", "owner", "team/other/", None),
    ]
    assert shown(await api(client, "GET", "/users/bob/grants")) == held
    assert shown(await api(client, "GET", "/groups/devs/grants")) == held[1:2]
    seen, cursor = [], None
    while True:
        asked = {"limit": "1"} | ({"cursor": cursor} if cursor else {})
        page = await api(client, "GET", on_app, params=asked)
        seen += [item["member"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == ["user:bob", "group:devs", "robot:team+ci"]
    await api(client, "DELETE", f"{on_app}/user:bob", status=204)
    await api(client, "DELETE", f"{on_app}/user:bob", status=404)
    await api(client, "DELETE", f"{on_app}/group:devs", status=404)
    async with registry.services.database.read() as connection:
        told = await connection.execute(
            select(events.c.kind, events.c.repository, events.c.data)
            .where(events.c.target == "user:bob")
            .order_by(events.c.id)
        )
        assert [tuple(row) for row in told] == [
            ("grant.given", "team/sub/app", '{"role":[null,"reader"]}'),
            ("grant.given", "team/sub/app", '{"role":["reader","maintainer"]}'),
            ("grant.given", "team/other/", '{"role":[null,"owner"]}'),
            ("grant.taken", "team/sub/app", '{"role":["maintainer",null]}'),
        ]


async def test_what_there_is_not(registry: Registry, client: aiohttp.ClientSession) -> None:
    assert registry.services is not None
    await make_repository(client, "team/app")
    await have_namespaces(registry.services.database, "team")
    await make_user(client, "bob")
    await api(client, "POST", "/tokens", status=201, json={"worker": "w1"})
    for path, role, status in (
        (f"{APP}/user:nobody", "reader", 404),
        (f"{APP}/group:nobody", "reader", 404),
        (f"{APP}/robot:team+no", "reader", 404),
        (f"{APP}/user:w1", "reader", 404),
        (f"{APP}/worker:w1", "reader", 400),
        (f"{APP}/bob", "reader", 400),
        (f"{APP}/user:", "reader", 400),
        (f"{APP}/robot:bob", "reader", 400),
        (f"{APP}/user:bob", "king", 400),
        (f"{APP}/user:bob", None, 400),
        (f"{APP}/user:%00", "reader", 400),
        ("/repositories/team%2Fno/members/user:bob", "reader", 404),
        ("/namespaces/no/members/user:bob", "reader", 404),
        ("/namespaces/NO/members/user:bob", "reader", 400),
        ("/namespaces/team%2F/members/user:bob", "reader", 400),
    ):
        answer = await ask(client, "PUT", f"/api/v1{path}", json={"role": role})
        assert answer.status == status, (path, answer.body)
    for path in ("/namespaces/no/members", "/repositories/team%2Fno/members"):
        await api(client, "GET", path, status=404)
    await api(client, "GET", f"{APP}?cursor=x", status=400)
    await api(client, "GET", "/groups/no/members", status=404)
    await api(client, "PUT", "/groups/no/members/bob", status=404)
    await api(client, "PUT", "/groups/devs", status=201)
    await api(client, "PUT", "/groups/devs/members/w1", status=404)
    await api(client, "DELETE", "/groups/devs/members/bob", status=404)
    assert (await api(client, "GET", APP))["items"] == []


@pytest.mark.parametrize("on", ["team/", "team/app"])
async def test_owners_give_roles_and_nobody_below_them(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, on: str
) -> None:
    assert registry.services is not None
    await make_repository(client, "team/app")
    await have_namespaces(registry.services.database, "team")
    await make_user(client, "bob")
    ann = basic("ann", await make_user(client, "ann"))
    path = TEAM if on == "team/" else APP
    for role in ("reader", "writer", "maintainer"):
        await give_role(client, on, "user:ann", role)
        for method, options in (("PUT", {"json": {"role": "reader"}}), ("DELETE", {})):
            for member in ("user:bob", "user:ann", "user:nobody"):
                answer = await ask(nobody, method, f"/api/v1{path}/{member}", headers=ann, **options)
                assert answer.status == 403, (role, method, member)
        assert (await ask(nobody, "GET", f"/api/v1{path}", headers=ann)).status == 403
    await give_role(client, on, "user:ann", "owner")
    await api(nobody, "PUT", f"{path}/user:bob", status=201, headers=ann, json={"role": "owner"})
    await api(nobody, "GET", path, headers=ann)
    if on == "team/app":  # an owner of the repository is nobody in the namespace
        assert (await ask(nobody, "GET", f"/api/v1{TEAM}", headers=ann)).status == 403
    # The last owner may go: administrators can always give the role again.
    await api(nobody, "DELETE", f"{path}/user:bob", status=204, headers=ann)
    await api(nobody, "DELETE", f"{path}/user:ann", status=204, headers=ann)
    await api(nobody, "GET", path, status=403, headers=ann)


async def test_a_token_gives_roles_only_where_it_covers_that(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    await make_repository(client, "team/app")
    await have_namespaces(registry.services.database, "team")
    await make_user(client, "bob")
    await make_user(client, "ann")
    await give_role(client, "team/", "user:ann", "owner")
    for scope, account, on_team, on_app in (
        ("repository:team/app:administer", "ann", 403, 200),
        ("repository:team/*:pull,push,trial,delete,configure", "ann", 403, 403),
        ("repository:team/*:administer", "ann", 200, 200),
        ("repository:*:administer", "bob", 403, 403),
        ("admin", "admin", 200, 200),
        ("audit", "admin", 403, 403),
        ("repository:team/*:pull", "admin", 403, 403),
    ):
        token = bearer((await make_token(client, scope, account=account))["token"])
        for path, status in ((TEAM, on_team), (APP, on_app)):
            answer = await ask(
                nobody, "PUT", f"/api/v1{path}/user:bob", headers=token, json={"role": "reader"}
            )
            assert answer.status in ({200, 201} if status == 200 else {status}), (scope, path)


async def test_names_of_others_in_every_route(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    """Two namespaces with an owner each: whatever one asks with the names of the other changes nothing, and
    does not tell what there is."""
    assert registry.services is not None
    for namespace in ("team", "other"):
        await make_repository(client, f"{namespace}/app")
        await have_namespaces(registry.services.database, namespace)
        await api(client, "PUT", f"/robots/{namespace}+ci", status=201, json={})
    eve = basic("eve", await make_user(client, "eve"))
    await make_user(client, "bob")
    await api(client, "PUT", "/groups/devs", status=201)
    await give_role(client, "other/", "user:eve", "owner")
    for on in ("team/", "team/app"):
        for member in ("user:bob", "group:devs", "robot:team+ci"):
            await give_role(client, on, member, "reader")

    async def state() -> list[object]:
        paths = ("/robots", "/users", "/groups", "/groups/devs/members", "/users/bob/grants", TEAM, APP)
        return [await api(client, "GET", path) for path in paths]

    before = await state()

    async def asked(kind: str, name: str, member: str, method: str) -> Answer:
        options = {"json": {"role": "owner"}} if method == "PUT" else {}
        end = "" if method == "GET" else f"/{quote(member, safe='')}"
        path = f"/api/v1/{kind}/{quote(name, safe='')}/members{end}"
        return await ask(nobody, method, path, headers=eve, **options)

    for method in ("GET", "PUT", "DELETE"):
        for kind, there, not_there in (
            ("namespaces", "team", "tram"),
            ("repositories", "team/app", "team/apx"),
        ):
            for member in (
                "user:bob",
                "user:eve",
                "user:nox",
                "group:devs",
                "robot:team+ci",
                "robot:other+ci",
            ):
                real, none = [await asked(kind, name, member, method) for name in (there, not_there)]
                assert (real.status, none.status) == (403, 403), (method, kind, member)
                assert real.json["detail"].replace(there, "") == none.json["detail"].replace(not_there, "")
    # His own place with what is the other's: a robot of elsewhere holds nothing here.
    answer = await asked("namespaces", "other", "robot:team+ci", "PUT")
    assert (answer.status, answer.json["code"]) == (400, "REQUEST_INVALID")
    assert (await asked("namespaces", "other", "robot:team+ci", "DELETE")).status == 404
    for method, path in (
        ("GET", "/users/bob"),
        ("GET", "/users/bob/grants"),
        ("GET", "/groups/devs"),
        ("GET", "/groups/devs/members"),
        ("GET", "/groups/devs/grants"),
        ("GET", "/robots/team+ci"),
        ("GET", "/robots/team+ci/grants"),
        ("PUT", "/robots/team+ci"),
        ("DELETE", "/robots/team+ci"),
        ("PUT", "/groups/devs/members/eve"),
        ("DELETE", "/groups/devs"),
        ("POST", "/users/bob/password"),
    ):
        options = {"json": {}} if method in ("PUT", "POST") and "members" not in path else {}
        assert (await ask(nobody, method, f"/api/v1{path}", headers=eve, **options)).status == 403, path
    assert await state() == before


async def test_members_of_an_issuer_are_its_own(registry: Registry, client: aiohttp.ClientSession) -> None:
    assert registry.services is not None
    for name in ("ann", "bob"):
        await make_user(client, name)
    await api(client, "PUT", "/groups/devs", status=201)
    async with registry.services.database.write() as connection:
        group = select(groups.c.id).scalar_subquery()
        for name in ("ann", "bob"):
            number = select(accounts.c.id).where(accounts.c.name == name).scalar_subquery()
            values = {"group_id": group, "account_id": number, "source": "corp"}
            await connection.execute(insert(group_members).values(values))
        await move_epoch(connection, "access")
    await api(client, "PUT", "/groups/devs/members/bob", status=201)
    everybody = [("ann", "corp"), ("bob", None), ("bob", "corp")]
    for limit in ("1", "2", "100"):
        seen, cursor = [], None
        while True:
            asked = {"limit": limit} | ({"cursor": cursor} if cursor else {})
            page = await api(client, "GET", "/groups/devs/members", params=asked)
            seen += [(item["user"], item["source"]) for item in page["items"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert seen == everybody
    await api(client, "DELETE", "/groups/devs/members/bob", status=204)
    for name in ("ann", "bob"):
        answer = await ask(client, "DELETE", f"/api/v1/groups/devs/members/{name}")
        assert (answer.status, "corp says so" in answer.json["detail"]) == (409, True)
    for cursor in ("x", "1", ":", "-1:", "9" * 30 + ":"):
        await api(client, "GET", "/groups/devs/members", status=400, params={"cursor": cursor})


async def test_many_at_once(registry: Registry, client: aiohttp.ClientSession) -> None:
    """One role, and one robot, given and taken by many at once: no answer but those that can be."""
    assert registry.services is not None
    await make_repository(client, "team/app")
    await have_namespaces(registry.services.database, "team")
    await make_user(client, "bob")
    for _ in range(3):
        answers = await asyncio.gather(
            *(
                ask(client, "PUT", f"/api/v1{APP}/user:bob", json={"role": role})
                for role in ("reader", "writer", "owner")
            ),
            *(ask(client, "DELETE", f"/api/v1{APP}/user:bob") for _ in range(3)),
            *(ask(client, "PUT", "/api/v1/robots/team+ci", json={}) for _ in range(3)),
            ask(client, "DELETE", "/api/v1/robots/team+ci"),
        )
        assert {answer.status for answer in answers} <= {200, 201, 204, 404}
        listed = (await api(client, "GET", APP))["items"]
        assert len(listed) <= 1
