"""How many of a thing there may be: so many as the settings say, and one more is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import func, select, update

from registry.db.access import group_members
from registry.db.accounts import accounts, refresh_tokens, tokens
from registry.db.oidc import workload_tokens
from registry.db.types import db_time
from tests.kit.access import Answer, api, ask, basic, bearer, have_namespaces, make_user
from tests.kit.issuer import LOOPBACK, Issuer, running_issuer
from tests.kit.server import Registry, running_registry
from tests.kit.workloads import exchange, job_token, make_rule, trust

TWO = {
    "api_tokens_per_account": 2,
    "robots_per_namespace": 2,
    "members_per_group": 2,
    "job_tokens_per_rule": 2,
    "refresh_tokens_per_credential": 2,
}


@pytest.fixture
async def registry(tmp_path: Path, database_url: str) -> AsyncIterator[Registry]:
    data = tmp_path / "data"
    async with running_registry(data, database_url, outgoing_networks=LOOPBACK, **TWO) as running:
        yield running


@pytest.fixture
async def trusted(client: aiohttp.ClientSession) -> AsyncIterator[Issuer]:
    async with running_issuer() as issuer:
        await trust(client, issuer)
        await make_rule(client)
        yield issuer


async def count(registry: Registry, table: Any) -> int:
    assert registry.services is not None
    async with registry.services.database.read() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def test_tokens_of_an_account_that_work(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    bob = basic("bob", await make_user(client, "bob"))

    async def make(**more: Any) -> Answer:
        body = {"name": "one", "scopes": ["repository:*:pull"], **more}
        return await ask(nobody, "POST", "/api/v1/tokens", headers=bob, json=body)

    first, second = await make(), await make()
    third = await make()
    assert third.status == 403
    assert "has 2 API tokens" in third.json["detail"]
    assert "SEATRIAL_API_TOKENS_PER_ACCOUNT" in third.json["detail"]
    by_admin = {"name": "one", "scopes": ["repository:*:pull"], "account": "bob"}
    assert (await ask(client, "POST", "/api/v1/tokens", json=by_admin)).status == 403
    path = f"/api/v1/tokens/{second.json['id']}"
    # To rotate is no new one.
    rotated = await ask(nobody, "POST", f"{path}/rotate", headers=bob, json={})
    assert rotated.status == 201
    assert (await ask(nobody, "DELETE", f"/api/v1/tokens/{rotated.json['id']}", headers=bob)).status == 204
    assert (await make()).status == 201
    assert (await ask(nobody, "GET", "/api/v1/tokens", headers=bearer(first.json["token"]))).status == 200


async def test_robots_of_a_namespace_and_members_of_a_group(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    await have_namespaces(registry.services.database, "team", "other")
    await api(client, "PUT", "/groups/devs", status=201)
    for name in ("ann", "bob", "eve"):
        await make_user(client, name)
    for noun, names, said in (
        ("/robots/team+", ("ann", "bob", "eve"), "team has 2 robots"),
        ("/groups/devs/members/", ("ann", "bob", "eve"), "the group devs has 2 members"),
    ):
        body = {"json": {}} if "robots" in noun else {}
        first, second, third = noun + names[0], noun + names[1], noun + names[2]
        await api(client, "PUT", first, status=201, **body)
        await api(client, "PUT", second, status=201, **body)
        assert said in (await api(client, "PUT", third, status=403, **body))["detail"]
        await api(client, "PUT", second, **body)
        await api(client, "DELETE", first, status=204)
        await api(client, "PUT", third, status=201, **body)
    await api(client, "PUT", "/robots/other+ann", status=201, json={})


async def test_of_many_at_once_no_more_than_there_may_be(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    await have_namespaces(registry.services.database, "team")
    await api(client, "PUT", "/groups/devs", status=201)
    names = [f"user{number}" for number in range(6)]
    passwords = [await make_user(client, name) for name in names]
    bob = {"headers": basic(names[0], passwords[0])}
    body = {"json": {"name": "one", "scopes": ["repository:*:pull"]}}
    await ask(nobody, "GET", "/v2/", **bob)  # else they would wait for the password one by one
    for table, asked in (
        (tokens, [("POST", "/tokens", body | bob) for _ in names]),
        (None, [("PUT", f"/robots/team+{name}", {"json": {}}) for name in names]),
        (group_members, [("PUT", f"/groups/devs/members/{name}", {}) for name in names]),
    ):
        before = 0 if table is None else await count(registry, table)
        answers = await asyncio.gather(
            *(
                ask(nobody if method == "POST" else client, method, f"/api/v1{path}", **options)
                for method, path, options in asked
            )
        )
        assert sorted(answer.status for answer in answers) == [201, 201, 403, 403, 403, 403]
        if table is not None:
            assert await count(registry, table) == before + 2


async def test_refresh_tokens_of_a_credential(registry: Registry, nobody: aiohttp.ClientSession) -> None:
    admin = basic("admin", registry.token)
    for _ in range(4):
        path = "/token?offline_token=true&client_id=docker"
        assert (await ask(nobody, "GET", path, headers=admin)).status == 200
    assert await count(registry, refresh_tokens) == 2


async def test_fresh_tokens_of_jobs(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, trusted: Issuer
) -> None:
    assert registry.services is not None
    jobs = [job_token(trusted, jti=str(number)) for number in range(3)]
    assert [(await exchange(nobody, job)).status for job in jobs] == [200, 200, 429]
    refused = await ask(nobody, "GET", "/token", headers=basic("oidc", jobs[2]))
    assert refused.status == 429
    assert refused.headers["Retry-After"] == "600"
    # What it has it gets again.
    assert (await exchange(nobody, jobs[0])).status == 200
    # One that ended by itself goes soon, and makes room; one that was revoked stays known.
    given = select(workload_tokens.c.token_id).order_by(workload_tokens.c.token_id)
    long_ago = db_time(-timedelta(minutes=61))
    async with registry.services.database.write() as connection:
        ended, revoked = (await connection.execute(given)).scalars()
        await connection.execute(update(workload_tokens).values(created_at=long_ago))
        await connection.execute(update(tokens).where(tokens.c.id == ended).values(expires_at=long_ago))
        values = {"expires_at": long_ago, "revoked_at": long_ago}
        await connection.execute(update(tokens).where(tokens.c.id == revoked).values(values))
    assert (await exchange(nobody, jobs[2])).status == 200
    assert await count(registry, workload_tokens) == 2
    assert (await exchange(nobody, jobs[1])).status == 401


async def test_tokens_of_jobs_are_none_of_an_account_s_own(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, registry: Registry, trusted: Issuer
) -> None:
    assert registry.services is not None
    for number in range(2):
        assert (await exchange(nobody, job_token(trusted, jti=str(number)))).status == 200
    async with registry.services.database.read() as connection:
        job = select(accounts.c.name).join(tokens).where(tokens.c.name.startswith("job by"))
        account = (await connection.execute(job)).scalars().first()
    body = {"name": "one", "scopes": ["repository:*:pull"], "account": account}
    await api(client, "POST", "/tokens", status=201, json=body)
