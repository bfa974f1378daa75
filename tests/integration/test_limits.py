"""Who is slow, idle or greedy on purpose holds nothing up for ever, wherever it is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import update

from registry.db.content import upload_sessions
from registry.db.types import db_time
from registry.http import server
from tests.kit.access import ask, basic, bearer, make_token, make_user, registry_token
from tests.kit.distribution import error_code, push_blob, start_upload
from tests.kit.images import digest_of
from tests.kit.rawhttp import connected, exchange, read_response, request
from tests.kit.server import Registry, running_registry

MIB = 1 << 20


@asynccontextmanager
async def limited(
    tmp_path: Path, database_url: str, **given: Any
) -> AsyncIterator[tuple[Registry, aiohttp.ClientSession]]:
    """A registry with these settings, and its administrator."""
    async with (
        running_registry(tmp_path / "data", database_url, **given) as registry,
        registry.client() as client,
    ):
        yield registry, client


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/token", "application/x-www-form-urlencoded"),
        ("/api/v1/users", "application/json"),
        ("/v2/team/app/manifests/v1", "application/vnd.oci.image.manifest.v1+json"),
    ],
)
async def test_a_body_that_stops_is_given_up(
    tmp_path: Path, database_url: str, path: str, content_type: str
) -> None:
    async with limited(tmp_path, database_url, stall_seconds=0.2) as (_, client):
        method = "PUT" if path.startswith("/v2/") else "POST"
        headers = {"Content-Type": content_type}
        async with client.request(method, path, data=_slowly(b"{", 60), headers=headers) as answer:
            assert answer.status == 408
            assert answer.headers["Connection"] == "close"
            assert "nothing of the body arrived for 0.2 seconds" in await answer.text()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_body_that_trickles_is_given_up_and_what_came_stands(
    tmp_path: Path, database_url: str
) -> None:
    given = {"stall_seconds": 3, "min_bytes_per_second": 1000}
    async with limited(tmp_path, database_url, **given) as (_, client):
        location = await start_upload(client, "a")
        async with client.patch(location, data=_slowly(b"x" * 2000, 0.01)) as answer:
            assert answer.status == 408
            assert error_code(await answer.read()) == "REQUEST_TIMEOUT"
        async with client.get(location) as answer:
            assert int(answer.headers["Range"].partition("-")[2]) > 0
            offset = int(answer.headers["Range"].partition("-")[2]) + 1
        headers = {"Content-Range": f"{offset}-{offset + MIB - 1}"}
        async with client.patch(location, data=bytes(MIB), headers=headers) as answer:
            assert answer.status == 202, "who sends as others do goes on there"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("pause", [None, 0.02])
async def test_a_reader_who_takes_nothing_or_little_is_ended(
    tmp_path: Path, database_url: str, pause: float | None
) -> None:
    content = os.urandom(16 * MIB)
    given = {"stall_seconds": 1.5, "min_bytes_per_second": 200_000}
    async with limited(tmp_path, database_url, **given) as (registry, client):
        await push_blob(client, "a", content)
        async with connected(registry.host, limit=4096, receive_buffer=4096) as (reader, writer):
            writer.write(request("GET", f"/v2/a/blobs/{digest_of(content)}", token=registry.token))
            if pause is None:
                await until_idle(client)
            received = 0
            with pytest.raises(ConnectionError):  # noqa: PT012
                while chunk := await reader.read(1024):
                    received += len(chunk)
                    await asyncio.sleep(pause or 0)
            assert received < len(content)
        await until_idle(client)
        async with client.get(f"/v2/a/blobs/{digest_of(content)}") as answer:
            assert await answer.read() == content


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /v2/ HT", b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: ", request("GET", "/healthz")],
    ids=["nothing", "half a line", "half a header", "a request"],
)
async def test_a_connection_without_a_request_is_ended(
    tmp_path: Path, database_url: str, sent: bytes
) -> None:
    async with (
        limited(tmp_path, database_url, idle_connection_seconds=0.7) as (registry, _),
        connected(registry.host) as (reader, writer),
    ):
        writer.write(sent)
        if sent.endswith(b"\r\n\r\n"):
            assert (await read_response(reader)).status == 200
        assert await reader.read() == b""


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_header_that_trickles_is_ended(tmp_path: Path, database_url: str) -> None:
    async with (
        limited(tmp_path, database_url, idle_connection_seconds=0.7) as (registry, _),
        connected(registry.host) as (reader, writer),
    ):
        writer.write(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n")
        ended = asyncio.create_task(reader.read())
        while not ended.done():
            writer.write(b"X")
            await asyncio.sleep(0.01)
        with suppress(ConnectionResetError):  # what was under way when it ended
            assert await ended == b""


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_rest_of_a_refused_body_is_not_waited_for(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LINGERING_SECONDS", 0.1)
    async with limited(tmp_path, database_url, blob_max_bytes=10_000) as (registry, client):
        location = await start_upload(client, "a")
        for token, status in ((None, 401), (registry.token, 413)):
            async with connected(registry.host) as (reader, writer):
                writer.write(request("PATCH", location, token=token, Content_Length="10000000000") + b"x" * 9)
                refused = await read_response(reader)
                assert (refused.status, refused.headers["connection"]) == (status, "close")
                async with asyncio.timeout(8):  # ten seconds are what aiohttp would wait
                    assert await reader.read() == b""


async def test_open_uploads_have_a_limit_on_all_replicas_together(tmp_path: Path, database_url: str) -> None:
    async with limited(tmp_path, database_url, uploads_per_account=5) as (registry, client):
        shared = registry.services.settings.data if registry.services else tmp_path
        files = {"secret_key_file": shared / "secret.key", "admin_token_file": shared / "admin.token"}
        async with (
            running_registry(tmp_path / "twin", database_url, uploads_per_account=5, **files) as twin,
            twin.client(registry.token) as there,
        ):
            answers = await asyncio.gather(
                *(ask(each, "POST", "/v2/a/blobs/uploads/") for each in (client, there) for _ in range(8))
            )
            opened = [answer for answer in answers if answer.status == 202]
            refused = [answer for answer in answers if answer.status == 429]
            assert (len(opened), len(refused)) == (5, 11)
            for answer in refused:
                assert error_code(answer.body) == "TOOMANYREQUESTS"
                assert int(answer.headers["Retry-After"]) > 0
            left = [*(shared / "blobs").rglob("*"), *(tmp_path / "twin" / "blobs").rglob("*")]
            assert sum(path.is_file() for path in left) <= 5, "a refusal leaves nothing"
            digest = digest_of(b"x")
            whole = f"/v2/a/blobs/uploads/?digest={digest}"
            assert (await ask(there, "POST", whole, data=b"x")).status == 429
            assert (await ask(there, "DELETE", opened[0].headers["Location"])).status == 204
            assert (await ask(client, "POST", whole, data=b"x")).status == 201
            assert (await ask(there, "POST", whole, data=b"x")).status == 201, "what has ended does not count"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_broke_off_long_ago_does_not_count(tmp_path: Path, database_url: str) -> None:
    async with limited(tmp_path, database_url, uploads_per_account=1) as (registry, client):
        assert registry.services is not None
        location = await start_upload(client, "a")
        assert (await ask(client, "POST", "/v2/a/blobs/uploads/")).status == 429
        async with registry.services.database.write() as connection:
            await connection.execute(update(upload_sessions).values(created_at=db_time(-timedelta(hours=2))))
        assert (await ask(client, "POST", "/v2/a/blobs/uploads/")).status == 202
        assert (await ask(client, "GET", location)).status == 204, "it can still be gone on with"


async def test_one_account_s_limit_is_not_another_s(tmp_path: Path, database_url: str) -> None:
    async with limited(tmp_path, database_url, uploads_per_account=1) as (registry, client):
        password = await make_user(client, "bob", admin=True)
        async with registry.client(anonymous=True) as nobody:
            assert (await ask(client, "POST", "/v2/a/blobs/uploads/")).status == 202
            assert (await ask(client, "POST", "/v2/a/blobs/uploads/")).status == 429
            bob = basic("bob", password)
            assert (await ask(nobody, "POST", "/v2/a/blobs/uploads/", headers=bob)).status == 202
            assert (await ask(nobody, "POST", "/v2/a/blobs/uploads/")).status == 401, "nobody pushes nothing"


async def test_one_token_s_limit_is_not_another_s(tmp_path: Path, database_url: str) -> None:
    """Also as registry tokens, which are what clients push with."""
    async with limited(tmp_path, database_url, uploads_per_account=1) as (registry, client):
        names = ("theirs", "ours")
        made = [(await make_token(client, f"repository:{name}:pull,push"))["token"] for name in names]
        async with registry.client(anonymous=True) as nobody:
            theirs, ours = [
                bearer(
                    await registry_token(nobody, f"repository:{name}:pull,push", headers=basic("x", token))
                )
                for name, token in zip(names, made, strict=True)
            ]
            statuses = [
                (await ask(nobody, "POST", "/v2/theirs/blobs/uploads/", headers=theirs)).status
                for _ in range(2)
            ]
            assert statuses == [202, 429]
            assert (await ask(nobody, "POST", "/v2/ours/blobs/uploads/", headers=ours)).status == 202
            async with connected(registry.host) as (reader, writer):
                path = "/v2/theirs/manifests/v1"
                token = theirs["Authorization"].removeprefix("Bearer ")
                writer.write(request("PUT", path, token=token, Content_Length="9", Expect="100-continue"))
                assert (await read_response(reader)).status == 100
                assert (await ask(nobody, "PUT", path, data=b"{}", headers=theirs)).status == 429
                path = "/v2/ours/manifests/v1"
                assert (await ask(nobody, "PUT", path, data=b"{}", headers=ours)).status == 400


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_running_uploads_have_a_limit(tmp_path: Path, database_url: str) -> None:
    async with limited(tmp_path, database_url, uploads_per_account=2) as (registry, client):
        head = request("PUT", "/v2/a/manifests/v1", token=registry.token, Content_Length="100")
        waiting = request("PUT", "/v2/a/manifests/v1", token=registry.token, Content_Length="100",
                          Expect="100-continue")  # fmt: skip
        async with connected(registry.host) as first, connected(registry.host) as second:
            for reader, writer in (first, second):
                writer.write(waiting)
                assert (await read_response(reader)).status == 100
            answer = await exchange(registry.host, head)
            assert (answer.status, answer.headers["retry-after"]) == (429, "10")
            assert (await ask(client, "GET", "/v2/a/tags/list")).status == 404, "reading goes on"
        await until_idle(client)
        assert (await ask(client, "PUT", "/v2/a/manifests/v1", data=b"{}")).status == 400


async def _slowly(content: bytes, pause: float) -> AsyncIterator[bytes]:
    for byte in content:
        yield bytes([byte])
        await asyncio.sleep(pause)


async def until_idle(client: aiohttp.ClientSession) -> None:
    """Wait until no request runs beside the one that asks."""
    line = b"seatrial_http_requests_in_flight 1.0"
    while line not in (await ask(client, "GET", "/metrics")).body:  # noqa: ASYNC110  (nothing to wait on)
        await asyncio.sleep(0.01)
