"""``seatrial session``: who is signed in, and who no longer is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp

from tests.integration.cli.test_commands import seatrial
from tests.kit.access import make_user
from tests.kit.server import Registry
from tests.kit.sessions import signed_in


async def test_listed_and_ended(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, tmp_path: Path
) -> None:
    password = await make_user(client, "bob")
    for _ in range(3):
        await signed_in(nobody, "bob", password, User_Agent="Browser/1")
    await signed_in(nobody, "admin", registry.token)
    environment = {"SEATRIAL_SERVER": registry.url, "SEATRIAL_TOKEN": registry.token}

    async def session(*arguments: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(seatrial, "session", *arguments, cwd=tmp_path, env=environment)
        return done.returncode, done.stdout, done.stderr

    everybody = json.loads((await session("list", "--json"))[1])
    assert [item["account"] for item in everybody] == ["bob", "bob", "bob", "admin"]
    table = (await session("list", "--account", "bob"))[1].splitlines()
    assert table[0].split()[:4] == ["ID", "ACCOUNT", "ADDRESS", "CLIENT"]
    assert len(table) == 4
    assert "Browser/1" in table[1]
    first = everybody[0]["id"]
    assert (await session("revoke", first))[:2] == (0, "1 ended\n")
    code, out, error = await session("revoke", first)
    assert (code, out) == (2, "")
    assert f"there is no session '{first}'" in error
    assert json.loads((await session("revoke", "--account", "bob", "--json"))[1]) == {
        "account": "bob",
        "ended": 2,
    }
    for wrong in (("revoke",), ("revoke", first, "--account", "bob")):
        code, out, error = await session(*wrong)
        assert (code, out) == (64, "")
        assert "give the ID of a session, or --account" in error
