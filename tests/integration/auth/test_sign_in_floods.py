"""Strangers who make the registry ask an issuer, again and again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from registry.auth.oidc.turns import MAX_OF_A_SITE
from registry.net.guarded import GuardedClient
from tests.kit.access import ask
from tests.kit.issuer import CLIENT_ID, LOOPBACK, running_issuer
from tests.kit.server import running_registry
from tests.kit.workloads import trust

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def test_invented_codes_from_one_place_leave_room_for_others(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The issuer answers when the test has it do so, however long a busy machine takes until then.
    monkeypatch.setitem(GuardedClient.request.__kwdefaults__, "seconds", 240.0)
    asked: list[str] = []
    came, may_answer = asyncio.Event(), asyncio.Event()

    async def token(request: web.Request) -> web.Response:
        asked.append(str((await request.post())["code"]))
        came.set()
        await may_answer.wait()
        return web.Response(status=400)

    slow = web.Application()
    slow.router.add_post("/token", token)
    runner = web.AppRunner(slow)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    given = {"outgoing_networks": LOOPBACK, "trusted_proxies": "127.0.0.1"}
    async with (
        running_issuer() as issuer,
        running_registry(tmp_path / "data", database_url, **given) as registry,
        registry.client() as client,
        registry.client(anonymous=True) as nobody,
    ):
        issuer.discovery = {"token_endpoint": f"http://127.0.0.1:{runner.addresses[0][1]}/token"}
        await trust(client, issuer, client_id=CLIENT_ID)
        begun = await ask(nobody, "GET", "/oauth/login", params={"issuer": "ci"}, allow_redirects=False)
        state = URL(begun.headers["Location"]).query["state"]
        cookie = begun.headers["Set-Cookie"].partition(";")[0]

        async def come_back(code: str, place: str) -> int:
            headers = {"Cookie": cookie, "X-Forwarded-For": place}
            query = {"code": code, "state": state}
            answer = await ask(nobody, "GET", "/oauth/callback/ci", params=query, headers=headers)
            return answer.status

        flood = [asyncio.create_task(come_back("invented", "192.0.2.1")) for _ in range(MAX_OF_A_SITE + 12)]
        refused = [await first for _, first in zip(range(12), asyncio.as_completed(flood), strict=False)]
        assert refused == [429] * 12
        await came.wait()
        came.clear()
        other = asyncio.create_task(come_back("another", "192.0.2.2"))
        await came.wait()
        assert asked == ["invented", "another"]
        may_answer.set()
        assert await other == 401
        assert sorted(await asyncio.gather(*flood)) == [401] * MAX_OF_A_SITE + [429] * 12
    await runner.cleanup()
