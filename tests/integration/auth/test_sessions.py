"""Cookie sessions: begun, used, listed, ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import aiohttp
import argon2
import pytest
from sqlalchemy import func, insert, select, text, update

from registry.auth import uses
from registry.auth.apitokens import new_token, token_hash
from registry.auth.sessions import MAX_PER_ACCOUNT, sweep_expired
from registry.db.accounts import accounts, tokens
from registry.db.engine import Database, move_epoch
from registry.db.sessions import sessions
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
)
from tests.kit.server import Registry, RegistryProcess, running_registry, running_replicas
from tests.kit.sessions import COOKIE, OWN_PAGE, cookie_of, sign_in, signed_in

PASSWORD = "a password for tests"


def database_of(registry: Registry) -> Database:
    """The database beside the server."""
    assert registry.services is not None
    return registry.services.database


async def execute(registry: Registry, *statements: str) -> None:
    """Change rows as another replica would."""
    async with database_of(registry).write() as connection:
        for statement in statements:
            await connection.execute(text(statement))
        await move_epoch(connection, "access")


async def status_with(nobody: aiohttp.ClientSession, headers: Mapping[str, str]) -> int:
    """What somebody with these headers is answered."""
    return (await ask(nobody, "GET", "/api/v1/sessions", headers=headers)).status


async def make_full_token(registry: Registry, account: str) -> tuple[str, str]:
    """An API token that may do all that its account may, as first start makes one; id and secret."""
    secret = new_token()
    owner = select(accounts.c.id).where(accounts.c.name == account).scalar_subquery()
    made = insert(tokens).values(
        id=f"full-{account}",
        account_id=owner,
        name="full",
        secret_hash=token_hash(secret),
        created_at=db_time(),
    )
    async with database_of(registry).write() as connection:
        await connection.execute(made)
    return f"full-{account}", secret


async def test_a_session_acts_as_its_account(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, "team/private")
    password = await make_user(client, "bob")
    answer = await sign_in(nobody, "bob", password)
    assert answer.status == 201
    assert answer.json["account"] == "bob"
    assert answer.headers["Cache-Control"] == "no-store"
    (cookie,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert (cookie.key, cookie["path"], cookie["samesite"], cookie["domain"]) == (COOKIE, "/", "Lax", "")
    assert cookie["httponly"]
    assert not cookie["secure"]
    assert cookie.value not in answer.body.decode()
    bob = OWN_PAGE | {"Cookie": f"{COOKIE}={cookie.value}"}
    assert [item["name"] for item in (await api(nobody, "GET", "/repositories", headers=bob))["items"]] == []
    assert (await ask(nobody, "GET", "/api/v1/users", headers=bob)).status == 403
    admin = await signed_in(nobody, "admin", registry.token)
    seen = await api(nobody, "GET", "/repositories", headers=admin)
    assert [item["name"] for item in seen["items"]] == ["team/private"]
    made = await api(
        nobody, "POST", "/tokens", status=201, headers=bob,
        json={"name": "x", "scopes": ["repository:x:pull"]},
    )  # fmt: skip
    assert made["account"] == "bob"


async def test_signing_out_ends_it_on_every_replica_at_once(tmp_path: Path, database_url: str) -> None:
    async with (
        running_replicas(tmp_path, database_url, 2) as (one, two),
        one.client() as client,
        one.client(anonymous=True) as here,
        two.client(anonymous=True) as there,
    ):
        bob = await signed_in(here, "bob", await make_user(client, "bob"))
        for browser in (here, there):
            assert len((await api(browser, "GET", "/sessions", headers=bob))["items"]) == 1
        answer = await ask(here, "DELETE", "/api/v1/sessions/current", headers=bob)
        assert answer.status == 204
        cleared = SimpleCookie(answer.headers["Set-Cookie"])[COOKIE]
        assert (cleared.value, cleared["max-age"]) == ("", "0")
        for browser in (there, here):
            assert (await ask(browser, "GET", "/api/v1/sessions", headers=bob)).status == 401
            assert (await ask(browser, "GET", "/api/v1/repositories", headers=bob)).status == 401
        assert (await ask(here, "DELETE", "/api/v1/sessions/current", headers=bob)).status == 204
        assert (await ask(here, "DELETE", "/api/v1/sessions/current", headers=OWN_PAGE)).status == 401


async def test_a_cookie_is_made_anew_at_each_sign_in(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    """Whoever plants a cookie, or knows that of before, knows nothing."""
    password = await make_user(client, "bob")
    planted = "A" * 43
    first = await signed_in(nobody, "bob", password, Cookie=f"{COOKIE}={planted}")
    assert planted not in first["Cookie"]
    assert await status_with(nobody, OWN_PAGE | {"Cookie": f"{COOKIE}={planted}"}) == 401
    second = await signed_in(nobody, "bob", password, Cookie=first["Cookie"])
    assert second != first
    assert await status_with(nobody, first) == 401
    assert await status_with(nobody, second) == 200
    for cookie in (f"{COOKIE}=", f"{COOKIE}=x", f"{COOKIE}={'é' * 43}", f"{COOKIE}={'B' * 10_000}"):
        assert await status_with(nobody, OWN_PAGE | {"Cookie": cookie}) == 401
    own = second["Cookie"]
    for cookie, status in (
        (f"{own}; {own}", 401),
        (f"{COOKIE}={planted}; {own}", 401),
        (f"other=1; {own}; more=2", 200),
        (own.replace(COOKIE, f"__Host-{COOKIE}"), 401),
        ("", 401),
    ):
        assert await status_with(nobody, OWN_PAGE | {"Cookie": cookie}) == status, cookie


async def test_over_https_it_is_for_this_host_alone(tmp_path: Path, database_url: str) -> None:
    name = f"__Host-{COOKIE}"
    async with (
        running_registry(tmp_path / "data", database_url, tls="self-signed") as registry,
        registry.client(anonymous=True) as nobody,
    ):
        answer = await sign_in(nobody, "admin", registry.token)
        cookie = SimpleCookie(answer.headers["Set-Cookie"])[name]
        assert cookie["secure"]
        assert cookie["httponly"]
        assert (cookie["path"], cookie["domain"]) == ("/", "")
        assert await status_with(nobody, OWN_PAGE | {"Cookie": f"{name}={cookie.value}"}) == 200
        assert await status_with(nobody, OWN_PAGE | {"Cookie": f"{COOKIE}={cookie.value}"}) == 401


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_behind_a_proxy_that_ends_tls_too(tmp_path: Path, database_url: str) -> None:
    given = {"external_url": "https://registry.example"}
    async with (
        running_registry(tmp_path / "data", database_url, **given) as registry,
        registry.client(anonymous=True) as nobody,
    ):
        answer = await sign_in(nobody, "admin", registry.token)
        assert SimpleCookie(answer.headers["Set-Cookie"])[f"__Host-{COOKIE}"]["secure"]


async def test_who_has_no_session(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    password = await make_user(client, "bob")
    limited = (await make_token(client, "admin", "repository:*:pull,push,delete"))["token"]
    worker = await make_worker_token(client, "w")
    await make_user(client, "bot")
    _, robot = await make_full_token(registry, "bot")
    await execute(registry, "UPDATE accounts SET kind = 'robot', password_hash = NULL WHERE name = 'bot'")
    for name, secret, status in (
        ("admin", limited, 403),
        ("w", worker, 403),
        ("bot", robot, 403),
        ("bob", "a wrong password", 401),
        ("bob", "", 401),
        ("nobody", password, 401),
        ("b\u00f6b", password, 401),
    ):
        answer = await sign_in(nobody, name, secret)
        assert (answer.status, "Set-Cookie" in answer.headers) == (status, False), name
    for body in (
        {},
        {"name": "bob"},
        {"name": "bob", "password": password, "more": 1},
        {"name": 1, "password": 2},
    ):
        answer = await ask(nobody, "POST", "/api/v1/sessions", json=body, headers=OWN_PAGE)
        assert answer.status == 400
        assert password not in answer.body.decode()
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data"):
        # What another site's form can send.
        data = f'{{"name": "bob", "password": "{password}"}}'
        answer = await ask(nobody, "POST", "/api/v1/sessions", data=data, headers={"Content-Type": kind})
        assert (answer.status, "Set-Cookie" in answer.headers) == (415, False)


async def test_only_the_api_takes_a_cookie(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, "team/private")
    admin = await signed_in(nobody, "admin", registry.token)
    assert (await ask(nobody, "GET", "/api/v1/workers", headers=admin)).status == 200
    for method, path in (
        ("GET", "/v2/"),
        ("GET", "/v2/_catalog"),
        ("GET", "/v2/team/private/tags/list"),
        ("HEAD", "/v2/team/private/manifests/1"),
        ("POST", "/v2/team/private/blobs/uploads/"),
        ("DELETE", "/v2/team/private/manifests/1"),
        ("POST", "/worker/v1/jobs"),
    ):
        plain, with_cookie = [await ask(nobody, method, path, headers=headers) for headers in ({}, admin)]
        assert plain.status in (401, 404)
        assert with_cookie.look == plain.look, path
    token = await ask(nobody, "GET", "/token?scope=repository:team/private:pull", headers=admin)
    assert token.json["scope"] == ""
    # Authorization counts where there is one, right or wrong.
    bob = basic("bob", await make_user(client, "bob"))
    assert (await ask(nobody, "GET", "/api/v1/workers", headers=admin | bob)).status == 403
    assert (await ask(nobody, "GET", "/api/v1/workers", headers=admin | bearer("x"))).status == 401


async def test_who_sees_and_ends_which(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    bob_password, eve_password = await make_user(client, "bob"), await make_user(client, "eve")
    bob = await signed_in(nobody, "bob", bob_password, User_Agent="Browser/1")
    bobs_phone = await signed_in(nobody, "bob", bob_password, User_Agent="Phone/2")
    eve = await signed_in(nobody, "eve", eve_password)
    admin = await signed_in(nobody, "admin", registry.token)

    async def listed(headers: Mapping[str, str], query: str = "") -> list[Any]:
        return list((await api(nobody, "GET", f"/sessions{query}", headers=headers))["items"])

    mine = await listed(bob)
    assert [(item["account"], item["client"], item["current"]) for item in mine] == [
        ("bob", "Browser/1", True),
        ("bob", "Phone/2", False),
    ]
    assert mine[0]["address"] == "127.0.0.1"
    assert mine == await listed(bob, "?account=bob")
    assert {item["account"] for item in await listed(admin)} == {"admin", "bob", "eve"}
    assert [item["id"] for item in await listed(admin, "?account=bob")] == [item["id"] for item in mine]
    first = await api(nobody, "GET", "/sessions?limit=3", headers=admin)
    rest = await api(nobody, "GET", f"/sessions?limit=3&cursor={first['next']}", headers=admin)
    assert [item["account"] for item in first["items"] + rest["items"]] == ["bob", "bob", "eve", "admin"]
    assert rest["next"] is None
    secrets = [headers["Cookie"].partition("=")[2] for headers in (bob, bobs_phone, eve, admin)]
    assert not [secret for secret in secrets if secret in str(first) + str(rest)]

    assert (await ask(nobody, "GET", "/api/v1/sessions?account=eve", headers=bob)).status == 403
    assert (await ask(nobody, "GET", "/api/v1/sessions", headers={})).status == 401
    limited = bearer((await make_token(client, "repository:*:pull"))["token"])
    assert (await ask(nobody, "GET", "/api/v1/sessions", headers=limited)).status == 403
    (eves,) = await listed(eve)
    for who, path, status in (
        (bob, f"/sessions/{eves['id']}", 404),
        (bob, "/sessions/none", 404),
        (bob, "/sessions?account=eve", 403),
        (bob, "/sessions", 400),
        (limited, f"/sessions/{eves['id']}", 403),
        (admin, "/sessions?account=none", 404),
    ):
        assert (await ask(nobody, "DELETE", f"/api/v1{path}", headers=who)).status == status, path
    assert await status_with(nobody, eve) == 200
    await api(nobody, "DELETE", f"/sessions/{mine[1]['id']}", headers=bob, status=204)
    assert (await status_with(nobody, bobs_phone), await status_with(nobody, bob)) == (401, 200)
    await api(nobody, "DELETE", f"/sessions/{eves['id']}", headers=admin, status=204)
    assert await status_with(nobody, eve) == 401
    assert await api(nobody, "DELETE", "/sessions?account=bob", headers=admin) == {"ended": 1}
    assert await status_with(nobody, bob) == 401
    async with database_of(registry).read() as connection:
        trail = await connection.execute(
            text("SELECT kind, actor, client FROM events WHERE kind LIKE 'session.%' ORDER BY id")
        )
        assert [tuple(row) for row in trail][:2] == [
            ("session.started", "bob", "Browser/1"),
            ("session.started", "bob", "Phone/2"),
        ]
        ended = await connection.scalar(text("SELECT count(*) FROM events WHERE kind = 'session.ended'"))
        assert ended == 3


async def test_what_ends_a_session(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    names = ("disabled", "deleted", "changed", "reset", "revoked", "expired", "stays")
    password = {name: await make_user(client, name) for name in names}
    cookies = {name: await signed_in(nobody, name, password[name]) for name in names}
    token_id, full = await make_full_token(registry, "stays")
    by_token = await signed_in(nobody, "whoever", full)
    for headers in (*cookies.values(), by_token):
        assert await status_with(nobody, headers) == 200
    await api(client, "PATCH", "/users/disabled", json={"disabled": True})
    assert await status_with(nobody, cookies["disabled"]) == 401
    await api(client, "PATCH", "/users/disabled", json={"disabled": False})
    assert await status_with(nobody, cookies["disabled"]) == 401, "who is let in again signs in again"
    await signed_in(nobody, "disabled", password["disabled"])
    changed = {"old_password": password["changed"], "password": PASSWORD}
    await api(nobody, "POST", "/users/changed/password", headers=cookies["changed"], json=changed)
    assert await status_with(nobody, cookies["changed"]) == 401
    await api(client, "POST", "/users/reset/password", json={})
    assert await status_with(nobody, cookies["reset"]) == 401
    await api(client, "DELETE", "/users/deleted", status=204)
    assert await status_with(nobody, cookies["deleted"]) == 401
    async with database_of(registry).write() as connection:
        await connection.execute(
            update(accounts).where(accounts.c.name == "revoked").values(credentials_after=db_time())
        )
        await move_epoch(connection, "access")
    assert await status_with(nobody, cookies["revoked"]) == 401
    await signed_in(nobody, "revoked", password["revoked"])
    owner = "(SELECT id FROM accounts WHERE name = 'expired')"
    await execute(registry, f"UPDATE sessions SET expires_at = 1 WHERE account_id = {owner}")
    assert await status_with(nobody, cookies["expired"]) == 401
    await api(client, "DELETE", f"/tokens/{token_id}", status=204)
    assert await status_with(nobody, by_token) == 401
    assert await status_with(nobody, cookies["stays"]) == 200
    assert await sweep_expired(database_of(registry)) == 1


async def test_a_session_is_bound_to_the_networks_of_its_token(tmp_path: Path, database_url: str) -> None:
    async with (
        running_registry(tmp_path / "data", database_url, trusted_proxies="127.0.0.1") as registry,
        registry.client(anonymous=True) as nobody,
    ):
        token_id, full = await make_full_token(registry, "admin")
        await execute(registry, f"UPDATE tokens SET networks = '[\"192.0.2.0/24\"]' WHERE id = '{token_id}'")
        here, elsewhere = {"X-Forwarded-For": "192.0.2.7"}, {"X-Forwarded-For": "198.51.100.1"}
        assert (await sign_in(nobody, "admin", full, **elsewhere)).status == 401
        admin = await signed_in(nobody, "admin", full, **here)
        for _ in range(2):
            assert await status_with(nobody, admin | here) == 200
            assert await status_with(nobody, admin | elsewhere) == 401


async def test_a_password_that_changes_while_it_is_looked_at(
    registry: Registry,
    client: aiohttp.ClientSession,
    nobody: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    password = await make_user(client, "bob")
    looked, changed = threading.Event(), threading.Event()
    verify = argon2.PasswordHasher.verify

    def slow(*arguments: Any) -> Any:
        found = verify(*arguments)
        looked.set()
        changed.wait(30)
        return found

    monkeypatch.setattr(argon2.PasswordHasher, "verify", slow)
    signing_in = asyncio.create_task(sign_in(nobody, "bob", password))
    await asyncio.to_thread(looked.wait, 30)
    await api(client, "POST", "/users/bob/password", json={"password": PASSWORD})
    changed.set()
    answer = await signing_in
    assert (answer.status, "Set-Cookie" in answer.headers) == (401, False)
    async with database_of(registry).read() as connection:
        assert await connection.scalar(select(func.count()).select_from(sessions)) == 0


async def test_use_puts_the_end_off_but_not_for_ever(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uses, "FLUSH_SECONDS", 0)
    monkeypatch.setattr(uses, "NOTED_SECONDS", -1)
    given = {"session_idle_seconds": 600, "session_max_seconds": 3600}
    async with (
        running_registry(tmp_path / "data", database_url, **given) as registry,
        registry.client(anonymous=True) as nobody,
    ):
        admin = await signed_in(nobody, "admin", registry.token)
        row = select(sessions.c.created_at, sessions.c.last_used_at, sessions.c.expires_at, sessions.c.client)

        async def used(before: Any) -> Any:
            """The row, once a use was written."""
            while True:
                await ask(nobody, "GET", "/api/v1/sessions", headers=admin | {"User-Agent": "Later/3"})
                async with database_of(registry).read() as connection:
                    now = (await connection.execute(row)).one()
                if now.last_used_at > before.last_used_at:
                    return now

        async with database_of(registry).read() as connection:
            first = (await connection.execute(row)).one()
        assert (first.expires_at - first.created_at).total_seconds() == pytest.approx(600, abs=1)
        second = await used(first)
        assert second.client == "Later/3"
        assert (second.expires_at - second.last_used_at).total_seconds() == pytest.approx(600, abs=1)
        assert registry.services is not None
        await registry.services.sessions.close()  # what was noted by now is written
        await execute(registry, "UPDATE sessions SET created_at = created_at - 3300000000")
        async with database_of(registry).read() as connection:
            second = (await connection.execute(row)).one()
        third = await used(second)
        assert (third.expires_at - third.created_at).total_seconds() == 3600


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_uses_are_written_seldom(
    registry: Registry, nobody: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uses, "FLUSH_SECONDS", 0)
    admin = await signed_in(nobody, "admin", registry.token)
    await execute(
        registry,
        "CREATE TABLE writes (n INTEGER)",
        "CREATE TRIGGER written AFTER UPDATE ON sessions BEGIN INSERT INTO writes VALUES (1); END",
    )
    for _ in range(20):
        assert await status_with(nobody, admin) == 200
    assert registry.services is not None
    await registry.services.sessions.close()
    async with database_of(registry).read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM writes")) == 1


async def test_an_account_has_so_many(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.auth.sessions.MAX_PER_ACCOUNT", 3)
    assert MAX_PER_ACCOUNT > 3
    password = await make_user(client, "bob")
    made = [await signed_in(nobody, "bob", password) for _ in range(5)]
    assert [await status_with(nobody, headers) for headers in made] == [401, 401, 200, 200, 200]


async def test_no_cookie_is_in_logs_rows_or_answers(tmp_path: Path, database_url: str) -> None:
    process = RegistryProcess(tmp_path / "data", database_url, log_level="debug")
    registry = process.start()
    try:
        async with registry.client() as client, registry.client(anonymous=True) as nobody:
            password = await make_user(client, "bob", password="a-canary-of-a-password")
            answer = await sign_in(nobody, "bob", password)
            canary = cookie_of(answer)
            bob = OWN_PAGE | {"Cookie": f"{COOKIE}={canary}"}
            heard = [answer.body]
            for method, path in (
                ("GET", "/api/v1/sessions"),
                ("GET", "/api/v1/workers"),
                ("GET", "/api/v1/nothing"),
                ("GET", "/api/v1/repositories/UPPER"),
                ("POST", "/api/v1/sessions"),
                ("POST", "/api/v1/tokens"),
                ("GET", "/v2/"),
                ("GET", "/metrics"),
                ("DELETE", "/api/v1/sessions/current"),
                ("GET", "/api/v1/sessions"),
            ):
                answer = await ask(nobody, method, path, headers=bob)
                heard += [answer.body, str(answer.headers).encode()]
            await sign_in(nobody, "bob", password + "-that-is-wrong", Cookie=bob["Cookie"])
        database = Database(database_url)
        async with database.read() as connection:
            for table in ("sessions", "events", "sign_in_failures", "sign_in_places"):
                heard += [
                    str(tuple(row)).encode()
                    for row in await connection.execute(text(f"SELECT * FROM {table}"))
                ]
        await database.close()
    finally:
        process.stop()
    heard.append(process.log.read_bytes())
    assert b'"path": "/api/v1/sessions"' in heard[-1]
    for canary_text in (canary, password):
        assert not [text for text in heard if canary_text.encode() in text]
