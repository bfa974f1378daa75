"""Passwords: hashed anew where hashes have got better, and void at once when another is set."""

from __future__ import annotations

import aiohttp
import argon2
import pytest
from sqlalchemy import select, update

from registry.auth.passwords import Passwords
from registry.auth.userpasswords import reset_on_host
from registry.db.accounts import accounts
from registry.db.engine import move_epoch
from tests.kit.access import ask, basic, bearer, make_repository, make_user, registry_token
from tests.kit.server import Registry

PASSWORD = "a password of his"
OLDER = argon2.PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1)


@pytest.fixture(autouse=True)
def passwords_take_no_time() -> None:
    """They take what they take."""


async def stored_hash(registry: Registry) -> str:
    """What the database holds of bob's password."""
    assert registry.services is not None
    async with registry.services.database.read() as connection:
        found = await connection.execute(select(accounts.c.password_hash).where(accounts.c.name == "bob"))
        return str(found.scalar_one())


async def store_older_hash(registry: Registry) -> str:
    """Let bob have a hash as it was once made."""
    assert registry.services is not None
    older = OLDER.hash(PASSWORD)
    async with registry.services.database.write() as connection:
        await connection.execute(update(accounts).where(accounts.c.name == "bob").values(password_hash=older))
        await move_epoch(connection, "access")
    return older


async def test_a_hash_of_before_is_made_anew_at_sign_in(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    await make_user(client, "bob", password=PASSWORD)
    made = await stored_hash(registry)
    right, wrong = basic("bob", PASSWORD), basic("bob", "not the password")
    assert (await ask(nobody, "GET", "/v2/", headers=right)).status == 200
    assert await stored_hash(registry) == made
    older = await store_older_hash(registry)
    assert (await ask(nobody, "GET", "/v2/", headers=wrong)).status == 401
    assert await stored_hash(registry) == older
    for _ in range(2):
        assert (await ask(nobody, "GET", "/v2/", headers=right)).status == 200
    renewed = await stored_hash(registry)
    assert renewed not in (made, older)
    assert argon2.extract_parameters(renewed) == argon2.extract_parameters(made)
    older = await store_older_hash(registry)
    signing_in = {"name": "bob", "password": PASSWORD}
    assert (await ask(nobody, "POST", "/api/v1/sessions", json=signing_in)).status == 201
    assert argon2.extract_parameters(await stored_hash(registry)) == argon2.extract_parameters(made)


async def test_a_registry_token_of_before_a_reset_opens_nothing(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    await make_user(client, "bob", password=PASSWORD)
    await make_repository(client, "team/app", visibility="internal")
    scope = "repository:team/app:pull"

    async def opens(token: str) -> int:
        return (await ask(nobody, "GET", "/v2/team/app/tags/list", headers=bearer(token))).status

    before = await registry_token(nobody, scope, headers=basic("bob", PASSWORD))
    assert await opens(before) == 200
    passwords = Passwords()
    for number in range(2):
        renewed = f"{PASSWORD} {number}"
        await reset_on_host(
            registry.services.database, passwords, name="bob", password=renewed, keep_tokens=True, file=None
        )
        assert await opens(before) == 401
        # Made within the second of the reset.
        before = await registry_token(nobody, scope, headers=basic("bob", renewed))
        assert await opens(before) == 200
    passwords.close()
