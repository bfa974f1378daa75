"""Passwords, API tokens and ``/token``: who gets in, with what, and from when on no more."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import select, update

from registry.db.accounts import accounts, tokens
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


async def test_every_way_in(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, NAME, visibility="internal")
    password = await make_user(client, "bob")
    token = (await make_token(client, f"repository:{NAME}:pull"))["token"]
    for headers in (
        basic("bob", password),
        basic("admin", registry.token),
        basic("whoever", registry.token),
        basic("", token),
        bearer(token),
        bearer(registry.token),
        bearer(await registry_token(nobody, f"repository:{NAME}:pull", headers=basic("bob", password))),
    ):
        assert (await ask(nobody, "GET", TAGS, headers=headers)).status == 200
        assert (await ask(nobody, "GET", "/v2/", headers=headers)).status == 200


async def test_all_refusals_read_alike(client: aiohttp.ClientSession, nobody: aiohttp.ClientSession) -> None:
    password = await make_user(client, "bob")
    revoked = await make_token(client, "repository:*:pull")
    await api(client, "DELETE", f"/tokens/{revoked['id']}", status=204)
    looks = set()
    for headers in (
        basic("bob", password + "x"),
        basic("nobody", password),
        basic("bob", ""),
        basic("", ""),
        basic("bob", revoked["token"]),
        basic("bob", "seatrial_" + "x" * 49),
        basic("é" * 100, "ü" * 10_000),
        basic("b\0ob", password),
    ):
        answer = await ask(nobody, "GET", TAGS, headers=headers)
        assert answer.status == 401
        assert "Bearer realm=" in answer.headers["WWW-Authenticate"]
        looks.add(str(answer.look))
    assert len(looks) == 1


async def test_the_answer_of_token(registry: Registry, nobody: aiohttp.ClientSession) -> None:
    parameters = {
        "service": "seatrial",
        "account": "somebody",
        "client_id": "docker",
        "offline_token": "true",
    }
    answer = await ask(nobody, "GET", "/token", params=parameters, headers=basic("admin", registry.token))
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    document = answer.json
    assert document["token"] == document["access_token"]
    assert document["expires_in"] >= 60
    assert datetime.fromisoformat(document["issued_at"]).tzinfo is not None
    assert document["refresh_token"].startswith("seatrialrt_")
    del parameters["offline_token"]
    answer = await ask(nobody, "GET", "/token", params=parameters, headers=basic("admin", registry.token))
    assert "refresh_token" not in answer.json


async def test_lacking_rights_is_no_error(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, "public/app", visibility="public")
    await make_repository(client, "private/app")
    wanted = [
        "repository:public/app:pull,push",
        "repository:private/app:pull repository:no/app:pull",
        "nonsense",
    ]

    async def granted(*scopes: str, **headers: str) -> str:
        parameters = [("service", "seatrial"), *(("scope", scope) for scope in scopes or wanted)]
        answer = await ask(nobody, "GET", "/token", params=parameters, headers=headers)
        assert answer.status == 200
        return str(answer.json["scope"])

    password = await make_user(client, "bob")
    token = (await make_token(client, "repository:private/*:pull,push"))["token"]
    assert await granted("repository:public/app:pull", *wanted[1:]) == "repository:public/app:pull"
    assert await granted(**basic("bob", password)) == "repository:public/app:pull"
    assert await granted(**basic("x", token)) == "repository:private/app:pull"
    everything = "repository:public/app:pull,push repository:private/app:pull repository:no/app:pull"
    assert await granted(**basic("admin", registry.token)) == everything


@pytest.mark.parametrize("name", ["public/app", "private/app", "no/app"])
async def test_nobody_who_wants_to_push_is_told_to_sign_in(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, name: str
) -> None:
    """A token without rights would only lead to a HEAD, whose answer says nothing."""
    await make_repository(client, "public/app", visibility="public")
    await make_repository(client, "private/app")
    for actions, said in (("pull,push", "push"), ("delete,pull", "delete"), ("*", "push")):
        scopes = [("scope", "repository:public/app:pull"), ("scope", f"repository:{name}:{actions}")]
        answer = await ask(nobody, "GET", "/token", params=scopes)
        assert answer.status == 401
        assert answer.json["errors"] == [{"code": "UNAUTHORIZED", "message": f"sign in to {said} {name}"}]


async def test_scopes_that_are_none_are_dropped(registry: Registry, nobody: aiohttp.ClientSession) -> None:
    """A17."""
    for scope in (
        "repository:../x:pull",
        "repository:UPPER:pull",
        "repository:a:b:pull",
        "repository:a\nb:pull",
        "repository:" + "x" * 20_000 + ":pull",
        "\x00",
        "%00%0d%0a",
        "🚢",
    ):
        answer = await ask(
            nobody, "GET", "/token", params={"scope": scope}, headers=basic("admin", registry.token)
        )
        assert answer.status == 200, scope[:50]
        assert answer.json["scope"] == ""


async def test_requests_to_token_that_are_none(registry: Registry, nobody: aiohttp.ClientSession) -> None:
    many = [("scope", " ".join(["repository:a:pull"] * 101))]
    admin = basic("admin", registry.token)
    assert (await ask(nobody, "GET", "/token", params=many, headers=admin)).status == 400
    assert (await ask(nobody, "GET", "/token", params={"service": "other"}, headers=admin)).status == 400
    assert (await ask(nobody, "PUT", "/token", headers=admin)).status == 405
    bad = await ask(nobody, "GET", "/token", headers=basic("admin", "wrong password"))
    assert bad.status == 401
    assert bad.headers["WWW-Authenticate"].startswith("Basic realm=")


async def test_the_password_grant(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, NAME)
    form = {"grant_type": "password", "service": "seatrial", "client_id": "containerd-client"}
    good = form | {"username": "admin", "password": registry.token, "scope": f"repository:{NAME}:pull"}

    async def chunks() -> object:
        for part in aiohttp.FormData(good)().decode().encode().split(b"&"):  # type: ignore[union-attr]
            yield part + b"&"

    answer = await ask(nobody, "POST", "/token", data=good)
    assert answer.status == 200
    assert answer.json["scope"] == f"repository:{NAME}:pull"
    assert (await ask(nobody, "GET", TAGS, headers=bearer(answer.json["access_token"]))).status == 200
    charset = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    assert (await ask(nobody, "POST", "/token", data=good, headers=charset)).status == 200
    for change, status in (
        ({"password": "wrong password"}, 401),
        ({"grant_type": "client_credentials"}, 400),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, 401),
        ({"grant_type": "refresh_token"}, 400),
        ({"service": "other"}, 400),
    ):
        assert (await ask(nobody, "POST", "/token", data=good | change)).status == status, change
    assert (await ask(nobody, "POST", "/token", data=form)).status == 400
    assert (await ask(nobody, "POST", "/token", data=[*good.items(), ("password", "x")])).status == 400
    assert (await ask(nobody, "POST", "/token", json=good)).status == 415
    big = good | {"client_id": "x" * 70_000}
    assert (await ask(nobody, "POST", "/token", data=big)).status == 413


async def test_revoking_works_at_once_also_for_tokens_made_with_it(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, NAME)
    made = await make_token(client, f"repository:{NAME}:pull")
    derived = bearer(
        await registry_token(nobody, f"repository:{NAME}:pull", headers=basic("x", made["token"]))
    )
    ways = (basic("x", made["token"]), bearer(made["token"]), derived)
    assert [(await ask(nobody, "GET", TAGS, headers=way)).status for way in ways] == [200, 200, 200]
    await api(client, "DELETE", f"/tokens/{made['id']}", status=204)
    assert [(await ask(nobody, "GET", TAGS, headers=way)).status for way in ways] == [401, 401, 401]


async def test_disabling_works_at_once(client: aiohttp.ClientSession, nobody: aiohttp.ClientSession) -> None:
    await make_repository(client, NAME, visibility="internal")
    password = await make_user(client, "bob")
    own = (await api(nobody, "POST", "/tokens", status=201, headers=basic("bob", password),
                     json={"name": "n", "scopes": ["repository:*:pull"]}))["token"]  # fmt: skip
    derived = await registry_token(nobody, f"repository:{NAME}:pull", headers=basic("bob", password))
    ways = (basic("bob", password), basic("x", own), bearer(derived))
    assert [(await ask(nobody, "GET", TAGS, headers=way)).status for way in ways] == [200, 200, 200]
    await api(client, "PATCH", "/users/bob", json={"disabled": True})
    assert [(await ask(nobody, "GET", TAGS, headers=way)).status for way in ways] == [401, 401, 401]


async def test_another_replica_knows_at_once(
    registry: Registry, client: aiohttp.ClientSession, database_url: str, tmp_path: Path
) -> None:
    assert registry.services is not None
    await make_repository(client, NAME)
    made = await make_token(client, f"repository:{NAME}:pull")
    # Its own data folder; what replicas share is the database and the secret key.
    shared = registry.services.settings.data
    files = {"secret_key_file": shared / "secret.key", "admin_token_file": shared / "admin.token"}
    async with (
        running_registry(tmp_path / "replica", database_url, **files) as other,
        other.client(anonymous=True) as there,
    ):
        scope, way = f"repository:{NAME}:pull", basic("x", made["token"])
        derived = bearer(await registry_token(there, scope, headers=way))
        assert (await ask(client, "GET", TAGS, headers=derived)).status == 200
        assert (await ask(there, "GET", TAGS, headers=derived)).status == 200
        await api(client, "DELETE", f"/tokens/{made['id']}", status=204)
        assert (await ask(there, "GET", TAGS, headers=derived)).status == 401


async def test_an_expired_token_opens_nothing(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    await make_repository(client, NAME)
    made = await make_token(client, f"repository:{NAME}:pull", expires_seconds=3600)
    derived = bearer(
        await registry_token(nobody, f"repository:{NAME}:pull", headers=basic("x", made["token"]))
    )
    assert (await ask(nobody, "GET", TAGS, headers=derived)).status == 200
    # An hour later, as the database's clock has it.
    async with registry.services.database.write() as connection:
        await connection.execute(update(tokens).where(tokens.c.id == made["id"]).values(expires_at=db_time()))
        await move_epoch(connection, "access")
    expired = await ask(nobody, "GET", TAGS, headers=basic("x", made["token"]))
    assert expired.status == 401
    assert re.fullmatch(
        r"this token expired at 20\d\d-\d\d-\d\d \d\d:\d\d UTC; make a new one and sign in with it",
        expired.json["errors"][0]["message"],
    )
    assert (await ask(nobody, "GET", TAGS, headers=derived)).status == 401


async def test_a_cached_token_ends_when_its_time_is_up(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, NAME)
    made = await make_token(client, f"repository:{NAME}:pull", expires_seconds=1)
    async with asyncio.timeout(60):
        while (await ask(nobody, "GET", TAGS, headers=bearer(made["token"]))).status == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_worker_token_opens_the_worker_api_only(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, NAME, visibility="public")
    token = await make_worker_token(client, "w1")
    for headers in (bearer(token), basic("w1", token)):
        for path in (
            TAGS,
            "/v2/",
            "/v2/_catalog",
            "/token",
            "/api/v1/repositories",
            "/api/v1/tokens",
            "/api/v1/workers",
        ):
            assert (await ask(nobody, "GET", path, headers=headers)).status == 401, path
    form = {
        "grant_type": "password",
        "service": "seatrial",
        "client_id": "x",
        "username": "w1",
        "password": token,
    }
    assert (await ask(nobody, "POST", "/token", data=form)).status == 401
    claim = {"protocol": 1, "platforms": ["linux/amd64"]}
    for headers in (basic("admin", registry.token), bearer(registry.token), {}):
        assert (await ask(nobody, "POST", "/worker/v1/claim", json=claim, headers=headers)).status == 401


async def test_secrets_are_nowhere_in_the_database(registry: Registry, client: aiohttp.ClientSession) -> None:
    assert registry.services is not None
    password = await make_user(client, "bob")
    token = (await make_token(client, "repository:*:pull"))["token"]
    async with registry.services.database.read() as connection:
        rows = [
            *(await connection.execute(select(accounts))).all(),
            *(await connection.execute(select(tokens))).all(),
        ]
    text = repr(rows)
    for secret in (password, token, registry.token):
        assert secret not in text
