"""Idempotency keys: what is sent twice happens once, and is answered as the first time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import aiohttp
from sqlalchemy import func, select, update

from registry.auth.idempotency import MAX_PER_ACCOUNT, sweep_expired
from registry.db.accounts import accounts, tokens
from registry.db.idempotency import idempotency_keys
from registry.db.types import db_time
from tests.kit.access import (
    Answer,
    api,
    ask,
    basic,
    bearer,
    make_repository,
    make_token,
    make_user,
    make_worker_token,
)
from tests.kit.server import Registry


def keyed() -> dict[str, str]:
    """A key of its own."""
    return {"Idempotency-Key": str(uuid4())}


async def make(client: aiohttp.ClientSession, name: str, headers: dict[str, str]) -> Answer:
    return await ask(client, "POST", "/api/v1/repositories", json={"name": name}, headers=headers)


async def test_a_repeated_request_gets_the_first_answer(client: aiohttp.ClientSession) -> None:
    headers = keyed()
    first = await make(client, "team/app", headers)
    assert first.status == 201
    assert "Idempotent-Replayed" not in first.headers
    await api(client, "PATCH", "/repositories/team%2Fapp", json={"visibility": "public"})
    again = await make(client, "team/app", headers)
    assert (again.status, again.body) == (201, first.body)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert (await make(client, "team/app", keyed())).status == 409


async def test_an_answer_without_content_is_repeated_too(client: aiohttp.ClientSession) -> None:
    await make_worker_token(client, "w1")
    headers = keyed()
    for replayed in (None, "true"):
        answer = await ask(client, "POST", "/api/v1/workers/w1/revoke", headers=headers)
        assert (answer.status, answer.headers.get("Idempotent-Replayed")) == (204, replayed)


async def test_a_key_stands_for_one_request(client: aiohttp.ClientSession) -> None:
    headers = keyed()
    await make(client, "one", headers)
    for path, body in (("/repositories", {"name": "two"}), ("/users", {"name": "one"})):
        answer = await ask(client, "POST", f"/api/v1{path}", json=body, headers=headers)
        assert (answer.status, answer.json["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    listed = await api(client, "GET", "/repositories")
    assert [item["name"] for item in listed["items"]] == ["one"]


async def test_what_failed_is_tried_anew(client: aiohttp.ClientSession) -> None:
    headers = keyed()
    await make_repository(client, "one")
    assert (await make(client, "one", headers)).status == 409
    await api(client, "DELETE", "/repositories/one", status=204)
    assert (await make(client, "one", headers)).status == 201


async def test_a_secret_is_told_once_and_kept_nowhere(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    for path, body, secret in (
        ("/tokens", {"name": "ci", "scopes": ["repository:a:pull"]}, "token"),
        ("/users", {"name": "bob"}, "password"),
    ):
        headers = keyed()
        made = await api(client, "POST", path, status=201, json=body, headers=headers)
        again = await ask(client, "POST", f"/api/v1{path}", json=body, headers=headers)
        assert (again.status, again.json["code"]) == (409, "CONFLICT")
        assert again.json["data"] == {name: value for name, value in made.items() if name != secret}
        assert made[secret] not in again.body.decode()
        assert made[secret] not in str(await _rows(registry))
    assert len((await api(client, "GET", "/tokens"))["items"]) == 2
    chosen = {"name": "eve", "password": "a password of hers"}
    headers = keyed()
    for _ in range(2):
        await api(client, "POST", "/users", status=201, json=chosen, headers=headers)
    assert chosen["password"] not in str(await _rows(registry))


async def test_a_lost_answer_is_said_and_nothing_is_done_twice(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    """As after a kill between the transaction and its answer."""
    headers = keyed()
    body = {"name": "ci", "scopes": ["repository:a:pull"]}
    await api(client, "POST", "/tokens", status=201, json=body, headers=headers)
    await _update(registry, status=None, answer=None)
    answer = await ask(client, "POST", "/api/v1/tokens", json=body, headers=headers)
    assert (answer.status, answer.headers["Retry-After"]) == (409, "1")
    assert "carried out before" in answer.json["detail"]
    assert len((await api(client, "GET", "/tokens"))["items"]) == 2


async def test_of_many_at_once_one_wins(registry: Registry, client: aiohttp.ClientSession) -> None:
    headers = keyed()
    body = {"name": "ci", "scopes": ["repository:a:pull"]}
    answers = await asyncio.gather(
        *(ask(client, "POST", "/api/v1/tokens", json=body, headers=headers) for _ in range(8))
    )
    assert sorted(answer.status for answer in answers) == [201] + [409] * 7
    assert await _count(registry, tokens) == 2  # and that of the first start
    assert len(await _rows(registry)) == 1
    made = await asyncio.gather(*(make(client, "team/app", headers | keyed()) for _ in range(4)))
    assert sorted(answer.status for answer in made) == [201] + [409] * 3
    key = keyed()
    same = await asyncio.gather(*(make(client, "team/other", key) for _ in range(4)))
    assert {answer.status for answer in same} <= {201, 409}
    assert [answer.headers.get("Idempotent-Replayed") for answer in same if answer.status == 201].count(
        None
    ) == 1


async def test_a_key_is_its_credential_s_own(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    password = await make_user(client, "bob")
    headers = keyed()
    body = {"name": "mine", "scopes": ["repository:a:pull"]}
    await api(nobody, "POST", "/tokens", status=201, json=body, headers=headers | basic("bob", password))
    await api(client, "POST", "/tokens", status=201, json=body, headers=headers)
    limited = await make_token(client, "repository:b:pull")
    as_limited = headers | bearer(limited["token"])
    await api(nobody, "POST", "/tokens", status=403, json=body, headers=as_limited)
    wrong = headers | bearer("seatrial_x")
    await api(nobody, "POST", "/tokens", status=401, json=body, headers=wrong)


async def test_a_right_that_was_lost_opens_no_old_answer(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    password = await make_user(client, "eve", admin=True)
    headers = keyed() | basic("eve", password)
    assert (await make(nobody, "team/app", headers)).status == 201
    database = registry.services.database if registry.services else None
    assert database is not None
    async with database.write() as connection:
        await connection.execute(update(accounts).where(accounts.c.name == "eve").values(is_admin=False))
    await api(client, "POST", "/users", status=201, json={"name": "moves-the-epoch"})
    await api(client, "PATCH", "/users/moves-the-epoch", json={"disabled": True})
    answer = await make(nobody, "team/app", headers)
    assert (answer.status, "team/app" in answer.body.decode()) == (409, False)


async def test_keys_that_are_none(client: aiohttp.ClientSession, nobody: aiohttp.ClientSession) -> None:
    for key in ("short", "x" * 129, "", "ä" * 20):
        answer = await make(client, "a", {"Idempotency-Key": key})
        assert (answer.status, "printable" in answer.json["detail"]) == (400, True), key
    body = {"name": "admin", "password": "wrong password"}
    assert (await ask(nobody, "POST", "/api/v1/sessions", json=body, headers=keyed())).status == 400
    assert (await api(client, "GET", "/repositories"))["items"] == []


async def test_a_key_is_forgotten_after_a_day(registry: Registry, client: aiohttp.ClientSession) -> None:
    headers = keyed()
    await make(client, "one", headers)
    await _age(registry, 23)
    assert (await make(client, "one", headers)).headers["Idempotent-Replayed"] == "true"
    await _age(registry, 25)
    assert (await make(client, "one", headers)).status == 409
    await api(client, "DELETE", "/repositories/one", status=204)
    assert (await make(client, "one", headers)).status == 201
    assert registry.services is not None
    await sweep_expired(registry.services.database)
    assert len(await _rows(registry)) == 1
    await _age(registry, 25)
    await sweep_expired(registry.services.database)
    assert await _rows(registry) == []


async def test_an_account_has_so_many_keys_and_no_more(
    registry: Registry, client: aiohttp.ClientSession
) -> None:
    headers = keyed()
    await make(client, "one", headers)
    assert registry.services is not None
    (row,) = await _rows(registry)
    more = [dict(row) | {"key_hash": str(number)} for number in range(MAX_PER_ACCOUNT - 1)]
    async with registry.services.database.write() as connection:
        for start in range(0, len(more), 1000):
            await connection.execute(idempotency_keys.insert(), more[start : start + 1000])
    refused = await make(client, "two", keyed())
    assert (refused.status, refused.headers["Retry-After"]) == (429, "3600")
    assert (await make(client, "one", headers)).status == 201
    assert (await make(client, "two", {})).status == 201


async def _rows(registry: Registry) -> list[dict[str, object]]:
    assert registry.services is not None
    async with registry.services.database.read() as connection:
        return [dict(row._mapping) for row in await connection.execute(select(idempotency_keys))]


async def _count(registry: Registry, table: object) -> int:
    assert registry.services is not None
    async with registry.services.database.read() as connection:
        return int(await connection.scalar(select(func.count()).select_from(table)) or 0)  # type: ignore[arg-type]


async def _update(registry: Registry, **values: object) -> None:
    assert registry.services is not None
    async with registry.services.database.write() as connection:
        await connection.execute(update(idempotency_keys).values(values))


async def _age(registry: Registry, hours: int) -> None:
    await _update(registry, created_at=db_time(timedelta(hours=-hours)))
