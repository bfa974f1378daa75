"""Guessing passwords, and what no header, query or grant may change about who somebody is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kit.access import ask, basic, bearer, make_repository, make_token, make_user, registry_token
from tests.kit.distribution import error_code, push_small
from tests.kit.server import running_registry

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def test_guessing_is_slowed_down(tmp_path: Path, database_url: str) -> None:
    """A26."""
    given = {"failed_sign_ins": 3, "trusted_proxies": "127.0.0.1"}
    async with (
        running_registry(tmp_path / "data", database_url, **given) as registry,
        registry.client() as client,
        registry.client(anonymous=True) as nobody,
    ):
        password = await make_user(client, "bob")
        there = {"X-Forwarded-For": "192.0.2.1"}
        elsewhere = {"X-Forwarded-For": "192.0.2.2"}
        assert (await ask(nobody, "GET", "/v2/", headers=basic("bob", password) | there)).status == 200
        for name in ("bob", "no-such-name"):
            answers = []
            for i in range(5):
                headers = basic(name, f"a wrong password {i}") | there
                answers.append(await ask(nobody, "GET", "/token", headers=headers))
            assert [answer.status for answer in answers] == [401, 401, 401, 429, 429], name
            assert error_code(answers[-1].body) == "TOOMANYREQUESTS"
            assert 0 < int(answers[-1].headers["Retry-After"]) <= 61
            assert "WWW-Authenticate" not in answers[-1].headers
        form = {
            "grant_type": "password",
            "service": "seatrial",
            "username": "bob",
            "password": "wrong password",
        }
        assert (await ask(nobody, "POST", "/token", data=form, headers=there)).status == 429
        # Who was signed in works on, and so does everybody elsewhere, and every token.
        assert (await ask(nobody, "GET", "/v2/", headers=basic("bob", password) | there)).status == 200
        assert (
            await ask(nobody, "GET", "/v2/", headers=basic("bob", "wrong password") | elsewhere)
        ).status == 401
        assert (await ask(nobody, "GET", "/v2/", headers=basic("bob", registry.token) | there)).status == 200


async def test_guesses_sent_at_once_are_counted(tmp_path: Path, database_url: str) -> None:
    async with (
        running_registry(tmp_path / "data", database_url, failed_sign_ins=3) as registry,
        registry.client() as client,
        registry.client(anonymous=True) as nobody,
    ):
        password = await make_user(client, "bob")

        async def statuses(*passwords: str) -> list[int]:
            asked = (ask(nobody, "GET", "/token", headers=basic("bob", text)) for text in passwords)
            return sorted(answer.status for answer in await asyncio.gather(*asked))

        assert await statuses(*[password] * 20) == [200] * 20
        guesses = [f"a wrong password {number}" for number in range(20)]
        assert await statuses(*guesses) == [401] * 3 + [429] * 17


async def test_nothing_beside_the_credential_says_who_somebody_is(tmp_path: Path, database_url: str) -> None:
    """A1, A15, A24, A28, A29."""
    async with (
        running_registry(tmp_path / "data", database_url) as registry,
        registry.client() as client,
        registry.client(anonymous=True) as nobody,
    ):
        await push_small(client, "hidden", "v1")
        path = "/v2/hidden/manifests/v1"
        plain = await ask(nobody, "GET", path)
        assert plain.status == 401
        token = (await make_token(client, "repository:hidden:pull"))["token"]
        asked = await registry_token(nobody, "repository:hidden:pull", headers=basic("x", token))
        for query in (
            f"access_token={asked}",
            f"token={token}",
            "account=admin",
            "ns=hidden",
            "ns=docker.io",
        ):
            assert (await ask(nobody, "GET", f"{path}?{query}")).look == plain.look, query
        for headers in (
            {"X-Original-URL": "/v2/"},
            {"X-Rewrite-URL": "/healthz"},
            {"X-HTTP-Method-Override": "HEAD"},
            {"X-Forwarded-User": "admin"},
            {"X-Remote-User": "admin"},
            {"Remote-User": "admin"},
            {"X-Forwarded-For": "127.0.0.1"},
            {"X-Forwarded-Host": "evil.example"},
            {"X-Forwarded-Prefix": "/evil"},
            {"Forwarded": "for=127.0.0.1;host=evil.example;proto=https"},
            {"Host": "evil.example"},
            {"Cookie": f"token={token}"},
            {"Origin": "https://evil.example"},
            {"Referer": registry.url},
            {"Proxy-Authorization": bearer(token)["Authorization"]},
        ):
            answer = await ask(nobody, "GET", path, headers=headers)
            assert answer.look == plain.look, headers
            assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
        for headers in ({"Host": "evil.example"}, {"X-Forwarded-Host": "evil.example"}):
            answer = await ask(client, "POST", "/v2/hidden/blobs/uploads/", headers=headers)
            assert answer.headers["Location"].startswith("/v2/hidden/"), "relative: to nobody else's host"
        assert (await ask(nobody, "GET", path, headers=bearer(asked))).status == 200


async def test_services_and_accounts_that_are_not_ours(tmp_path: Path, database_url: str) -> None:
    """A17, A18: scopes beyond counting, other services, another's account."""
    async with (
        running_registry(tmp_path / "data", database_url) as registry,
        registry.client() as client,
        registry.client(anonymous=True) as nobody,
    ):
        await make_repository(client, "a")
        admin = basic("admin", registry.token)
        for parameters, status in (
            ([("service", "other")], 400),
            ([("service", "seatrial"), ("service", "other")], 400),
            ([("service", "seatrial"), ("account", "somebody-else")], 200),
            ([("scope", "repository:a:pull")] * 10_000, 400),
            ([("scope", "repository:a:pull,push,delete,*")], 200),
            ([("scope", "repository:*:pull")], 200),
            ([("scope", "repository:a/*:pull")], 200),
            ([("scope", "repository::pull")], 200),
            ([("scope", "repository(plugin):a:pull")], 200),
            ([("scope", "registry:catalog:*")], 200),
        ):
            query = "&".join(f"{name}={value}" for name, value in parameters)
            answer = await ask(nobody, "GET", f"/token?{query[:30_000]}", headers=admin)
            assert answer.status == status, parameters[:2]
            if status == 200:
                granted = answer.json["scope"].split()
                assert not {scope.split(":")[1] for scope in granted} & {"*", "a/*", ""}, granted
