"""Users who come from an htpasswd file: they sign in with the password they had, and are hashed anew."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import bcrypt
import pytest
from sqlalchemy import select

from registry.db.accounts import accounts
from registry.main import run
from tests.kit.access import api, ask, basic, make_user
from tests.kit.server import Registry

SHORT = "short"
LONG = "x" * 80 + "y"


def line(name: str, password: str, prefix: bytes = b"2b") -> str:
    """As htpasswd -B writes it."""
    hashed = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(rounds=4, prefix=prefix)).decode()
    return f"{name}:{hashed.replace('$2b$', '$2y$') if prefix == b'2b' else hashed}"


async def stored(registry: Registry, name: str) -> str:
    """The hash of an account."""
    assert registry.services is not None
    query = select(accounts.c.password_hash).where(accounts.c.name == name)
    async with registry.services.database.read() as connection:
        return str((await connection.execute(query)).scalar_one())


async def test_an_imported_user_signs_in_and_is_hashed_anew(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    text = "\n".join([line("anna", SHORT), line("bert", LONG, b"2a"), line("carl", "pässwörd")])
    told = await api(client, "POST", "/htpasswd-imports", json={"htpasswd": text})
    assert told == {"users": ["anna", "bert", "carl"], "refused": []}
    for name, password in (("anna", SHORT), ("bert", LONG), ("carl", "pässwörd")):
        assert (await stored(registry, name)).startswith("$2")
        for wrong in (password + "x" if len(password) < 72 else password[:70], "", "\0", password + "\0"):
            answer = await ask(nobody, "GET", "/v2/", headers=basic(name, wrong))
            assert answer.status == 401, wrong
        assert (await ask(nobody, "GET", "/v2/", headers=basic(name, password))).status == 200
        assert (await stored(registry, name)).startswith("$argon2id$")
        assert (await ask(nobody, "GET", "/v2/", headers=basic(name, password))).status == 200
    # bcrypt saw 72 bytes of it; what it is now is all of it.
    assert (await ask(nobody, "GET", "/v2/", headers=basic("bert", LONG[:72]))).status == 401


async def test_who_is_there_stays_as_he_is(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    password = await make_user(client, "anna")
    text = "\n".join([line("anna", "another password"), line("admin", SHORT), "bert:{SHA}x"])
    told = await api(client, "POST", "/htpasswd-imports", json={"htpasswd": text})
    assert told["users"] == []
    assert [each["line"] for each in told["refused"]] == [1, 2, 3]
    assert (await ask(nobody, "GET", "/v2/", headers=basic("anna", password))).status == 200
    assert (await ask(nobody, "GET", "/v2/", headers=basic("admin", SHORT))).status == 401
    headers = basic("anna", password)
    refused = await ask(nobody, "POST", "/api/v1/htpasswd-imports", json={"htpasswd": text}, headers=headers)
    assert refused.status == 403


async def test_the_command_lists_what_it_could_not_take(
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SEATRIAL_SERVER", registry.url)
    monkeypatch.setenv("SEATRIAL_TOKEN", registry.token)
    hashed = line("x", SHORT).partition(":")[2]
    path = tmp_path / "htpasswd"
    path.write_text("".join(f"user{number}:{hashed}\n" for number in range(600)) + "Anna:x\n")
    arguments = ["user", "import", "--htpasswd", str(path), "--json"]
    assert await asyncio.to_thread(run, arguments) == 1
    told = json.loads(capsys.readouterr().out)
    assert len(told["users"]) == 600
    assert [(each["line"], each["name"]) for each in told["refused"]] == [(601, "Anna")]
