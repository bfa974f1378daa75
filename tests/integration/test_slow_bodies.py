"""A body that stops arriving holds nothing up for ever, wherever it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from registry.http import body


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/token", "application/x-www-form-urlencoded"),
        ("/api/v1/accounts", "application/json"),
        ("/v2/team/app/manifests/v1", "application/vnd.oci.image.manifest.v1+json"),
    ],
)
async def test_a_body_that_stops_is_given_up(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, path: str, content_type: str
) -> None:
    monkeypatch.setattr(body, "IDLE_SECONDS", 0.2)
    method = "PUT" if path.startswith("/v2/") else "POST"
    headers = {"Content-Type": content_type}
    async with client.request(method, path, data=_stopping(), headers=headers) as answer:
        assert answer.status == 400
        assert "nothing of the body arrived for 0.2 seconds" in await answer.text()


async def _stopping() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.sleep(60)
