"""Tokens that are limited to networks: from elsewhere they open nothing, in whatever form they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.kit.access import api, ask, basic, bearer, make_token, registry_token
from tests.kit.distribution import push_small
from tests.kit.server import Registry, running_registry

NAME = "team/app"
INSIDE, OUTSIDE = {"X-Forwarded-For": "192.0.2.7"}, {"X-Forwarded-For": "203.0.113.7"}
INSIDE_6, OUTSIDE_6 = {"X-Forwarded-For": "2001:db8::7"}, {"X-Forwarded-For": "2001:db9::7"}
NETWORKS = ["192.0.2.0/24", "2001:db8::/32"]
SCOPE = f"repository:{NAME}:pull"


@pytest.fixture
async def registry(tmp_path: Path, database_url: str) -> AsyncIterator[Registry]:
    """A registry behind a proxy that says where each request comes from."""
    proxied = running_registry(tmp_path / "data", database_url, trusted_proxies="127.0.0.0/8")
    async with proxied as running:
        yield running


async def refused(client: aiohttp.ClientSession, method: str, path: str, **options: Any) -> str:
    answer = await ask(client, method, path, **options)
    assert answer.status == 401, (path, answer.body)
    problem = answer.json
    return str(problem["errors"][0]["message"] if "errors" in problem else problem["detail"])


async def test_from_elsewhere_it_opens_nothing(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    digest = await push_small(client, NAME, "1")
    made = await make_token(client, SCOPE, networks=NETWORKS)
    derived = await registry_token(nobody, SCOPE, headers=basic("x", made["token"]) | INSIDE)
    paths = (f"/v2/{NAME}/manifests/1", f"/v2/{NAME}/manifests/{digest}", f"/v2/{NAME}/tags/list")
    for shown in (bearer(made["token"]), basic("x", made["token"]), bearer(derived)):
        # Twice: what was answered before is known, and is for nobody elsewhere.
        for path in (*paths, *paths):
            for inside in (INSIDE, INSIDE_6):
                assert (await ask(nobody, "GET", path, headers=shown | inside)).status == 200
            for outside in (OUTSIDE, OUTSIDE_6, {}):
                said = await refused(nobody, "GET", path, headers=shown | outside)
                address = outside.get("X-Forwarded-For", "127.0.0.1")
                assert f"the token of admin may not be used from {address}" in said
                assert "192.0.2" not in said.replace(address, ""), "a thief is not told from where"
            assert (await ask(nobody, "HEAD", path, headers=shown | OUTSIDE)).status == 401


async def test_known_blobs_are_for_nobody_elsewhere(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await push_small(client, NAME, "1")
    manifest = (await ask(client, "GET", f"/v2/{NAME}/manifests/1")).json
    path = f"/v2/{NAME}/blobs/{manifest['config']['digest']}"
    shown = bearer((await make_token(client, SCOPE, networks=NETWORKS))["token"])
    for _ in range(2):
        for method in ("HEAD", "GET"):
            assert (await ask(nobody, method, path, headers=shown | INSIDE)).status == 200
            assert (await ask(nobody, method, path, headers=shown | OUTSIDE)).status == 401


async def test_neither_token_nor_api_nor_refresh_is_given_elsewhere(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    made = await make_token(client, SCOPE, networks=NETWORKS)
    as_basic = basic("x", made["token"])
    parameters = {"service": "seatrial", "scope": SCOPE, "offline_token": "true"}
    assert "may not be used from" in await refused(
        nobody, "GET", "/token", params=parameters, headers=as_basic | OUTSIDE
    )
    answer = await ask(nobody, "GET", "/token", params=parameters, headers=as_basic | INSIDE)
    form = {
        "grant_type": "password",
        "service": "seatrial",
        "client_id": "c",
        "username": "x",
        "password": made["token"],
    }
    assert (await ask(nobody, "POST", "/token", data=form, headers=INSIDE)).status == 200
    assert "may not be used from" in await refused(nobody, "POST", "/token", data=form, headers=OUTSIDE)
    form = {
        "grant_type": "refresh_token",
        "service": "seatrial",
        "client_id": "c",
        "refresh_token": answer.json["refresh_token"],
    }
    assert (await ask(nobody, "POST", "/token", data=form, headers=INSIDE)).status == 200
    assert "may not be used from" in await refused(nobody, "POST", "/token", data=form, headers=OUTSIDE)
    path = f"/api/v1/tokens/{made['id']}"
    assert (await ask(nobody, "GET", path, headers=bearer(made["token"]) | INSIDE)).status == 200
    assert "may not be used from" in await refused(
        nobody, "GET", path, headers=bearer(made["token"]) | OUTSIDE
    )


async def test_narrower_networks_hold_at_once(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await push_small(client, NAME, "1")
    made = await make_token(client, SCOPE)
    path, shown = f"/v2/{NAME}/manifests/1", bearer(made["token"])
    for where in (INSIDE, OUTSIDE, INSIDE, OUTSIDE):
        assert (await ask(nobody, "GET", path, headers=shown | where)).status == 200
    await api(client, "PATCH", f"/tokens/{made['id']}", json={"networks": NETWORKS})
    assert (await ask(nobody, "GET", path, headers=shown | INSIDE)).status == 200
    assert (await ask(nobody, "GET", path, headers=shown | OUTSIDE)).status == 401


async def test_a_header_that_no_trusted_proxy_sent_says_nothing(tmp_path: Path, database_url: str) -> None:
    running = running_registry(tmp_path / "data", database_url)
    async with running as registry, registry.client() as client, registry.client(anonymous=True) as nobody:
        made = await make_token(client, SCOPE, networks=NETWORKS)
        path = f"/api/v1/tokens/{made['id']}"
        said = await refused(nobody, "GET", path, headers=bearer(made["token"]) | INSIDE)
        assert "may not be used from 127.0.0.1" in said
