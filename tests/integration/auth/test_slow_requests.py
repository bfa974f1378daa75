"""Requests whose sender loses his rights while their body is on its way, or his password is looked at."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import argon2
import bcrypt
import pytest
from sqlalchemy import update

from registry.auth.tokens import create_token
from registry.db.accounts import accounts
from registry.db.engine import Database, move_epoch
from registry.errors import DeniedError, UnauthorizedError
from tests.kit.access import (
    Answer,
    api,
    ask,
    basic,
    bearer,
    give_role,
    make_repository,
    make_user,
    registry_token,
)
from tests.kit.distribution import push_image
from tests.kit.images import digest_of
from tests.kit.server import Registry, running_registry
from tests.kit.trials import tiny_image

TEAM = "/namespaces/team/members"
Meanwhile = Callable[[], Awaitable[object]]


async def send_slowly(
    client: aiohttp.ClientSession, method: str, path: str, body: bytes, meanwhile: Meanwhile, **options: Any
) -> Answer:
    """Send the end of the body after ``meanwhile`` only, which begins when the request was looked at."""

    async def pieces() -> AsyncIterator[bytes]:
        yield body[:-1]
        await asyncio.sleep(0.3)
        await meanwhile()
        yield body[-1:]

    return await ask(client, method, path, data=pieces(), **options)


async def test_an_owner_gives_no_role_with_a_request_from_before_he_lost_his(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    await make_repository(client, "team/app")
    bob = basic("bob", await make_user(client, "bob"))
    await give_role(client, "team/", "user:bob", "owner")

    async def lose() -> None:
        await api(client, "DELETE", f"{TEAM}/user:bob", status=204)

    headers = {**bob, "Content-Type": "application/json"}
    body = json.dumps({"role": "owner"}).encode()
    path = f"/api/v1{TEAM}/user:bob"
    assert (await send_slowly(nobody, "PUT", path, body, lose, headers=headers)).status == 403
    assert (await ask(nobody, "GET", "/v2/team/app/tags/list", headers=bob)).status == 403


@pytest.mark.parametrize("how", ["demoted", "disabled", "revoked"])
async def test_an_administrator_makes_no_other_with_a_request_from_before_he_was_none(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, how: str
) -> None:
    password = await make_user(client, "bob", admin=True)
    headers = {**basic("bob", password), "Content-Type": "application/json"}

    async def lose() -> None:
        if how == "revoked":
            await api(client, "POST", "/users/bob/password", json={"password": "quite another one"})
        else:
            change = {"admin": False} if how == "demoted" else {"disabled": True}
            await api(client, "PATCH", "/users/bob", json=change)

    body = json.dumps({"name": "mallory", "password": "a good long one", "admin": True}).encode()
    answer = await send_slowly(nobody, "POST", "/api/v1/users", body, lose, headers=headers)
    assert answer.status == (403 if how == "demoted" else 401), answer.body
    await api(client, "GET", "/users/mallory", status=404)


@pytest.mark.parametrize("what", ["user", "password"])
@pytest.mark.parametrize("how", ["demoted", "disabled", "revoked"])
async def test_an_administrator_makes_no_password_that_was_hashed_until_he_was_none(
    client: aiohttp.ClientSession,
    nobody: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    how: str,
) -> None:
    bob = basic("bob", await make_user(client, "bob", admin=True))
    carol = await make_user(client, "carol")
    path, body = "/api/v1/users", {"name": "mallory", "password": "a good long one", "admin": True}
    if what == "password":
        path, body = "/api/v1/users/carol/password", {"password": "a good long one"}
    hashing, go_on = threading.Event(), threading.Event()
    hash_of = argon2.PasswordHasher.hash

    def slow(*arguments: Any) -> Any:
        hashing.set()
        go_on.wait(30)
        return hash_of(*arguments)

    assert (await ask(nobody, "GET", "/api/v1/users/bob", headers=bob)).status == 200
    monkeypatch.setattr(argon2.PasswordHasher, "hash", slow)
    sent = asyncio.create_task(ask(nobody, "POST", path, headers=bob, json=body))
    await asyncio.to_thread(hashing.wait, 30)
    if how == "revoked":
        await api(client, "POST", "/tokens/revoke", json={"account": "bob"})
    else:
        change = {"admin": False} if how == "demoted" else {"disabled": True}
        await api(client, "PATCH", "/users/bob", json=change)
    go_on.set()
    answer = await sent
    assert answer.status == (403 if how == "demoted" else 401), answer.body
    await api(client, "GET", "/users/mallory", status=404)
    assert (await ask(nobody, "GET", "/api/v1/users/carol", headers=basic("carol", carol))).status == 200


@pytest.mark.parametrize("path", ["/issuers", "/users", "/htpasswd-imports"])
async def test_no_change_is_made_by_a_right_that_another_replica_took(
    tmp_path: Path, database_url: str, path: str
) -> None:
    """Reads may be as old as is allowed."""
    bodies: dict[str, dict[str, Any]] = {
        "/issuers": {"name": "evil", "url": "https://issuer.example"},
        "/users": {"name": "mallory", "password": "a good long one", "admin": True},
        "/htpasswd-imports": {"htpasswd": "mallory:" + bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()},
    }
    async with (
        running_registry(tmp_path / "data", database_url, cache_staleness_seconds=60) as registry,
        registry.client() as client,
        registry.client(anonymous=True) as nobody,
    ):
        bob = basic("bob", await make_user(client, "bob", admin=True))
        assert (await ask(nobody, "GET", "/api/v1/users", headers=bob)).status == 200
        other = Database(database_url)
        async with other.write() as connection:
            taking = update(accounts).where(accounts.c.name == "bob").values(is_admin=False)
            await connection.execute(taking)
            await move_epoch(connection, "access")
        await other.close()
        answer = await ask(nobody, "POST", f"/api/v1{path}", headers=bob, json=bodies[path])
        assert answer.status == 403, answer.body


@pytest.mark.parametrize("by", ["password", "api token", "registry token"])
async def test_nothing_is_pushed_with_a_request_from_before_the_right_was_lost(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, by: str
) -> None:
    image = tiny_image()
    await push_image(client, "team/app", "one", image)
    password = await make_user(client, "bob")
    headers = basic("bob", password)
    await give_role(client, "team/app", "user:bob", "writer")
    if by != "password":
        scopes = {"name": "ci", "scopes": ["repository:team/app:pull,push"]}
        made = await api(nobody, "POST", "/tokens", status=201, json=scopes, headers=headers)
        headers = bearer(made["token"])
    if by == "registry token":
        asked = "repository:team/app:pull,push"
        headers = bearer(await registry_token(nobody, asked, headers=headers))
    started = await ask(nobody, "POST", "/v2/team/app/blobs/uploads/", headers=headers)
    location = started.headers["Location"]

    async def lose() -> None:
        if by == "password":
            await api(client, "DELETE", "/repositories/team%2Fapp/members/user:bob", status=204)
        else:
            await api(client, "DELETE", f"/tokens/{made['id']}", status=204)

    expected = 403 if by == "password" else 401
    blob = b"what should not come in"
    url = f"{location}{'&' if '?' in location else '?'}digest={digest_of(blob)}"
    types = {"Content-Type": "application/octet-stream"}
    sent = await send_slowly(nobody, "PUT", url, blob, lose, headers={**headers, **types})
    assert sent.status == expected, sent.body
    assert (await ask(client, "HEAD", f"/v2/team/app/blobs/{digest_of(blob)}")).status == 404


async def test_no_tag_moves_with_a_request_from_before_the_right_was_lost(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    image = tiny_image()
    await push_image(client, "team/app", "one", image)
    bob = basic("bob", await make_user(client, "bob"))
    await give_role(client, "team/app", "user:bob", "writer")

    async def lose() -> None:
        await api(client, "DELETE", "/repositories/team%2Fapp/members/user:bob", status=204)

    headers = {**bob, "Content-Type": image.media_type}
    path = "/v2/team/app/manifests/two"
    assert (await send_slowly(nobody, "PUT", path, image.manifest, lose, headers=headers)).status == 403
    assert (await ask(client, "HEAD", path)).status == 404


async def test_no_credential_is_made_for_a_password_that_was_reset_since_it_was_looked_at(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    services = registry.services
    stale = await services.tokens.credentials.from_basic(
        "bob", await make_user(client, "bob"), address="127.0.0.1"
    )
    await api(client, "POST", "/users/bob/password", json={"password": "quite another one"})
    with pytest.raises(UnauthorizedError):
        await services.tokens.refresh_tokens.issue(stale, client="evil")
    with pytest.raises(DeniedError, match="has just ended"):
        await create_token(
            services.database, services.settings, actor=stale, name="evil", scopes=["repository:*:pull"]
        )


@pytest.mark.parametrize("how", ["disabled", "without a role"])
async def test_what_changed_while_a_password_waited_to_be_looked_at_counts(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, how: str
) -> None:
    assert registry.services is not None
    await make_repository(client, "team/app")
    bob = basic("bob", await make_user(client, "bob"))
    await give_role(client, "team/", "user:bob", "owner")
    passwords, go_on = registry.services.tokens.credentials.passwords, threading.Event()
    for _ in range(2):
        passwords._threads.submit(go_on.wait)
    try:
        sent = asyncio.ensure_future(ask(nobody, "DELETE", "/api/v1/repositories/team%2Fapp", headers=bob))
        while not passwords._waiting:  # noqa: ASYNC110  (there is no event of it)
            await asyncio.sleep(0.01)
        if how == "disabled":
            await api(client, "PATCH", "/users/bob", json={"disabled": True})
        else:
            await api(client, "DELETE", f"{TEAM}/user:bob", status=204)
    finally:
        go_on.set()
    answer = await sent
    assert answer.status == (401 if how == "disabled" else 403), answer.body
    await api(client, "GET", "/repositories/team%2Fapp")


@pytest.mark.parametrize("what", ["refresh token", "api token"])
async def test_no_credential_outlives_a_password_that_was_reset_while_it_was_looked_at(
    client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, what: str
) -> None:
    # Half a second of work: what was true when it began need not be true in the end.
    hashed = bcrypt.hashpw(b"hunter2 hunter2", bcrypt.gensalt(13)).decode()
    await api(client, "POST", "/htpasswd-imports", json={"htpasswd": f"bob:{hashed}"})
    old = basic("bob", "hunter2 hunter2")

    async def get_one() -> Answer:
        if what == "refresh token":
            return await ask(nobody, "GET", "/token?offline_token=true&client_id=evil", headers=old)
        body = {"name": "evil", "scopes": ["repository:team/*:pull"]}
        return await ask(nobody, "POST", "/api/v1/tokens", json=body, headers=old)

    async def reset() -> None:
        await asyncio.sleep(0.2)
        await api(client, "POST", "/users/bob/password", json={"password": "quite another one"})

    given, _ = await asyncio.gather(get_one(), reset())
    secret = given.json.get("refresh_token", given.json.get("token", ""))
    if what == "refresh token":
        form = {"grant_type": "refresh_token", "refresh_token": secret}
        used = await ask(nobody, "POST", "/token", data=form)
    else:
        used = await ask(nobody, "GET", "/api/v1/tokens", headers=bearer(secret))
    assert used.status == 401, used.body
