"""What no client sends by accident: each gets the status that the standard gives, and nothing is stored."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select

from registry.db.content import repositories
from tests.kit.distribution import small_manifest
from tests.kit.images import digest_of
from tests.kit.rawhttp import RawResponse, exchange, read_response, request
from tests.kit.server import Registry, running_registry

DIGEST = digest_of(b"x")


@pytest.fixture
async def target(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Registry]:
    """A registry on SQLite: what is sent here should not reach a database."""
    path = tmp_path / "seatrial.db"
    shutil.copyfile(sqlite_template, path)
    async with running_registry(tmp_path / "data", f"sqlite:///{path}") as running:
        yield running


async def ask(registry: Registry, method: str, path: str, body: bytes = b"", **headers: str) -> RawResponse:
    return await exchange(registry.host, request(method, path, token=registry.token, body=body, **headers))


async def count_repositories(registry: Registry) -> int:
    assert registry.services is not None
    async with registry.services.database.read() as connection:
        return (await connection.execute(select(func.count()).select_from(repositories))).scalar_one()


HOSTILE_NAMES = [
    "UPPER",
    "a/../b",
    "..",
    "../../etc",
    "a//b",
    "/a",
    "a%2fb",
    "a%2F..%2Fb",
    "a%00b",
    "a%5cb",
    "a%0ab",
    "a%0d%0aSet-Cookie:x",
    "a%zz",
    "a%",
    "%ff%fe",
    "%C3%A4",
    "a b".replace(" ", "%20"),
    "a_",
    "-a",
    "a..b",
    "a___b",
    "x" * 129,
    "a" + "/b" * 128,
    "x" * 2000,
    ".",
    "a/.",
    "a/./b",
]


async def test_hostile_names(target: Registry) -> None:
    addresses = (
        ("POST", "/v2/{}/blobs/uploads/"),
        ("PUT", "/v2/{}/manifests/v1"),
        ("GET", "/v2/{}/tags/list"),
        ("GET", f"/v2/{{}}/blobs/{DIGEST}"),
    )
    for name, (method, address) in itertools.product(HOSTILE_NAMES, addresses):
        path = address.format(name)
        response = await ask(target, method, path)
        assert response.status in (400, 404), (method, path, response)
        assert json.loads(response.body)["errors"][0]["code"] in ("NAME_INVALID", "NOT_FOUND")
        assert response.headers["docker-distribution-api-version"] == "registry/2.0"
        assert "set-cookie" not in response.headers
    assert await count_repositories(target) == 0


async def test_keywords_may_stand_in_names(target: Registry) -> None:
    for name in ("manifests", "blobs/uploads", "tags/list", "a/manifests/b", "v2", "referrers", "a/blobs"):
        response = await ask(target, "POST", f"/v2/{name}/blobs/uploads/")
        assert response.status == 202, name
        location = response.headers["location"]
        assert location.startswith(f"/v2/{name}/blobs/uploads/")
        done = await ask(target, "PUT", f"{location}?digest={DIGEST}", b"x")
        assert done.status == 201, name
        assert (await ask(target, "GET", f"/v2/{name}/blobs/{DIGEST}")).body == b"x"
        assert (await ask(target, "GET", f"/v2/{name}/tags/list")).status == 200
    assert await count_repositories(target) == 7


async def test_an_encoded_digest_is_the_digest(target: Registry) -> None:
    response = await ask(target, "POST", f"/v2/a/blobs/uploads/?digest={DIGEST}", b"x")
    assert response.status == 201
    assert (await ask(target, "GET", f"/v2/a/blobs/{DIGEST.replace(':', '%3A')}")).body == b"x"


ADDRESSES = [
    *("/v2/a", "/v2/a/", "/v2/a/manifests", "/v2/a/tags", "/v2/a/tags/", "/v2/_catalog/", "/v2/_nothing"),
    *("/v2//", "/v2/a/blobs/", "/v2/a/manifests/", "/v2/a/referrers/", "/v2/tags/list"),
    "/v2/manifests/v1",
]


async def test_addresses_that_are_none(target: Registry) -> None:
    for path in ADDRESSES:
        response = await ask(target, "GET", path)
        assert response.status in (400, 404), path
        code = json.loads(response.body)["errors"][0]["code"]
        assert code in ("NOT_FOUND", "NAME_INVALID", "DIGEST_INVALID", "TAG_INVALID"), path


async def test_methods_that_an_address_does_not_take(target: Registry) -> None:
    for method, path, allowed in (
        ("POST", "/v2/", "GET, HEAD"),
        ("TRACE", "/v2/", "GET, HEAD"),
        ("PROPFIND", "/v2/a/manifests/v1", "DELETE, GET, HEAD, PUT"),
        ("PATCH", f"/v2/a/blobs/{DIGEST}", "DELETE, GET, HEAD"),
        ("GET", "/v2/a/blobs/uploads/", "POST"),
    ):
        response = await ask(target, method, path, X_HTTP_Method_Override="GET")
        assert response.status == 405, method
        assert response.headers["allow"] == allowed
        assert json.loads(response.body)["errors"][0]["code"] == "UNSUPPORTED"


async def test_headers_do_not_move_what_is_asked_for(target: Registry) -> None:
    evil = {"X_Original_URL": "/v2/", "X_Rewrite_URL": "/v2/", "X_Forwarded_Host": "evil.example"}
    response = await ask(target, "POST", "/v2/a/blobs/uploads/", **evil)
    assert response.status == 202
    assert response.headers["location"].startswith("/v2/a/blobs/uploads/")
    response = await exchange(target.host, request("GET", "/v2/", **evil))
    assert "evil" not in response.headers["www-authenticate"]


async def test_a_bad_chunk(target: Registry) -> None:
    location = (await ask(target, "POST", "/v2/a/blobs/uploads/")).headers["location"]
    head = request("PATCH", location, token=target.token, Transfer_Encoding="chunked")
    response = await exchange(target.host, head + b"5\r\nhello\r\nzz\r\n")
    assert response.status == 400
    standing = await ask(target, "GET", location)
    assert standing.headers["range"] in ("0-0", "0-4")


async def test_a_long_token_is_only_wrong(target: Registry) -> None:
    long_token = request("GET", "/v2/", Authorization="Bearer " + "y" * 40_000)
    assert (await exchange(target.host, long_token)).status == 401


async def test_a_body_that_is_not_allowed_is_never_asked_for(target: Registry) -> None:
    location = (await ask(target, "POST", "/v2/a/blobs/uploads/")).headers["location"]
    head = request("PATCH", location, Expect="100-continue", Content_Length="10000000000")
    response = await exchange(target.host, head)
    assert response.status == 401
    assert response.headers["connection"] == "close"
    too_long = str(target.services.settings.blob_max_bytes + 1) if target.services else ""
    head = request("PATCH", location, token=target.token, Expect="100-continue", Content_Length=too_long)
    assert (await exchange(target.host, head)).status == 413


async def test_a_body_that_is_allowed_is_asked_for(target: Registry) -> None:
    location = (await ask(target, "POST", "/v2/a/blobs/uploads/")).headers["location"]
    host, _, port = target.host.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request("PATCH", location, token=target.token, Expect="100-continue", Content_Length="5"))
    assert (await read_response(reader)).status == 100
    writer.write(b"hello")
    done = await read_response(reader)
    assert (done.status, done.headers["range"]) == (202, "0-4")
    writer.close()
    await writer.wait_closed()
    head = request("PATCH", location, token=target.token, Expect="a-miracle", body=b"x")
    assert (await exchange(target.host, head)).status == 400


async def test_a_refused_body_does_not_become_the_next_request(target: Registry) -> None:
    smuggled = request("DELETE", "/v2/a/manifests/v1", token=target.token)
    host, _, port = target.host.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request("PUT", "/v2/a/manifests/v1", Content_Length=str(len(smuggled) + 10)) + smuggled)
    refused = await read_response(reader)
    assert (refused.status, refused.headers["connection"]) == (401, "close")
    writer.write(b"y" * 10)
    assert await reader.read() == b"", "nothing follows the refusal"
    writer.close()
    await writer.wait_closed()


async def test_a_client_that_goes_away_leaves_an_offset(target: Registry) -> None:
    location = (await ask(target, "POST", "/v2/a/blobs/uploads/")).headers["location"]
    host, _, port = target.host.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(request("PATCH", location, token=target.token, Content_Length="1000") + b"z" * 600)
    await writer.drain()
    arrived = b'seatrial_blob_bytes_total{direction="in"} 600'
    await until(lambda: ask(target, "GET", "/metrics"), lambda response: arrived in response.body)
    writer.transport.abort()
    await until(lambda: ask(target, "GET", location), lambda response: response.headers["range"] == "0-599")
    content = b"z" * 1000
    rest = await until(
        lambda: ask(target, "PATCH", location, content[600:], Content_Range="600-999"),
        lambda response: response.status != 409,  # while the broken request still holds the upload
    )
    assert rest.status == 202
    done = await ask(target, "PUT", f"{location}?digest={digest_of(content)}")
    assert done.status == 201


async def test_bodies_that_end_early_store_nothing(
    target: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    location = (await ask(target, "POST", "/v2/a/blobs/uploads/")).headers["location"]
    manifest = small_manifest()
    for head, sent in (
        (request("PUT", f"{location}?digest={DIGEST}", token=target.token, Content_Length="1000"), b"x"),
        (request("PUT", "/v2/a/manifests/v1", token=target.token, Content_Length="9999"), manifest),
        (
            request("POST", f"/v2/a/blobs/uploads/?digest={DIGEST}", token=target.token, Content_Length="9"),
            b"x",
        ),
    ):
        host, _, port = target.host.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head + sent)
        await writer.drain()
        await until_in_flight(target, 1)
        writer.transport.abort()
        await until_in_flight(target, 0)
    assert (await ask(target, "GET", f"/v2/a/blobs/{DIGEST}")).status == 404
    assert json.loads((await ask(target, "GET", "/v2/a/tags/list")).body)["tags"] == []
    assert (await ask(target, "GET", location)).headers["range"] == "0-0", "one byte came"
    assert not caplog.records, "clients go away all the time: that is no error of ours"


async def test_a_reader_that_goes_away(target: Registry, caplog: pytest.LogCaptureFixture) -> None:
    content = bytes(24 << 20)
    digest = digest_of(content)
    response = await ask(target, "POST", f"/v2/a/blobs/uploads/?digest={digest}", content)
    assert response.status == 201
    for wanted in ({}, {"Range": "bytes=0-,5-9,7-8"}, {"Range": "bytes=0-12000000,12000001-"}):
        host, _, port = target.host.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=4096)
        writer.write(request("GET", f"/v2/a/blobs/{digest}", token=target.token, **wanted))
        await reader.readexactly(1000)
        writer.transport.abort()
        await until_in_flight(target, 0)
    assert not caplog.records
    assert (await ask(target, "GET", f"/v2/a/blobs/{digest}", Range="bytes=-3")).body == content[-3:]


async def until_in_flight(registry: Registry, count: int) -> None:
    """Wait until so many requests are being handled beside the one that asks."""
    line = f"seatrial_http_requests_in_flight {count + 1}.0".encode()
    await until(lambda: ask(registry, "GET", "/metrics"), lambda response: line in response.body)


async def until(
    again: Callable[[], Awaitable[RawResponse]], good: Callable[[RawResponse], bool]
) -> RawResponse:
    """Ask again until the answer is good; the test's own timeout ends it otherwise."""
    while not good(response := await again()):  # noqa: ASYNC110  (nothing to wait on in another process)
        await asyncio.sleep(0.01)
    return response
