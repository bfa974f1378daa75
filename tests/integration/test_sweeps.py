"""What has expired goes, also while a part of the registry is down."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import func, select, update
from structlog.testing import capture_logs

from registry.auth.apitokens import token_hash
from registry.db.accounts import tokens
from registry.db.content import upload_sessions
from registry.db.sessions import sessions
from registry.db.types import db_time
from registry.http.metrics import Metrics
from registry.http.sweeps import sweep
from tests.kit.access import api, ask, bearer, make_token, make_user, make_worker_token
from tests.kit.distribution import start_upload
from tests.kit.server import Registry
from tests.kit.sessions import signed_in


@pytest.fixture(autouse=True)
def swept_when_asked_for() -> None:
    """Here a registry also sweeps by itself."""


async def test_storage_that_fails_keeps_no_session_from_being_swept(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession, tmp_path: Path
) -> None:
    assert registry.services is not None
    database = registry.services.database
    await signed_in(nobody, "bob", await make_user(client, "bob"))
    await start_upload(client, "team/app")
    # A folder is no file that could be deleted.
    (upload,) = (tmp_path / "data" / "blobs" / "uploads").iterdir()
    upload.unlink()
    upload.mkdir()
    async with database.write() as connection:
        for table in (sessions, upload_sessions):
            await connection.execute(update(table).values(expires_at=db_time()))
    with capture_logs() as logs:
        swept = await sweep(registry.services)
    assert {told.get("what") for told in logs} == {"uploads"}
    assert (swept["uploads"], swept["trials"]) == (None, 0)
    metrics = Metrics()
    metrics.swept({"uploads": None, "API tokens": 0, "sessions": 2})
    text = metrics.text().decode()
    for line in (
        'seatrial_sweep_failures_total{what="uploads"} 1.0',
        'seatrial_sweep_failures_total{what="api_tokens"} 0.0',
        'seatrial_swept_total{what="uploads"} 0.0',
        'seatrial_swept_total{what="sessions"} 2.0',
    ):
        assert f"{line}\n" in text, line
    async with database.read() as connection:
        assert await connection.scalar(select(func.count()).select_from(sessions)) == 0


async def test_a_registry_tells_when_it_last_swept(client: aiohttp.ClientSession) -> None:
    for _ in range(600):
        shown = (await ask(client, "GET", "/metrics")).body.decode()
        if "seatrial_swept_total{" in shown:
            break
        await asyncio.sleep(0.1)
    (line,) = [line for line in shown.splitlines() if line.startswith("seatrial_sweep_timestamp_seconds ")]
    assert float(line.split()[1]) > 0


async def test_tokens_that_ended_long_ago_go_but_for_what_others_hang_on(
    registry: Registry, client: aiohttp.ClientSession, nobody: aiohttp.ClientSession
) -> None:
    assert registry.services is not None
    database = registry.services.database
    scope = "repository:*:pull"
    revoked, expired, fresh, parent, first = [await make_token(client, scope) for _ in range(5)]
    by_parent = bearer(parent["token"])
    body = {"name": "child", "scopes": [scope]}
    child = await api(nobody, "POST", "/tokens", status=201, headers=by_parent, json=body)
    second = await api(client, "POST", f"/tokens/{first['id']}/rotate", status=201, json={})
    worker = await make_worker_token(client, "w1")
    ended = [revoked, expired, parent, first]
    await api(client, "DELETE", f"/tokens/{revoked['id']}", status=204)
    await api(client, "DELETE", f"/tokens/{fresh['id']}", status=204)
    async with database.write() as connection:
        long_ago = {"expires_at": db_time(-timedelta(days=90, seconds=10))}
        mine = tokens.c.id.in_([token["id"] for token in ended[1:]])
        of_worker = tokens.c.secret_hash == token_hash(worker)
        await connection.execute(update(tokens).where(mine | of_worker).values(long_ago))
        since = {"revoked_at": db_time(-timedelta(days=90, seconds=10))}
        await connection.execute(update(tokens).where(tokens.c.id == revoked["id"]).values(since))

    async def left() -> set[str]:
        listed = (await api(client, "GET", "/tokens?limit=100"))["items"]
        return {token["id"] for token in listed if token["name"] in ("test", "child")}

    await sweep(registry.services)
    # The child has not ended: who revokes what stands in for the parent ends it by the parent's row.
    kept = {fresh["id"], parent["id"], child["id"], second["id"]}
    assert await left() == kept
    await api(client, "GET", f"/tokens/{first['id']}", status=404)
    assert (await api(client, "GET", f"/tokens/{second['id']}"))["state"] == "active"
    # "up" knows by the row that its worker was revoked.
    expired_now = (await api(client, "GET", "/tokens?state=expired"))["items"]
    assert {token["account"] for token in expired_now} == {"w1", "admin"}
    async with database.write() as connection:
        await connection.execute(update(tokens).where(tokens.c.id == child["id"]).values(long_ago))
    await sweep(registry.services)
    await sweep(registry.services)
    assert await left() == {fresh["id"], second["id"]}
