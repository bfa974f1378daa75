"""First start: one administrator and one signing key, whoever starts and however often it is interrupted."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import func, select

from registry.auth.apitokens import is_token, new_token
from registry.auth.firststart import ensure_admin
from registry.auth.keyring import open_token_ring
from registry.auth.secretkey import open_secret_key
from registry.db.accounts import accounts, keys, tokens
from registry.db.engine import Database
from registry.settings import SettingsError
from tests.kit.server import RegistryProcess, settings_for

ROOT = Path(__file__).resolve().parents[3]
CRASH = """
import asyncio, os, sys
from pathlib import Path
from registry.auth import firststart
from registry.db.engine import Database
from registry.settings import Settings

async def crash(connection, *names):
    os._exit(9)  # the token is in its file, and the transaction has not committed

firststart.move_epoch = crash
settings = Settings(data=Path(sys.argv[1]), database_url=sys.argv[2])
asyncio.run(firststart.ensure_admin(Database(settings.effective_database_url), settings))
"""


async def test_the_token_is_private_and_made_once(tmp_path: Path, database_url: str) -> None:
    settings = settings_for(tmp_path, database_url)
    database = Database(database_url)
    first = await ensure_admin(database, settings)
    assert first is not None
    text = first.token_file.read_text().strip()
    assert is_token(text)
    assert stat.S_IMODE(first.token_file.stat().st_mode) == 0o600
    first.token_file.unlink()
    assert await ensure_admin(database, settings) is None
    assert not first.token_file.exists()
    await database.close()


async def test_a_crash_before_the_commit_loses_nothing(tmp_path: Path, database_url: str) -> None:
    crashed = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path), database_url], cwd=ROOT, capture_output=True, check=False
    )
    assert crashed.returncode == 9, crashed.stderr
    written = (tmp_path / "admin.token").read_text()
    settings = settings_for(tmp_path, database_url)
    database = Database(database_url)
    async with database.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(accounts))).scalar() == 0
    assert await ensure_admin(database, settings) is not None
    assert (tmp_path / "admin.token").read_text() == written
    await database.close()


async def test_a_token_file_given_beforehand_is_used(tmp_path: Path, database_url: str) -> None:
    given = tmp_path / "given.token"
    given.write_text(new_token())
    database = Database(database_url)
    await ensure_admin(database, settings_for(tmp_path, database_url, admin_token_file=given))
    assert not (tmp_path / "admin.token").exists()
    await database.close()


@pytest.mark.parametrize("content", [b"", b"password", b"\xff\xfe"])
async def test_a_token_file_with_something_else_stops_the_start(
    tmp_path: Path, database_url: str, content: bytes
) -> None:
    (tmp_path / "admin.token").write_bytes(content)
    database = Database(database_url)
    with pytest.raises(SettingsError, match=r"admin\.token exists and holds no API token"):
        await ensure_admin(database, settings_for(tmp_path, database_url))
    async with database.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(accounts))).scalar() == 0
    assert (tmp_path / "admin.token").read_bytes() == content
    await database.close()


async def test_replicas_that_ask_at_once_share_one_key_and_one_administrator(
    tmp_path: Path, database_url: str
) -> None:
    secret_key = open_secret_key(settings_for(tmp_path / "0", database_url))
    databases = [Database(database_url) for _ in range(6)]
    rings = await asyncio.gather(*(open_token_ring(database, secret_key) for database in databases))
    assert len({ring.kid for ring in rings}) == 1
    made = await asyncio.gather(
        *(
            ensure_admin(database, settings_for(tmp_path / str(number), database_url))
            for number, database in enumerate(databases)
        )
    )
    assert len([first for first in made if first is not None]) == 1
    assert len(list(tmp_path.glob("*/admin.token"))) == 1
    async with databases[0].read() as connection:
        for table in (accounts, keys, tokens):
            assert (await connection.execute(select(func.count()).select_from(table))).scalar() == 1
    for database in databases:
        await database.close()


async def test_another_secret_key_does_not_start(tmp_path: Path, database_url: str) -> None:
    database = Database(database_url)
    await open_token_ring(database, open_secret_key(settings_for(tmp_path / "a", database_url)))
    with pytest.raises(SettingsError, match="was not wrapped with this secret key"):
        await open_token_ring(database, open_secret_key(settings_for(tmp_path / "b", database_url)))
    async with database.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(keys))).scalar() == 1
    await database.close()


async def test_servers_that_start_at_once_on_an_empty_database(
    tmp_path: Path, empty_database_url: str
) -> None:
    """Migration, secret key, signing key and administrator: each made once, by real processes."""
    servers = [RegistryProcess(tmp_path / "data", empty_database_url) for _ in range(3)]
    for number, server in enumerate(servers):
        server.log = tmp_path / f"{number}.log"
    try:
        running = await asyncio.gather(*(asyncio.to_thread(server.start) for server in servers))
        assert len({registry.token for registry in running}) == 1
        for registry in running:
            async with registry.client() as client, client.get("/v2/") as response:
                assert response.status == 200
        # Each verifies what any other signed.
        async with aiohttp.ClientSession() as session:
            auth = aiohttp.encode_basic_auth("admin", running[0].token)
            async with session.get(f"{running[0].url}/token", headers={"Authorization": auth}) as response:
                token = (await response.json())["token"]
            for registry in running:
                bearer = {"Authorization": f"Bearer {token}"}
                async with session.get(f"{registry.url}/v2/", headers=bearer) as response:
                    assert response.status == 200
    finally:
        for server in servers:
            server.stop()
    told = sum("First start" in server.log.read_text() for server in servers)
    assert told == 1
