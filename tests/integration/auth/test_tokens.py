"""API tokens: none makes a stronger one, rotation overlaps, and revoking reaches all that came of one."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import insert, select, update

from registry.auth.tokenuses import token_uses
from registry.db.access import grants, namespaces
from registry.db.accounts import accounts, tokens
from registry.db.dialect import insert_ignoring_conflict
from registry.db.engine import move_epoch
from registry.db.types import db_time
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
from tests.kit.server import Registry, running_registry

NAME = "team/app"
TAGS = f"/v2/{NAME}/tags/list"


async def make(
    client: aiohttp.ClientSession, maker: Any, *scopes: str, status: int = 201, **members: Any
) -> Any:
    """Make a token with another one."""
    body = {"name": "made", "scopes": list(scopes), **members}
    return await api(client, "POST", "/tokens", status=status, headers=bearer(maker["token"]), json=body)


async def test_a_token_makes_no_token_that_may_more(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    maker = await make_token(client, "repository:team/*:pull,push")
    wanted: tuple[tuple[list[str], str | None], ...] = (
        (["repository:team/app:pull"], None),
        (["repository:team/*:pull,push"], None),
        (["repository:team/a*:push", "repository:team/b:pull"], None),
        (["repository:*:pull"], "does not have repository:*:pull itself"),
        (["repository:team*:pull"], "does not have repository:team*:pull itself"),
        (["repository:team/app:pull,delete"], "does not have repository:team/app:delete itself"),
        (["repository:team/app:pull", "repository:other/app:pull"], "repository:other/app:pull"),
        (["admin"], "does not have admin"),
    )
    made = 0
    for scopes, said in wanted:
        answer = await make(nobody, maker, *scopes, status=201 if said is None else 403)
        if said is None:
            assert (answer["made_by"], answer["expires_at"]) == (maker["id"], maker["expires_at"])
            made += 1
        else:
            assert said in answer["detail"], scopes
        found = (await api(client, "GET", "/tokens", params={"made_by": maker["id"]}))["items"]
        assert len(found) == made, scopes


async def test_nor_one_that_lives_longer_or_comes_from_elsewhere(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    scope = "repository:team/*:pull"
    maker = await make_token(client, scope, expires_seconds=3600, networks=["127.0.0.0/8", "10.0.0.0/8"])
    assert maker["networks"] == ["127.0.0.0/8", "10.0.0.0/8"]
    for members, said in (
        ({"expires_seconds": 4000}, "makes none that lives longer"),
        ({"expires_seconds": None}, "makes none that lives longer"),
        ({"networks": ["0.0.0.0/0"]}, "limited to certain networks"),
        ({"networks": ["127.0.0.0/8", "192.0.2.0/24"]}, "limited to certain networks"),
        ({"networks": ["::/0"]}, "limited to certain networks"),
    ):
        refused = await make(nobody, maker, scope, status=403, **members)
        assert said in refused["detail"], members
    made = await make(nobody, maker, scope)
    assert (made["expires_at"], made["networks"]) == (maker["expires_at"], maker["networks"])
    narrow = await make(nobody, maker, scope, expires_seconds=60, networks=["127.0.0.1", "10.1.0.0/16"])
    assert narrow["networks"] == ["127.0.0.1/32", "10.1.0.0/16"]
    assert narrow["expires_at"] < maker["expires_at"]
    # A registry token is for clients, not for managing tokens.
    derived = {
        "token": await registry_token(nobody, "repository:team/app:pull", headers=bearer(made["token"]))
    }
    assert "manages no tokens" in (await make(nobody, derived, scope, status=403))["detail"]


async def test_scopes_that_an_account_could_not_use_are_refused(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    password = await make_user(client, "bob")
    for scope, said in (("admin", "needs an administrator"), ("audit", "needs an auditor")):
        body = {"name": "n", "scopes": [scope]}
        for maker, more in ((basic("bob", password), {}), (None, {"account": "bob"})):
            session = nobody if maker else client
            refused = await api(session, "POST", "/tokens", status=400, headers=maker, json=body | more)
            assert said in refused["detail"]
    assert (await make_token(client, "audit"))["scopes"] == ["audit"]


async def test_an_administrator_s_limited_token_learns_no_stronger_secret(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    limited = await make_token(client, "admin")
    strong = await make_token(client, "repository:*:pull,push")
    as_limited = bearer(limited["token"])
    assert (await api(nobody, "GET", f"/tokens/{strong['id']}", headers=as_limited))["state"] == "active"
    refused = await api(
        nobody, "POST", f"/tokens/{strong['id']}/rotate", status=403, headers=as_limited, json={}
    )
    assert "does not have repository:*:pull,push itself" in refused["detail"]
    first = (await api(client, "GET", "/tokens", params={"limit": "1"}))["items"][0]
    assert first["scopes"] is None
    await api(nobody, "POST", f"/tokens/{first['id']}/rotate", status=403, headers=as_limited, json={})
    await api(nobody, "DELETE", f"/tokens/{strong['id']}", status=204, headers=as_limited)


async def test_expiry_by_policy(tmp_path: Path, database_url: str) -> None:
    policy = {"api_token_days": 30, "api_token_max_days": 10}
    running = running_registry(tmp_path / "data", database_url, **policy)
    async with running as registry, registry.client() as client:
        made = await make_token(client, "repository:a:pull")
        assert await _seconds(registry, made["id"]) == 10 * 24 * 3600
        for wanted in (None, 11 * 24 * 3600):
            body = {"name": "n", "scopes": ["repository:a:pull"], "expires_seconds": wanted}
            refused = await api(client, "POST", "/tokens", status=400, json=body)
            assert "10 days at most here (SEATRIAL_API_TOKEN_MAX_DAYS)" in refused["detail"]
        worker = await api(client, "POST", "/tokens", status=201, json={"worker": "w1"})
        assert await _seconds(registry, worker["id"]) == 10 * 24 * 3600


async def _seconds(registry: Registry, token_id: str) -> int:
    assert registry.services is not None
    async with registry.services.database.read() as connection:
        query = select(tokens.c.created_at, tokens.c.expires_at).where(tokens.c.id == token_id)
        row = (await connection.execute(query)).one()
    return round((row.expires_at - row.created_at).total_seconds())


async def test_a_year_is_the_default_and_for_ever_has_to_be_said(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    made = await make_token(client, "repository:a:pull")
    assert await _seconds(registry, made["id"]) == 365 * 24 * 3600
    assert (await make_token(client, "repository:a:pull", expires_seconds=None))["expires_at"] is None
    assert (await api(client, "POST", "/tokens", status=201, json={"worker": "w1"}))["expires_at"] is None


async def test_rotation_overlaps_and_keeps_all_but_the_secret(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, NAME)
    old = await make_token(client, f"repository:{NAME}:pull", networks=["127.0.0.0/8"], expires_seconds=7200)
    new = await api(client, "POST", f"/tokens/{old['id']}/rotate", status=201, json={"overlap_seconds": 600})
    assert new["token"] != old["token"]
    same = ("name", "account", "scopes", "networks", "made_by")
    assert [new[field] for field in same] == [old[field] for field in same]
    assert (new["replaces"], new["replaced_by"]) == (old["id"], None)
    assert new["expires_at"] >= old["expires_at"]
    kept = await api(client, "GET", f"/tokens/{old['id']}")
    assert (kept["replaced_by"], kept["state"]) == (new["id"], "active")
    assert kept["expires_at"] < old["expires_at"]
    for token in (old, new):
        assert (await ask(nobody, "GET", TAGS, headers=bearer(token["token"]))).status == 200
    again = await api(client, "POST", f"/tokens/{old['id']}/rotate", status=409, json={})
    assert f"was replaced by {new['id']} already" in again["detail"]
    last = await api(client, "POST", f"/tokens/{new['id']}/rotate", status=201, json={"overlap_seconds": 0})
    assert (await ask(nobody, "GET", TAGS, headers=bearer(new["token"]))).status == 401
    assert (await ask(nobody, "GET", TAGS, headers=bearer(last["token"]))).status == 200
    ended = await api(client, "POST", f"/tokens/{new['id']}/rotate", status=409, json={})
    assert "is expired; make a new one" in ended["detail"]
    for overlap in (-1, 7 * 24 * 3600 + 1):
        body = {"overlap_seconds": overlap}
        await api(client, "POST", f"/tokens/{last['id']}/rotate", status=400, json=body)
    # What stands in for it ends with it, and so do those before it.
    await api(client, "DELETE", f"/tokens/{last['id']}", status=204)
    assert (await ask(nobody, "GET", TAGS, headers=bearer(old["token"]))).status == 401


async def test_of_rotations_at_once_one_is_done(client: aiohttp.ClientSession) -> None:
    old = await make_token(client, "repository:a:pull")
    answers = await asyncio.gather(
        *(ask(client, "POST", f"/api/v1/tokens/{old['id']}/rotate", json={}) for _ in range(4))
    )
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409]


async def test_who_rotates_his_own_token_does_not_prolong_it(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    old = await make_token(client, "repository:a:pull", expires_seconds=3600)
    path = f"/tokens/{old['id']}/rotate"
    new = await api(nobody, "POST", path, status=201, headers=bearer(old["token"]), json={})
    assert new["expires_at"] == old["expires_at"]


async def test_what_was_made_with_a_token_ends_with_it(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    scope = f"repository:{NAME}:pull"
    await make_repository(client, NAME)
    root = await make_token(client, scope)
    child = await make(nobody, root, scope)
    grandchild = await make(nobody, child, scope)
    derived = bearer(await registry_token(nobody, scope, headers=bearer(grandchild["token"])))
    renewed = await api(client, "POST", f"/tokens/{root['id']}/rotate", status=201, json={})
    assert (await ask(nobody, "GET", TAGS, headers=derived)).status == 200
    seen = await api(nobody, "GET", "/tokens", headers=bearer(child["token"]))
    assert [token["id"] for token in seen["items"]] == [child["id"], grandchild["id"]]
    await api(nobody, "GET", f"/tokens/{root['id']}", status=403, headers=bearer(child["token"]))
    await api(client, "DELETE", f"/tokens/{renewed['id']}", status=204)
    for token in (root, child, grandchild, renewed):
        assert (await ask(nobody, "GET", TAGS, headers=bearer(token["token"]))).status == 401
    assert (await ask(nobody, "GET", TAGS, headers=derived)).status == 401
    # A token that may do all that its account may stands for the account: what it made goes on.
    other = await make_token(client, scope)
    assert other["made_by"] is None


async def test_who_makes_tokens_while_his_own_is_revoked_keeps_none(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    scope = "repository:a:pull"
    root = await make_token(client, scope)
    body = {"name": "n", "scopes": [scope]}
    making = [
        asyncio.create_task(ask(nobody, "POST", "/api/v1/tokens", headers=bearer(root["token"]), json=body))
        for _ in range(8)
    ]
    await asyncio.sleep(0)
    await api(client, "DELETE", f"/tokens/{root['id']}", status=204)
    made = [answer for answer in await asyncio.gather(*making) if answer.status == 201]
    for answer in made:
        assert (await api(client, "GET", f"/tokens/{answer.json['id']}"))["state"] == "revoked"


async def test_a_token_changes_only_downward(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    made = await make_token(client, "repository:a:pull", networks=["127.0.0.0/8"], expires_seconds=3600)
    path = f"/tokens/{made['id']}"
    changed = await api(client, "PATCH", path, json={"name": "other", "networks": ["127.0.0.1/32"]})
    assert (changed["name"], changed["networks"]) == ("other", ["127.0.0.1/32"])
    sooner = changed["created_at"][:-1] + "Z"
    for body, status, said in (
        ({"networks": ["127.0.0.0/8"]}, 403, "may be used from 127.0.0.1/32 only"),
        ({"networks": []}, 400, "networks: 0 given"),
        ({"networks": ["nonsense"]}, 400, "is no network"),
        ({"expires_at": "2999-01-01T00:00:00Z"}, 403, "and not later; rotate it"),
        ({"expires_at": "2999-01-01T00:00:00"}, 400, "expires_at"),
        ({"expires_at": "0001-01-01T00:00:00+14:00"}, 400, "of no year from 1 to 9999"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, 400, "of no year from 1 to 9999"),
        ({"name": "a\nb"}, 400, "the name of a token"),
        ({"scopes": ["admin"]}, 400, "scopes"),
    ):
        refused = await api(client, "PATCH", path, status=status, json=body)
        assert said in refused["detail"], body
    assert await api(client, "GET", path) == changed
    ended = await api(client, "PATCH", path, json={"expires_at": sooner})
    assert ended["state"] == "expired"
    assert (await ask(nobody, "GET", "/api/v1/tokens", headers=bearer(made["token"]))).status == 401
    forever = await make_token(client, "repository:a:pull", expires_seconds=None)
    later = await api(
        client, "PATCH", f"/tokens/{forever['id']}", json={"expires_at": "2999-01-01T00:00:00Z"}
    )
    assert later["expires_at"].startswith("2999-01-01")


async def test_everything_issued_before_a_time_ends(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    password = await make_user(client, "bob")
    as_bob = basic("bob", password)
    await make_repository(client, NAME, visibility="internal")
    scope = f"repository:{NAME}:pull"
    first = await api(
        nobody, "POST", "/tokens", status=201, headers=as_bob, json={"name": "1", "scopes": [scope]}
    )
    derived = bearer(await registry_token(nobody, scope, headers=as_bob))
    second = await api(
        nobody, "POST", "/tokens", status=201, headers=as_bob, json={"name": "2", "scopes": [scope]}
    )
    third = await make(nobody, first, scope)
    body = {"account": "bob", "before": second["created_at"]}
    assert (await ask(nobody, "GET", TAGS, headers=derived)).status == 200
    assert await api(client, "POST", "/tokens/revoke", json=body) == {"tokens": 2}
    states = {
        token["id"]: token["state"]
        for token in (await api(nobody, "GET", "/tokens", headers=as_bob))["items"]
    }
    assert states == {first["id"]: "revoked", second["id"]: "active", third["id"]: "revoked"}
    assert (await ask(nobody, "GET", TAGS, headers=derived)).status == 401
    limited = bearer(second["token"])
    await api(nobody, "POST", "/tokens/revoke", status=403, headers=limited, json={"account": "bob"})
    await api(nobody, "POST", "/tokens/revoke", status=403, headers=as_bob, json={"account": "admin"})
    await api(nobody, "POST", "/tokens/revoke", status=403, headers=as_bob, json={"account": "nobody"})
    await api(client, "POST", "/tokens/revoke", status=404, json={"account": "nobody"})
    future = {"account": "bob", "before": "2999-01-01T00:00:00Z"}
    assert (
        "is still to come" in (await api(client, "POST", "/tokens/revoke", status=400, json=future))["detail"]
    )
    own = {"account": "bob"}
    assert await api(nobody, "POST", "/tokens/revoke", headers=as_bob, json=own) == {"tokens": 1}
    assert (await ask(nobody, "GET", TAGS, headers=limited)).status == 401
    assert (await ask(nobody, "GET", TAGS, headers=as_bob)).status == 200


async def test_everything_that_anybody_was_given_before_a_time_ends(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    as_bob = basic("bob", await make_user(client, "bob"))
    scope = f"repository:{NAME}:pull"
    body = {"name": "1", "scopes": [scope]}
    old = await api(nobody, "POST", "/tokens", status=201, headers=as_bob, json=body)
    session = await ask(nobody, "GET", "/token?service=seatrial&offline_token=true", headers=as_bob)
    worker = await make_worker_token(client, "w1")
    new = await api(nobody, "POST", "/tokens", status=201, headers=as_bob, json=body)
    made_with_old = await make(nobody, old, scope)
    everybody = {"everybody": True, "before": new["created_at"]}
    for wrong in (
        {},
        {"before": new["created_at"]},
        {"everybody": False},
        {"everybody": True, "account": "bob"},
        {"everybody": True, "before": "2999-01-01T00:00:00Z"},
    ):
        await api(client, "POST", "/tokens/revoke", status=400, json=wrong)
    await api(nobody, "POST", "/tokens/revoke", status=403, headers=as_bob, json=everybody)
    kept = (await make_token(client, "admin"))["token"]
    # The one of admin.token, which stands for its account, was issued before too.
    assert await api(client, "POST", "/tokens/revoke", json=everybody) == {"tokens": 4}
    await api(client, "GET", "/tokens", status=401)
    listed = (await api(nobody, "GET", "/tokens", headers=bearer(kept)))["items"]
    states = {token["id"]: token["state"] for token in listed}
    assert states[old["id"]] == states[made_with_old["id"]] == "revoked"
    assert states[new["id"]] == "active"
    claim = {"platforms": ["linux/amd64"], "wait_seconds": 0}
    answer = await ask(nobody, "POST", "/worker/v1/claim", headers=bearer(worker), json=claim)
    assert answer.status == 401
    refresh = {"grant_type": "refresh_token", "refresh_token": session.json["refresh_token"]}
    refresh |= {"service": "seatrial", "client_id": "docker"}
    assert (await ask(nobody, "POST", "/token", data=refresh)).status == 401
    assert (await ask(nobody, "GET", "/v2/", headers=as_bob)).status == 200
    trail = await api(nobody, "GET", "/audit?action=credentials.revoked", headers=bearer(kept))
    (line,) = trail["items"]
    assert (line["actor"], line["target"], line["data"]["tokens"]) == ("admin", None, 4)
    ends = await api(nobody, "GET", "/audit?action=token.revoked", headers=bearer(kept))
    assert old["id"] in {each["target"] for each in ends["items"]}


async def test_an_earlier_time_does_not_bring_back_what_was_void(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    await make_user(client, "bob")
    await api(client, "POST", "/tokens/revoke", json={"account": "bob"})

    async def after() -> Any:
        assert registry.services is not None
        async with registry.services.database.read() as connection:
            query = select(accounts.c.credentials_after).where(accounts.c.name == "bob")
            return (await connection.execute(query)).scalar_one()

    first = await after()
    assert first is not None
    body = {"account": "bob", "before": "2001-01-01T00:00:00Z"}
    assert await api(client, "POST", "/tokens/revoke", json=body) == {"tokens": 0}
    assert await after() == first


async def _robot(registry: Registry, owner: str) -> None:
    """A robot of the namespace ``team``, which ``owner`` owns."""
    assert registry.services is not None
    async with registry.services.database.write() as connection:
        values = {"name": "team", "created_at": db_time()}
        await connection.execute(insert_ignoring_conflict(connection, namespaces, values))
        row = await connection.execute(select(namespaces.c.id).where(namespaces.c.name == "team"))
        namespace_id = row.scalar_one()
        robot = {"name": "team+ci", "kind": "robot", "namespace_id": namespace_id, "created_at": db_time()}
        row = await connection.execute(insert(accounts).values(robot).returning(accounts.c.id))
        robot_id = row.scalar_one()
        row = await connection.execute(select(accounts.c.id).where(accounts.c.name == owner))
        given = {"namespace_id": namespace_id, "created_at": db_time()}
        await connection.execute(insert(grants).values(account_id=row.scalar_one(), role="owner", **given))
        await connection.execute(insert(grants).values(account_id=robot_id, role="writer", **given))
        await move_epoch(connection, "access")


async def test_the_tokens_of_a_robot_are_managed_by_whoever_administers_its_namespace(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    as_bob, as_eve = (
        basic("bob", await make_user(client, "bob")),
        basic("eve", await make_user(client, "eve")),
    )
    await make_repository(client, NAME)
    await _robot(registry, "bob")
    body = {"name": "ci", "scopes": [f"repository:{NAME}:pull,push"], "account": "team+ci"}
    made = await api(nobody, "POST", "/tokens", status=201, headers=as_bob, json=body)
    assert (await ask(nobody, "GET", TAGS, headers=bearer(made["token"]))).status == 200
    refusals = [
        (await api(nobody, "POST", "/tokens", status=403, headers=as_eve, json=body | {"account": name}))[
            "detail"
        ]
        for name in ("team+ci", "team+no", "admin", "nobody")
    ]
    for refusal, name in zip(refusals, ("team+ci", "team+no", "admin", "nobody"), strict=True):
        assert refusal == refusals[0].replace("team+ci", name), "it does not tell who is there"
    path = f"/tokens/{made['id']}"
    for method, options in (("GET", {}), ("PATCH", {"json": {"name": "x"}}), ("DELETE", {})):
        await api(nobody, method, path, status=404, headers=as_eve, **options)
    await api(nobody, "POST", f"{path}/rotate", status=404, headers=as_eve, json={})
    listed = await api(nobody, "GET", "/tokens", headers=as_bob, params={"account": "team+ci"})
    assert [token["id"] for token in listed["items"]] == [made["id"]]
    await api(nobody, "GET", "/tokens", status=403, headers=as_eve, params={"account": "team+ci"})
    # A robot looks after its own: it rotates, and makes weaker ones.
    new = await api(nobody, "POST", f"{path}/rotate", status=201, headers=bearer(made["token"]), json={})
    weaker = await make(nobody, new, f"repository:{NAME}:pull")
    assert weaker["account"] == "team+ci"
    assert (await ask(nobody, "GET", TAGS, headers=bearer(weaker["token"]))).status == 200
    assert await api(nobody, "POST", "/tokens/revoke", headers=as_bob, json={"account": "team+ci"}) == {
        "tokens": 3
    }
    assert (await ask(nobody, "GET", TAGS, headers=bearer(weaker["token"]))).status == 401


async def test_a_token_for_the_owner_s_other_rights_manages_no_robots(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    as_bob = basic("bob", await make_user(client, "bob"))
    await _robot(registry, "bob")
    for scope, status in (("repository:team/*:pull,push", 403), ("repository:team/*:pull,administer", 201)):
        limited = await api(
            nobody, "POST", "/tokens", status=201, headers=as_bob, json={"name": "n", "scopes": [scope]}
        )
        await make(nobody, limited, "repository:team/app:pull", status=status, account="team+ci")


async def test_a_token_by_name_is_void_for_what_was_made_again(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    scope = f"repository:{NAME}:pull"
    await make_repository(client, NAME)
    exact = await make_token(client, scope)
    pattern = await make_token(client, "repository:team/*:pull")
    derived = await registry_token(nobody, scope, headers=bearer(exact["token"]))
    for token in (exact["token"], derived, pattern["token"]):
        assert (await ask(nobody, "GET", TAGS, headers=bearer(token))).status == 200
    await api(client, "DELETE", f"/repositories/{NAME.replace('/', '%2F')}", status=204)
    await make_repository(client, NAME)
    for token in (exact["token"], derived):
        assert (await ask(nobody, "GET", TAGS, headers=bearer(token))).status in (401, 403)
    # Nor does it hand on what it has lost, nor get it back by rotation.
    assert "does not have" in (await make(nobody, exact, scope, status=403))["detail"]
    path = f"/tokens/{exact['id']}/rotate"
    assert (
        await ask(nobody, "POST", f"/api/v1{path}", headers=bearer(exact["token"]), json={})
    ).status == 403
    for token in (pattern, await make_token(client, scope)):
        assert (await ask(nobody, "GET", TAGS, headers=bearer(token["token"]))).status == 200


async def test_no_secret_is_told_or_logged(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, capfd: pytest.CaptureFixture[str]
) -> None:
    """Canaries: what is shown once is in no list, refusal, event or log line."""
    capfd.readouterr()
    first = await make_token(client, f"repository:{NAME}:pull", networks=["192.0.2.0/24"])
    path = f"/tokens/{first['id']}"
    second = await api(client, "POST", f"{path}/rotate", status=201, json={})
    worker = await api(client, "POST", "/tokens", status=201, json={"worker": "w1"})
    secrets = [made["token"] for made in (first, second, worker)]
    told: list[str] = []
    for secret in secrets:
        for headers in (bearer(secret), basic("x", secret), bearer(secret[:-1])):
            answers = [
                await ask(nobody, "GET", where, headers=headers)
                for where in ("/v2/", "/token", "/api/v1/tokens", "/worker/v1/claim", TAGS)
            ]
            told += [str(answer.look) for answer in answers]
    claim = {"protocol": 1, "platforms": [worker["token"]], "wait_seconds": 0}
    await ask(nobody, "POST", "/worker/v1/claim", headers=bearer(worker["token"]), json=claim)
    lists = [await ask(client, "GET", f"/api/v1{where}") for where in ("/tokens", path, "/workers", "/audit")]
    told += [str(listed.body) for listed in lists]
    logged = capfd.readouterr().err
    for secret in secrets:
        assert not [answer for answer in told if secret in answer]
        assert secret not in logged


async def test_last_use_is_told_and_written_once_a_minute(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    uses = registry.services.tokens.credentials.uses
    await make_repository(client, NAME)
    made = [await make_token(client, f"repository:{NAME}:pull") for _ in range(3)]
    shown = await api(client, "GET", f"/tokens/{made[0]['id']}")
    assert (shown["last_used_at"], shown["last_used_address"], shown["last_used_client"]) == (
        None,
        None,
        None,
    )

    async def use(client_name: str) -> Any:
        for token in made[:2]:
            headers = bearer(token["token"]) | {"User-Agent": client_name}
            assert (await ask(nobody, "GET", TAGS, headers=headers)).status == 200
        await uses.close()
        return [await api(client, "GET", f"/tokens/{token['id']}") for token in made]

    epochs = await registry.services.database.epochs()
    first, second, unused = await use("crane/1.0\u202ewith\u200bmore" + "x" * 500)
    assert (first["last_used_address"], unused["last_used_at"]) == ("127.0.0.1", None)
    assert first["last_used_client"].startswith("crane/1.0?with?more")
    assert len(first["last_used_client"]) <= 200
    assert second["last_used_at"] is not None
    assert await use("podman") == [first, second, unused]
    assert await registry.services.database.epochs() == epochs
    # Another process has not noted anything yet, but sees that it was written within the minute.
    other = token_uses(registry.services.database)
    other.note(made[0]["id"], address="192.0.2.1", client="other")
    other.note(made[2]["id"], address="192.0.2.1", client=None)
    await other.close()
    after = [await api(client, "GET", f"/tokens/{token['id']}") for token in made]
    assert after[:2] == [first, second]
    assert (after[2]["last_used_address"], after[2]["last_used_client"]) == ("192.0.2.1", None)
    async with registry.services.database.write() as connection:
        long_ago = (
            update(tokens)
            .where(tokens.c.id == made[0]["id"])
            .values(last_used_at=db_time(-timedelta(seconds=61)))
        )
        await connection.execute(long_ago)
    other = token_uses(registry.services.database)
    other.note(made[0]["id"], address="192.0.2.2", client="late")
    await other.close()
    assert (await api(client, "GET", f"/tokens/{made[0]['id']}"))["last_used_address"] == "192.0.2.2"
