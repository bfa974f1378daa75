"""The keys that sign registry tokens: replaced without a refused request, or all at once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from sqlalchemy import select, text, update

from registry.auth.keyring import KEEP, SETTLE, Algorithm
from registry.db.accounts import keys
from registry.db.engine import move_epoch
from tests.kit.access import ask, basic, bearer, make_repository, registry_token
from tests.kit.server import Registry, running_registry

NAME = "team/app"
SCOPE = f"repository:{NAME}:pull"


async def opens(nobody: aiohttp.ClientSession, token: str) -> bool:
    answer = await ask(nobody, "GET", f"/v2/{NAME}/tags/list", headers=bearer(token))
    assert answer.status in (200, 401)
    return answer.status == 200


async def token_keys(client: aiohttp.ClientSession) -> Any:
    """Those that sign registry tokens; who reads verdicts sees those that sign these."""
    listed = (await ask(client, "GET", "/api/v1/keys")).json["items"]
    return [key for key in listed if key["ring"] == "token"]


async def age(registry: Registry, by: timedelta) -> None:
    """Let time pass for the keys."""
    assert registry.services is not None
    async with registry.services.database.write() as connection:
        for row in (await connection.execute(select(keys))).all():
            retired = None if row.retired_at is None else row.retired_at - by
            values = {"created_at": row.created_at - by, "retired_at": retired}
            await connection.execute(update(keys).where(keys.c.kid == row.kid).values(values))
        await move_epoch(connection, "access")


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
async def test_a_new_key_signs_once_all_know_it_and_the_old_one_verifies_on(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, algorithm: Algorithm
) -> None:
    await make_repository(client, NAME)
    me = basic("admin", registry.token)
    before = await registry_token(nobody, SCOPE, headers=me)
    made = await ask(client, "POST", "/api/v1/keys/rotate", json={"algorithm": algorithm})
    assert made.status == 201, made.body
    during = await registry_token(nobody, SCOPE, headers=me)
    kids = [jwt.get_unverified_header(text)["kid"] for text in (before, during)]
    assert kids[0] == kids[1] != made.json["kid"]
    await age(registry, SETTLE)
    after = await registry_token(nobody, SCOPE, headers=me)
    header = jwt.get_unverified_header(after)
    assert (header["kid"], header["alg"]) == (made.json["kid"], algorithm)
    assert [await opens(nobody, text) for text in (before, during, after)] == [True, True, True]
    await age(registry, KEEP)
    assert [await opens(nobody, text) for text in (before, during, after)] == [False, False, True]


async def test_at_once_ends_what_the_stolen_key_signed(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, NAME)
    me = basic("admin", registry.token)
    before = await registry_token(nobody, SCOPE, headers=me)
    assert await opens(nobody, before)
    assert (await ask(client, "POST", "/api/v1/keys/rotate", json={"at_once": True})).status == 201
    assert not await opens(nobody, before)
    assert await opens(nobody, await registry_token(nobody, SCOPE, headers=me))
    listed = await token_keys(client)
    assert [key["retired_at"] is None for key in listed] == [True, False]
    assert "PRIVATE" not in str(listed)


async def test_the_published_keys_verify_what_is_signed(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await ask(client, "POST", "/api/v1/keys/rotate", json={"algorithm": "EdDSA"})
    token = await registry_token(nobody, headers=basic("admin", registry.token))
    answer = await ask(nobody, "GET", "/token/keys")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/jwk-set+json"
    assert {key["kty"] for key in answer.json["keys"]} == {"EC", "OKP"}
    assert all("d" not in key for key in answer.json["keys"])
    ring = jwt.PyJWKSet.from_dict(answer.json)
    key = ring[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, algorithms=["ES256"], audience="seatrial")["sub"] == "admin"


async def test_only_administrators_replace_keys(nobody: aiohttp.ClientSession) -> None:
    assert (await ask(nobody, "POST", "/api/v1/keys/rotate", json={})).status == 401
    assert not await token_keys(nobody)


async def test_an_old_key_is_replaced_by_itself_and_by_one_replica(
    registry: Registry, tmp_path: Path, database_url: str, client: aiohttp.ClientSession
) -> None:
    nobody_headers = basic("admin", registry.token)
    await age(registry, timedelta(days=91))
    async with running_registry(
        tmp_path / "other",
        database_url,
        secret_key_file=tmp_path / "data" / "secret.key",
        admin_token_file=tmp_path / "data" / "admin.token",
    ) as other:
        for one in (registry, other):
            async with one.client(anonymous=True) as nobody:
                await registry_token(nobody, headers=nobody_headers)
    listed = await token_keys(client)
    assert [key["retired_at"] is None for key in listed] == [True, False]


async def test_an_old_key_signs_on_while_it_cannot_be_replaced(
    registry: Registry, nobody: aiohttp.ClientSession, client: aiohttp.ClientSession
) -> None:
    """As when the disk of the database is full: whoever pulls must not notice."""
    assert registry.services is not None
    await make_repository(client, NAME)
    me = basic("admin", registry.token)
    before = await registry_token(nobody, SCOPE, headers=me)
    database = registry.services.database
    full = (
        "CREATE TRIGGER disk_full BEFORE INSERT ON keys BEGIN SELECT RAISE(ABORT, 'full'); END"
        if database.is_sqlite
        else "ALTER TABLE keys ADD CONSTRAINT disk_full CHECK (false) NOT VALID"
    )
    await age(registry, timedelta(days=91))
    async with database.write() as connection:
        await connection.execute(text(full))
        await move_epoch(connection, "access")
    assert await opens(nobody, before)
    assert await opens(nobody, await registry_token(nobody, SCOPE, headers=me))
